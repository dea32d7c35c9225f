//! Non-linearities and softmax.
//!
//! The functions of one value are free of branches and calls, [`gelu`] excepted, so that a loop over a slice
//! becomes vector code.

use std::f64::consts::FRAC_1_SQRT_2;

use crate::lanes;

/// `x * sigmoid(x)` (SiLU, also called swish; arXiv 1702.03118).
#[inline]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `1 / (1 + e^-x)`
#[inline]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x * Phi(x)` with the distribution function of the standard normal (arXiv 1606.08415), exact to rounding.
pub fn gelu(x: f32) -> f32 {
    // In double precision, since the rounding of the argument would show where `Phi` is small.
    let x = f64::from(x);
    (0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2)) as f32
}

/// `2 sqrt(2 / pi)`
const GELU_SLOPE: f32 = 1.595_769;

/// The usual approximation of [`gelu`], `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
#[inline]
pub fn gelu_tanh(x: f32) -> f32 {
    // (1 + tanh(u)) / 2 = sigmoid(2 u), which does not cancel for negative u.
    x / (1.0 + exp(-GELU_SLOPE * (x + 0.044_715 * x * x * x)))
}

/// The square of `x` where it is positive, else 0 (Primer, arXiv 2109.08668).
#[inline]
pub fn relu_squared(x: f32) -> f32 {
    let positive = x.max(0.0);
    positive * positive
}

/// The derivative of [`relu_squared`].
#[inline]
pub fn relu_squared_derivative(x: f32) -> f32 {
    2.0 * x.max(0.0)
}

/// The derivative of `x * sigmoid(slope * x)`, with a slope of 1 that of [`silu`].
#[inline]
pub fn silu_derivative(x: f32, slope: f32) -> f32 {
    let gate = sigmoid(slope * x);
    gate * (1.0 + slope * x * (1.0 - gate))
}

/// The derivative of [`gelu`]: `Phi(x) + x phi(x)`.
pub fn gelu_derivative(x: f32) -> f32 {
    let x = f64::from(x);
    let density = (-0.5 * x * x).exp() * (0.5 * std::f64::consts::FRAC_2_SQRT_PI * FRAC_1_SQRT_2);
    (0.5 * libm::erfc(-x * FRAC_1_SQRT_2) + x * density) as f32
}

/// The derivative of [`gelu_tanh`].
#[inline]
pub fn gelu_tanh_derivative(x: f32) -> f32 {
    let gate = sigmoid(GELU_SLOPE * (x + 0.044_715 * x * x * x));
    gate + x * gate * (1.0 - gate) * GELU_SLOPE * (1.0 + 3.0 * 0.044_715 * x * x)
}

/// The derivative of [`soft_cap`] where its value is `capped`.
#[inline]
pub fn soft_cap_derivative(capped: f32, cap: f32) -> f32 {
    1.0 - (capped / cap) * (capped / cap)
}

/// `cap * tanh(x / cap)`: nearly `x` near zero, never beyond `cap` (Gemma 2, arXiv 2408.00118).
#[inline(always)]
pub fn soft_cap(x: f32, cap: f32) -> f32 {
    // Single precision knows no value of tanh between that of 10 and 1.
    let doubled = (2.0 * x / cap).clamp(-20.0, 20.0);
    let e = exp_minus_one(doubled);
    cap * (e / (e + 2.0))
}

/// Softmax of `x` in place; an empty slice stays empty. Values of minus infinity get probability 0, unless
/// there is nothing else.
#[inline]
pub fn softmax(x: &mut [f32]) {
    let largest = lanes::largest(x);
    for v in x.iter_mut() {
        *v = exp(*v - largest);
    }
    let sum = lanes::sum(x, |v| v);
    for v in x {
        *v /= sum;
    }
}

/// Returns the largest of `x` and the sum of `e^(scale * (value - largest))` over all values: what probabilities of single
/// values take, at a temperature of `1 / scale`. The relative error of the sum is below 1e-6.
pub fn softmax_sum(x: &[f32], scale: f32) -> (f32, f64) {
    let largest = lanes::largest(x);
    // In f64 from block to block, so that rounding does not grow with the number of values.
    let term = |value: f32| exp(scale * (value - largest));
    let sums = x.chunks(1024).map(|block| f64::from(lanes::sum(block, term)));
    (largest, sums.sum())
}

/// `e^x` to within two units in the last place, below -87 (where it is under 2e-38) zero.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // e^89 is already infinite. Written so that a NaN passes.
    let (beyond_one, half_power) = reduce(if x > 89.0 { 89.0 } else { x });
    let result = (1.0 + beyond_one) * half_power * 2.0;
    if x < -87.0 { 0.0 } else { result }
}

/// `e^x - 1` for `x` from -87 to 87, without the cancellation near zero.
#[inline(always)]
fn exp_minus_one(x: f32) -> f32 {
    let (beyond_one, half_power) = reduce(x);
    let power = 2.0 * half_power;
    beyond_one * power + (power - 1.0)
}

