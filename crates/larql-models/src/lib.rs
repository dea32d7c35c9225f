//! What a model *is*: its specification, its weights on disk, its tokenizer and its chat template.
//!
//! This crate owns the way from files that others published to plain values: a [`Checkpoint`] opens safetensors
//! (of Hugging Face or MLX) and GGUF, says by a [`ModelSpec`] what is in it, hands out weights by [`Role`] as a
//! [`WeightSource`], and comes with a [`Tokenizer`] and a [`ChatTemplate`]. It knows nothing of vindexes and runs
//! no model.
//!
//! Files are mapped and judged once, when they are opened: every count, length and offset is checked, every
//! tensor that the spec calls for is there in its shape, and every tensor that is there is accounted for. Damage
//! is a [`ModelError`] that names file, field, expectation and finding.
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
//! Where to look: `spec` says what a model is made of and `role` what its tensors are for; `config` reads
//! configurations and `family` turns them into specs, one small file a family; `safetensors` and `gguf` read
//! containers; `checkpoint` puts them together; `text`, `tokenizer` and `chat` are about text.

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
pub use role::{LayerRole, ProjectionRoles, Role, StepRoles};
pub use safetensors::{SafetensorsFile, ShardIndex, safetensors_header};
pub use spec::{
    AttentionSpec, FeedForwardSpec, KeysAndValues, LayerSpec, LowRank, MixtureBranch, MixtureSpec, ModelSpec,
    NormKind, NormSpec, PerLayerInputSpec, QueryKeyNorm, Shape,
};
pub use special_tokens::SpecialTokens;
pub use tensor::{Encoding, StoredTensor};
pub use text::TextFiles;
pub use tokenizer::{DecodeStream, GgufVocabulary, Tokenizer, TokenizerError};
pub use weights::WeightSource;
