//! EXPLAIN INFER … GRAPH: in a table, and as a file in the formats of graph programs.

use std::fmt::Write;
use std::path::Path;

use super::View;
use super::graph_page::graph_page;
use super::grid::{Cell, Grid};
use super::html::escaped;
use super::text::{Page, exact, percent, visible};
use crate::output::{AttributionGraph, GraphNode, GraphNodeKind};

/// Edges that people are shown.
const EDGES: usize = 20;

impl View for AttributionGraph {
    fn grid(&self) -> Grid {
        let columns = [
            "prompt",
            "part",
            "id",
            "kind",
            "layer",
            "number",
            "position",
            "token",
            "activation",
            "influence",
            "label",
            "writes",
            "source",
            "target",
            "weight",
        ];
        let number = |number: Option<usize>| number.map_or(Cell::Empty, Cell::Integer);
        let nodes = self.nodes.iter().map(|node| {
            vec![
                (&*self.prompt).into(),
                "node".into(),
                Cell::Integer(node.id),
                crate::output::word(&node.kind).as_str().into(),
                number(node.layer),
                number(node.number),
                number(node.position),
                (&*node.token).into(),
                node.activation.into(),
                Cell::Score(node.influence),
                node.label.as_deref().into(),
                Cell::Tokens(node.writes.clone()),
                Cell::Empty,
                Cell::Empty,
                Cell::Empty,
            ]
        });
        let edges = self.edges.iter().map(|edge| {
            let mut row = vec![(&*self.prompt).into(), "edge".into()];
            row.resize(12, Cell::Empty);
            row.extend([Cell::Integer(edge.source), Cell::Integer(edge.target), Cell::Score(edge.weight)]);
            row
        });
        Grid::new(&columns).rows(nodes.chain(edges))
    }

    fn lines(&self, page: &Page) -> String {
        let answer = format!("{} {}", exact(&self.answer.token), percent(self.answer.probability));
        let mut text = format!("{}\n{}\n", page.bold(&visible(&self.prompt)), page.bold(&answer));
        let _ = writeln!(
            text,
            "logit {:.2} above the mean of all tokens\nnodes give {} of what goes into it; {} can be followed to the prompt",
            self.logit,
            percent(self.explained.into()),
            percent(self.traced.into())
        );
        if !self.sinks.is_empty() {
            let sinks: Vec<String> = self.sinks.iter().map(usize::to_string).collect();
            let note = format!(
                "attention sink at position {}: its heads and features are in the rest",
                sinks.join(", ")
            );
            text += &format!("{}\n", page.dim(&note));
        }
        let mut nodes: Vec<&GraphNode> =
            self.nodes.iter().filter(|node| node.kind != GraphNodeKind::Answer).collect();
        nodes.sort_by(|a, b| b.influence.abs().total_cmp(&a.influence.abs()));
        let rows = nodes.into_iter().map(|node| {
            let at = node.position.map(|position| format!("{position} {}", exact(&node.token)));
            vec![
                Cell::Shown(node.to_string()),
                at.map_or(Cell::Empty, Cell::Shown),
                Cell::Score(node.influence),
                node.label.as_deref().into(),
                Cell::Tokens(node.writes.clone()),
            ]
        });
        text += &Grid::new(&["node", "position", "influence", "label", "writes"]).rows(rows).to_table(page);
        let name = |id: usize| self.nodes.get(id).map_or_else(String::new, label);
        let rows = self.edges.iter().take(EDGES).map(|edge| {
            vec![Cell::Shown(name(edge.source)), Cell::Shown(name(edge.target)), Cell::Score(edge.weight)]
        });
        text += "\n";
        text += &Grid::new(&["from", "to", "weight"]).rows(rows).to_table(page);
        if self.edges.len() > EDGES {
            let left_out = format!("({EDGES} of {} edges; --format json has all)", self.edges.len());
            text += &format!("\n{}", page.dim(&left_out));
        }
        if let Some(saved) = &self.saved {
            text += &format!("\nwritten to {}", visible(saved));
        }
        text
    }
}

/// A node in few words: what it is, and where.
pub(super) fn label(node: &GraphNode) -> String {
    match (node.kind, node.position) {
        (GraphNodeKind::Token, Some(position)) => format!("{position} {}", exact(&node.token)),
        (GraphNodeKind::Answer, _) => format!("answer {}", exact(&node.token)),
        (_, Some(position)) => format!("{node} at {position} {}", exact(&node.token)),
        _ => node.to_string(),
    }
}

/// Endings of the files that [`graph_file`] makes.
pub const GRAPH_FILES: [&str; 4] = ["html", "dot", "graphml", "json"];

/// The graph as a file in the format that the ending of its name says: one self-contained page (`html`), Graphviz (`dot`),
/// GraphML (`graphml`) or its fields (`json`). None of another ending.
pub fn graph_file(graph: &AttributionGraph, path: &Path) -> Option<String> {
    match path.extension()?.to_str()? {
        "html" => Some(graph_page(graph)),
        "dot" => Some(dot(graph)),
        "graphml" => Some(graphml(graph)),
        "json" => Some(serde_json::to_string_pretty(graph).unwrap_or_default()),
        _ => None,
    }
}

