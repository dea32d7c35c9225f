//! Errors of statements.

mod advised;
mod change;
mod hint;
mod patch;
mod query;

use std::fmt::Display;

use larql_core::progress::Cancelled;
use larql_edit::EditError;
use larql_hub::LibraryError;
use larql_inference::{BackendError, LoadError, PassError};
use larql_knowledge::{KnowledgeError, ProbeError, ProbeFileError};
use larql_lql::ast::Span;
use larql_models::{ModelError, TokenizerError};
use larql_trace::{InterventionError, StoreError, TraceError};
use larql_vindex::VindexError;
use miette::{Diagnostic, LabeledSpan};

pub use advised::Advised;
pub use change::ChangeError;
pub use hint::Hint;
pub use patch::PatchError;
pub use query::QueryError;

/// Failure to execute a statement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// Nothing is open.
    #[error("no vindex is open")]
    NothingOpen,
    /// The named model was not found.
    #[error("{problem}")]
    NotFound {
        /// The problem.
        problem: Box<LibraryError>,
        /// Place of the name.
        at: Span,
    },
    /// The statement works on features, and only a checkpoint is open.
    #[error("{statement} needs a vindex, and {path} is a checkpoint")]
    NeedsVindex {
        /// Name of the statement.
        statement: &'static str,
        /// The checkpoint.
        path: String,
    },
    /// The statement is part of the language, but not of this version.
    #[error("{statement} is planned, and not implemented yet")]
    NotAvailable {
        /// Name of the statement.
        statement: &'static str,
    },
    /// The statement changes the session, which was only to be read.
    #[error("{statement} changes the session, and is not a query")]
    ChangesSession {
        /// Name of the statement.
        statement: &'static str,
    },
    /// The statement was cancelled.
    #[error("interrupted")]
    Interrupted,
    /// The vindex cannot answer the question.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// There is no such patch, or there is one already.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// Edges cannot be changed this way.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The vindex could not be read or written.
    #[error(transparent)]
    Vindex(Box<VindexError>),
    /// The checkpoint could not be read or written.
    #[error(transparent)]
    Model(Box<ModelError>),
    /// The model could not be run or read.
    #[error(transparent)]
    Knowledge(Box<Advised<KnowledgeError>>),
    /// The results of a probe could not be read.
    #[error(transparent)]
    Probe(Box<Advised<ProbeFileError>>),
    /// The model could not be asked about subjects whose facts are known.
    #[error(transparent)]
    Survey(Box<Advised<ProbeError>>),
    /// The residual stream could not be read.
    #[error(transparent)]
    Trace(Box<TraceError>),
    /// A declaration of interventions could not be used.
    #[error(transparent)]
    Intervention(Box<InterventionError>),
    /// A file of residuals could not be written.
    #[error(transparent)]
    TraceStore(Box<StoreError>),
    /// Facts could not be written into the model.
    #[error(transparent)]
    Edit(Box<Advised<EditError>>),
}

impl ExecuteError {
    /// Returns the next step, if there is one beside what the message says.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::NothingOpen => Some(Hint::OpenVindex),
            Self::NotFound { problem, .. } => {
                problem.help().map(|advice| Hint::NameModel { advice: advice.to_string() })
            }
            Self::NeedsVindex { path, .. } => Some(Hint::Extract { path: path.clone() }),
            Self::NotAvailable { .. } => Some(Hint::ListStatements),
            Self::Query(error) => error.hint(),
            Self::Patch(error) => Some(error.hint()),
            Self::Change(error) => error.hint(),
            _ => None,
        }
    }

    /// Returns the part of the statement that is at fault, and why in a few words.
    fn label(&self) -> Option<(Span, &'static str)> {
        match self {
            Self::NotFound { at, .. } => Some((*at, "not found")),
            Self::Query(error) => error.label(),
            Self::Patch(error) => error.label(),
            Self::Change(error) => error.label(),
            _ => None,
        }
    }

    /// Returns what makes an error of a problem with the model that is named `at` a place.
    pub(crate) fn not_found(at: Span) -> impl FnOnce(LibraryError) -> ExecuteError {
        move |problem| Self::NotFound { problem: problem.into(), at }
    }
}

impl Diagnostic for ExecuteError {
    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        self.hint().map(|hint| Box::new(hint) as Box<dyn Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (at, label) = self.label()?;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some(label.into()), at))))
    }
}

// Errors of other crates are boxed: they are large, and every result would be. Work that was cancelled ends alike
// wherever it noticed.

impl From<Cancelled> for ExecuteError {
    fn from(_: Cancelled) -> Self {
        Self::Interrupted
    }
}

impl From<VindexError> for ExecuteError {
    fn from(error: VindexError) -> Self {
        Self::Vindex(error.into())
    }
}

impl From<ModelError> for ExecuteError {
    fn from(error: ModelError) -> Self {
        Self::Model(error.into())
    }
}

impl From<KnowledgeError> for ExecuteError {
    fn from(error: KnowledgeError) -> Self {
        if error.is_cancelled() { Self::Interrupted } else { Self::Knowledge(Box::new(error.into())) }
    }
}

impl From<LoadError> for ExecuteError {
    fn from(error: LoadError) -> Self {
        KnowledgeError::from(error).into()
    }
}

impl From<PassError> for ExecuteError {
    fn from(error: PassError) -> Self {
        KnowledgeError::from(error).into()
    }
}

impl From<BackendError> for ExecuteError {
    fn from(error: BackendError) -> Self {
        KnowledgeError::from(error).into()
    }
}

impl From<TokenizerError> for ExecuteError {
    fn from(error: TokenizerError) -> Self {
        KnowledgeError::from(error).into()
    }
}

impl From<ProbeFileError> for ExecuteError {
    fn from(error: ProbeFileError) -> Self {
        Self::Probe(Box::new(error.into()))
    }
}

impl From<ProbeError> for ExecuteError {
    fn from(error: ProbeError) -> Self {
        if error.is_cancelled() { Self::Interrupted } else { Self::Survey(Box::new(error.into())) }
    }
}

impl From<EditError> for ExecuteError {
    fn from(error: EditError) -> Self {
        if error.is_cancelled() { Self::Interrupted } else { Self::Edit(Box::new(error.into())) }
    }
}

impl From<TraceError> for ExecuteError {
    fn from(error: TraceError) -> Self {
        match error {
            TraceError::Pass(error) => error.into(),
            TraceError::Backend(error) => error.into(),
            other => Self::Trace(other.into()),
        }
    }
}

impl From<StoreError> for ExecuteError {
    fn from(error: StoreError) -> Self {
        Self::TraceStore(error.into())
    }
}

impl From<InterventionError> for ExecuteError {
    fn from(error: InterventionError) -> Self {
        match error {
            InterventionError::Pass(error) => error.into(),
            other => Self::Intervention(other.into()),
        }
    }
}
