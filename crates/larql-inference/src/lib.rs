//! The forward pass: what a model predicts, and what happens inside it on the way.

#![forbid(unsafe_code)]

mod attention;
mod attribution;
mod cache;
pub mod edit;
mod edited;
mod error;
pub mod eval;
mod feed_forward;
mod forward;
mod generate;
mod hook;
mod knowledge;
mod language_model;
mod mixture;
mod model;
mod per_layer_inputs;
pub mod probe;
mod recall;
mod sampling;

pub use cache::Cache;
pub use error::InferenceError;
pub use feed_forward::{DenseFfn, FfnBackend, FfnInput, WalkFfn};
pub use forward::{LogitsFor, Pass, Sequence};
pub use generate::{Generation, GenerationOptions, Generator, StopReason};
pub use hook::{Hook, NoHook, Point, Record, Stage};
pub use knowledge::{
    AskableRelation, AskableRelations, Beginnings, Belief, EntityResidual, Evidence, QuestionSense, Reader,
    ResidualRates, SubjectKinds, Tally, TrackRecord, Way, entity_tokens,
};
pub use language_model::{Conversation, LanguageModel};
pub use model::Model;
pub use recall::{Assertion, Cue, KeySpace, Recall, Recalled, remember};
pub use sampling::{Prediction, Sampler, SamplingOptions, predictions};
