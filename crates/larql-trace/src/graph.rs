//! Attribution graph of an answer: the components of a pass that bring it about most, and what goes from one to another.

use larql_inference::{Component, GradientError, LinearAttribution, Model};
use serde::{Deserialize, Serialize};

/// Attribution graph of one token's logit after a prompt. All figures are parts of the logit above the mean logit, as
/// [`LinearAttribution`] defines them.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributionGraph {
    /// The logit less the mean logit of all tokens.
    pub logit: f32,
    /// Attention sinks, whose heads and features are in the rest.
    pub sinks: Vec<usize>,
    /// The embeddings of all tokens, then the most influential heads and features, in order of layers and positions.
    pub nodes: Vec<GraphNode>,
    /// Greatest first.
    pub edges: Vec<GraphEdge>,
    /// Share of what goes into the answer that the nodes give: the sum of the absolute values of edges from nodes into the
    /// answer, divided by that of these edges and of what comes from the rest. 0 to 1.
    pub explained: f32,
    /// Share of the answer that can be followed from node to node back to the embeddings, 0 to 1: of each node the share of
    /// what goes into it that comes from nodes, each weighted with its own.
    pub traced: f32,
}

/// A component in a graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphNode {
    /// The component.
    pub component: Component,
    /// The part of the logit that goes through it.
    pub influence: f32,
    /// Activation of a feature; 0 of others.
    pub activation: f32,
}

/// Part of the logit that goes straight from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphEdge {
    /// Origin.
    pub from: GraphEnd,
    /// Destination.
    pub to: GraphEnd,
    /// The part of the logit.
    pub weight: f32,
}

/// An end of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GraphEnd {
    /// The node of this number.
    Node(usize),
    /// All components that are not in the graph, the edges too small for it, and biases: the error of the graph.
    Rest,
    /// The answer's logit.
    Answer,
}

/// Share of a node's influence below which an edge into it is left to the rest.
const LEAST_SHARE: f32 = 0.02;

impl AttributionGraph {
    /// Attributes the logit of `token` after a prompt to the `count` heads and features of greatest influence.
    ///
    /// # Errors
    /// As [`LinearAttribution::new`].
    pub fn new(
        model: &Model,
        prompt: &[u32],
        token: u32,
        count: usize,
    ) -> Result<AttributionGraph, GradientError> {
        Ok(AttributionGraph::of(&LinearAttribution::new(model, prompt, token)?, count))
    }

    /// The graph of the `count` heads and features of greatest influence.
    pub fn of(attribution: &LinearAttribution<'_>, count: usize) -> AttributionGraph {
        let sinks = attribution.attention_sinks();
        let shown = |(component, _): &(Component, f32)| {
            component.layer().is_none() || !sinks.contains(&component.position())
        };
        let (embeddings, mut rest): (Vec<_>, Vec<_>) =
            attribution.influences().filter(shown).partition(|(component, _)| component.layer().is_none());
        let strongest_first = |a: &(Component, f32), b: &(Component, f32)| b.1.abs().total_cmp(&a.1.abs());
        if count < rest.len() {
            rest.select_nth_unstable_by(count, strongest_first);
            rest.truncate(count);
        }
        rest.sort_by_key(|(component, _)| order_of_pass(component));
        let nodes: Vec<GraphNode> = embeddings
            .into_iter()
            .chain(rest)
            .map(|(component, influence)| GraphNode {
                component,
                influence,
                activation: attribution.activation(component),
            })
            .collect();
        let sources = attribution.sources(nodes.iter().map(|node| node.component));
        let (mut edges, mut traced) = (Vec::new(), vec![1.0; nodes.len()]);
        let mut into = |target: Option<Component>, to, whole: f32, traced: &[f32]| {
            let parts = attribution.parts_into(target, &sources);
            let kept = |weight: f32| weight != 0.0 && weight.abs() >= LEAST_SHARE * whole.abs();
            let own = parts.iter().enumerate().filter(|(_, weight)| kept(**weight));
            let own: Vec<GraphEdge> = own
                .map(|(from, weight)| GraphEdge { from: GraphEnd::Node(from), to, weight: *weight })
                .collect();
            let left = whole - own.iter().map(|edge| edge.weight).sum::<f32>();
            let from_nodes: f32 = own.iter().map(|edge| edge.weight.abs()).sum();
            let followed: f32 = own
                .iter()
                .map(|edge| match edge.from {
                    GraphEnd::Node(from) => edge.weight.abs() * traced[from],
                    _ => 0.0,
                })
                .sum();
            let all = (from_nodes + left.abs()).max(f32::MIN_POSITIVE);
            edges.extend(own);
            edges.push(GraphEdge { from: GraphEnd::Rest, to, weight: left });
            (from_nodes / all, followed / all)
        };
        // Nodes stand in the order of the pass, so those that a node reads are done before it.
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.component.layer().is_some()) {
            let (_, followed) = into(Some(node.component), GraphEnd::Node(index), node.influence, &traced);
            traced[index] = followed;
        }
        let (explained, traced) = into(None, GraphEnd::Answer, attribution.logit(), &traced);
        edges.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
        AttributionGraph { logit: attribution.logit(), sinks, nodes, edges, explained, traced }
    }
}

/// The place of a component in a pass: layer, step, position, number.
fn order_of_pass(component: &Component) -> (usize, usize, usize, usize) {
    match *component {
        Component::Embedding { position } => (0, 0, position, 0),
        Component::Head { layer, position, head } => (layer + 1, 0, position, head),
        Component::Feature { layer, position, feature } => (layer + 1, 1, position, feature),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larql_compute::Pool;
    use larql_models::Checkpoint;

    use super::*;

    #[test]
    fn every_node_receives_what_goes_through_it() {
        let folder = larql_testing::repository("conformance").join("llama");
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let model = Model::load(&checkpoint, Arc::new(Pool::new(2))).unwrap();
        let graph = AttributionGraph::new(&model, &[3, 1, 4, 1, 5], 9, 12).unwrap();
        assert_eq!(graph.nodes.len(), 5 + 12);
        let into = |to| graph.edges.iter().filter(|edge| edge.to == to).map(|edge| edge.weight).sum::<f32>();
        assert!((into(GraphEnd::Answer) - graph.logit).abs() < 1e-3 * graph.logit.abs().max(1.0));
        for (index, node) in graph.nodes.iter().enumerate().skip(5) {
            let received = into(GraphEnd::Node(index));
            assert!((received - node.influence).abs() < 1e-3 * node.influence.abs().max(0.1), "{node:?}");
        }
        // A larger graph leaves less to the rest.
        let larger = AttributionGraph::new(&model, &[3, 1, 4, 1, 5], 9, 200).unwrap();
        assert!(larger.traced > graph.traced, "{} is not above {}", larger.traced, graph.traced);
        assert!((0.0..=1.0).contains(&graph.explained) && (0.0..=1.0).contains(&larger.traced));
    }
}
