//! The three words that say how much a vindex holds and how.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Preset of what is extracted of a model, each a superset of the one before. The manifest names the preset that a vindex
/// was made by; a slice of it may lack parts of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExtractLevel {
    /// Gate rows, embeddings, feature metadata and norms: WALK, DESCRIBE, SELECT.
    Browse,
    /// Attention weights as well.
    Attention,
    /// Everything a forward pass needs: INFER, TRACE, COMPOSE.
    Inference,
    /// The checkpoint's remaining files too, so that it can be written back whole.
    All,
}

impl ExtractLevel {
    /// The levels, lowest first.
    pub const ALL: [ExtractLevel; 4] =
        [ExtractLevel::Browse, ExtractLevel::Attention, ExtractLevel::Inference, ExtractLevel::All];

    /// Returns true if the preset includes all that a forward pass reads: the manifest's `has_model_weights`.
    pub fn has_model_weights(self) -> bool {
        self >= ExtractLevel::Inference
    }

    /// The word in manifests and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ExtractLevel::Browse => "browse",
            ExtractLevel::Attention => "attention",
            ExtractLevel::Inference => "inference",
            ExtractLevel::All => "all",
        }
    }
}

/// Encoding of weights that are stored as plain floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FloatType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an `F32`; for sources that are bf16, so that a round trip is exact.
    Bf16,
}

impl FloatType {
    /// The word in manifests.
    pub fn name(self) -> &'static str {
        match self {
            FloatType::F32 => "f32",
            FloatType::F16 => "f16",
            FloatType::Bf16 => "bf16",
        }
    }

    /// Bytes a value.
    pub fn bytes(self) -> usize {
        match self {
            FloatType::F32 => 4,
            FloatType::F16 | FloatType::Bf16 => 2,
        }
    }
}

/// Storage of weights: plain floats or blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quant {
    /// Plain floats of the manifest's `dtype`.
    #[default]
    None,
    /// Q4_K and Q6_K blocks for attention, feed-forward and head. Newer files call it `kquant`.
    #[serde(alias = "kquant")]
    Q4k,
    /// Every tensor as its source had it; `weight_manifest.json` says which format each one is in.
    Source,
}

impl Quant {
    /// The word in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Quant::None => "none",
            Quant::Q4k => "q4k",
            Quant::Source => "source",
        }
    }
}

impl fmt::Display for ExtractLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for FloatType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Quant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ExtractLevel {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        ExtractLevel::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            format!("`{name}` is not an extract level; levels are browse, attention, inference and all")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_parse_their_own_names() {
        assert!(ExtractLevel::ALL.is_sorted());
        for level in ExtractLevel::ALL {
            assert_eq!(level.name().to_uppercase().parse(), Ok(level));
            assert_eq!(serde_json::to_value(level).unwrap(), level.name());
        }
        assert!("most".parse::<ExtractLevel>().is_err());
    }

    #[test]
    fn both_names_of_q4k_are_read() {
        for name in ["q4k", "kquant"] {
            assert_eq!(serde_json::from_value::<Quant>(name.into()).unwrap(), Quant::Q4k);
        }
    }
}
