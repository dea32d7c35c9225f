//! An attribution graph as one self-contained HTML page, on which nodes can be followed, pinned and grouped.

use super::graph::label;
use super::html::{escaped, json_in_script};
use super::text::{exact, percent, visible};
use crate::output::AttributionGraph;

const STYLE: &str = include_str!("graph_page.css");
const SCRIPT: &str = include_str!("graph_page.js");

/// Renders a graph as a page without other files: positions from left to right, layers from bottom to top.
pub(super) fn graph_page(graph: &AttributionGraph) -> String {
    let nodes: Vec<serde_json::Value> = graph
        .nodes
        .iter()
        .map(|node| {
            serde_json::json!({
                "id": node.id,
                "kind": node.kind,
                "layer": node.layer,
                "position": node.position,
                "name": label(node),
                "writes": node.writes.iter().map(|token| exact(token)).collect::<Vec<_>>(),
                "label": node.label,
                "activation": node.activation,
                "influence": node.influence,
            })
        })
        .collect();
    let data = serde_json::json!({
        "tokens": graph.tokens.iter().map(|token| exact(token)).collect::<Vec<_>>(),
        "nodes": nodes,
        "edges": graph.edges,
    });
    let title = escaped(&visible(&graph.prompt));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Attribution graph: {title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>{title} <b>{}</b></h1>\n\
         <p>Logit {:.2} above the mean. The nodes give {} of what goes into it; {} can be followed to the prompt. \
         Blue raises the answer, red lowers it.</p>\n\
         <p>Point at a node to see what goes in and out. Click it to pin it; pinned nodes can be grouped into one.</p>\n\
         <p><button id=\"group\">Group pinned nodes</button> <button id=\"ungroup\">Ungroup all</button> \
         <button id=\"unpin\">Unpin all</button></p>\n\
         <main><svg id=\"graph\" role=\"group\" aria-label=\"Attribution graph\"></svg><aside id=\"details\" \
         aria-live=\"polite\"></aside></main>\n\
         <script type=\"application/json\" id=\"data\">{}</script>\n<script>{SCRIPT}</script></body></html>\n",
        escaped(&exact(&graph.answer.token)),
        graph.logit,
        percent(graph.explained.into()),
        percent(graph.traced.into()),
        json_in_script(&data.to_string()),
    )
}
