//! Data that ships with LARQL: the bundled model, fact tables and calibration texts, embedded in the program.
//!
//! This crate returns bytes by name. It knows nothing of models, vindexes or the meaning of the bytes.
//!
//! ```
//! let atlas = larql_assets::model("atlas").unwrap();
//! assert!(atlas.bytes() > 8_000_000);
//! assert!(larql_assets::model("another").is_none());
//!
//! let (name, text) = larql_assets::FACT_TABLES[0];
//! assert_eq!(name, "cities.tsv");
//! assert!(text.starts_with("subject\trelation\tobject\n"));
//! ```
//!
//! In reading order: `model` (checkpoints, file by file), `text` (tables and texts). The files are in `data/`.

#![forbid(unsafe_code)]

mod model;
mod text;

pub use model::{BundledModel, MODELS, model};
pub use text::{CALIBRATION_TEXTS, FACT_TABLES, HELD_OUT_TEXT, RELATIONS, UNPROBED};
