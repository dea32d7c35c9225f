//! Helpers of several statements.

pub(crate) mod assigned;
pub(crate) mod change;
pub(crate) mod condition;
pub(crate) mod edges;
pub(crate) mod effects;
pub(crate) mod entries;
pub(crate) mod meant;
pub(crate) mod next_step;
pub(crate) mod records;
pub(crate) mod stated;
pub(crate) mod table;
pub(crate) mod wire;
pub(crate) mod writing;
