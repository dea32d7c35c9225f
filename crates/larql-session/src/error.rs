//! Why a statement could not be carried out.

use larql_core::progress::Cancelled;
use larql_hub::LibraryError;
use larql_inference::InferenceError;
use larql_lql::ast::Span;
use larql_models::ModelError;
use larql_vindex::VindexError;
use miette::Diagnostic;

/// Why a statement could not be carried out, and what to do about it.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum ExecuteError {
    /// Nothing is open.
    #[error("no vindex is open")]
    #[diagnostic(help("open one first, for instance: USE \"model.vindex\";"))]
    NothingOpen,
    /// The model that was named is not to be had.
    #[error("{problem}")]
    NotFound {
        /// Why.
        problem: Box<LibraryError>,
        /// What to do about it.
        #[help]
        help: Option<String>,
        /// Where it is named.
        #[label("not found")]
        at: Span,
    },
    /// The statement works on features, and only a checkpoint is open.
    #[error("{statement} needs a vindex, and {path} is a checkpoint")]
    #[diagnostic(help(
        "extract it first: EXTRACT MODEL \"{path}\" INTO \"{path}.vindex\" WITH ALL; or USE MODEL \"{path}\" AUTO_EXTRACT;"
    ))]
    NeedsVindex {
        /// The statement's first words.
        statement: &'static str,
        /// The checkpoint.
        path: String,
    },
    /// The statement is part of the language, but not of this version.
    #[error("{statement} is not available in this version")]
    #[diagnostic(help("the statements of this version are listed by .help"))]
    NotAvailable {
        /// Its name.
        statement: &'static str,
    },
    /// The statement changes the session, which was only to be read.
    #[error("{statement} changes the session, and is not a query")]
    ChangesSession {
        /// Its name.
        statement: &'static str,
    },
    /// The model has no such layer.
    #[error("layer {layer} does not exist: the model has layers 0 to {last}")]
    NoSuchLayer {
        /// What was asked for.
        layer: usize,
        /// The last one.
        last: usize,
        /// Where.
        #[label("no such layer")]
        at: Span,
    },
    /// A condition on relations, where no feature has one.
    #[error("no feature of this vindex is labelled with a relation, so none can be asked for")]
    #[diagnostic(help("ask for a target or an entity instead, or label the vindex first"))]
    NoLabels {
        /// Where the condition stands.
        #[label("relation")]
        at: Span,
    },
    /// SELECT … FROM EDGES without an entity, where no feature is labelled.
    #[error("no feature of this vindex is labelled, so there are no edges to list but those of an entity")]
    #[diagnostic(help("add WHERE entity = \"France\", or ask FROM FEATURES"))]
    NoEdgesKnown,
    /// A field that the table does not have.
    #[error("{table} have no field {field}; they have {fields}")]
    NoSuchField {
        /// The table.
        table: &'static str,
        /// The field.
        field: &'static str,
        /// Those that it has.
        fields: String,
        /// Where.
        #[label("no such field")]
        at: Span,
    },
    /// A condition compares things that cannot be compared.
    #[error("{field} is {found}, which cannot be compared this way")]
    NotComparable {
        /// The field.
        field: &'static str,
        /// What it holds.
        found: &'static str,
        /// Where.
        #[label("compared here")]
        at: Span,
    },
    /// The model takes token ids only.
    #[error("{path} has no tokenizer, so it cannot be asked with words")]
    #[diagnostic(help("put the model's tokenizer.json there and extract it again"))]
    NoTokenizer {
        /// The vindex.
        path: String,
    },
    /// There is no patch to save.
    #[error("no patch is open, so there is nothing to save")]
    #[diagnostic(help("an edit opens one by itself, and so does: BEGIN PATCH \"facts.vlp\";"))]
    NoOpenPatch,
    /// The open patch was begun by an edit.
    #[error("the open patch has no file yet")]
    #[diagnostic(help("say where it is to go: SAVE PATCH \"edits.vlp\";"))]
    PatchHasNoFile,
    /// A new patch would take the place of a file.
    #[error("{path} exists, and a new patch would replace it")]
    #[diagnostic(help("choose another name, or lay it over the vindex: APPLY PATCH \"{path}\";"))]
    PatchFileExists {
        /// The file.
        path: String,
        /// Where.
        #[label("exists")]
        at: Span,
    },
    /// A patch of this name lies over the vindex.
    #[error("patch {path} lies over the vindex already")]
    #[diagnostic(help("take it off first: REMOVE PATCH \"{path}\";"))]
    PatchIsApplied {
        /// Its name.
        path: String,
        /// Where.
        #[label("applied already")]
        at: Span,
    },
    /// No such patch lies over the vindex.
    #[error("no patch {path} lies over the vindex")]
    #[diagnostic(help("SHOW PATCHES; lists those that do"))]
    NoSuchPatch {
        /// Its name.
        path: String,
        /// Where.
        #[label("not applied")]
        at: Span,
    },
    /// UPDATE of a field that cannot be set so.
    #[error("{field} takes {expected}")]
    #[diagnostic(help("entity, relation, target and confidence of edges can be set"))]
    NotAssignable {
        /// The field.
        field: &'static str,
        /// What it takes.
        expected: &'static str,
        /// Where.
        #[label("set here")]
        at: Span,
    },
    /// Two vindexes have no features in common.
    #[error("{base} and {other} have not the same layers, features, width and vocabulary")]
    OtherShape {
        /// One.
        base: String,
        /// The other.
        other: String,
        /// Where.
        #[label("of another shape")]
        at: Span,
    },
    /// MERGE into a vindex, which is never written.
    #[error("{path} is no patch file, and vindexes are never written")]
    #[diagnostic(help("merge into a file that ends in .vlp, or into what is open and then COMPILE it"))]
    NotAPatch {
        /// What was named.
        path: String,
        /// Where.
        #[label("not a .vlp file")]
        at: Span,
    },
    /// Edges beside the weights cannot become features, and would be lost.
    #[error("edges remembered beside the weights cannot become features ({entries}): {problem}")]
    #[diagnostic(help("carry them along: COMPILE … INTO VINDEX … SNAPSHOT"))]
    NotLowered {
        /// How many.
        entries: usize,
        /// Why.
        problem: Box<InferenceError>,
        /// Where.
        #[label("compiled into this")]
        at: Span,
    },
    /// DELETE or UPDATE of an edge that COMPACT MAJOR solved for with others.
    #[error(
        "{entity} [{relation}] → {target} was solved for together with other edges, and cannot change alone"
    )]
    #[diagnostic(help(
        "insert another answer, which takes its place, or REMOVE PATCH the one that COMPACT MAJOR wrote to"
    ))]
    SolvedTogether {
        /// Whom it is about.
        entity: String,
        /// What it says of it.
        relation: String,
        /// The answer.
        target: String,
    },
    /// A piped statement got nothing to work on.
    #[error("the statement before |> gave no rows to go on with")]
    NothingPiped,
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
    /// The vindex.
    #[error(transparent)]
    Vindex(Box<VindexError>),
    /// The model.
    #[error(transparent)]
    Inference(Box<InferenceError>),
    /// The checkpoint.
    #[error(transparent)]
    Model(Box<ModelError>),
}

impl ExecuteError {
    /// What a problem with the model named `at` a place becomes.
    pub(crate) fn not_found(at: Span) -> impl FnOnce(LibraryError) -> ExecuteError {
        move |problem| {
            let help = problem.help().map(|help| help.to_string());
            Self::NotFound { problem: problem.into(), help, at }
        }
    }
}

// Errors of other crates are boxed: they are large, and every result would be.

impl From<VindexError> for ExecuteError {
    fn from(error: VindexError) -> Self {
        Self::Vindex(error.into())
    }
}

impl From<InferenceError> for ExecuteError {
    fn from(error: InferenceError) -> Self {
        match error {
            InferenceError::Interrupted => Self::Interrupted,
            error => Self::Inference(error.into()),
        }
    }
}

impl From<Cancelled> for ExecuteError {
    fn from(_: Cancelled) -> Self {
        Self::Interrupted
    }
}

impl From<ModelError> for ExecuteError {
    fn from(error: ModelError) -> Self {
        Self::Model(error.into())
    }
}
