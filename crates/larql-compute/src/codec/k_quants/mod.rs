//! The "K" formats: 256 values a block, in sub-blocks whose small scales share one half-precision scale.

mod q2_k;
mod q3_k;
mod q4_k_and_q5_k;
mod q6_k;
mod q8_k;
mod symmetric;

pub(crate) use q2_k::Q2_K;
pub(crate) use q3_k::Q3_K;
pub(crate) use q4_k_and_q5_k::{Q4_K, Q5_K};
pub(crate) use q6_k::Q6_K;
pub(crate) use q8_k::Q8_K;
pub(super) use symmetric::share_signed;

use super::float::{f32_to_half, half_to_f32};
use super::reciprocal;
use super::search::{Line, best_line, mean_square, nearest, weights};

/// The best line of each sub-block of `LEN` values, for codes from 0 to `largest_code`.
fn lines<const LEN: usize, const COUNT: usize>(
    values: &[[f32; LEN]; COUNT],
    importance: Option<&[[f32; LEN]; COUNT]>,
    largest_code: f32,
) -> [Line; COUNT] {
    std::array::from_fn(|i| {
        let (values, importance) = (&values[i], importance.map(|importance| &importance[i]));
        let root_mean_square = mean_square(values).sqrt();
        let weights = weights(values, importance, |value| root_mean_square + value.abs());
        best_line(values, &weights, largest_code)
    })
}

/// One half-precision number and multiples of it, each at most `largest`, that stand for `parts`, none of them negative.
fn share<const COUNT: usize>(parts: [f32; COUNT], largest: f32) -> ([u8; 2], [u8; COUNT]) {
    let unit = f32_to_half(parts.iter().copied().fold(0.0, f32::max) / largest);
    let decoded = half_to_f32(unit);
    let inverse = reciprocal(decoded);
    (unit, parts.map(|part| nearest((part * inverse).clamp(0.0, largest)) as u8))
}

/// The codes nearest to values on a line.
fn codes_on<const LEN: usize>(line: Line, values: &[f32; LEN], largest_code: f32) -> [u8; LEN] {
    let inverse = reciprocal(line.scale);
    values.map(|value| nearest(((value + line.minimum) * inverse).clamp(0.0, largest_code)) as u8)
}
