//! What a model *is*: its specification, its weights on disk, its tokenizer and its chat template.

mod chat;
mod checkpoint;
mod config;
mod error;
mod family;
mod gguf;
mod role;
mod safetensors;
mod spec;
mod special_tokens;
mod tensor;
mod text;
mod tokenizer;
mod weights;

pub use chat::{ChatError, ChatOptions, ChatTemplate, Message};
pub use checkpoint::{Checkpoint, CheckpointKind};
pub use config::Config;
pub use error::ModelError;
pub use gguf::{GgufArray, GgufFile, GgufType, GgufValue};
pub use role::{LayerRole, Role};
pub use safetensors::{SafetensorsFile, ShardIndex};
pub use spec::*;
pub use special_tokens::SpecialTokens;
pub use tensor::{Encoding, StoredTensor};
pub use text::TextFiles;
pub use tokenizer::{DecodeStream, GgufVocabulary, Tokenizer, TokenizerError};
pub use weights::WeightSource;
