//! The engine: forward pass, sequence state, hooks, back ends, attribution and gradients.

#![forbid(unsafe_code)]

mod attention;
mod attribution;
mod batch;
mod decoder;
mod dense_step;
mod ends;
mod error;
mod feed_forward;
mod generate;
mod gradient;
mod head;
mod hook;
mod inputs;
mod layer;
mod model;
mod norm;
mod pass;
mod per_layer_inputs;
mod projection;
mod sampling;
mod score;
mod state;
mod weights;
mod whitening;

pub use batch::{Batching, Logits, LogitsFor, Rows, Sequence};
pub use decoder::{
    Constraint, ConstraintError, DecodeError, DecodeOptions, DecodeStep, DecodedToken, Decoder, Interceptor,
    StopReason,
};
pub use dense_step::DenseStep;
pub use ends::Ends;
pub use error::{BackendError, GradientError, HookError, LoadError, PassError, StateError, WhiteningError};
pub use feed_forward::{DenseFfn, FfnBackend, FfnInput, WalkFfn};
pub use generate::{GenerateError, Generated, Generator};
pub use gradient::RecordedForward;
pub use hook::{Hook, NoHook, Point, PointSet, Record, Stage};
pub use inputs::{InputRecord, inputs_of_layers, last_inputs, layer_inputs};
pub use model::Model;
pub use pass::Pass;
pub use sampling::{Prediction, Sampler, SamplingOptions, greedy, predictions};
pub use score::{TextScore, nats, score_text};
pub use state::{KeyValueCache, NewKeysAndValues, SequenceState};
pub use whitening::{WhitenedInput, Whitening};
