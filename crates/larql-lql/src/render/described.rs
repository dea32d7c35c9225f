//! DESCRIBE.

use unicode_width::UnicodeWidthStr;

use super::View;
use super::grid::{Cell, Grid, decimals};
use super::text::{Page, cut, layer_span, pad, visible};
use super::walked::approximate;
use crate::ast::Detail;
use crate::output::{Band, BandEdges, Described, Edge, word};

/// The widest that a relation or a target is shown.
const WIDEST: usize = 32;
/// How many other spellings are shown.
const ALSO: usize = 3;

impl View for Described {
    fn grid(&self) -> Grid {
        const COLUMNS: [&str; 13] = [
            "entity",
            "band",
            "relation",
            "target",
            "gate",
            "layer",
            "layer_max",
            "feature",
            "count",
            "source",
            "via",
            "confidence",
            "also",
        ];
        let rows = self.bands.iter().flat_map(|band| {
            band.edges.iter().map(|edge| {
                vec![
                    (&*self.entity).into(),
                    word(&band.band).into(),
                    edge.relation.as_deref().into(),
                    (&*edge.target).into(),
                    edge.gate.into(),
                    Cell::Integer(edge.layer),
                    Cell::Integer(edge.layer_max),
                    Cell::Integer(edge.feature),
                    Cell::Count(edge.count),
                    edge.source.map(|source| word(&source)).into(),
                    word(&edge.via).into(),
                    edge.confidence.into(),
                    edge.also[..].into(),
                ]
            })
        });
        Grid::new(&COLUMNS).rows(rows)
    }

    fn lines(&self, page: &Page) -> String {
        let mut lines = vec![page.bold(&visible(&self.entity))];
        let note = self.approximate_in.as_deref().map(|format| format!("  {}", approximate(format, page)));
        lines.extend(note);
        for band in self.bands.iter().filter(|band| !band.edges.is_empty()) {
            let title = format!("{} ({})", title(band.band), layer_span(band.layer, band.layer_max));
            lines.push(format!("  {}", page.accent(&title)));
            lines.extend(edge_lines(band, self.detail, page));
        }
        if self.bands.iter().all(|band| band.edges.is_empty()) {
            lines.push("  (no edges found)".into());
        }
        lines.join("\n")
    }
}

fn title(band: Band) -> &'static str {
    match band {
        Band::Syntax => "Syntax",
        Band::Knowledge | Band::All => "Edges",
        Band::Output => "Output",
    }
}

/// The words of one edge, before they are aligned.
struct Line {
    relation: String,
    target: String,
    gate: String,
    layers: String,
    count: String,
    source: String,
    also: String,
}

fn edge_lines(band: &BandEdges, detail: Detail, page: &Page) -> Vec<String> {
    let decimals = decimals(band.edges.iter().map(|edge| edge.gate));
    let lines: Vec<Line> = band.edges.iter().map(|edge| Line::of(edge, decimals)).collect();
    let width = |part: fn(&Line) -> &String| lines.iter().map(|line| part(line).width()).max().unwrap_or(0);
    let relation_width = width(|line| &line.relation);
    let target_width = width(|line| &line.target);
    let (gate_width, count_width) = (width(|line| &line.gate), width(|line| &line.count));
    let layers_width = width(|line| &line.layers);
    let mut text = Vec::new();
    for line in &lines {
        let relation = match detail {
            Detail::Raw => String::new(),
            _ => format!("{} ", page.accent(&pad(&line.relation, relation_width))),
        };
        let mut figures = format!(
            "→ {}  {:>gate_width$}  {}  {:>count_width$}×",
            pad(&line.target, target_width),
            line.gate,
            pad(&line.layers, layers_width),
            line.count,
        );
        if detail != Detail::Raw && !line.source.is_empty() {
            figures += &format!("  {}", page.dim(&format!("({})", line.source)));
        }
        text.push(format!("    {relation}{figures}"));
        if detail == Detail::Verbose && !line.also.is_empty() {
            // Under the target.
            text.push(format!("{}also: {}", " ".repeat(4 + relation_width + 3), line.also));
        }
    }
    text
}

impl Line {
    fn of(edge: &Edge, decimals: usize) -> Self {
        let shown = |text: &str| cut(&visible(text), WIDEST);
        Self {
            relation: edge
                .relation
                .as_deref()
                .map_or("—".into(), |relation| format!("[{}]", shown(relation))),
            target: shown(&edge.target),
            gate: format!("{:.decimals$}", edge.gate),
            layers: layer_span(edge.layer, edge.layer_max),
            count: edge.count.to_string(),
            source: edge.source.map(|source| word(&source)).unwrap_or_default(),
            also: edge.also.iter().take(ALSO).map(|word| shown(word)).collect::<Vec<_>>().join(", "),
        }
    }
}
