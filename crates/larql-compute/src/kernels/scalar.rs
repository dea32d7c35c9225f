//! Plain Rust: what every other version is compared with.

/// Sum of the products of `a` and `b`.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
