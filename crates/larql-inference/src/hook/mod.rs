//! Hooks: named points of the forward pass at which it can be watched and changed.

mod point;
mod record;

use std::error::Error;

pub use point::{Point, PointSet, Stage};
pub use record::Record;

use crate::batch::Rows;

/// A hook's own error.
pub type HookError = Box<dyn Error + Send + Sync>;

/// Watches, and may change, the values at the points of a pass that it asks for.
pub trait Hook {
    /// The points at which the pass is to call [`Hook::at`]. It asks once, when it is given the hook, and computes nothing extra for
    /// points that are not in the set.
    fn points(&self) -> PointSet;

    /// Receives the values at a point, in the order in which the pass meets the points. [`Stage`] and [`Point`] give their
    /// shapes; `rows` says which sequence and position each row belongs to. The pass goes on with what `values` are
    /// afterwards.
    ///
    /// # Errors
    /// Any error ends the pass, which returns it as [`PassError::Hook`](crate::PassError::Hook).
    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError>;
}

/// Hook that asks for no point.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHook;

impl Hook for NoHook {
    fn points(&self) -> PointSet {
        PointSet::default()
    }

    fn at(&mut self, _: Point, _: &Rows, _: &mut [f32]) -> Result<(), HookError> {
        Ok(())
    }
}
