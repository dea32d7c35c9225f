//! Carrying out statements: one file for each group of them, each a function from statement to typed output.

mod build;
mod compact;
mod compile;
mod describe;
mod diff;
mod digest;
mod edit;
mod error;
mod extract;
mod infer;
mod insert;
mod measured;
mod merge;
mod patch;
mod patched;
mod pipe;
mod row;
mod select;
mod session;
mod show;
mod stats;
mod stop;
mod target;
mod upkeep;
mod walk;

pub use build::{Build, BuildError, BuildOptions, LayerDone, LayerError};
pub use error::ExecuteError;
pub use session::Session;
