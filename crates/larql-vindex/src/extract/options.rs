//! Options of an extraction: components, layers and storage.

use std::collections::BTreeSet;
use std::sync::Arc;

use larql_models::{ColumnImportance, LayerRole, Mix, Role};
use larql_vindex_spec::{ExtractLevel, FloatType};
use serde::Serialize;

/// Options of an extraction. The default is everything that a forward pass needs, in the source's formats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExtractOptions {
    /// Level to extract.
    pub level: ExtractLevel,
    /// Storage of the weights.
    pub storage: Storage,
    /// Importance of columns, by which blocks are chosen where weights are encoded anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance: Option<Arc<ColumnImportance>>,
    /// Output tokens stored for each feature; none are looked for if it is 0.
    pub top_k: usize,
    /// Only these parts; all of them if absent.
    pub parts: Option<BTreeSet<Part>>,
    /// Only the layers from the first to the last of these, both included; all of them if absent.
    pub layers: Option<[usize; 2]>,
    /// Keeps tensors that the text model does not use, such as a vision tower; at level all only.
    pub keep_unused: bool,
    /// Facts about the source beyond what its files show.
    pub origin: Origin,
    /// Continues an earlier extraction of the same source with the same options.
    #[serde(skip)]
    pub resume: bool,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        ExtractOptions {
            level: ExtractLevel::Inference,
            storage: Storage::Automatic,
            importance: None,
            top_k: 10,
            parts: None,
            layers: None,
            keep_unused: false,
            origin: Origin::default(),
            resume: false,
        }
    }
}

/// Storage of the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// Blocks as the source has them if it has any; otherwise bf16 for bf16 sources and f16 for others.
    #[default]
    Automatic,
    /// Every tensor exactly as the source has it.
    Source,
    /// Plain floats.
    Floats(FloatType),
    /// 4-bit blocks.
    Q4k(Q4kOptions),
    /// A mix of formats by its name in llama.cpp, embeddings and head included.
    Mix(Mix),
}

/// Choices among 4-bit blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Q4kOptions {
    /// Store down projections in Q4_K like the others, not in Q6_K.
    pub down_q4k: bool,
    /// Store gate rows as floats too, for more exact searches.
    pub gate_vectors: bool,
}

/// Place where a model is published, for the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Name of the model; that of its file or directory if absent.
    pub model: Option<String>,
    /// `owner/name` on the hub.
    pub huggingface_repo: Option<String>,
    /// Commit or branch there.
    pub huggingface_revision: Option<String>,
    /// Commit or digest of the program that extracts.
    pub extractor_sha: Option<String>,
}

/// A part of a model that can be extracted by itself. Norms and biases are always included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Gate rows.
    FfnGate,
    /// Up projections.
    FfnUp,
    /// Down projections, and the tokens that they write.
    FfnDown,
    /// Embeddings and output head.
    Embeddings,
    /// Value and output projections.
    AttnOv,
    /// Query and key projections.
    AttnQk,
}

impl Part {
    /// The part that a tensor belongs to.
    pub(crate) fn of_role(role: Role) -> Option<Part> {
        match role {
            Role::Embedding | Role::PositionEmbedding | Role::PerLayerEmbedding | Role::Head => {
                Some(Part::Embeddings)
            }
            Role::Layer(_, role) => Part::of_layer_role(role),
            _ => None,
        }
    }

    fn of_layer_role(role: LayerRole) -> Option<Part> {
        use LayerRole::*;
        match role {
            Gate | ExpertGate(_) => Some(Part::FfnGate),
            Up | ExpertUp(_) => Some(Part::FfnUp),
            Down | ExpertDown(_) => Some(Part::FfnDown),
            // One latent vector makes keys and values.
            Value | AttentionOutput | KeyValueDown | KeyValueUp => Some(Part::AttnOv),
            Query | QueryDown | Key => Some(Part::AttnQk),
            _ => None,
        }
    }
}

impl ExtractOptions {
    /// The default in another storage.
    pub fn in_storage(storage: Storage) -> ExtractOptions {
        ExtractOptions { storage, ..ExtractOptions::default() }
    }

    /// True if a part is wanted.
    pub(crate) fn wants_part(&self, part: Part) -> bool {
        self.parts.as_ref().is_none_or(|parts| parts.contains(&part))
    }

    /// True if a layer is wanted.
    pub(crate) fn wants_layer(&self, layer: usize) -> bool {
        self.layers.is_none_or(|[first, last]| (first..=last).contains(&layer))
    }

    /// True if a tensor is wanted, apart from its level.
    pub(crate) fn wants(&self, role: Role) -> bool {
        let layer = match role {
            Role::Layer(layer, _) => self.wants_layer(layer),
            _ => true,
        };
        layer && Part::of_role(role).is_none_or(|part| self.wants_part(part))
    }
}
