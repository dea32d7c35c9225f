//! The scales with which codes come closest to given values: the best of a few candidates by weighted least
//! squares.
//!
//! Large values weigh more than small ones, because they contribute more to products. The nearest code depends on
//! the scale and the best scale on the codes, so each candidate step fixes codes, for which the best scale is then
//! computed exactly.

use super::Line;
use crate::codec::extreme;

/// Rounds to the nearest whole number, ties to even. Exact up to 2^22, and plain additions, which compilers
/// turn into vector code for any processor.
pub(super) fn nearest(value: f32) -> f32 {
    /// From here on f32 has no fractions.
    const WHOLE: f32 = 12_582_912.0;
    (value + WHOLE) - WHOLE
}

/// Lanes that sums are gathered in, so that their order is fixed and vector code possible.
const LANES: usize = 8;

/// Sums over all values of what `terms` gives for each value and its weight.
fn sums<const N: usize, const SUMS: usize>(
    values: &[f32; N],
    weights: &[f32; N],
    terms: impl Fn(f32, f32) -> [f32; SUMS],
) -> [f32; SUMS] {
    let mut lanes = [[0.0; LANES]; SUMS];
    let (values, weights) = (values.as_chunks::<LANES>().0, weights.as_chunks::<LANES>().0);
    for (values, weights) in values.iter().zip(weights) {
        for lane in 0..LANES {
            let terms = terms(values[lane], weights[lane]);
            for sum in 0..SUMS {
                lanes[sum][lane] += terms[sum];
            }
        }
    }
    lanes.map(|lanes| lanes.iter().sum())
}

/// The best `scale` for `value = scale * code` with codes from `-limit` to `limit - 1`.
pub(super) fn best_scale<const N: usize>(values: &[f32; N], limit: f32) -> f32 {
    let extreme = extreme(values);
    if extreme == 0.0 {
        return 0.0;
    }
    let weights = values.map(|value| value * value);
    let (mut best, mut most_explained) = (0.0, 0.0);
    // The extreme value gets code `-limit`, or one beside it.
    for step in -9..=9 {
        let inverse = -(limit + 0.1 * step as f32) / extreme;
        let [product, square] = sums(values, &weights, |value, weight| {
            let code = nearest((value * inverse).max(-limit).min(limit - 1.0));
            [weight * code * value, weight * code * code]
        });
        // The least-squares scale is `product / square` and takes `product^2 / square` off the squared error.
        if product * product > most_explained * square {
            (best, most_explained) = (product / square, product * product / square);
        }
    }
    best
}

/// The best line for codes from 0 to `limit`.
pub(super) fn best_line<const N: usize>(values: &[f32; N], limit: f32) -> Line {
    let smallest = values.iter().copied().fold(0.0, f32::min);
    let range = values.iter().copied().fold(0.0, f32::max) - smallest;
    let mut best = Line { scale: range / limit, minimum: -smallest };
    if range == 0.0 {
        return best;
    }
    let root_mean_square = (values.iter().map(|value| value * value).sum::<f32>() / N as f32).sqrt();
    let weights = values.map(|value| root_mean_square + value.abs());
    // Heights above the smallest value, so that the errors are not lost in a common offset.
    let heights = values.map(|value| value - smallest);
    let [weight, total] = sums(&heights, &weights, |height, weight| [weight, weight * height]);
    let mut most_explained = f32::NEG_INFINITY;
    for step in -10..=10 {
        let inverse = (limit + 0.1 * step as f32) / range;
        let [first, second, product] = sums(&heights, &weights, |height, weight| {
            let code = nearest((height * inverse).min(limit));
            [weight * code, weight * code * code, weight * code * height]
        });
        // The normal equations of `height = scale * code + offset`.
        let determinant = weight * second - first * first;
        if determinant <= 1e-6 * weight * second {
            // All codes are equal or as good as that: they say nothing about the slope.
            continue;
        }
        let mut scale = (weight * product - total * first) / determinant;
        let mut offset = (second * total - first * product) / determinant;
        if offset + smallest > 0.0 {
            offset = -smallest;
            scale = (product - offset * first) / second;
        }
        // What this line takes off the squared error.
        let explained = 2.0 * (scale * product + offset * total)
            - (scale * scale * second + 2.0 * scale * offset * first + offset * offset * weight);
        if explained > most_explained {
            (best, most_explained) = (Line { scale, minimum: -(offset + smallest) }, explained);
        }
    }
    best
}
