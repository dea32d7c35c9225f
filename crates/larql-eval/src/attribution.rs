//! Evaluation of attribution graphs by ablation: without the nodes of a graph, the model gives the answer up; without as many
//! others that write as much, it does not.

use std::time::{Duration, Instant};

use larql_compute::vector::norm;
use larql_core::progress::{Meter, Progress, Stage};
use larql_inference::{
    Component, Hook, HookError, KeyValueCache, LinearAttribution, Model, Point, PointSet, Rows,
    Stage as PassStage, nats,
};
use larql_knowledge::LanguageModel;
use larql_trace::AttributionGraph;
use serde::Serialize;

use crate::edit_set::EditSet;
use crate::edits::{EditKind, known_edges};
use crate::error::EvalError;
use crate::share::Share;

/// Options of the evaluation.
#[derive(Clone, Copy, Debug)]
pub struct AttributionEvaluation {
    /// Facts that the model knows, from the first of the set.
    pub facts: usize,
    /// Heads and features of each graph.
    pub nodes: usize,
    /// Nodes that are removed: those of greatest influence.
    pub removed: usize,
}

/// Scores of attribution graphs; means over the facts. Shares and probabilities are from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct AttributionScores {
    /// Facts that the model knows and that were explained.
    pub facts: usize,
    /// Heads and features of each graph.
    pub nodes: usize,
    /// Nodes that were removed.
    pub removed: usize,
    /// Share of what goes into the answer that nodes give.
    pub explained: f64,
    /// Share of the answer that can be followed to the prompt.
    pub traced: f64,
    /// Probability of the answer's first token.
    pub probability: f64,
    /// The same without the nodes of greatest influence.
    pub without_nodes: f64,
    /// The same without as many others, each of the same kind, layer and position as one of these and nearest to it in the
    /// norm of what it writes.
    pub without_others: f64,
    /// Facts whose answer loses more probability without the nodes than without the others.
    pub lowers_more: f64,
    /// Seconds for a graph.
    pub seconds: f64,
}

/// Explains facts that the model knows after their usual wording, and removes what the graphs show.
///
/// # Errors
/// If attribution does not cover the model, it knows none of the facts, or the evaluation is cancelled.
pub fn evaluate_attribution(
    language: &LanguageModel,
    set: &EditSet,
    evaluation: &AttributionEvaluation,
    progress: &dyn Progress,
) -> Result<AttributionScores, EvalError> {
    let (model, tokenizer) = (&language.model().with_cancel(progress.cancel_token()), language.tokenizer());
    let known = known_edges(model, tokenizer, set, EditKind::Delete, evaluation.facts)?;
    if known.is_empty() {
        return Err(EvalError::NothingKnown { edges: set.edits.len() });
    }
    let down_norms = (0..model.spec().layers.len())
        .map(|layer| Ok(model.dense_step(layer)?.down_norms()))
        .collect::<Result<Vec<_>, EvalError>>()?;
    let AttributionEvaluation { nodes, removed, .. } = *evaluation;
    let mut scores = AttributionScores { facts: known.len(), nodes, removed, ..Default::default() };
    let (mut time, mut lowers_more) = (Duration::ZERO, Share::default());
    let mut meter = Meter::new(progress, Stage::Asking, known.len() as u64);
    for edge in &known {
        let statement = set.case(tokenizer, EditKind::Delete, 0, edge)?.statement;
        let (Some(prompt), Some(&token)) = (statement.prompts.first(), statement.target.first()) else {
            continue;
        };
        let started = Instant::now();
        let attribution = LinearAttribution::new(model, prompt, token)?;
        let graph = AttributionGraph::of(&attribution, nodes);
        time += started.elapsed();
        let mut components: Vec<(Component, f32)> = graph
            .nodes
            .iter()
            .filter(|node| node.component.layer().is_some())
            .map(|node| (node.component, node.influence))
            .collect();
        let shown: Vec<Component> = components.iter().map(|(component, _)| *component).collect();
        components.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        components.truncate(removed);
        let strongest: Vec<Component> = components.into_iter().map(|(component, _)| component).collect();
        let others = equals_in_norm(&attribution, &down_norms, &strongest, &shown);
        let without = |components: &[Component]| probability(model, prompt, token, components);
        let [whole, without_nodes, without_others] = [without(&[])?, without(&strongest)?, without(&others)?];
        scores.explained += f64::from(graph.explained);
        scores.traced += f64::from(graph.traced);
        scores.probability += whole;
        scores.without_nodes += without_nodes;
        scores.without_others += without_others;
        lowers_more.add(without_nodes < without_others);
        meter.advance(1)?;
    }
    let facts = known.len() as f64;
    for sum in [
        &mut scores.explained,
        &mut scores.traced,
        &mut scores.probability,
        &mut scores.without_nodes,
        &mut scores.without_others,
    ] {
        *sum /= facts;
    }
    scores.lowers_more = lowers_more.value().unwrap_or(0.0);
    scores.seconds = time.as_secs_f64() / facts;
    Ok(scores)
}

