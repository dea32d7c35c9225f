//! Models as files: their specification, weights on disk, tokenizer and chat template.
//!
//! This crate reads and writes published model files: a [`Checkpoint`] opens safetensors (of Hugging Face or MLX) and
//! GGUF, describes the architecture by a [`ModelSpec`], gives access to weights by [`Role`] as a [`WeightSource`], and
//! has a [`Tokenizer`] and a [`ChatTemplate`]. It knows nothing of vindexes and runs no model.
//!
//! Files are mapped and validated once, when they are opened: every count, length and offset is checked, every
//! tensor that the spec requires exists in its shape, and every tensor in the file is accounted for. Damage is a
//! [`ModelError`] that names the file, the field, the expected value and the value found.
//!
//! ```
//! use larql_models::{Checkpoint, LayerRole, Role, WeightSource};
//!
//! # let path = larql_testing::repository("conformance/llama3");
//! let checkpoint = Checkpoint::open(&path)?;
//! assert_eq!(checkpoint.spec().layers.len(), 4);
//! let queries = checkpoint.matrix(Role::Layer(2, LayerRole::Query))?;
//! assert_eq!((queries.rows(), queries.cols()), (64, 64));
//! # Ok::<(), larql_models::ModelError>(())
//! ```
//!
//! In reading order: `spec` is the architecture and `role` the roles of its tensors; `config` reads configurations and
//! `family` turns them into specs, one small file for each family; `safetensors` and `gguf` read containers;
//! `checkpoint` puts them together; `text`, `tokenizer` and `chat` handle text; `export` writes models; `quantise` chooses the formats of a
//! smaller one.

#![forbid(unsafe_code)]

mod activation;
mod chat;
mod checkpoint;
mod config;
mod error;
mod export;
mod family;
mod gguf;
mod python_json;
mod quantise;
mod role;
mod safetensors;
mod spec;
mod special_tokens;
mod tensor;
mod text;
mod tokenizer;
mod weights;

pub use activation::Activation;
pub use chat::{ChatError, ChatOptions, ChatTemplate, Message, TemplateSources};
pub use checkpoint::{Checkpoint, CheckpointKind};
pub use config::Config;
pub use error::ModelError;
pub use export::{
    Export, ExportOptions, ExportReport, SourceTensor, SourceTensors, write_gguf, write_safetensors,
};
pub use gguf::{GgufArray, GgufFile, GgufTensor, GgufType, GgufValue, GgufWriter};
pub use quantise::{ColumnImportance, Mix, Mixing};
pub use role::{LayerRole, ProjectionRoles, Role, StepRoles};
pub use safetensors::{SafetensorsFile, ShardIndex, safetensors_header};
pub use spec::{
    AttentionSpec, FeedForwardSpec, KeysAndValues, LayerSpec, LowRank, MixtureBranch, MixtureSpec, ModelSpec,
    NormKind, NormSpec, PerLayerInputSpec, QueryGrowth, QueryKeyNorm, Shape,
};
pub use special_tokens::SpecialTokens;
pub use tensor::{Encoding, StoredTensor};
pub use text::TextFiles;
pub use tokenizer::{DecodeStream, GgufVocabulary, Tokenizer, TokenizerError};
pub use weights::WeightSource;
