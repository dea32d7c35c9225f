//! The hook of a resolved declaration.

use std::ops::Range;

use larql_compute::vector::{axpy, dot};
use larql_inference::{Hook, HookError, Point, PointSet, Rows, Stage};
use serde::{Deserialize, Serialize};

use super::declaration::RowSelection;

/// A declaration that was resolved for one model.
#[derive(Clone, Debug)]
pub struct Intervention {
    pub(super) digest: String,
    pub(super) captures: Vec<(Point, RowSelection)>,
    pub(super) parts: Vec<Part>,
    pub(super) captured: Vec<Vec<f32>>,
}

/// A resolved change.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) point: Point,
    pub(super) rows: RowSelection,
    /// The values of a row that change.
    pub(super) columns: Columns,
    pub(super) change: Change,
    pub(super) fired: usize,
}

/// Values of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Columns {
    /// All of them.
    All,
    /// Some ranges.
    Ranges(Vec<Range<usize>>),
    /// The weights of some of so many heads, in an attention pattern.
    Heads {
        /// The heads; all if none.
        selected: Option<Vec<usize>>,
        /// Number of heads.
        count: usize,
    },
}

/// Change of values. Vectors have a value for each that changes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Zero,
    Add(Vec<f32>),
    /// Removes the component along a vector of length 1.
    ProjectOut(Vec<f32>),
    Replace(Vec<f32>),
    /// For each of the positions, or counted from the end of the pass, its own values.
    Patch(Vec<(PatchRow, Vec<f32>)>),
}

/// Row that is patched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum PatchRow {
    /// A position.
    At(usize),
    /// The last token of the prompt, once.
    Last,
}

/// Record of an intervention's effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Digest of the declaration.
    pub digest: String,
    /// For each part of the declaration the number of rows that it changed.
    pub fired: Vec<usize>,
}

impl Intervention {
    /// Returns the record of its effect so far.
    pub fn receipt(&self) -> Receipt {
        Receipt { digest: self.digest.clone(), fired: self.parts.iter().map(|part| part.fired).collect() }
    }

    /// For each capture of the declaration the values kept so far, `[rows, width]`.
    pub fn captured(&self) -> &[Vec<f32>] {
        &self.captured
    }

    /// Forgets what was captured and counted, so that another run begins anew.
    pub fn reset(&mut self) {
        self.captured.iter_mut().for_each(Vec::clear);
        self.parts.iter_mut().for_each(|part| part.fired = 0);
    }
}

/// The rows of a pass that are selected.
fn selected(rows: &Rows, selection: &RowSelection) -> Vec<usize> {
    let of_sequence = |sequence: usize| match selection {
        RowSelection::Last => vec![rows.last(sequence)],
        RowSelection::All => rows.of(sequence).collect(),
        RowSelection::Positions(positions) => {
            let own = rows.positions(sequence).zip(rows.of(sequence));
            own.filter(|(position, _)| positions.contains(position)).map(|(_, row)| row).collect()
        }
    };
    (0..rows.sequences()).flat_map(of_sequence).collect()
}

impl Part {
    fn change(&mut self, rows: &Rows, values: &mut [f32]) {
        if let Columns::Heads { selected: heads, count } = &self.columns {
            let chosen = selected(rows, &self.rows);
            for (sequence, part) in rows.patterns(*count).enumerate() {
                let (first, positions) = (rows.of(sequence).start, rows.positions(sequence).end);
                for row in chosen.iter().filter(|row| rows.of(sequence).contains(row)) {
                    let all = (0..*count).collect();
                    for head in heads.as_ref().unwrap_or(&all) {
                        let start = part.start + ((row - first) * count + head) * positions;
                        values[start..start + positions].fill(0.0);
                    }
                    self.fired += 1;
                }
            }
            return;
        }
        let width = values.len() / rows.len().max(1);
        if let Change::Patch(patches) = &self.change {
            let is_first_pass = self.fired == 0;
            for (at, new) in patches {
                for sequence in 0..rows.sequences() {
                    let mut places = rows.positions(sequence).zip(rows.of(sequence));
                    let row = match at {
                        PatchRow::At(position) => places.find(|(own, _)| own == position).map(|(_, row)| row),
                        PatchRow::Last => is_first_pass.then(|| rows.last(sequence)),
                    };
                    if let Some(row) = row {
                        write(&self.columns, &mut values[row * width..][..width], |own| {
                            own.copy_from_slice(new)
                        });
                        self.fired += 1;
                    }
                }
            }
            return;
        }
        for row in selected(rows, &self.rows) {
            write(&self.columns, &mut values[row * width..][..width], |own| match &self.change {
                Change::Zero => own.fill(0.0),
                Change::Add(vector) => axpy(1.0, vector, own),
                Change::ProjectOut(unit) => {
                    let along = dot(unit, own);
                    axpy(-along, unit, own);
                }
                Change::Replace(vector) => own.copy_from_slice(vector),
                Change::Patch(_) => {}
            });
            self.fired += 1;
        }
    }
}

/// Lets `change` write the selected values of a row.
fn write(columns: &Columns, row: &mut [f32], change: impl FnOnce(&mut [f32])) {
    match columns {
        Columns::Ranges(ranges) => {
            let mut own: Vec<f32> = ranges.iter().flat_map(|range| &row[range.clone()]).copied().collect();
            change(&mut own);
            let mut rest = &own[..];
            for range in ranges {
                let (part, after) = rest.split_at(range.len());
                row[range.clone()].copy_from_slice(part);
                rest = after;
            }
        }
        Columns::All | Columns::Heads { .. } => change(row),
    }
}

impl Hook for Intervention {
    fn points(&self) -> PointSet {
        let captured = self.captures.iter().map(|(point, _)| *point);
        captured.chain(self.parts.iter().map(|part| part.point)).collect()
    }

    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        for part in self.parts.iter_mut().filter(|part| part.point == point) {
            part.change(rows, values);
        }
        let width = values.len() / rows.len().max(1);
        for ((of, selection), kept) in self.captures.iter().zip(&mut self.captured) {
            if *of != point {
                continue;
            }
            if point.stage() == Some(Stage::AttentionPattern) {
                kept.extend_from_slice(values);
                continue;
            }
            for row in selected(rows, selection) {
                kept.extend_from_slice(&values[row * width..][..width]);
            }
        }
        Ok(())
    }
}
