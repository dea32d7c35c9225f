//! Faithfulness: permitted differences of stored weights from their source.

use crate::{FloatType, Quant};

/// Limits for the difference between a source's weights and what a vindex stores of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Cosine of the two tensors, at least.
    pub min_cosine: f64,
    /// Difference of two corresponding values, at most.
    pub max_difference: f64,
}

impl Thresholds {
    /// The limits for weights stored in this way. Weights kept as their source had them must be equal.
    pub fn of(quant: Quant, dtype: FloatType) -> Thresholds {
        let (min_cosine, max_difference) = match (quant, dtype) {
            (Quant::Source, _) => (1.0, 0.0),
            (Quant::Q4k, _) => (0.995, 0.05),
            (Quant::None, FloatType::F16 | FloatType::Bf16) => (0.9999, 0.01),
            (Quant::None, FloatType::F32) => (0.99999, 0.001),
        };
        Thresholds { min_cosine, max_difference }
    }

    /// True if a measured cosine and largest difference are within the limits. A difference that is not a number
    /// does not.
    pub fn accept(&self, cosine: f64, difference: f64) -> bool {
        cosine >= self.min_cosine && difference <= self.max_difference
    }
}

/// The layers at which faithfulness is measured, of `layers`: first, quarters and last, each once.
pub fn sampled_layers(layers: usize) -> Vec<usize> {
    let Some(last) = layers.checked_sub(1) else { return Vec::new() };
    let mut sampled = vec![0, layers / 4, layers / 2, layers * 3 / 4, last];
    sampled.dedup();
    sampled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_never_faithful() {
        let thresholds = Thresholds::of(Quant::Q4k, FloatType::F16);
        assert!(thresholds.accept(0.999, 0.01));
        assert!(!thresholds.accept(f64::NAN, 0.01));
        assert!(!thresholds.accept(0.999, f64::NAN));
    }

    #[test]
    fn samples_are_distinct_layers() {
        assert_eq!(sampled_layers(34), [0, 8, 17, 25, 33]);
        assert_eq!(sampled_layers(3), [0, 1, 2]);
        assert_eq!(sampled_layers(1), [0]);
        assert!(sampled_layers(0).is_empty());
    }
}
