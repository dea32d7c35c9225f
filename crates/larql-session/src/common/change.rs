//! Applying the operations of an editing statement.

use larql_lql::output::{Change, Changed};
use larql_vindex::Operation;

use crate::{ExecuteError, Session};

/// Applies the operations of a statement. Without operations no patch begins.
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
