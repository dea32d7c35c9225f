//! Results of statements, as data. REPL, command line, server and Python render these same values; as JSON they carry the
//! field names of the language. Nothing that computes results is named here, so that it can change without them.

mod compiled;
mod described;
mod edge;
mod edited;
mod graph;
mod inferred;
mod listed;
mod opened;
mod record;
mod stats;
mod traced;
mod upkeep;
mod walked;

use serde::{Deserialize, Serialize};

pub use compiled::Compiled;
pub use described::{Band, BandEdges, Described};
pub use edge::{Edge, LabelSource, Via};
pub use edited::{
    Change, Changed, ChangedAnswer, Difference, Differences, EdgeEffect, InsertedEdge, NeighbourAnswers,
    PatchAction, PatchChanged, Stored, UncertainAnswer, WeightDifference,
};
pub use graph::{AttributionGraph, GraphEdge, GraphNode, GraphNodeKind};
pub use inferred::{
    Attended, ExplainedInference, ExplainedLayer, Inferred, InterventionReceipt, Overridden, Prediction, Run,
};
pub use listed::{
    Entities, EntityRow, Features, LayerRow, Layers, ModelRow, Models, PatchRow, Patches, RelationRow,
    Relations,
};
pub use opened::{Extracted, Opened, OpenedAs};
pub use record::{Datum, Record, Selected};
pub use stats::{FileRow, LabelCount, Stats};
pub use traced::{
    AnswerFigures, SavedTrace, TraceDifference, TraceDifferenceRow, TraceView, Traced, TracedAnswer,
    TracedRow,
};
pub use upkeep::{BalancedEdge, ChangedLayer, CompactStatus, Rebalanced, Solved, SolvedEdge};
pub use walked::{ExplainedWalk, FeatureRow, Ranked, Walked, WalkedLayer};

/// The answer to one statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is documented at its type")]
#[non_exhaustive]
pub enum Output {
    Message(Message),
    Use(Opened),
    Extract(Extracted),
    Walk(Walked),
    ExplainWalk(ExplainedWalk),
    Describe(Described),
    Select(Selected),
    Infer(Inferred),
    ExplainInfer(ExplainedInference),
    AttributionGraph(AttributionGraph),
    Trace(Traced),
    TraceDifference(TraceDifference),
    Relations(Relations),
    Layers(Layers),
    Features(Features),
    Entities(Entities),
    Models(Models),
    Patches(Patches),
    Patch(PatchChanged),
    Changed(Changed),
    Diff(Differences),
    Rebalance(Rebalanced),
    CompactStatus(CompactStatus),
    Solved(Solved),
    Compile(Compiled),
    Stats(Stats),
    Several(Several),
}

/// A sentence that says what was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The action.
    pub text: String,
    /// The next step, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The answers of a piped statement, one for each row that it was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Several {
    /// In the order of the rows.
    pub outputs: Vec<Output>,
}

impl Output {
    /// The names in it that DESCRIBE could be asked about, each once, in order of appearance.
    pub fn entities(&self) -> Vec<&str> {
        let names: Vec<&str> = match self {
            Self::Describe(described) => described.names().collect(),
            Self::Select(selected) => selected.names().collect(),
            Self::Entities(entities) => entities.rows.iter().map(|row| &*row.entity).collect(),
            Self::Several(several) => several.outputs.iter().flat_map(Self::entities).collect(),
            _ => Vec::new(),
        };
        let mut seen = std::collections::HashSet::new();
        names.into_iter().filter(|name| seen.insert(*name)).collect()
    }
}

/// Returns true for a count that JSON leaves out.
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The word that a plain enum is in JSON.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
