//! The interface of OpenAI: models, completions, chat completions, embeddings and responses.
//!
//! In reading order: `fields` (what several requests share), `completions`, `chat` with `format` (schemas) and `tools`,
//! `responses`, `embeddings`, `models`; `logprobs` and `stream` write parts of the answers.

mod chat;
mod completions;
mod embeddings;
mod fields;
mod format;
mod logprobs;
mod models;
mod responses;
mod stream;
mod tools;

pub(crate) use chat::chat_completions;
pub(crate) use completions::completions;
pub(crate) use embeddings::{embeddings, mean_hidden_state};
pub(crate) use models::{list_models, show_model};
pub(crate) use responses::{StoredResponses, create_response, delete_response, show_response};
pub(crate) use tools::{Call, calls_in, may_be_call};
