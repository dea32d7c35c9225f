//! Number formats, block codecs and the kernels that compute with them.
//!
//! This crate owns what happens between the bytes of a weight and the numbers of an activation: decoding and
//! encoding every block format, matrix products straight from the blocks, norms, rotary positions, softmax and
//! the thread pool that they run on. It knows nothing of models, files' layouts or queries.
//!
//! All `unsafe` code of the project lives here: in the kernels and in the file mapping.

pub mod activation;
pub mod attention;
mod codec;
mod disjoint_rows;
mod error;
mod format;
mod kernels;
mod lanes;
mod mapping;
mod matrix;
pub mod norm;
mod pool;
mod product;
pub mod rotary;
mod top_k;

pub use error::ComputeError;
pub use format::Format;
pub use mapping::map_file;
pub use matrix::{MatRef, Matrix};
pub use pool::Pool;
pub use product::{Activations, matmul};
pub use top_k::{top_k_by_magnitude, top_k_by_value};

/// How a product treats its activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Activations stay f32; block weights are decoded on the fly. What INFER, traces and conformance use.
    #[default]
    Exact,
    /// Activations are quantised to 8 bits once per input and multiplied by integer dot products, as the
    /// field does for block formats. Float weights are unaffected. What generation uses.
    Fast,
}
