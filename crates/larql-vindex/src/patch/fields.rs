//! Reading and writing the fields of JSON objects from outside, with messages that name the field.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::Damage;

/// Fields of an object, taken out one by one; the rest is kept.
pub(super) struct Fields {
    /// Prefix of a field's name in messages.
    place: String,
    fields: Map<String, Value>,
}

impl Fields {
    pub(super) fn new(place: impl Into<String>, value: Value) -> Result<Fields, Damage> {
        let place = place.into();
        match value {
            Value::Object(fields) => Ok(Fields { place, fields }),
            other => Err(Damage::new(place, "an object", kind(&other))),
        }
    }

    /// The fields that were not taken.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.fields
    }

    pub(super) fn damage(
        &self,
        name: &str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Damage {
        Damage::new(format!("{}: `{name}`", self.place), expected, found)
    }

    /// A field that is there and not null.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.shift_remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn object(&mut self, name: &str) -> Result<Option<Fields>, Damage> {
        let place = format!("{}: `{name}`", self.place);
        self.take(name).map(|value| Fields::new(place, value)).transpose()
    }

    pub(super) fn array(&mut self, name: &str) -> Result<Option<Vec<Value>>, Damage> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(other) => Err(self.damage(name, "an array", kind(&other))),
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Damage> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.damage(name, "a string", kind(&other))),
        }
    }

    /// An object of strings; none if it is not there.
    pub(super) fn texts(&mut self, name: &str) -> Result<BTreeMap<String, String>, Damage> {
        let Some(mut object) = self.object(name)? else { return Ok(BTreeMap::new()) };
        let keys: Vec<String> = object.fields.keys().cloned().collect();
        let mut texts = BTreeMap::new();
        for key in keys {
            if let Some(text) = object.text(&key)? {
                texts.insert(key, text);
            }
        }
        Ok(texts)
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<f64>, Damage> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.damage(name, "a number", kind(&value)))
    }

    pub(super) fn count(&mut self, name: &str) -> Result<Option<usize>, Damage> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.map(Some).ok_or_else(|| self.damage(name, "a whole number", &value))
    }

    pub(super) fn token(&mut self, name: &str) -> Result<Option<u32>, Damage> {
        let Some(count) = self.count(name)? else { return Ok(None) };
        u32::try_from(count).map(Some).map_err(|_| self.damage(name, "a token id", count))
    }

    /// Little-endian f32 values in base64. Whether they are numbers is judged where they are used.
    pub(super) fn vector(&mut self, name: &str) -> Result<Option<Arc<[f32]>>, Damage> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let bytes =
            STANDARD.decode(&text).map_err(|error| self.damage(name, "base64 of f32 values", error))?;
        match bytes.as_chunks() {
            (values, []) => Ok(Some(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())),
            (_, _) => {
                let found = format!("{} bytes", bytes.len());
                Err(self.damage(name, "base64 of f32 values, four bytes each", found))
            }
        }
    }

    /// Fails for a field that must be there.
    pub(super) fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, Damage> {
        value.ok_or_else(|| self.damage(name, "a value", "none"))
    }
}

/// A vector as [`Fields::vector`] reads it.
pub(super) fn encoded_vector(values: &[f32]) -> Value {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Value::String(STANDARD.encode(bytes))
}

/// A single-precision number in as few digits as tell it from others.
pub(super) fn short_number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// Type of a value, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
