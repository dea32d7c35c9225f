//! Probing and reading facts: what a model knows of an entity, which features carry it, and edges beside the weights.
//!
//! This crate knows nothing of editing, LQL or serving.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use larql_knowledge::{GenerationOptions, LanguageModel};
//!
//! let pool = Arc::new(larql_compute::Pool::for_this_machine());
//! let language = LanguageModel::open(Path::new("model.vindex"), pool)?;
//! let options = GenerationOptions {
//!     max_tokens: 8,
//!     stop_tokens: language.stop_tokens().to_vec(),
//!     sampling: larql_inference::SamplingOptions::default(),
//!     precision: larql_compute::Precision::Fast,
//! };
//! language.complete("The capital of France is", &options, |text| {
//!     print!("{text}");
//!     ControlFlow::Continue(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In reading order: `language_model` (weights with tokenizer and chat template), `reading` (questions in words, and the
//! features that activate on an entity), [`probe`] (learns how to ask, and labels features), `edge_memory` (edges beside the
//! weights), `calibration` (background text).

#![forbid(unsafe_code)]

mod calibration;
mod edge_memory;
mod generate;
mod language_model;
pub mod probe;
mod reading;

pub use calibration::{calibration_texts, held_out_text};
pub use edge_memory::{EdgeMemory, KeySpace, MemoryAnswer, MemoryProbe, greatest_cosines, target_tokens};
pub use generate::{Generation, GenerationOptions, Generator, StopReason};
pub use language_model::{Conversation, LanguageModel};
pub use reading::{
    AskableRelation, AskableRelations, Beginnings, Belief, EntityResidual, Evidence, Prompt, QuestionSense,
    Reader, ResidualRates, SubjectKinds, Tally, TrackRecord, Way, continuations, entity_tokens,
    phrase_matches,
};
