//! What ships with LARQL: the bundled model, embedded in the program.
//!
//! This crate hands out bytes under their names. It knows nothing of models, vindexes or what the bytes mean.
//!
//! ```
//! let atlas = larql_assets::model("atlas").unwrap();
//! assert!(atlas.bytes() > 8_000_000);
//! assert!(larql_assets::model("another").is_none());
//! ```
//!
//! In reading order: `model` (checkpoints, file by file).

#![forbid(unsafe_code)]

mod model;

pub use model::{BundledModel, MODELS, model};
