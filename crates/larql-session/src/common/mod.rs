//! Helpers of several statements.

pub(crate) mod change;
pub(crate) mod edges;
pub(crate) mod entries;
pub(crate) mod records;
pub(crate) mod stated;
pub(crate) mod table;
pub(crate) mod wire;
