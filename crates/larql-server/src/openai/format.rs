//! Formats that a text has to have: JSON, or JSON that meets a schema.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::grammar::Grammar;
use crate::models::ServedModel;

/// Wish for a format.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ResponseFormat {
    /// Any text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that meets a schema.
    JsonSchema {
        /// The schema, nested as in chats.
        json_schema: Option<NamedSchema>,
        /// The schema itself, as in responses.
        schema: Option<Value>,
    },
}

/// A schema with its name, which does not matter.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct NamedSchema {
    schema: Option<Value>,
}

impl ResponseFormat {
    /// Returns the grammar of texts that have the format; none if any text has it.
    ///
    /// # Errors
    /// If the schema is missing, or cannot be used.
    pub(crate) fn grammar(&self, model: &ServedModel, field: &str) -> Result<Option<Grammar>, ApiError> {
        let schema = match self {
            ResponseFormat::Text => return Ok(None),
            ResponseFormat::JsonObject => json!({"type": "object"}),
            ResponseFormat::JsonSchema { json_schema, schema } => {
                let nested = json_schema.as_ref().and_then(|named| named.schema.clone());
                let missing = || ApiError::field(field, "a format of type json_schema needs a schema");
                nested.or_else(|| schema.clone()).ok_or_else(missing)?
            }
        };
        model.vocabulary()?.json_schema(&schema, field).map(Some)
    }
}
