//! Probing and reading facts: the edges of an entity, the features that carry them, and an edge memory.
//!
//! This crate reads facts from a model by questions in words, by its features, and from stored entries. It knows nothing
//! of editing, LQL or serving.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use larql_inference::DecodeOptions;
//! use larql_knowledge::{GenerationOptions, LanguageModel};
//!
//! let pool = Arc::new(larql_compute::Pool::for_this_machine());
//! let language = LanguageModel::open(Path::new("model.vindex"), pool)?;
//! let stop_tokens = language.stop_tokens().to_vec();
//! let decode = DecodeOptions { stop_tokens, ..DecodeOptions::greedy(8) };
//! let options = GenerationOptions::new(decode, larql_compute::Precision::Fast);
//! language.complete("The capital of France is", &options, |text| {
//!     print!("{text}");
//!     ControlFlow::Continue(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In reading order: `language_model`, `generation` and `conversation` (weights with tokenizer and chat template),
//! `reading` (questions in words, and the features that activate on an entity), [`probe`] (measures the best wordings,
//! and labels features), [`unprobed`] (questions to models without a probe), `edge_memory` (stored edges that override the next tokens), `calibration` (background text).

#![forbid(unsafe_code)]

mod calibration;
mod conversation;
mod edge_memory;
mod error;
mod generation;
mod language_model;
pub mod probe;
mod reading;
mod stop_texts;
pub mod unprobed;

pub use calibration::{calibration_texts, held_out_text, passages};
pub use conversation::Conversation;
pub use edge_memory::{
    EdgeMemory, KeySpace, MemoryAnswer, MemoryInterceptor, MemoryProbe, greatest_cosines, target_tokens,
};
pub use error::{Hint, KnowledgeError, ProbeError, ProbeFileError};
pub use generation::{Drafts, Generation, GenerationOptions};
pub use language_model::LanguageModel;
pub use reading::{
    AnswerCounts, AskableRelation, AskableRelations, Belief, EntityResidual, Evidence, KnowledgeReader,
    PrefixCache, Prompt, QuestionSense, ResidualRates, RetrievalMethod, SubjectKinds, TrackRecord,
    continuations, entity_tokens, phrase, phrase_end, phrase_matches,
};
pub use stop_texts::StopTexts;
