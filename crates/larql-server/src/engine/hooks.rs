//! One hook for a pass over several sequences, of which some have hooks of their own.

use larql_inference::{Hook, HookError, Point, PointSet, Rows};

/// Hook that hands each sequence's rows to that sequence's own hook. It is for points whose values are rows of one width.
pub(super) struct SequenceHooks<'a> {
    /// By sequence; none for a sequence that is not watched.
    hooks: Vec<Option<&'a mut dyn Hook>>,
    points: PointSet,
}

impl<'a> SequenceHooks<'a> {
    /// Returns the hook for sequences in the order of `hooks`; none if no sequence has one.
    pub(super) fn new(hooks: Vec<Option<&'a mut dyn Hook>>) -> Option<SequenceHooks<'a>> {
        let points = hooks.iter().flatten().map(|hook| hook.points()).reduce(PointSet::union)?;
        Some(SequenceHooks { hooks, points })
    }
}

impl Hook for SequenceHooks<'_> {
    fn points(&self) -> PointSet {
        self.points.clone()
    }

    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        let width = values.len() / rows.len().max(1);
        for (sequence, hook) in self.hooks.iter_mut().enumerate() {
            let Some(hook) = hook else { continue };
            let (own, positions) = (rows.of(sequence), rows.positions(sequence));
            let single = Rows::new([(positions.start, positions.len())], rows.batching());
            hook.at(point, &single, &mut values[own.start * width..own.end * width])?;
        }
        Ok(())
    }
}
