//! Errors of changing edges and of writing what was changed.

use larql_lql::ast::Span;

use super::{ExecuteError, Hint};

/// Failure to change edges, or to compile what was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// UPDATE sets a field that cannot be set so.
    #[error("{field} takes {expected}")]
    NotAssignable {
        /// The field.
        field: &'static str,
        /// The values that it takes.
        expected: &'static str,
        /// Place of the assignment.
        at: Span,
    },
    /// UPDATE sets a target without tokens.
    #[error("the target `{target}` has no tokens; give at least one word")]
    EmptyTarget {
        /// The target.
        target: String,
    },
    /// Two vindexes have no features in common.
    #[error("{base} and {other} have not the same layers, features, width and vocabulary")]
    OtherShape {
        /// One.
        base: String,
        /// The other.
        other: String,
        /// Place of the name.
        at: Span,
    },
    /// Edges beside the weights cannot become features, and would be lost.
    #[error("edges remembered beside the weights cannot become features ({entries}): {problem}")]
    NotLowered {
        /// Number of the edges.
        entries: usize,
        /// The problem.
        problem: Box<ExecuteError>,
        /// Place of the target of COMPILE.
        at: Span,
    },
    /// The name of what COMPILE is to write says another format.
    #[error("{path} is to be {wanted}, but its name is that of {named}")]
    OtherFormat {
        /// The name.
        path: String,
        /// The format that the statement states.
        wanted: &'static str,
        /// The format that the name states.
        named: &'static str,
        /// Place of the name.
        at: Span,
    },
    /// DELETE or UPDATE names an edge that COMPACT MAJOR solved for with others.
    #[error(
        "{entity} [{relation}] → {target} was solved for together with other edges, and cannot change alone"
    )]
    SolvedTogether {
        /// Its entity.
        entity: String,
        /// Its relation.
        relation: String,
        /// Its target.
        target: String,
    },
}

impl ChangeError {
    /// Next step, if there is one.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            ChangeError::NotAssignable { .. } => Some(Hint::AssignableFields),
            ChangeError::NotLowered { .. } => Some(Hint::CarryEntries),
            ChangeError::SolvedTogether { .. } => Some(Hint::InsertAnother),
            ChangeError::OtherFormat { .. } => Some(Hint::OtherName),
            ChangeError::EmptyTarget { .. } | ChangeError::OtherShape { .. } => None,
        }
    }

    pub(super) fn label(&self) -> Option<(Span, &'static str)> {
        match self {
            ChangeError::NotAssignable { at, .. } => Some((*at, "set here")),
            ChangeError::OtherShape { at, .. } => Some((*at, "of another shape")),
            ChangeError::NotLowered { at, .. } => Some((*at, "compiled into this")),
            ChangeError::OtherFormat { at, .. } => Some((*at, "a name of another format")),
            ChangeError::EmptyTarget { .. } | ChangeError::SolvedTogether { .. } => None,
        }
    }
}
