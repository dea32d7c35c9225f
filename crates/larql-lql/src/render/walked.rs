//! WALK and EXPLAIN WALK.

use super::View;
use super::grid::{Cell, Grid};
use super::text::{Page, exact, grouped, visible};
use crate::output::{ExplainedWalk, FeatureRow, Ranked, Walked, word};

pub(super) const FEATURE_COLUMNS: [&str; 9] =
    ["layer", "feature", "gate", "activation", "contribution", "score", "label", "source", "tokens"];

/// A feature in [`FEATURE_COLUMNS`].
pub(super) fn feature_cells(row: &FeatureRow) -> Vec<Cell> {
    vec![
        Cell::Integer(row.layer),
        Cell::Integer(row.feature),
        row.gate.into(),
        row.activation.into(),
        row.contribution.into(),
        row.score.into(),
        row.label.as_deref().into(),
        row.source.map(|source| word(&source)).into(),
        row.tokens[..].into(),
    ]
}

/// Features of one layer, the layer's own column left out.
pub(super) fn features_of_a_layer(rows: &[FeatureRow], page: &Page) -> String {
    let cells = |row: &FeatureRow| feature_cells(row).split_off(1);
    let grid = Grid::new(&FEATURE_COLUMNS[1..]).or_else_say("(no features)").rows(rows.iter().map(cells));
    indented(&grid, page)
}

/// A table that belongs to the line above it.
pub(super) fn indented(grid: &Grid, page: &Page) -> String {
    let page = Page { width: page.width.map(|width| width.saturating_sub(INDENT.len())), ..*page };
    grid.to_table(&page).lines().map(|line| format!("{INDENT}{line}\n")).collect()
}

const INDENT: &str = "  ";

fn asked(prompt: &str, token: &str, approximate_in: Option<&str>, page: &Page) -> String {
    let token = page.dim(&format!("(last token: {})", exact(token)));
    let note = approximate_in.map(|format| format!("\n{}", approximate(format, page))).unwrap_or_default();
    format!("{} {token}{note}", page.bold(&visible(prompt)))
}

/// A note that gate scores are not what the model computes with.
pub(super) fn approximate(format: &str, page: &Page) -> String {
    page.dim(&format!("(gate scores are approximate: gate rows are in {format})"))
}

impl View for Walked {
    fn grid(&self) -> Grid {
        let columns: Vec<&str> = ["prompt", "mode"].into_iter().chain(FEATURE_COLUMNS).collect();
        let rows = self.rankings.iter().flat_map(|ranking| {
            let mode = word(&ranking.mode);
            ranking.rows.iter().map(move |row| {
                let mut cells = vec![Cell::from(&*self.prompt), Cell::from(&*mode)];
                cells.append(&mut feature_cells(row));
                cells
            })
        });
        Grid::new(&columns).rows(rows)
    }

    fn lines(&self, page: &Page) -> String {
        let table = match &self.rankings[..] {
            [ranking] => {
                let rows = ranking.rows.iter().map(feature_cells);
                Grid::new(&FEATURE_COLUMNS).or_else_say("(no feature fires)").rows(rows).to_table(page)
            }
            [left, right, ..] => side_by_side(left, right).to_table(page),
            [] => String::new(),
        };
        format!("{}\n{table}", asked(&self.prompt, &self.token, self.approximate_in.as_deref(), page))
    }
}

/// Two rankings, the first of a layer beside the first of the same layer.
fn side_by_side(left: &Ranked, right: &Ranked) -> Grid {
    let name = |ranking: &Ranked| match ranking.mode {
        crate::ast::WalkMode::Pure => ["pure", "gate", "writes"],
        crate::ast::WalkMode::Dense => ["dense", "activation", "writes"],
        crate::ast::WalkMode::Hybrid => ["hybrid", "gate", "writes"],
    };
    let half = |ranking: &Ranked, row: Option<&FeatureRow>| match row {
        None => [Cell::Empty, Cell::Empty, Cell::Empty],
        Some(row) => {
            let dense = ranking.mode == crate::ast::WalkMode::Dense;
            let score = if dense { row.activation } else { row.gate };
            let token = row.tokens.first().map(|token| token.as_str());
            [Cell::Integer(row.feature), score.into(), token.into()]
        }
    };
    let of_layer = |ranking: &'_ Ranked, layer: usize| -> Vec<FeatureRow> {
        ranking.rows.iter().filter(|row| row.layer == layer).cloned().collect()
    };
    let mut layers: Vec<usize> = left.rows.iter().chain(&right.rows).map(|row| row.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    let rows = layers.into_iter().flat_map(|layer| {
        let (first, second) = (of_layer(left, layer), of_layer(right, layer));
        let cells = |rank: usize| {
            let both = [half(left, first.get(rank)), half(right, second.get(rank))].concat();
            [vec![Cell::Integer(layer)], both].concat()
        };
        (0..first.len().max(second.len())).map(cells).collect::<Vec<_>>()
    });
    let columns = [vec!["layer"], name(left).to_vec(), name(right).to_vec()].concat();
    Grid::new(&columns).rows(rows)
}

impl View for ExplainedWalk {
    fn grid(&self) -> Grid {
        let columns: Vec<&str> =
            ["prompt", "band", "query_norm"].into_iter().chain(FEATURE_COLUMNS).collect();
        let rows = self.layers.iter().flat_map(|layer| {
            let band = Cell::from(layer.band.map(|band| word(&band)));
            layer.rows.iter().map(move |row| {
                let mut cells = vec![Cell::from(&*self.prompt), band.clone(), Cell::Score(layer.query_norm)];
                cells.append(&mut feature_cells(row));
                cells
            })
        });
        Grid::new(&columns).rows(rows)
    }

    fn lines(&self, page: &Page) -> String {
        let mut text = asked(&self.prompt, &self.token, self.approximate_in.as_deref(), page);
        for layer in &self.layers {
            let band = layer.band.map(|band| format!(" {}", word(&band))).unwrap_or_default();
            let strongest =
                format!("(query norm {:.2}, {} features asked)", layer.query_norm, grouped(layer.features));
            text +=
                &format!("\n{}{band} {}\n", page.accent(&format!("L{}", layer.layer)), page.dim(&strongest));
            text += &features_of_a_layer(&layer.rows, page);
        }
        text
    }
}
