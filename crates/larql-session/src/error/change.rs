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
    /// Edges of the edge memory cannot become features, and would be lost.
    #[error("edges in the edge memory cannot become features ({entries}): {problem}")]
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
    /// A field of an edge to insert has no text.
    #[error("the {field} has no text; give at least one word")]
    EmptyField {
        /// The field.
        field: &'static str,
        /// Place of the value.
        at: Span,
    },
    /// DELETE or UPDATE of edges names a feature.
    #[error("{statement} … EDGES changes what the model says, not single features")]
    FeatureCondition {
        /// DELETE or UPDATE.
        statement: &'static str,
        /// Place of the condition.
        at: Span,
    },
    /// DELETE or UPDATE of edges names no entity, and no inserted edge matches.
    #[error(
        "no inserted edge matches, and {statement} changes what the model itself knows for named entities only"
    )]
    NoEntity {
        /// DELETE or UPDATE.
        statement: &'static str,
        /// Place of the first condition.
        at: Span,
    },
    /// DELETE or UPDATE of features names none.
    #[error("{statement} of features needs the layer and the feature, each with = or IN")]
    NoFeatureNamed {
        /// DELETE or UPDATE.
        statement: &'static str,
        /// Place of the first condition.
        at: Span,
    },
    /// The layer has no such feature.
    #[error("feature {feature} does not exist: layer {layer} has {count} features, numbered from 0")]
    NoSuchFeature {
        /// The layer.
        layer: usize,
        /// The feature.
        feature: usize,
        /// Number of features of the layer.
        count: usize,
        /// Place of the number.
        at: Span,
    },
    /// UPDATE gives another entity or relation to an edge that the model knows by itself.
    #[error("of an edge that the model itself knows only the target can be set")]
    OnlyTarget {
        /// Place of the assignment.
        at: Span,
    },
}

impl ChangeError {
    /// Next step, if there is one.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            ChangeError::NotAssignable { .. } => Some(Hint::AssignableFields),
            ChangeError::NotLowered { .. } => Some(Hint::CarryEntries),
            ChangeError::OnlyTarget { .. } => Some(Hint::InsertAnother),
            ChangeError::FeatureCondition { statement, .. }
            | ChangeError::NoFeatureNamed { statement, .. } => Some(Hint::EditFeatures { statement }),
            ChangeError::NoEntity { statement, .. } => Some(Hint::NameEntityOrFeatures { statement }),
            ChangeError::OtherFormat { .. } => Some(Hint::OtherName),
            ChangeError::EmptyTarget { .. }
            | ChangeError::EmptyField { .. }
            | ChangeError::NoSuchFeature { .. }
            | ChangeError::OtherShape { .. } => None,
        }
    }

    pub(super) fn label(&self) -> Option<(Span, &'static str)> {
        match self {
            ChangeError::NotAssignable { at, .. } => Some((*at, "set here")),
            ChangeError::OtherShape { at, .. } => Some((*at, "of another shape")),
            ChangeError::NotLowered { at, .. } => Some((*at, "compiled into this")),
            ChangeError::EmptyField { at, .. } => Some((*at, "empty")),
            ChangeError::FeatureCondition { at, .. } => Some((*at, "names a feature")),
            ChangeError::NoEntity { at, .. } => Some((*at, "names no entity")),
            ChangeError::NoFeatureNamed { at, .. } => Some((*at, "names no single feature")),
            ChangeError::NoSuchFeature { at, .. } => Some((*at, "no such feature")),
            ChangeError::OnlyTarget { at, .. } => Some((*at, "set here")),
            ChangeError::EmptyTarget { .. } => None,
            ChangeError::OtherFormat { at, .. } => Some((*at, "a name of another format")),
        }
    }
}