/// The language of Graphviz (<https://graphviz.org/doc/info/lang.html>).
fn dot(graph: &AttributionGraph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = "digraph attribution {\n  rankdir=BT;\n  node [shape=box];\n".to_owned();
    for node in &graph.nodes {
        let mut name = label(node);
        if let Some(first) = node.writes.first() {
            name += &format!(" → {}", exact(first));
        }
        let _ = writeln!(text, "  n{} [label={}, influence={}];", node.id, quoted(&name), node.influence);
    }
    let widest = graph.edges.first().map_or(1.0, |edge| edge.weight.abs()).max(f32::MIN_POSITIVE);
    for edge in &graph.edges {
        let width = 0.3 + 4.0 * edge.weight.abs() / widest;
        let color = if edge.weight < 0.0 { "#b3432f" } else { "#145a96" };
        let _ = writeln!(
            text,
            "  n{} -> n{} [weight={}, penwidth={width:.2}, color=\"{color}\"];",
            edge.source, edge.target, edge.weight
        );
    }
    text + "}\n"
}

/// GraphML (<http://graphml.graphdrawing.org/specification.html>).
fn graphml(graph: &AttributionGraph) -> String {
    let keys = [
        ("kind", "node", "string"),
        ("label", "node", "string"),
        ("writes", "node", "string"),
        ("influence", "node", "double"),
        ("weight", "edge", "double"),
    ];
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                    <graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\">\n"
        .to_owned();
    for (name, of, kind) in keys {
        let _ =
            writeln!(text, "  <key id=\"{name}\" for=\"{of}\" attr.name=\"{name}\" attr.type=\"{kind}\"/>");
    }
    text += "  <graph edgedefault=\"directed\">\n";
    for node in &graph.nodes {
        let data = [
            ("kind", crate::output::word(&node.kind)),
            ("label", label(node)),
            ("writes", node.writes.join(" ")),
            ("influence", node.influence.to_string()),
        ];
        let data =
            data.map(|(key, value)| format!("<data key=\"{key}\">{}</data>", escaped(&visible(&value))));
        let _ = writeln!(text, "    <node id=\"n{}\">{}</node>", node.id, data.concat());
    }
    for edge in &graph.edges {
        let _ = writeln!(
            text,
            "    <edge source=\"n{}\" target=\"n{}\"><data key=\"weight\">{}</data></edge>",
            edge.source, edge.target, edge.weight
        );
    }
    text + "  </graph>\n</graphml>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{GraphEdge, Prediction};
    use crate::render::{Format, RenderOptions, render};

    fn graph() -> AttributionGraph {
        let node = |id, kind, position: Option<usize>, token: &str, influence| GraphNode {
            id,
            kind,
            layer: None,
            number: None,
            position,
            token: token.into(),
            writes: Vec::new(),
            label: None,
            activation: None,
            influence,
        };
        let feature = GraphNode {
            layer: Some(2),
            number: Some(17),
            writes: vec![" <b>".into(), "\"x\"".into()],
            activation: Some(1.5),
            ..node(1, GraphNodeKind::Feature, Some(0), "France", 3.0)
        };
        AttributionGraph {
            prompt: "France </script>".into(),
            tokens: vec!["France".into()],
            answer: Prediction { token: " Paris".into(), token_id: 5, probability: 0.75, phrase: None },
            logit: 4.0,
            explained: 0.9,
            traced: 0.5,
            sinks: vec![0],
            nodes: vec![
                node(0, GraphNodeKind::Token, Some(0), "France", 2.0),
                feature,
                node(2, GraphNodeKind::Rest, None, "", 1.0),
                node(3, GraphNodeKind::Answer, None, " Paris", 4.0),
            ],
            edges: vec![
                GraphEdge { source: 1, target: 3, weight: 3.0 },
                GraphEdge { source: 0, target: 1, weight: 2.0 },
                GraphEdge { source: 2, target: 3, weight: -1.0 },
            ],
            saved: None,
        }
    }

    #[test]
    fn a_graph_in_a_table() {
        let output = crate::output::Output::AttributionGraph(graph());
        let table = render(&output, Format::Table, &RenderOptions::default());
        insta::assert_snapshot!(table, @r#"
        France </script>
        ␣Paris 75.00%
        logit 4.00 above the mean of all tokens
        nodes give 90.00% of what goes into it; 50.00% can be followed to the prompt
        attention sink at position 0: its heads and features are in the rest
         node    position  influence  writes
        ───────────────────────────────────────
         L2 F17  0 France       3.00  <b>, "x"
         token   0 France       2.00
         rest                   1.00
         from                to                  weight
        ────────────────────────────────────────────────
         L2 F17 at 0 France  answer ␣Paris         3.00
         0 France            L2 F17 at 0 France    2.00
         rest                answer ␣Paris        -1.00
        "#);
    }

    #[test]
    fn files_have_every_node_and_edge() {
        let (graph, file) =
            (graph(), |graph: &AttributionGraph, name: &str| graph_file(graph, name.as_ref()));
        let dot = file(&graph, "a.dot").unwrap();
        assert_eq!((dot.matches("label=").count(), dot.matches(" -> ").count()), (4, 3));
        let graphml = file(&graph, "a.graphml").unwrap();
        assert_eq!((graphml.matches("<node ").count(), graphml.matches("<edge ").count()), (4, 3));
        assert!(graphml.contains("&lt;b&gt;") && !graphml.contains("<b>"));
        let page = file(&graph, "a.html").unwrap();
        assert!(!page.contains("France </script>") && !page.contains("http:") && !page.contains("https:"));
        let json: AttributionGraph = serde_json::from_str(&file(&graph, "a.json").unwrap()).unwrap();
        assert_eq!(json, graph);
        assert_eq!(file(&graph, "a.png"), None);
    }
}
