//! The engine: one forward pass over batches of sequences, with its sequence states, hooks, back ends and decoder.
//!
//! This crate turns tokens into logits, and shows what happens on the way. It knows nothing of text, probes, edits' origin,
//! LQL or HTTP.
//!
//! ```
//! use std::sync::Arc;
//!
//! use larql_compute::Pool;
//! use larql_inference::{KeyValueCache, Model, Record, Stage, predictions};
//! use larql_models::Checkpoint;
//!
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/conformance/llama");
//! let checkpoint = Checkpoint::open(folder.as_ref())?;
//! let model = Model::load(&checkpoint, Arc::new(Pool::for_this_machine()))?;
//! let mut residuals = Record::new(Stage::LayerOutput);
//! let mut state = KeyValueCache::new(model.spec());
//! let logits = model.pass().with_hook(&mut residuals).last_logits(&mut state, &[1, 2, 3])?;
//! assert_eq!(residuals.layers[0].len(), 3 * model.spec().hidden_size);
//! println!("{:?}", predictions(&logits, 5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In reading order:
//!
//! - `model` and `weights`: a [`Model`] is weights, resolved by role from any source; parts may be absent.
//! - `batch` and `state`: the [`Sequence`]s of a pass, the [`Rows`] that their tokens take, and the [`SequenceState`] that each
//!   keeps between passes; [`KeyValueCache`] is one.
//! - `pass` and `layer`: the forward pass, in the order of the paper; `attention`, `feed_forward`, `norm`, `projection`,
//!   `per_layer_inputs` and `ends` are its parts.
//! - `hook`: [`Point`]s of the pass at which a [`Hook`] watches and changes values.
//! - The plugs: [`FfnBackend`] for the feed-forward step (`local_ffn` has the model's own), [`Ends`] for embedding and output
//!   head, [`Executor`] for a whole pass.
//! - `decoder`, `sampling` and `generate`: from logits to tokens; `draft`: speculative decoding.
//! - `edits`: a model with other features. `gradient`, `attribution`, `linear_attribution`, `inputs`, `whitening`, `score`, `dense_step` and `head`: what
//!   editing and reading knowledge compute from a model.

#![forbid(unsafe_code)]

mod attention;
mod attribution;
mod batch;
mod continuations;
mod decoder;
mod dense_step;
mod draft;
mod edits;
mod ends;
mod error;
mod executor;
mod feed_forward;
mod generate;
mod gradient;
mod head;
mod hook;
mod importance;
mod inputs;
mod layer;
mod linear_attribution;
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
pub use continuations::greedy_continuations;
pub use decoder::{
    Constraint, ConstraintError, DecodeError, DecodeOptions, DecodeStep, DecodedToken, Decoder, Interceptor,
    StopReason,
};
pub use dense_step::DenseStep;
pub use draft::{DraftError, DraftLength, DraftModel, Drafter, PromptLookUp};
pub use ends::Ends;
pub use error::{BackendError, GradientError, LoadError, PassError, WhiteningError};
pub use executor::{CpuExecutor, Executor, HookedExecutor};
pub use feed_forward::{FfnBackend, FfnInput};
pub use generate::{GenerateError, Generated, generate};
pub use gradient::RecordedForward;
pub use hook::{Hook, HookError, NoHook, Point, PointSet, Record, Stage};
pub use importance::column_importance;
pub use inputs::{InputRecord, inputs_of_layers, last_inputs, layer_inputs};
pub use linear_attribution::{Component, LinearAttribution, Sources};
pub use local_ffn::{DenseFfn, WalkFfn};
pub use model::Model;
pub use pass::Pass;
pub use sampling::{Prediction, Sampler, SamplingError, SamplingOptions, greedy, predictions};
pub use score::{TextScore, nats, score_text};
pub use state::{CopyError, KeyValueCache, NewKeysAndValues, SequenceState, StateError};
pub use whitening::{WhitenedInput, Whitening};
