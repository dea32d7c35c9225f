//! Number formats, block codecs and the kernels that compute with them.
//!
//! This crate computes with weights as they are stored: it decodes and encodes every block format, multiplies matrices
//! straight from the blocks, and computes norms, rotary positions, softmax and attention on a pool of threads. It knows
//! nothing of models, files' layouts or queries.
//!
//! All `unsafe` code of the project lives here: in the kernels and in the file mapping.
//!
//! ```
//! use larql_compute::{Activations, Format, Matrix, Pool, Precision, matmul};
//!
//! let mut blocks = Vec::new();
//! Format::Q4_0.encode(&[-1.0; 64], &mut blocks)?;
//! let weights = Matrix::new(Format::Q4_0, 2, 32, blocks.into())?;
//! let mut out = [0.0; 2];
//! let input = Activations::new(&[0.5; 32], 32);
//! matmul(&Pool::for_this_machine(), weights.view(), &input, Precision::Exact, &mut out);
//! assert_eq!(out, [-16.0, -16.0]);
//! # Ok::<(), larql_compute::ComputeError>(())
//! ```
//!
//! [`Format`] is the encoding of values; its codecs are in `codec`, a file for each kind of block. A weight is
//! bytes with a format, [`Matrix`], often a part of a file from [`map_file`]. [`matmul`] multiplies it on a
//! [`Pool`] of threads, with the inner loops in `kernels`. The other operations of a transformer layer are in
//! [`norm`], [`rotary`], [`attention`], [`activation`], [`vector`] and, for mixtures of experts, [`router`]. [`limits`]
//! measures the bandwidth and arithmetic of the machine.

pub mod activation;
mod aligned;
pub mod attention;
mod coarse;
mod codec;
mod columns;
mod disjoint_rows;
mod error;
mod format;
mod kernels;
mod lanes;
pub mod limits;
mod mapping;
mod matrix;
mod nearest;
pub mod norm;
mod pool;
mod product;
pub mod rotary;
pub mod router;
mod top_k;
mod transposed;
pub mod vector;

pub use coarse::{CoarsePanels, CoarseVectors};
pub use columns::accumulate_columns;
pub use error::ComputeError;
pub use format::Format;
pub use mapping::{map_file, prefetch_pages, release_pages};
pub use matrix::{MatRef, Matrix};
pub use nearest::{row_lengths, top_k_rows};
pub use pool::Pool;
pub use product::{Activations, Matmul, matmul, matmul_each, rows_of_a_part};
pub use top_k::{top_k_by_magnitude, top_k_by_value};
pub use transposed::matmul_transposed;

/// Treatment of the activations in a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Products are those of f32, up to the rounding of sums. INFER, traces and conformance use it.
    #[default]
    Exact,
    /// Activations are quantised to 8 bits once per input and multiplied by integer dot products, as the
    /// field does for block formats. Float weights are unaffected. Generation uses it.
    Fast,
}