/// For each of some components another of the same kind, layer and position that is not shown and not taken yet, nearest to
/// it in the norm of what it writes.
fn equals_in_norm(
    attribution: &LinearAttribution<'_>,
    down_norms: &[Vec<f32>],
    components: &[Component],
    shown: &[Component],
) -> Vec<Component> {
    let written = |component: Component| match component {
        Component::Feature { layer, feature, .. } => {
            attribution.activation(component).abs() * down_norms[layer][feature]
        }
        _ => norm(&attribution.output(component)),
    };
    let mut taken: Vec<Component> = shown.to_vec();
    let mut others = Vec::new();
    for &component in components {
        let own = written(component);
        let peers: Vec<Component> = match component {
            Component::Feature { layer, position, .. } => (0..down_norms[layer].len())
                .map(|feature| Component::Feature { layer, position, feature })
                .collect(),
            Component::Head { layer, position, .. } => {
                (0..attribution.heads(layer)).map(|head| Component::Head { layer, position, head }).collect()
            }
            Component::Embedding { .. } => Vec::new(),
        };
        let distance = |component: &Component| (written(*component) - own).abs();
        let free = peers.into_iter().filter(|peer| !taken.contains(peer));
        if let Some(nearest) = free.min_by(|a, b| distance(a).total_cmp(&distance(b))) {
            taken.push(nearest);
            others.push(nearest);
        }
    }
    others
}

/// The probability of a token after a prompt, without some heads and features.
fn probability(model: &Model, prompt: &[u32], token: u32, without: &[Component]) -> Result<f64, EvalError> {
    let value_dims = model.spec().layers.iter().map(|layer| layer.attention.value_dim).collect();
    let mut hook = Ablation { components: without, value_dims };
    let mut state = KeyValueCache::new(model.spec());
    let logits = model.pass().with_hook(&mut hook).last_logits(&mut state, prompt)?;
    Ok((-nats(&logits, token)).exp())
}

/// Hook that sets heads and features to zero.
struct Ablation<'a> {
    components: &'a [Component],
    /// Width of a head's output in each layer.
    value_dims: Vec<usize>,
}

impl Hook for Ablation<'_> {
    fn points(&self) -> PointSet {
        let points = self.components.iter().filter_map(|component| match component {
            Component::Embedding { .. } => None,
            Component::Head { layer, .. } => Some((*layer, PassStage::HeadOutputs)),
            Component::Feature { layer, .. } => Some((*layer, PassStage::FeatureActivations)),
        });
        points.map(|(layer, stage)| Point::Layer { layer, stage }).collect()
    }

    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        let width = values.len() / rows.len();
        for component in self.components {
            match (*component, point) {
                (
                    Component::Feature { layer, position, feature },
                    Point::Layer { layer: at, stage: PassStage::FeatureActivations },
                ) if layer == at => values[position * width + feature] = 0.0,
                (
                    Component::Head { layer, position, head },
                    Point::Layer { layer: at, stage: PassStage::HeadOutputs },
                ) if layer == at => {
                    let dim = self.value_dims[layer];
                    values[position * width + head * dim..][..dim].fill(0.0);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
