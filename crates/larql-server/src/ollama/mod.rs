//! The interface of Ollama, for its clients and front ends.
//!
//! In reading order: `fields` (options and times), `generate`, `chat`, `models` (what is there), `embed`.

mod chat;
mod embed;
mod fields;
mod generate;
mod models;

pub(crate) use chat::chat;
pub(crate) use embed::{embed, embeddings};
pub(crate) use generate::generate;
pub(crate) use models::{ps, show, tags, version};
