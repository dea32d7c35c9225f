//! LQL on a server: an engine whose statements are carried out elsewhere, with results of the same types.
//!
//! This crate sends statements to a server that `larql serve` started, and reads the typed results that come back. It knows
//! nothing of how statements are carried out, or of how results look.
//!
//! ```
//! use larql_remote::Remote;
//!
//! let error = Remote::connect("ftp://example.org").err().unwrap();
//! assert_eq!(error.to_string(), "ftp://example.org is no address of a server");
//! ```
//!
//! In reading order: `address` (what USE REMOTE names), `remote` (a session on a server), `switching` (an engine that is
//! local until USE REMOTE, and again after USE), `error`.

#![forbid(unsafe_code)]

mod address;
mod error;
mod remote;
mod switching;

pub use error::RemoteError;
pub use remote::Remote;
pub use switching::Switching;
