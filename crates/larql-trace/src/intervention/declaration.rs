//! The declaration: types of the JSON file.
//!
//! ```json
//! {
//!   "capture": [{ "layer": 5, "stage": "layer_output" }],
//!   "interventions": [
//!     { "at": { "layer": 3, "stage": "head_outputs", "heads": [1], "positions": "all" }, "zero": true },
//!     { "at": { "layer": 4, "stage": "layer_output" },
//!       "add": { "prompt": "I love this", "minus": "I hate this", "factor": 4.0 } }
//!   ]
//! }
//! ```

use larql_inference::Stage;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::InterventionError;

/// Captures and changes of a pass. Changes are made in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// The width of the residual stream that it was made for, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<usize>,
    /// The number of layers that it was made for, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Values to keep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capture: Vec<Capture>,
    /// Changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interventions: Vec<Action>,
}

/// A point of a layer to keep the values of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// The layer, counted from 0.
    pub layer: usize,
    /// The point in it.
    pub stage: Stage,
    /// The rows to keep.
    #[serde(default)]
    pub positions: RowSelection,
}

/// A change of values: where, and exactly one of zero, mean, add, project_out, replace and patch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// The place.
    pub at: Place,
    /// Sets the values to 0.
    #[serde(default, skip_serializing_if = "is_false")]
    pub zero: bool,
    /// Sets the values to their mean over the positions of a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<String>,
    /// Adds a vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<Vector>,
    /// Removes the component along a vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_out: Option<Vector>,
    /// Sets the values to a vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<Vector>,
    /// Sets the values to those of another prompt at the same place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<PatchSource>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Place of a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The layer, counted from 0.
    pub layer: usize,
    /// The point in it.
    pub stage: Stage,
    /// The rows.
    #[serde(default)]
    pub positions: RowSelection,
    /// The only heads, for stages that have heads; all where nothing is said. For keys and values these are key and value
    /// heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<Vec<usize>>,
    /// The only features, for `feature_activations`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<usize>>,
    /// The only experts, for `expert_weights`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<Vec<usize>>,
}

/// Rows of a pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowSelection {
    /// The last row of each pass: the prompt's last token, then each generated token.
    #[default]
    Last,
    /// All rows.
    All,
    /// These positions, counted from 0.
    #[serde(untagged)]
    Positions(Vec<usize>),
}

/// A vector, given or measured. What is measured is the value at the place of the change at the last token of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// The values themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<f32>>,
    /// A prompt to measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// A prompt whose values are subtracted from those of `prompt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minus: Option<String>,
    /// Factor of the vector.
    #[serde(default = "one")]
    pub factor: f32,
}

fn one() -> f32 {
    1.0
}

/// The prompt whose values replace others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchSource {
    /// The prompt.
    pub prompt: String,
    /// Its positions, one for each position of the change; the last ones, counted from the end, where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<Vec<usize>>,
}

impl Declaration {
    /// Reads a declaration from JSON.
    ///
    /// # Errors
    /// If it is no such JSON; the message has line and column.
    pub fn from_json(text: &str) -> Result<Declaration, InterventionError> {
        serde_json::from_str(text).map_err(InterventionError::Json)
    }

    /// SHA-256 of the declaration in its normal form, in hexadecimal digits.
    ///
    /// # Errors
    /// If a number cannot be written as JSON.
    pub fn digest(&self) -> Result<String, InterventionError> {
        let json = serde_json::to_vec(self).map_err(InterventionError::Json)?;
        Ok(Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
