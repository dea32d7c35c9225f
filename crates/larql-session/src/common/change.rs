//! Applying the operations that an editing statement amounts to.

use larql_lql::output::{Change, Changed};
use larql_vindex::Operation;

use crate::{ExecuteError, Session};

/// Carries out what a statement amounts to. Nothing to do is no reason to begin a patch.
pub(crate) fn change(
    session: &mut Session,
    change: Change,
    count: usize,
    operations: Vec<Operation>,
) -> Result<Changed, ExecuteError> {
    let mut changed = Changed { change, count, ..Changed::default() };
    if !operations.is_empty() {
        let destination = session.vindex_mut("editing")?.apply_operations(operations)?;
        (changed.patch, changed.automatic) = (Some(destination.patch), destination.automatic);
    }
    Ok(changed)
}
