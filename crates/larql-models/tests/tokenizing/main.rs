//! Tokenizers and chat templates against what other programs make of the same files.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod chat;
mod properties;
mod references;
