//! The engine: forward pass, sequence state, hooks, back ends, attribution and gradients.

#![forbid(unsafe_code)]

mod attention;
mod attribution;
mod batch;
mod decoder;
mod dense_step;
mod edits;
mod ends;
mod error;
mod executor;
mod feed_forward;
mod generate;
mod gradient;
mod head;
mod hook;
mod inputs;
mod layer;
mod local_ffn;
mod model;
mod norm;
mod pass;
mod per_layer_inputs;
mod projection;
mod sampling;
mod score;
mod state;
mod watch;
mod weights;
mod whitening;

pub use batch::{Batching, Logits, LogitsFor, Rows, Sequence};
pub use decoder::{
    Constraint, ConstraintError, DecodeError, DecodeOptions, DecodeStep, DecodedToken, Decoder, Interceptor,
    StopReason,
};
pub use dense_step::DenseStep;
pub use ends::Ends;
pub use error::{BackendError, GradientError, LoadError, PassError, WhiteningError};
pub use executor::{CpuExecutor, Executor};
pub use feed_forward::{FfnBackend, FfnInput};
pub use generate::{GenerateError, Generated, generate};
pub use gradient::RecordedForward;
pub use hook::{Hook, HookError, NoHook, Point, PointSet, Record, Stage};
pub use inputs::{InputRecord, inputs_of_layers, last_inputs, layer_inputs};
pub use local_ffn::{DenseFfn, WalkFfn};
pub use model::Model;
pub use pass::Pass;
pub use sampling::{Prediction, Sampler, SamplingError, SamplingOptions, greedy, predictions};
pub use score::{TextScore, nats, score_text};
pub use state::{KeyValueCache, NewKeysAndValues, SequenceState, StateError};
pub use whitening::{WhitenedInput, Whitening};
