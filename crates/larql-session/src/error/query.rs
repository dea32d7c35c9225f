//! Errors of asking what a vindex holds.

use larql_lql::ast::Span;

use super::Hint;

/// Failure of a question to a vindex.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A file that the statement names cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The reason.
        reason: String,
        /// Its place in the statement.
        at: Span,
    },
    /// A number is outside its range.
    #[error("{what} {found} does not exist; expected {least} to {greatest}")]
    OutOfRange {
        /// The thing that is numbered.
        what: &'static str,
        /// The number.
        found: usize,
        /// The least number.
        least: usize,
        /// The greatest number.
        greatest: usize,
        /// Its place in the statement.
        at: Span,
    },
    /// The model has no such layer.
    #[error("layer {layer} does not exist: the model has layers 0 to {last}")]
    NoSuchLayer {
        /// The layer that was asked for.
        layer: usize,
        /// The last one.
        last: usize,
        /// Its place in the statement.
        at: Span,
    },
    /// A condition asks for a relation, and no feature has one.
    #[error("no feature of this vindex is labelled with a relation, so none can be asked for")]
    NoLabels {
        /// Place of the condition.
        at: Span,
    },
    /// SELECT … FROM EDGES names no entity, and no feature is labelled.
    #[error("no feature of this vindex is labelled, so there are no edges to list but those of an entity")]
    NoEdgesKnown,
    /// The table does not have a field.
    #[error("{table} have no field {field}; they have {fields}")]
    NoSuchField {
        /// The table.
        table: &'static str,
        /// The field.
        field: &'static str,
        /// The fields that it has.
        fields: String,
        /// Place of the field.
        at: Span,
    },
    /// A condition compares things that cannot be compared.
    #[error("{field} is {found}")]
    NotComparable {
        /// The field.
        field: &'static str,
        /// The kind of its values, and what is wrong with that.
        found: &'static str,
        /// Place of the value that it is compared with.
        at: Span,
    },
    /// A column of SELECT is neither counted nor in GROUP BY.
    #[error("{field} has many values in a group: count it, or add it to GROUP BY")]
    NotGrouped {
        /// The field.
        field: &'static str,
        /// Its place.
        at: Span,
    },
    /// `*` stands beside GROUP BY.
    #[error("expected columns, found * beside GROUP BY: for instance SELECT {field}, COUNT(*)")]
    GroupedStar {
        /// The first field of GROUP BY.
        field: &'static str,
        /// Its place.
        at: Span,
    },
    /// A statement counts two things.
    #[error("expected one COUNT, found a second")]
    CountedTwice {
        /// Its place.
        at: Span,
    },
    /// A graph cannot be written in the format that a file's ending says.
    #[error("expected a file that ends with .html, .dot, .graphml or .json, found {path}")]
    GraphFile {
        /// The file.
        path: String,
        /// Its place.
        at: Span,
    },
    /// A prompt is longer than the model's context.
    #[error("expected a prompt of at most {context} tokens, the model's context; found {tokens} tokens")]
    PastContext {
        /// The number of tokens of the prompt.
        tokens: usize,
        /// The greatest number of tokens.
        context: usize,
    },
    /// A file cannot be written.
    #[error("{path} cannot be written: {reason}")]
    Unwritable {
        /// The file.
        path: String,
        /// The reason.
        reason: String,
        /// Its place.
        at: Span,
    },
    /// EXPLAIN INFER … FOR names no token.
    #[error("expected an answer to explain, found no text")]
    EmptyAnswer {
        /// Its place.
        at: Span,
    },
    /// The model takes token ids only.
    #[error("{path} has no tokenizer, so it cannot be asked with words")]
    NoTokenizer {
        /// The vindex.
        path: String,
    },
    /// A statement after `|>` has no use for rows.
    #[error("{statement} takes no rows from the statement before |>")]
    TakesNoRows {
        /// Name of the statement.
        statement: &'static str,
        /// True if it could do with its entity or prompt left out.
        has_subject: bool,
        /// Its place.
        at: Span,
    },
    /// The piped rows have no column by which the statement could choose.
    #[error(
        "the statement before |> gives no column that names something in the table which {statement} asks: entity, \
         relation, target, layer or feature"
    )]
    NothingShared {
        /// Name of the statement.
        statement: &'static str,
    },
    /// More rows are piped than a statement is carried out for.
    #[error(
        "expected at most {most} different rows before |>, since {statement} asks the model for each, found {rows}"
    )]
    TooManyPiped {
        /// Name of the statement.
        statement: &'static str,
        /// The number of rows.
        rows: usize,
        /// The greatest number.
        most: usize,
    },
    /// A piped statement got no rows.
    #[error("the statement before |> gave no rows to go on with")]
    NothingPiped,
    /// A statement without a subject stands alone.
    #[error("the statement names no subject, which only a statement after |> may leave out")]
    NoSubject,
}

impl QueryError {
    /// Next step, if there is one.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            QueryError::NoLabels { .. } => Some(Hint::AskOtherwise),
            QueryError::NoEdgesKnown => Some(Hint::NameEntity),
            QueryError::NoTokenizer { .. } => Some(Hint::AddTokenizer),
            QueryError::TakesNoRows { has_subject, .. } => {
                Some(if *has_subject { Hint::LeaveSubjectOut } else { Hint::EndStatementBefore })
            }
            QueryError::PastContext { .. } => Some(Hint::ShortenPrompt),
            QueryError::TooManyPiped { most, .. } => Some(Hint::LimitRows { most: *most }),
            _ => None,
        }
    }

    pub(super) fn label(&self) -> Option<(Span, &'static str)> {
        match self {
            QueryError::NoSuchLayer { at, .. } => Some((*at, "no such layer")),
            QueryError::Unreadable { at, .. } => Some((*at, "not readable")),
            QueryError::GraphFile { at, .. } => Some((*at, "no graph format")),
            QueryError::Unwritable { at, .. } => Some((*at, "not writable")),
            QueryError::OutOfRange { at, .. } => Some((*at, "out of range")),
            QueryError::NoLabels { at } => Some((*at, "relation")),
            QueryError::NoSuchField { at, .. } => Some((*at, "no such field")),
            QueryError::NotComparable { at, .. } => Some((*at, "compared here")),
            QueryError::EmptyAnswer { at } => Some((*at, "no text")),
            QueryError::NotGrouped { at, .. } => Some((*at, "not grouped")),
            QueryError::GroupedStar { at, .. } => Some((*at, "grouped here")),
            QueryError::CountedTwice { at } => Some((*at, "counted here again")),
            QueryError::TakesNoRows { at, .. } => Some((*at, "takes no rows")),
            _ => None,
        }
    }
}
