//! Edges, as DESCRIBE answers and SELECT lists them.

use serde::{Deserialize, Serialize};

/// An association of an entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// The relation, if one is known.
    pub relation: Option<String>,
    /// The word.
    pub target: String,
    /// Strength of the strongest feature.
    pub gate: f32,
    /// First layer with such a feature.
    pub layer: usize,
    /// Last layer with such a feature.
    pub layer_max: usize,
    /// Number of the strongest feature in its layer.
    pub feature: usize,
    /// Number of features.
    pub count: usize,
    /// Origin of the relation.
    pub source: Option<LabelSource>,
    /// Origin of the edge.
    pub via: Via,
    /// Probability that it is true, from 0 to 1, where that is known.
    pub confidence: Option<f32>,
    /// Other spellings of the word, then other words that the strongest feature writes.
    pub also: Vec<String>,
}

/// Origin of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Via {
    /// Gate scores of the entity's embedding.
    Embedding,
    /// Activations in a forward pass over the entity.
    Residual,
    /// A patch that states it.
    Patch,
    /// Activations times how much each pushes its word.
    Attribution,
    /// Questions in words.
    Asked,
    /// The facts that a probe saw features carry.
    Probe,
}

impl Via {
    /// Returns its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Residual => "residual",
            Self::Patch => "patch",
            Self::Attribution => "attribution",
            Self::Asked => "asked",
            Self::Probe => "probe",
        }
    }
}

/// Origin of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LabelSource {
    /// A list of words of one kind.
    Pattern,
    /// A group of features whose pairs of tokens are known facts.
    Cluster,
    /// Answers of a model that was never probed, to the wordings that ship with LARQL.
    #[serde(rename = "shipped wordings")]
    ShippedWordings,
    /// A probe, which saw the feature carry facts of the relation.
    Probe,
    /// A user, who stated it.
    Inserted,
}

impl LabelSource {
    /// Returns its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pattern => "pattern",
            Self::Cluster => "cluster",
            Self::ShippedWordings => "shipped wordings",
            Self::Probe => "probe",
            Self::Inserted => "inserted",
        }
    }
}
