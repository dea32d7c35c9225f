//! Scales of sub-blocks of 16 values around zero.

use crate::codec::float::{f32_to_half, half_to_f32};
use crate::codec::search::{best_scale, nearest, weights};
use crate::codec::{extreme, reciprocal};

/// The best scale of each sub-block, for codes from `-limit` to `limit - 1`.
pub(super) fn best_scales(values: &[f32; 256], importance: Option<&[f32; 256]>, limit: f32) -> [f32; 16] {
    let values: &[[f32; 16]; 16] = bytemuck::cast_ref(values);
    let importance: Option<&[[f32; 16]; 16]> = importance.map(bytemuck::cast_ref);
    std::array::from_fn(|i| {
        let (values, importance) = (&values[i], importance.map(|importance| &importance[i]));
        best_scale(values, &weights(values, importance, |value| value * value), limit)
    })
}

/// One half-precision number and multiples of it, from `-limit` to `limit - 1`, that stand for `scales`.
pub(in crate::codec) fn share_signed<const COUNT: usize>(
    scales: [f32; COUNT],
    limit: f32,
) -> ([u8; 2], [i8; COUNT]) {
    let unit = f32_to_half(extreme(&scales) / -limit);
    let inverse = reciprocal(half_to_f32(unit));
    (unit, scales.map(|scale| nearest((scale * inverse).clamp(-limit, limit - 1.0)) as i8))
}