/// For `x = n ln 2 + r` with the whole `n` that leaves the smallest `r`: `e^r - 1` and `2^(n - 1)`, whose
/// double may be infinite. `x` is from -87 to 89. (Cody and Waite, Software Manual for the Elementary
/// Functions, 1980.)
#[inline(always)]
fn reduce(x: f32) -> (f32, f32) {
    /// From here on f32 has no fractions, and the lowest bits are those of the whole number.
    const WHOLE: f32 = 12_582_912.0;
    /// `ln 2` as a sum; products of the first part with `n` are exact.
    const LN_2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];
    /// Polynomial `p` with the least maximum of the relative error of `1 + r + r^2 p(r)`, 3.2e-9.
    const P: [f32; 5] = [0.499_999_93, 0.166_665_18, 0.041_668_42, 0.008_369_063, 0.001_381_388];

    let shifted = x * std::f32::consts::LOG2_E + WHOLE;
    let n = shifted - WHOLE;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let p = P[0] + r * (P[1] + r * (P[2] + r * (P[3] + r * P[4])));
    // The bits of `n` become those of the exponent.
    let half_power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0.5f32.to_bits()));
    (r + r * r * p, half_power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers from -100 to 100, close together.
    fn sweep() -> impl Iterator<Item = f32> {
        (-1_000_000..=1_000_000).map(|i| i as f32 * 1e-4)
    }

    fn exact_sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// Asserts that `found` is within `relative` of `expected`, or both are next to nothing.
    fn assert_close(x: f32, found: f32, expected: f64, relative: f64) {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= relative * expected.abs() + 1e-36, "at {x}: {found} instead of {expected}");
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for x in sweep().filter(|x| *x < 88.7) {
            assert_close(x, exp(x), f64::from(x).exp(), f64::from(f32::EPSILON));
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!([exp(88.8), exp(1e30), exp(f32::INFINITY)], [f32::INFINITY; 3]);
        assert_eq!([exp(-104.0), exp(-1e30), exp(f32::NEG_INFINITY)], [0.0; 3]);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn non_linearities_equal_their_definitions() {
        for x in sweep() {
            let wide = f64::from(x);
            assert_close(x, silu(x), wide * exact_sigmoid(wide), 3e-7);
            assert_close(x, sigmoid(x), exact_sigmoid(wide), 3e-7);
            assert_close(x, gelu(x), 0.5 * wide * libm::erfc(-wide / 2f64.sqrt()), 1e-7);
        }
        // Further out the tail's rounding errors are those of its argument, and the tail is next to nothing.
        for x in sweep().filter(|x| *x > -2.0) {
            let wide = f64::from(x);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044715 * wide.powi(3));
            assert_close(x, gelu_tanh(x), 0.5 * wide * (1.0 + inner.tanh()), 6e-7);
        }
    }

    #[test]
    fn soft_cap_equals_its_definition() {
        for x in sweep() {
            assert_close(x, soft_cap(x, 30.0), 30.0 * (f64::from(x) / 30.0).tanh(), 4e-7);
        }
        assert_eq!([soft_cap(1e30, 50.0), soft_cap(f32::NEG_INFINITY, 50.0)], [50.0, -50.0]);
        assert!(soft_cap(f32::NAN, 50.0).is_nan());
    }

    #[test]
    fn derivatives_are_those_of_the_functions() {
        for x in (-800..=800).map(|i| i as f32 * 1e-2) {
            let slope = |f: &dyn Fn(f32) -> f32| (f(x + 5e-3) - f(x - 5e-3)) / 1e-2;
            for (name, found, expected) in [
                ("silu", silu_derivative(x, 1.0), slope(&silu)),
                ("steep silu", silu_derivative(x, 1.7), slope(&|x| x * sigmoid(1.7 * x))),
                ("gelu", gelu_derivative(x), slope(&gelu)),
                ("relu_squared", relu_squared_derivative(x), slope(&relu_squared)),
                ("gelu_tanh", gelu_tanh_derivative(x), slope(&gelu_tanh)),
                ("soft_cap", soft_cap_derivative(soft_cap(x, 3.0), 3.0), slope(&|x| soft_cap(x, 3.0))),
            ] {
                // Half a step at the kink of a function.
                assert!((found - expected).abs() <= 2.6e-3, "{name} at {x}: {found} instead of {expected}");
            }
        }
    }

    /// Values of the normal distribution from tables.
    #[test]
    fn gelu_is_right_at_known_points() {
        for (x, expected) in
            [(1.0, 0.841_344_7), (-1.0, -0.158_655_25), (2.0, 1.954_499_7), (-3.0, -0.004_049_694)]
        {
            assert_close(x, gelu(x), expected, 1e-7);
        }
        assert_eq!(gelu(0.0), 0.0);
        assert_eq!(gelu(40.0), 40.0);
    }

    #[test]
    fn softmax_takes_large_and_infinite_values() {
        let mut x = [1000.0, f32::NEG_INFINITY, 1000.0, -1000.0];
        softmax(&mut x);
        assert_eq!(x, [0.5, 0.0, 0.5, 0.0]);
        softmax(&mut []);
    }

    #[test]
    fn the_sum_of_a_softmax_is_that_of_f64() {
        let values: Vec<f32> = (0..50_000).map(|i| 12.0 * (i as f32 * 0.7).sin()).collect();
        for scale in [1.0, 2.5] {
            let (largest, sum) = softmax_sum(&values, scale);
            assert_eq!(largest, values.iter().copied().fold(f32::MIN, f32::max));
            let terms = values.iter().map(|value| (f64::from(scale) * f64::from(value - largest)).exp());
            let exact: f64 = terms.sum();
            assert!((sum / exact - 1.0).abs() < 1e-6, "{sum} instead of {exact}");
        }
    }

    proptest! {
        #[test]
        fn softmax_equals_its_definition(x in prop::collection::vec(-40f32..40.0, 1..100)) {
            let mut found = x.clone();
            softmax(&mut found);
            let sum: f64 = x.iter().map(|v| f64::from(*v).exp()).sum();
            for (v, found) in x.iter().zip(found) {
                let expected = f64::from(*v).exp() / sum;
                // Distances to the largest value are rounded before their exponential is taken.
                prop_assert!((f64::from(found) - expected).abs() <= 1e-5 * expected, "{found}, not {expected}");
            }
        }
    }
}
