//! Probing and reading facts: asks a model about entities, learns which features carry answers, and looks edges up beside
//! its weights. Knows nothing of editing, LQL or serving.

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
