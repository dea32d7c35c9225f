//! The answer of SELECT.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Edge, Via, is_zero, word};
use crate::ast::{Field, Table};

/// Rows of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selected {
    /// The table that they are of.
    pub from: Table,
    /// The columns, in the order they were asked for.
    pub fields: Vec<Field>,
    /// The rows.
    pub rows: Vec<Record>,
    /// Number of rows that follow these, and that nobody was to see.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// Next step, where there are no rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A row: a value for each field that it has. As JSON an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Record(BTreeMap<Field, Datum>);

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Datum {
    /// A layer, a number of features.
    Integer(usize),
    /// A score.
    Number(f32),
    /// A name.
    Text(String),
    /// Tokens.
    List(Vec<String>),
}

impl Record {
    /// The row with `value` in `field`.
    pub fn with(mut self, field: Field, value: impl Into<Datum>) -> Self {
        self.0.insert(field, value.into());
        self
    }

    /// The value of `field`, if the row has one.
    pub fn get(&self, field: Field) -> Option<&Datum> {
        self.0.get(&field)
    }

    /// The row with no other fields than these.
    pub fn only(mut self, fields: &[Field]) -> Self {
        self.0.retain(|field, _| fields.contains(field));
        self
    }

    /// An edge of `entity` as a row.
    pub fn of_edge(entity: &str, edge: &Edge) -> Self {
        let mut record = Self::default()
            .with(Field::Entity, entity)
            .with(Field::Target, &*edge.target)
            .with(Field::Layer, edge.layer)
            .with(Field::LayerMax, edge.layer_max)
            .with(Field::Feature, edge.feature)
            .with(Field::Count, edge.count)
            .with(Field::Via, word(&edge.via));
        // A patch states an edge, and nothing fires for it.
        if edge.via != Via::Patch {
            record = record.with(Field::Gate, edge.gate);
        }
        if let Some(relation) = &edge.relation {
            record = record.with(Field::Relation, &**relation);
        }
        if let Some(source) = &edge.source {
            record = record.with(Field::Source, word(source));
        }
        if let Some(confidence) = edge.confidence {
            record = record.with(Field::Confidence, confidence);
        }
        if !edge.also.is_empty() {
            record = record.with(Field::Also, edge.also.clone());
        }
        record
    }
}

impl Selected {
    /// The entities and targets.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let fields = [Field::Entity, Field::Target];
        self.rows.iter().flat_map(move |row| {
            fields.into_iter().filter_map(|field| match row.get(field) {
                Some(Datum::Text(name)) => Some(&**name),
                _ => None,
            })
        })
    }
}

impl From<usize> for Datum {
    fn from(integer: usize) -> Self {
        Self::Integer(integer)
    }
}

impl From<f32> for Datum {
    fn from(number: f32) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Datum {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Datum {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<String>> for Datum {
    fn from(list: Vec<String>) -> Self {
        Self::List(list)
    }
}
