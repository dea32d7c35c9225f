//! Seeded noise.

/// Returns `count` numbers from -1 to 1 that look random. The same seed gives the same numbers.
pub fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        // The constants of "Numerical Recipes". The low bits of such a generator are not random enough to be used.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_within_bounds_and_centred() {
        let numbers = noise(10_000, 1);
        assert!(numbers.iter().all(|number| (-1.0..1.0).contains(number)));
        assert!((numbers.iter().sum::<f32>() / 10_000.0).abs() < 0.02);
        assert_ne!(noise(4, 1), noise(4, 2));
    }
}
