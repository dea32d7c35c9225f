//! SHOW RELATIONS, LAYERS, FEATURES, ENTITIES, MODELS and PATCHES.

use super::View;
use super::grid::{Cell, Grid};
use super::text::{Page, counted_rows, layer_span};
use super::walked::{FEATURE_COLUMNS, feature_cells};
use crate::ast::Detail;
use crate::output::{Entities, Features, Layers, Models, PatchRow, Patches, RelationRow, Relations, word};

impl View for Relations {
    fn grid(&self) -> Grid {
        Grid::new(&["relation", "count", "layer", "layer_max", "source", "examples"]).rows(
            self.rows.iter().map(|row| {
                vec![
                    (&*row.relation).into(),
                    Cell::Count(row.count),
                    Cell::Integer(row.layer),
                    Cell::Integer(row.layer_max),
                    word(&row.source).into(),
                    row.examples[..].into(),
                ]
            }),
        )
    }

    fn lines(&self, page: &Page) -> String {
        let layers = |row: &RelationRow| Cell::from(layer_span(row.layer, row.layer_max));
        let cells = |row: &RelationRow| match self.detail {
            Detail::Raw => vec![(&*row.relation).into(), Cell::Count(row.count)],
            Detail::Brief => vec![(&*row.relation).into(), Cell::Count(row.count), layers(row)],
            Detail::Verbose => vec![
                (&*row.relation).into(),
                Cell::Count(row.count),
                layers(row),
                word(&row.source).into(),
                row.examples[..].into(),
            ],
        };
        let columns: &[&str] = match self.detail {
            Detail::Raw => &["relation", "count"],
            Detail::Brief => &["relation", "count", "layers"],
            Detail::Verbose => &["relation", "count", "layers", "source", "examples"],
        };
        let table =
            Grid::new(columns).or_else_say("(no relations)").rows(self.rows.iter().map(cells)).to_table(page);
        let next = self.next.as_deref().map(|next| page.dim(next));
        std::iter::once(table).chain(next).collect::<Vec<_>>().join("\n")
    }
}

impl View for Layers {
    fn grid(&self) -> Grid {
        Grid::new(&["layer", "band", "features", "gate_norm", "labelled"]).rows(self.rows.iter().map(|row| {
            vec![
                Cell::Integer(row.layer),
                row.band.map(|band| word(&band)).into(),
                Cell::Count(row.features),
                row.gate_norm.into(),
                Cell::Share(row.labelled),
            ]
        }))
    }
}

impl View for Features {
    fn grid(&self) -> Grid {
        Grid::new(&FEATURE_COLUMNS).or_else_say("(no features)").rows(self.rows.iter().map(feature_cells))
    }

    fn lines(&self, page: &Page) -> String {
        with_count(&self.grid(), self.rows.len(), self.left_out, page)
    }
}

impl View for Entities {
    fn grid(&self) -> Grid {
        let rows = self.rows.iter().map(|row| {
            vec![
                (&*row.entity).into(),
                Cell::Count(row.count),
                Cell::Integer(row.layer),
                Cell::Integer(row.layer_max),
            ]
        });
        Grid::new(&["entity", "count", "layer", "layer_max"]).or_else_say("(no entities)").rows(rows)
    }

    fn lines(&self, page: &Page) -> String {
        with_count(&self.grid(), self.rows.len(), self.left_out, page)
    }
}

/// A table, and below it how many rows it is short of.
fn with_count(grid: &Grid, shown: usize, left_out: usize, page: &Page) -> String {
    let lines = std::iter::once(grid.to_table(page)).chain(counted_rows(shown, left_out, page));
    lines.collect::<Vec<_>>().join("\n")
}

impl View for Models {
    fn grid(&self) -> Grid {
        let rows = self.rows.iter().map(|row| {
            vec![
                (&*row.name).into(),
                (&*row.model).into(),
                Cell::Flag(row.bundled),
                row.level.map(|level| level.name()).into(),
                row.layers.map_or(Cell::Empty, Cell::Count),
                row.features.map_or(Cell::Empty, Cell::Count),
                row.bytes.map_or(Cell::Empty, Cell::Bytes),
                row.path.as_deref().into(),
            ]
        });
        Grid::new(&["name", "model", "bundled", "level", "layers", "features", "bytes", "path"])
            .or_else_say(
                "(no models in the cache; EXTRACT MODEL makes a vindex of a checkpoint or GGUF file)",
            )
            .rows(rows)
    }
}

pub(super) fn patches(rows: &[PatchRow]) -> Grid {
    let cells = |row: &PatchRow| {
        vec![(&*row.patch).into(), Cell::Count(row.operations), Cell::Flag(row.open), Cell::Flag(row.saved)]
    };
    Grid::new(&["patch", "operations", "open", "saved"])
        .or_else_say("(no patches; INSERT begins one)")
        .rows(rows.iter().map(cells))
}

impl View for Patches {
    fn grid(&self) -> Grid {
        patches(&self.rows)
    }
}
