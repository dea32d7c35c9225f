//! Errors as exceptions of `larql.errors`.

use larql_edit::EditError;
use larql_inference::{BackendError, PassError};
use larql_knowledge::KnowledgeError;
use larql_lql::ParseError;
use larql_models::TokenizerError;
use larql_remote::RemoteError;
use larql_session::ExecuteError;
use larql_trace::{InterventionError, StoreError, TraceError};
use larql_vindex::VindexError;
use miette::Diagnostic;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

/// An error on its way to Python.
#[derive(Debug)]
pub(crate) struct Problem {
    /// Name of the exception in `larql.errors`; none for an interruption.
    class: Option<&'static str>,
    message: String,
    help: Option<String>,
    /// The bytes of the statement that are at fault.
    at: Option<(usize, usize)>,
}

impl Problem {
    /// Returns an error of a class.
    pub(crate) fn new(class: &'static str, message: impl ToString) -> Problem {
        Problem { class: Some(class), message: message.to_string(), help: None, at: None }
    }

    /// Returns an error of an argument's value.
    pub(crate) fn argument(message: impl ToString) -> Problem {
        Problem::new("ArgumentError", message)
    }

    /// Returns an error of an argument's type.
    pub(crate) fn argument_type(message: impl ToString) -> Problem {
        Problem::new("ArgumentTypeError", message)
    }

    /// Returns the error of whatever uses a closed object.
    pub(crate) fn closed() -> Problem {
        Problem::new("ClosedError", "the model is closed; open it again with larql.load(…)")
    }

    /// Returns an error with the message, the causes and the help of a diagnostic.
    pub(crate) fn of_diagnostic(class: &'static str, error: &dyn Diagnostic) -> Problem {
        let mut message = error.to_string();
        for cause in std::iter::successors(error.source(), |cause| cause.source()) {
            let cause = cause.to_string();
            if !message.contains(&cause) {
                message += &format!(": {cause}");
            }
        }
        let help = error.help().map(|help| help.to_string());
        let label = error.labels().and_then(|mut labels| labels.next());
        let at = label.map(|label| (label.offset(), label.offset() + label.len()));
        Problem { class: Some(class), message, help, at }
    }

    fn exception(self, py: Python<'_>) -> PyResult<PyErr> {
        let Some(class) = self.class else { return Ok(PyKeyboardInterrupt::new_err(())) };
        let class = py.import("larql.errors")?.getattr(class)?;
        let exception = class.call1((self.message,))?;
        exception.setattr("help", self.help)?;
        exception.setattr("span", self.at)?;
        Ok(PyErr::from_value(exception))
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Problem> for PyErr {
    fn from(problem: Problem) -> PyErr {
        Python::attach(|py| problem.exception(py).unwrap_or_else(|error| error))
    }
}

impl From<ParseError> for Problem {
    fn from(error: ParseError) -> Problem {
        Problem::of_diagnostic("ParseError", &error)
    }
}

impl From<RemoteError> for Problem {
    fn from(error: RemoteError) -> Problem {
        Problem::of_diagnostic("RemoteError", &error)
    }
}

impl From<ExecuteError> for Problem {
    fn from(error: ExecuteError) -> Problem {
        let class = match &error {
            ExecuteError::Interrupted => {
                return Problem { class: None, message: String::new(), help: None, at: None };
            }
            ExecuteError::NothingOpen => "ClosedError",
            ExecuteError::NotFound { .. } => "ModelNotFoundError",
            ExecuteError::NeedsVindex { .. } => "NeedsVindexError",
            ExecuteError::Patch(_) => "PatchError",
            ExecuteError::Change(_) | ExecuteError::Edit(_) => "EditError",
            ExecuteError::Vindex(error) => return Problem::from_vindex(error),
            ExecuteError::Model(_) => "CheckpointError",
            ExecuteError::Knowledge(error) => match error.error() {
                KnowledgeError::Vindex(error) => return Problem::from_vindex(error),
                _ => "RunError",
            },
            ExecuteError::Probe(_) | ExecuteError::Survey(_) => "RunError",
            ExecuteError::Trace(_) => "TraceError",
            ExecuteError::Intervention(_) => "InterventionError",
            ExecuteError::TraceStore(_) => "StoreError",
            _ => "QueryError",
        };
        Problem::of_diagnostic(class, &error)
    }
}

impl Problem {
    fn from_vindex(error: &VindexError) -> Problem {
        let class = if matches!(error, VindexError::NotHeld { .. }) { "NotHeldError" } else { "VindexError" };
        Problem::new(class, error)
    }
}

impl From<VindexError> for Problem {
    fn from(error: VindexError) -> Problem {
        Problem::from_vindex(&error)
    }
}

impl From<larql_models::ModelError> for Problem {
    fn from(error: larql_models::ModelError) -> Problem {
        Problem::new("NotHeldError", error)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        Problem::new("StoreError", error)
    }
}

/// Errors that statements have too are converted as theirs.
macro_rules! as_of_statements {
    ($($error:ty),*) => {$(
        impl From<$error> for Problem {
            fn from(error: $error) -> Problem {
                ExecuteError::from(error).into()
            }
        }
    )*};
}

as_of_statements!(
    EditError,
    KnowledgeError,
    PassError,
    BackendError,
    TokenizerError,
    TraceError,
    InterventionError
);
