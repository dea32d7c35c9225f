//! Relations and their wordings.

use serde::{Deserialize, Serialize};

use super::wording::SUBJECT;

/// A relation and the wordings that ask for its target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// For instance `capital`.
    pub name: String,
    /// The file name of the table that has its facts; empty if there is none.
    #[serde(default)]
    pub table: String,
    /// The kind of its entities, for instance `country`; empty if it is not known.
    #[serde(default, rename = "subject")]
    pub entity_kind: String,
    /// The kind of its targets, for instance `city`; empty if it is not known.
    #[serde(default, rename = "object")]
    pub target_kind: String,
    /// True if an entity has one target only.
    #[serde(default)]
    pub functional: bool,
    /// The wordings that ask for its target.
    pub forward: Wordings,
}

impl Relation {
    /// Returns a relation of which only the name is known, with the wording "The NAME of {subject} is".
    pub fn plain(name: &str) -> Relation {
        let spoken = name.replace(['-', '_'], " ");
        Relation {
            name: name.to_owned(),
            table: String::new(),
            entity_kind: String::new(),
            target_kind: String::new(),
            functional: false,
            forward: Wordings {
                taught: vec![format!("The {spoken} of {SUBJECT} is")],
                ..Wordings::default()
            },
        }
    }
}

/// The wordings that ask for the target of a relation: each has `{subject}` where the entity goes, and ends right before the
/// target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wordings {
    /// The wordings that the bundled model was trained on.
    pub taught: Vec<String>,
    /// Further wordings, for models that learnt from other texts.
    #[serde(default)]
    pub also_asked: Vec<String>,
    /// Wordings reserved for evaluation.
    #[serde(default)]
    pub held_out: Vec<String>,
}

impl Wordings {
    /// Iterates over the wordings that a model is asked with when it is probed and described.
    pub fn asked(&self) -> impl Iterator<Item = &String> {
        self.taught.iter().chain(&self.also_asked)
    }
}
