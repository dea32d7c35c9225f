//! Answers of statements that edit: patches, DELETE, UPDATE, MERGE and DIFF.

use serde::{Deserialize, Serialize};

/// Result of a statement about a patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchChanged {
    /// The action.
    pub action: PatchAction,
    /// The patch.
    pub patch: String,
    /// Number of its operations; of the operations taken back by [`PatchAction::Undone`].
    pub operations: usize,
}

/// Action on a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatchAction {
    /// It takes the edits from now on.
    Begun,
    /// Its file has all of it.
    Saved,
    /// It lies over the vindex.
    Applied,
    /// It lies over the vindex no more.
    Removed,
    /// Its last edit was taken back.
    Undone,
}

/// Result of changing edges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// The kind of change.
    pub change: Change,
    /// Number of edges, or of features.
    pub count: usize,
    /// True if single features were changed rather than edges.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub features: bool,
    /// The patch that has the change; none if nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// True if the patch has no file yet, so that the change ends with the session.
    pub automatic: bool,
    /// The inserted edges, each with what carries it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inserted: Vec<InsertedEdge>,
    /// For each edge that the model was asked about, what it says before and after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<EdgeEffect>,
    /// Answers to neighbouring questions; none if none was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<NeighbourAnswers>,
    /// Answers of the model to the question that was meant, too uncertain to be an edge that it knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncertain: Vec<UncertainAnswer>,
}

impl Changed {
    /// True if DELETE or UPDATE found no edge and no answer that its conditions mean.
    pub(crate) fn matches_nothing(&self) -> bool {
        let searched = matches!(self.change, Change::Deleted | Change::Updated) && !self.features;
        searched && self.count == 0 && self.uncertain.is_empty()
    }
}

/// Answer that is too uncertain to count as knowledge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UncertainAnswer {
    /// The entity that was asked about.
    pub entity: String,
    /// The relation that was asked for.
    pub relation: String,
    /// The answer.
    pub says: String,
    /// Probability of its first token, 0 to 1.
    pub probability: f32,
}

/// Effect of an edit on what the model says of an edge, asked in the usual wording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeEffect {
    /// Entity of the edge.
    pub entity: String,
    /// Relation of the edge.
    pub relation: String,
    /// Target whose probability is measured: the new one, or the one that was deleted.
    pub target: String,
    /// Probability of the whole target before, 0 to 1.
    pub before: f32,
    /// The same afterwards.
    pub after: f32,
    /// The most likely next token afterwards.
    pub says: String,
}

/// Answers to neighbouring questions: the same about other entities, other things about the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourAnswers {
    /// Number of questions.
    pub asked: usize,
    /// The answers whose first token changed.
    pub changed: Vec<ChangedAnswer>,
}

/// Answer that an edit changed although it was not meant to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedAnswer {
    /// The question.
    pub prompt: String,
    /// The most likely next token before.
    pub before: String,
    /// The most likely next token afterwards.
    pub after: String,
}

/// An edge that was inserted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InsertedEdge {
    /// Its entity.
    pub entity: String,
    /// Its relation.
    pub relation: String,
    /// Its target.
    pub target: String,
    /// Its carrier.
    #[serde(flatten)]
    pub stored: Stored,
}

/// Carrier of an inserted edge.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Stored {
    /// Features of the model.
    Compose {
        /// The least probability, from 0 to 1, of a token of the target in any of the wordings that were tried, where
        /// the edge's features fire only in part.
        probability: f32,
    },
    /// An entry of the edge memory.
    Knn {
        /// The layer whose residual it is.
        layer: usize,
        /// The least cosine of centred, whitened vectors with which it answers.
        threshold: f32,
    },
}

/// Kind of change of edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// They are there now.
    #[default]
    Inserted,
    /// They are gone.
    Deleted,
    /// They say something else.
    Updated,
    /// They were taken over from elsewhere.
    Merged,
    /// They are features now.
    Compacted,
}

/// Differences between two vindexes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Differences {
    /// The vindex that is compared.
    pub base: String,
    /// The vindex that it is compared with.
    pub other: String,
    /// Number of features and edges of the edge memory that differ.
    pub count: usize,
    /// The differences, features by layer and then edges of the edge memory; not more than were asked for.
    pub rows: Vec<Difference>,
    /// Weights outside of features that differ, such as those of attention. No patch can hold them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_weights: Vec<WeightDifference>,
    /// The patch file that makes the other out of the base, if one was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
}

/// A tensor outside of features that differs, in one layer or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightDifference {
    /// Its name, for instance `self_attn.q_proj.weight`.
    pub tensor: String,
    /// The layers in which it differs; none of a tensor outside of layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<usize>,
    /// The largest norm of the difference, as a share of the norm of the base's values.
    pub share: f32,
}

/// A feature, or an edge of the edge memory, that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Its layer.
    pub layer: usize,
    /// The feature's number there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<usize>,
    /// The parts that differ: gate, up, down, tokens, label; of an edge of the edge memory key or target.
    pub parts: Vec<String>,
    /// The entity of an edge of the edge memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Its label in the other, or else in the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
    /// The word that it writes most in the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The word that it writes most in the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Cosine of the two gate rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_cosine: Option<f32>,
}
