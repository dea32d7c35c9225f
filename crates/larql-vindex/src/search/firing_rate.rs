//! Firing rates of features, which damp features that fire for nearly everything.

use std::sync::Arc;

/// Firing rate: the share of a sample of inputs for which a feature is among the strongest of its layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FiringRates {
    /// Damping factor of each feature; none if nothing was measured.
    damping: Arc<[f32]>,
}

/// A feature counts as firing for an input if it is among this share of the layer's strongest.
const STRONGEST_SHARE: usize = 20;
/// Least damping factor: a feature that fires for everything is damped, not hidden.
const FLOOR: f32 = 0.05;

impl FiringRates {
    /// Measures one layer from the strengths of its features for a sample of inputs, `[inputs, features]`.
    pub fn of_sample(strengths: &[f32], features: usize) -> FiringRates {
        if features == 0 || strengths.is_empty() {
            return FiringRates::default();
        }
        let mut rates = vec![0.0; features];
        let inputs = strengths.len() / features;
        let strongest = (features / STRONGEST_SHARE).max(1);
        for input in strengths.chunks_exact(features) {
            let mut sorted = input.to_vec();
            let (_, threshold, _) = sorted.select_nth_unstable_by(strongest - 1, |a, b| b.total_cmp(a));
            // A feature that does not fire at all is not among the strongest, however few fire.
            let threshold = threshold.max(f32::MIN_POSITIVE);
            for (rate, strength) in rates.iter_mut().zip(input) {
                *rate += f32::from(*strength >= threshold);
            }
        }
        FiringRates { damping: rates.iter().map(|rate| damping(rate / inputs as f32)).collect() }
    }

    /// The strengths of all features, `[features]`, damped.
    pub fn damped(&self, strengths: &[f32]) -> Vec<f32> {
        if self.damping.is_empty() {
            return strengths.to_vec();
        }
        strengths.iter().zip(&*self.damping).map(|(strength, damping)| strength * damping).collect()
    }
}

/// Damping factor of a feature: 1 for one that hardly ever fires, nearly 0 for one that always does.
fn damping(rate: f32) -> f32 {
    (1.0 - rate).powi(2).max(FLOOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_that_always_fire_are_damped_and_not_hidden() {
        // Feature 0 leads for every input, feature 1 for one of four, feature 2 never.
        let strengths = [9.0, 1.0, 0.0, 9.0, 10.0, 0.0, 9.0, 0.5, 0.0, 9.0, 0.2, 0.0];
        let rates = FiringRates::of_sample(&strengths, 3);
        assert_eq!(*rates.damping, [0.0625, 0.5625, 1.0]);
        assert_eq!(rates.damped(&[2.0; 3]), [0.125, 1.125, 2.0]);
        let always = FiringRates::of_sample(&[1.0, 0.0, 1.0, 0.0], 2);
        assert_eq!(always.damping[0], FLOOR);
    }

    #[test]
    fn nothing_measured_damps_nothing() {
        assert_eq!(FiringRates::default().damped(&[3.0]), [3.0]);
        assert_eq!(FiringRates::of_sample(&[], 2).damped(&[3.0, 4.0]), [3.0, 4.0]);
    }
}
