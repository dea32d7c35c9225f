//! Vectors in JSON: base64 of little-endian numbers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use half::f16;

/// A field of half-precision floats.
pub(super) mod halves {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::of_halves(values))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::to_halves(&text).ok_or_else(|| D::Error::custom("expected base64 of finite numbers"))
    }
}

/// Floats in half precision.
pub(super) fn of_halves(values: &[f32]) -> String {
    of_bytes(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()))
}

pub(super) fn to_halves(text: &str) -> Option<Vec<f32>> {
    numbers(text, |bytes| f16::from_le_bytes(bytes).to_f32())
}

pub(super) fn of_bytes(bytes: impl Iterator<Item = u8>) -> String {
    STANDARD.encode(bytes.collect::<Vec<u8>>())
}

/// Finite numbers of `N` bytes each.
pub(super) fn numbers<const N: usize>(text: &str, of: fn([u8; N]) -> f32) -> Option<Vec<f32>> {
    let bytes = STANDARD.decode(text).ok()?;
    let (whole, rest) = bytes.as_chunks::<N>();
    let values: Vec<f32> = whole.iter().map(|bytes| of(*bytes)).collect();
    (rest.is_empty() && values.iter().all(|value| value.is_finite())).then_some(values)
}
