//! A statement about an entity.

use serde::{Deserialize, Serialize};

/// An entity, a relation and the relation's target, as text: `("France", "capital", "Paris")`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Triple {
    /// The entity that the statement is about, for instance `France`.
    pub entity: String,
    /// The name of the relation, for instance `capital`.
    pub relation: String,
    /// The entity or value that the relation leads to, for instance `Paris`.
    pub target: String,
}

impl Triple {
    /// Returns the triple of these texts.
    pub fn new(entity: impl Into<String>, relation: impl Into<String>, target: impl Into<String>) -> Triple {
        Triple { entity: entity.into(), relation: relation.into(), target: target.into() }
    }

    /// Returns the texts in order: entity, relation, target.
    pub fn as_array(&self) -> [&str; 3] {
        [&self.entity, &self.relation, &self.target]
    }
}
