//! The hook of a running pass.

use crate::PassError;
use crate::batch::Rows;
use crate::hook::{Hook, HookError, Point, PointSet, Stage};

/// The hook of a pass and the points that it asked for.
pub(crate) struct Watch<'a> {
    pub(crate) points: &'a PointSet,
    pub(crate) hook: Option<&'a mut (dyn Hook + 'a)>,
    pub(crate) rows: &'a Rows,
}

impl Watch<'_> {
    /// Returns true if the hook asked for this stage of this layer.
    pub(crate) fn wants(&self, layer: usize, stage: Stage) -> bool {
        self.hook.is_some() && self.points.contains(Point::Layer { layer, stage })
    }

    /// Shows the hook the values at a stage of a layer, if it asked for them.
    pub(crate) fn at(&mut self, layer: usize, stage: Stage, values: &mut [f32]) -> Result<(), PassError> {
        self.at_point(Point::Layer { layer, stage }, values)
    }

    /// Shows the hook the values at a point, if it asked for them.
    pub(crate) fn at_point(&mut self, point: Point, values: &mut [f32]) -> Result<(), PassError> {
        match &mut self.hook {
            Some(hook) if self.points.contains(point) => {
                let failed = |source: HookError| PassError::Hook { point, source };
                hook.at(point, self.rows, values).map_err(failed)
            }
            _ => Ok(()),
        }
    }
}
