//! Errors of the model crates, with their next step as a statement of LQL.

use std::error::Error;
use std::fmt::{self, Display, Formatter};

use larql_edit::EditError;
use larql_knowledge::{Hint, KnowledgeError, ProbeError, ProbeFileError};

/// An error with the next step that it hints at.
#[derive(Debug)]
pub struct Advised<E> {
    error: E,
    hint: Option<Hint>,
}

impl<E> Advised<E> {
    /// Returns the error.
    pub fn error(&self) -> &E {
        &self.error
    }

    /// Returns the next step, as data.
    pub fn hint(&self) -> Option<Hint> {
        self.hint
    }
}

impl<E: Display> Display for Advised<E> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        match self.hint {
            Some(Hint::InsertIntoMemory) => f.write_str("; use MODE KNN to insert facts"),
            Some(Hint::ProbeAgain) => f.write_str("; run `larql probe` again"),
            _ => Ok(()),
        }
    }
}

impl<E: Error> Error for Advised<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl From<KnowledgeError> for Advised<KnowledgeError> {
    fn from(error: KnowledgeError) -> Self {
        Advised { hint: error.hint(), error }
    }
}

impl From<ProbeFileError> for Advised<ProbeFileError> {
    fn from(error: ProbeFileError) -> Self {
        Advised { hint: error.hint(), error }
    }
}

impl From<ProbeError> for Advised<ProbeError> {
    fn from(error: ProbeError) -> Self {
        Advised { hint: error.hint(), error }
    }
}

impl From<EditError> for Advised<EditError> {
    fn from(error: EditError) -> Self {
        Advised { hint: error.hint(), error }
    }
}
