//! The assignments of UPDATE.

use larql_lql::ast::{Assignment, Field, Span, Spanned, Value};
use larql_vindex::StatedEdge;

use crate::ChangeError;
use crate::insert::check_text;

/// New values of the fields of edges.
pub(crate) struct Assigned {
    /// The fields that are set.
    pub(crate) edge: StatedEdge,
    /// Place of the first assignment that sets another field than the target.
    pub(crate) at: Span,
}

impl Assigned {
    /// Reads assignments.
    ///
    /// # Errors
    /// If a field cannot be set, or not to this value.
    pub(crate) fn of(assignments: &[Assignment]) -> Result<Assigned, ChangeError> {
        let mut edge = StatedEdge::default();
        let other = assignments.iter().find(|assignment| assignment.field.value != Field::Target);
        let at = other.map(|assignment| assignment.field.span).unwrap_or_default();
        for Assignment { field, value } in assignments {
            let refused =
                |expected| ChangeError::NotAssignable { field: field.value.name(), expected, at: field.span };
            let text = || match &value.value {
                Value::Text(text) => {
                    check_text(field.value.name(), &Spanned::new(text.clone(), value.span))?;
                    Ok(Some(text.trim().to_owned()))
                }
                Value::Integer(_) | Value::Number(_) => Err(refused("a text")),
            };
            match field.value {
                Field::Entity => edge.entity = text()?,
                Field::Relation | Field::Label => edge.relation = text()?,
                Field::Target => edge.target = text()?,
                Field::Confidence => {
                    let confidence = match &value.value {
                        Value::Integer(number) => *number as f64,
                        Value::Number(number) => *number,
                        Value::Text(_) => return Err(refused("a number from 0 to 1")),
                    };
                    if !(0.0..=1.0).contains(&confidence) {
                        return Err(refused("a number from 0 to 1"));
                    }
                    edge.confidence = Some(confidence);
                }
                _ => return Err(refused("no value: it is what the model computes")),
            }
        }
        Ok(Assigned { edge, at })
    }

    /// Returns true if the confidence is the only field that is set.
    pub(crate) fn only_confidence(&self) -> bool {
        let StatedEdge { entity, relation, target, .. } = &self.edge;
        entity.is_none() && relation.is_none() && target.is_none()
    }

    /// Returns true if neither entity nor relation is set.
    pub(crate) fn only_target(&self) -> bool {
        self.edge.entity.is_none() && self.edge.relation.is_none()
    }
}
