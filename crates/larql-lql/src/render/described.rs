//! DESCRIBE.

use super::View;
use super::grid::{Cell, Grid};
use super::text::{Page, counted, grouped, layer_span, visible};
use super::walked::{approximate, indented};
use crate::ast::Detail;
use crate::output::{Band, BandEdges, Described, Edge, Via, word};

/// Number of other spellings that are shown.
const ALSO: usize = 3;

impl View for Described {
    fn grid(&self) -> Grid {
        const COLUMNS: [&str; 13] = [
            "entity",
            "band",
            "relation",
            "target",
            "confidence",
            "gate",
            "layer",
            "layer_max",
            "feature",
            "count",
            "source",
            "via",
            "also",
        ];
        let rows = self.bands.iter().flat_map(|band| {
            band.edges.iter().map(|edge| {
                vec![
                    (&*self.entity).into(),
                    word(&band.band).into(),
                    edge.relation.as_deref().into(),
                    (&*edge.target).into(),
                    edge.confidence.into(),
                    // A patch states an edge, and nothing fires for it.
                    if edge.via == Via::Patch { Cell::Empty } else { edge.gate.into() },
                    Cell::Integer(edge.layer),
                    Cell::Integer(edge.layer_max),
                    Cell::Integer(edge.feature),
                    Cell::Count(edge.count),
                    edge.source.map(|source| word(&source)).into(),
                    word(&edge.via).into(),
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
        for band in self.bands.iter().filter(|band| !band.edges.is_empty() || band.unlabelled > 0) {
            let title = format!("{} ({})", title(band.band), layer_span(band.layer, band.layer_max));
            lines.push(format!("  {}", page.accent(&title)));
            if !band.edges.is_empty() {
                lines.push(indented(&edges(&band.edges, self.detail), page).trim_end().to_owned());
            }
            lines.extend(left_out(band, self.detail).map(|note| format!("  {}", page.dim(&note))));
        }
        if self.bands.iter().all(|band| band.edges.is_empty() && band.unlabelled == 0) {
            lines.push("  (no edges found)".into());
        }
        lines.extend(self.next.as_deref().map(|next| page.dim(next)));
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

/// Edges with the figure that orders them: the confidence, or, where there is none, how strongly the gate fires. Those
/// that a patch states have neither and come first.
fn edges(edges: &[Edge], detail: Detail) -> Grid {
    const COLUMNS: [&str; 8] =
        ["relation", "target", "confidence", "gate", "layers", "features", "source", "also"];
    let labelled = detail != Detail::Raw;
    let row = |edge: &Edge| {
        // What a patch states, nothing measured.
        let stated = edge.via == Via::Patch;
        let confidence = edge.confidence.filter(|_| !stated);
        let gate = if stated || confidence.is_some() { Cell::Empty } else { edge.gate.into() };
        let also = &edge.also[..edge.also.len().min(ALSO)];
        vec![
            edge.relation.as_deref().filter(|_| labelled).into(),
            (&*edge.target).into(),
            confidence.into(),
            gate,
            Cell::Shown(layer_span(edge.layer, edge.layer_max)),
            Cell::Count(edge.count),
            edge.source.filter(|_| labelled).map(|source| word(&source)).into(),
            if detail == Detail::Verbose { also.into() } else { Cell::Empty },
        ]
    };
    Grid::new(&COLUMNS).rows(edges.iter().map(row))
}

/// The line on what a band has beside the edges shown.
fn left_out(band: &BandEdges, detail: Detail) -> Option<String> {
    let edges = (band.left_out > 0).then(|| {
        let all = counted(band.edges.len() + band.left_out, "edge", "edges");
        format!("{} of {all}; LIMIT n shows more", grouped(band.edges.len()))
    });
    let features = (band.unlabelled > 0).then(|| {
        let features = counted(band.unlabelled, "feature fires", "features fire");
        let how = if detail == Detail::Brief { "VERBOSE shows them" } else { "LIMIT n shows more" };
        format!("{features} too, without a known relation; {how}")
    });
    let notes: Vec<String> = edges.into_iter().chain(features).collect();
    (!notes.is_empty()).then(|| notes.join("\n  "))
}
