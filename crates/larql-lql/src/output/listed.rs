//! Answers of SHOW.

use larql_vindex_spec::ExtractLevel;
use serde::{Deserialize, Serialize};

use super::{Band, FeatureRow, LabelSource, is_zero};
use crate::ast::Detail;

/// SHOW RELATIONS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relations {
    /// Detail in which each relation is shown.
    pub detail: Detail,
    /// The relations, most features first.
    pub rows: Vec<RelationRow>,
    /// Next step, where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A relation that features are labelled with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelationRow {
    /// Its name.
    pub relation: String,
    /// Number of features and edges of the edge memory that carry it.
    pub count: usize,
    /// The first layer that has some.
    pub layer: usize,
    /// The last layer that has some.
    pub layer_max: usize,
    /// The most trusted of the sources that name it.
    pub source: LabelSource,
    /// Facts that its features carry, `France → Paris`, or else words that they write, where examples were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

/// SHOW LAYERS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layers {
    /// The layers in order.
    pub rows: Vec<LayerRow>,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRow {
    /// Its number.
    pub layer: usize,
    /// The band that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub band: Option<Band>,
    /// Number of its features.
    pub features: usize,
    /// The mean Euclidean norm of its gate rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_norm: Option<f32>,
    /// The share of its features that are labelled, 0 to 1.
    pub labelled: f64,
}

/// SHOW FEATURES.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Features {
    /// The layer.
    pub layer: usize,
    /// Its features.
    pub rows: Vec<FeatureRow>,
    /// Number of features that follow these, and that nobody was to see.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

/// SHOW ENTITIES.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entities {
    /// The names, most features first.
    pub rows: Vec<EntityRow>,
    /// Number of names that follow these, and that nobody was to see.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

/// A name that features know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityRow {
    /// The name.
    pub entity: String,
    /// Number of features that write it.
    pub count: usize,
    /// The first layer that has some.
    pub layer: usize,
    /// The last layer that has some.
    pub layer_max: usize,
}

/// SHOW MODELS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Models {
    /// The vindexes and checkpoints that a name opens, in order of name.
    pub rows: Vec<ModelRow>,
}

/// A vindex or checkpoint that a name opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRow {
    /// The name that USE takes.
    pub name: String,
    /// The model that it is of.
    pub model: String,
    /// True if it ships with LARQL. It is put into the cache when it is first used, and only the names are known before.
    #[serde(default)]
    pub bundled: bool,
    /// Its level; a checkpoint has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<ExtractLevel>,
    /// Number of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Number of features in all layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<usize>,
    /// Size on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// SHOW PATCHES.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patches {
    /// The patches, the one applied last at the end.
    pub rows: Vec<PatchRow>,
}

/// A patch that lies over the vindex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchRow {
    /// Its file, or the name that it was begun under.
    pub patch: String,
    /// Number of its operations.
    pub operations: usize,
    /// True if edits go into it now.
    pub open: bool,
    /// True if its file has all of it.
    pub saved: bool,
}
