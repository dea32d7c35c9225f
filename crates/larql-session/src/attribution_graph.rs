//! EXPLAIN INFER … GRAPH: the heads and features that bring an answer about, and through which others.

use std::path::Path;

use larql_inference::{Component, KeyValueCache, predictions as every_prediction};
use larql_knowledge::LanguageModel;
use larql_lql::ast::{ExplainInfer, ShowGraph, Spanned};
use larql_lql::output::{
    AttributionGraph, FeatureRow, GraphEdge, GraphNode, GraphNodeKind, Output, Prediction,
};
use larql_lql::render::{GRAPH_FILES, graph_file};
use larql_trace::{self as trace, GraphEnd};

use crate::common::records::{TOKENS, feature_row};
use crate::infer::{encode, first_token, prediction, token_text};
use crate::view::View;
use crate::{ExecuteError, QueryError, Session};

/// Heads and features of a graph.
const NODES: usize = 40;

pub(crate) fn run(
    session: &Session,
    statement: &ExplainInfer,
    shown: &ShowGraph,
) -> Result<Output, ExecuteError> {
    let language = &session.language()?.with_cancel(session.cancel_token());
    let prompt = statement.prompt.text().ok_or(QueryError::NoSubject)?;
    if let Some(path) = shown.save.as_ref().filter(|path| !can_hold_a_graph(path)) {
        return Err(QueryError::GraphFile { path: path.value.clone(), at: path.span }.into());
    }
    let model = language.model();
    let tokens = encode(language, prompt)?;
    let mut state = KeyValueCache::new(model.spec());
    let logits = model.pass().with_cancel(session.cancel_token()).last_logits(&mut state, &tokens)?;
    let all = every_prediction(&logits, logits.len());
    let answer = match &statement.answer {
        None => all.first().map_or(0, |likeliest| likeliest.token),
        Some(text) => first_token(language, text, &all)?,
    };
    let probability = all.iter().find(|p| p.token == answer).map_or(0.0, |p| f64::from(p.probability));
    let count = statement.top.map_or(NODES, |top| top.value);
    let graph =
        trace::AttributionGraph::new(model, &tokens, answer, count).map_err(trace::TraceError::from)?;
    let answer = prediction(language, answer, probability);
    // Of a checkpoint, nothing is known of what features write.
    let view = session.viewed("EXPLAIN INFER").ok();
    let mut graph = described(&graph, view.map(AsRef::as_ref), language, (prompt, &tokens), answer);
    if let Some(path) = &shown.save {
        save(&graph, path)?;
        graph.saved = Some(path.value.clone());
    }
    Ok(Output::AttributionGraph(graph))
}

fn can_hold_a_graph(path: &Spanned<String>) -> bool {
    let ending = Path::new(&**path).extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| GRAPH_FILES.contains(&ending))
}

fn save(graph: &AttributionGraph, path: &Spanned<String>) -> Result<(), QueryError> {
    let text = graph_file(graph, Path::new(&**path));
    let text = text.ok_or_else(|| QueryError::GraphFile { path: path.value.clone(), at: path.span })?;
    std::fs::write(&**path, text).map_err(|error| QueryError::Unwritable {
        path: path.value.clone(),
        reason: error.to_string(),
        at: path.span,
    })
}

/// The graph with the tokens and labels of its nodes. The rest and the answer become nodes after the components.
fn described(
    graph: &trace::AttributionGraph,
    view: Option<&View>,
    language: &LanguageModel,
    (prompt, tokens): (&str, &[u32]),
    answer: Prediction,
) -> AttributionGraph {
    let texts: Vec<String> = tokens.iter().map(|token| token_text(language, *token)).collect();
    let plain = |id, kind, influence| GraphNode {
        id,
        kind,
        layer: None,
        number: None,
        position: None,
        token: String::new(),
        writes: Vec::new(),
        label: None,
        activation: None,
        influence,
    };
    let component = |(id, node): (usize, &trace::GraphNode)| {
        let position = node.component.position();
        let placed = |kind| GraphNode {
            layer: node.component.layer(),
            position: Some(position),
            token: texts[position].clone(),
            ..plain(id, kind, node.influence)
        };
        match node.component {
            Component::Embedding { .. } => placed(GraphNodeKind::Token),
            Component::Head { head, .. } => GraphNode { number: Some(head), ..placed(GraphNodeKind::Head) },
            Component::Feature { layer, feature, .. } => {
                let row = view.map_or_else(FeatureRow::default, |view| {
                    feature_row(view.overlay(), language.tokenizer(), layer, feature, TOKENS)
                });
                GraphNode {
                    number: Some(feature),
                    writes: row.tokens,
                    label: row.label,
                    activation: Some(node.activation),
                    ..placed(GraphNodeKind::Feature)
                }
            }
        }
    };
    let mut nodes: Vec<GraphNode> = graph.nodes.iter().enumerate().map(component).collect();
    let (rest, last) = (nodes.len(), nodes.len() + 1);
    let from_rest =
        graph.edges.iter().filter(|edge| edge.from == GraphEnd::Rest && edge.to == GraphEnd::Answer);
    nodes.push(plain(rest, GraphNodeKind::Rest, from_rest.map(|edge| edge.weight).sum()));
    let token = answer.token.clone();
    nodes.push(GraphNode { token, ..plain(last, GraphNodeKind::Answer, graph.logit) });
    let end = |end| match end {
        GraphEnd::Node(node) => node,
        GraphEnd::Rest => rest,
        GraphEnd::Answer => last,
    };
    let edge = |edge: &trace::GraphEdge| GraphEdge {
        source: end(edge.from),
        target: end(edge.to),
        weight: edge.weight,
    };
    AttributionGraph {
        prompt: prompt.to_owned(),
        tokens: texts,
        answer,
        logit: graph.logit,
        explained: graph.explained,
        traced: graph.traced,
        sinks: graph.sinks.clone(),
        nodes,
        edges: graph.edges.iter().map(edge).collect(),
        saved: None,
    }
}
