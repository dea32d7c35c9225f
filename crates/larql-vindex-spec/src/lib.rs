//! The vindex manifest: its types, thresholds and rules.
//!
//! This crate defines `index.json` and the lists of tensors: the serde types, the defaults for old files, the division of
//! layers into bands, the faithfulness thresholds and public contract v1. It opens no file and knows nothing of models,
//! kernels or queries: everything here is a function of bytes that its callers have read.
//!
//! ```
//! use larql_vindex_spec::{ExtractLevel, Manifest};
//!
//! let json = br#"{"version": 2, "model": "tiny", "num_layers": 1, "hidden_size": 4, "intermediate_size": 8,
//!     "vocab_size": 16, "layers": [{"layer": 0, "num_features": 8, "offset": 0, "length": 64}]}"#;
//! let manifest = Manifest::parse(json)?;
//! assert_eq!(manifest.level(), ExtractLevel::Browse);
//! assert_eq!(manifest.bands().knowledge.layers(), 0..1);
//! # Ok::<(), larql_vindex_spec::ManifestError>(())
//! ```
//!
//! * [`Manifest`] is `index.json`, with [`Source`], [`LayerSlot`] and [`ModelConfig`] inside;
//! * [`ExtractLevel`], [`FloatType`] and [`Quant`] are enumerations in it;
//! * [`LayerBands`] divides layers into syntax, knowledge and output;
//! * [`TensorEntry`] is the location of a named tensor;
//! * [`Thresholds`] bounds the difference of stored weights from their source;
//! * [`validate`] and [`validate_files`] check a manifest against public contract v1; [`SCHEMA`] is its JSON
//!   Schema.

#![forbid(unsafe_code)]

mod bands;
mod contract;
mod error;
mod level;
mod manifest;
mod tensor;
mod thresholds;

pub use bands::{Band, LayerBands};
pub use contract::{CONTRACT_VERSION, MAX_FILE_BYTES, SCHEMA, Violation, validate, validate_files};
pub use error::ManifestError;
pub use level::{ExtractLevel, FloatType, Quant};
pub use manifest::{CONTAINER_VERSION, LayerSlot, Manifest, ModelConfig, Shard, Source};
pub use tensor::{TensorEntry, check_file_name, parse_tensors};
pub use thresholds::{Thresholds, sampled_layers};
