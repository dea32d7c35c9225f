//! Errors of asking what a vindex holds.

use larql_lql::ast::Span;

use super::Hint;

/// Failure of a question to a vindex.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
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
    #[error("{field} is {found}, which cannot be compared this way")]
    NotComparable {
        /// The field.
        field: &'static str,
        /// The kind of its value.
        found: &'static str,
        /// Place of the value that it is compared with.
        at: Span,
    },
    /// The model takes token ids only.
    #[error("{path} has no tokenizer, so it cannot be asked with words")]
    NoTokenizer {
        /// The vindex.
        path: String,
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
            _ => None,
        }
    }

    pub(super) fn label(&self) -> Option<(Span, &'static str)> {
        match self {
            QueryError::NoSuchLayer { at, .. } => Some((*at, "no such layer")),
            QueryError::NoLabels { at } => Some((*at, "relation")),
            QueryError::NoSuchField { at, .. } => Some((*at, "no such field")),
            QueryError::NotComparable { at, .. } => Some((*at, "compared here")),
            _ => None,
        }
    }
}
