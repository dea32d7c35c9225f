//! The forward pass: what a model predicts, and what happens inside it on the way.

#![forbid(unsafe_code)]

mod attention;
mod attribution;
mod cache;
mod dense_step;
mod edited;
mod error;
mod feed_forward;
mod forward;
mod gradient;
mod head;
mod hook;
mod inputs;
mod mixture;
mod model;
mod per_layer_inputs;
mod sampling;
mod score;
mod whitening;

pub use cache::Cache;
pub use dense_step::DenseStep;
pub use error::{InferenceError, ProbeFileError};
pub use feed_forward::{DenseFfn, FfnBackend, FfnInput, WalkFfn};
pub use forward::{LogitsFor, Pass, Sequence};
pub use gradient::RecordedForward;
pub use hook::{Hook, NoHook, Point, Record, Stage};
pub use inputs::{InputRecord, inputs_of_layers, last_inputs, layer_inputs};
pub use model::Model;
pub use sampling::{Prediction, Sampler, SamplingOptions, greedy, predictions};
pub use score::{TextScore, nats, score_text};
pub use whitening::{WhitenedInput, Whitening};
