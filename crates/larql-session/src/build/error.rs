//! Errors of building by a Vindexfile.

use std::io;
use std::path::{Path, PathBuf};

use larql_hub::LibraryError;
use larql_lql::vindexfile::{NoSuchStage, Step};
use larql_vindex::Damage;
use miette::Diagnostic;

use crate::ExecuteError;

/// Failure to build by a Vindexfile.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no such stage.
    #[error(transparent)]
    #[diagnostic(transparent)]
    NoSuchStage(#[from] NoSuchStage),
    /// An instruction could not be carried out.
    #[error("line {line}, {instruction}: {problem}")]
    Layer {
        /// The line of the Vindexfile, from 1.
        line: usize,
        /// The instruction.
        instruction: String,
        /// The problem.
        problem: Box<LayerError>,
        /// The next step.
        #[help]
        help: Option<String>,
    },
    /// The observer of the build stopped it.
    #[error("interrupted; the same command takes over the layers that are done")]
    Interrupted,
}

/// Failure to carry out an instruction.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[non_exhaustive]
pub enum LayerError {
    /// There is no such model, or it would have to be fetched.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Library(#[from] LibraryError),
    /// The statement failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Execute(#[from] ExecuteError),
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    #[diagnostic(help("paths begin at the folder of the Vindexfile"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {damage}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage.
        damage: Damage,
    },
    /// A layer cannot be kept for the next build.
    #[error("{} cannot be written: {source}", path.display())]
    Unwritable {
        /// The folder of cached layers.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}

impl BuildError {
    pub(super) fn of_layer(step: &Step, problem: LayerError) -> BuildError {
        let help = problem.help().map(|help| help.to_string());
        let instruction = step.instruction.to_string();
        BuildError::Layer { line: step.line, instruction, problem: problem.into(), help }
    }
}

impl LayerError {
    pub(super) fn unreadable(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> LayerError {
        let path = path.as_ref().to_owned();
        move |source| LayerError::Unreadable { path, source }
    }

    pub(super) fn unwritable(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> LayerError {
        let path = path.as_ref().to_owned();
        move |source| LayerError::Unwritable { path, source }
    }

    pub(super) fn damaged(path: PathBuf) -> impl FnOnce(Damage) -> LayerError {
        move |damage| LayerError::Damaged { path, damage }
    }
}
