//! The scales with which codes come closest to given values: the best of a few candidates by weighted least
//! squares.
//!
//! Large values weigh more than small ones, because they contribute more to products; where the importance of each value
//! is known, it counts too. The nearest code depends on the scale and the best scale on the codes, so each candidate step fixes codes, for which the best scale is then
//! computed exactly.

use super::extreme;

/// Scale and minimum of some values, which are `scale * code - minimum`.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub(super) scale: f32,
    pub(super) minimum: f32,
}

impl Line {
    pub(super) fn at(self, code: u8) -> f32 {
        self.scale * f32::from(code) - self.minimum
    }
}

/// Weights of the squared errors of values: their importance times about their magnitude, or `without` importance a function
/// of the value.
pub(super) fn weights<const N: usize>(
    values: &[f32; N],
    importance: Option<&[f32; N]>,
    without: impl Fn(f32) -> f32,
) -> [f32; N] {
    match importance {
        None => values.map(without),
        Some(importance) => {
            let mean_square = mean_square(values);
            std::array::from_fn(|i| importance[i] * (mean_square + values[i] * values[i]).sqrt())
        }
    }
}

/// The mean of the squares.
pub(super) fn mean_square<const N: usize>(values: &[f32; N]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>() / N as f32
}

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
pub(super) fn best_scale<const N: usize>(values: &[f32; N], weights: &[f32; N], limit: f32) -> f32 {
    // The extreme value gets code `-limit`, or one beside it.
    let steps = (-9..=9).map(|step| -(limit + 0.1 * step as f32));
    best_scale_of(values, weights, steps, |value| nearest(value.max(-limit).min(limit - 1.0)))
}

/// The best `scale` for `value = scale * level`, where `level` gives the level nearest to a value over the scale. The
/// extreme value is tried at each of `places`.
pub(super) fn best_scale_of<const N: usize>(
    values: &[f32; N],
    weights: &[f32; N],
    places: impl IntoIterator<Item = f32>,
    level: impl Fn(f32) -> f32,
) -> f32 {
    let extreme = extreme(values);
    if extreme == 0.0 {
        return 0.0;
    }
    let (mut best, mut most_explained) = (0.0, 0.0);
    for place in places {
        let inverse = place / extreme;
        let [product, square] = sums(values, weights, |value, weight| {
            let level = level(value * inverse);
            [weight * level * value, weight * level * level]
        });
        // The least-squares scale is `product / square` and takes `product^2 / square` off the squared error.
        if product * product > most_explained * square {
            (best, most_explained) = (product / square, product * product / square);
        }
    }
    best
}

/// The best line for codes from 0 to `limit`, whose minimum is not negative.
pub(super) fn best_line<const N: usize>(values: &[f32; N], weights: &[f32; N], limit: f32) -> Line {
    let smallest = values.iter().copied().fold(0.0, f32::min);
    let range = values.iter().copied().fold(0.0, f32::max) - smallest;
    let mut best = Line { scale: range / limit, minimum: -smallest };
    if range == 0.0 {
        return best;
    }
    // Heights above the smallest value, so that the errors are not lost in a common offset.
    let heights = values.map(|value| value - smallest);
    let [weight, total] = sums(&heights, weights, |height, weight| [weight, weight * height]);
    let mut most_explained = f32::NEG_INFINITY;
    for step in -10..=10 {
        let inverse = (limit + 0.1 * step as f32) / range;
        let [first, second, product] = sums(&heights, weights, |height, weight| {
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
