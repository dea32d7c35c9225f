//! A hook that keeps what it sees.

use super::{Hook, HookError, Point, PointSet, Stage};
use crate::batch::Rows;

/// Hook that keeps a copy of the values at one stage of every layer.
#[derive(Clone, Debug)]
pub struct Record {
    stage: Stage,
    /// For each layer met so far the values of the stage.
    pub layers: Vec<Vec<f32>>,
}

impl Record {
    /// Records `stage` of every layer.
    pub fn new(stage: Stage) -> Record {
        Record { stage, layers: Vec::new() }
    }
}

impl Hook for Record {
    fn points(&self) -> PointSet {
        PointSet::stages([self.stage])
    }

    fn at(&mut self, _: Point, _: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        self.layers.push(values.to_vec());
        Ok(())
    }
}
