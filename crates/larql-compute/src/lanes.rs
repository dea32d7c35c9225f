//! Sums and maxima gathered in lanes: vector code on any processor, the same result on all, and a rounding error
//! that grows far more slowly than that of a running sum.

/// Values that are summed up side by side.
pub(crate) const LANES: usize = 16;

/// Sum of `term(value)` over all values.
#[inline]
pub(crate) fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    gather(&mut lanes, values, |lane, value| lane + term(value));
    lanes.iter().sum()
}

/// The largest value, minus infinity if there is none; a NaN is ignored.
#[inline]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let larger = |lane, value| if value > lane { value } else { lane };
    gather(&mut lanes, values, larger);
    // By halves, which is a few instructions for vectors; one after another takes sixteen times the time of one.
    for half in [8, 4, 2, 1] {
        let (first, last) = lanes.split_at_mut(half);
        first.iter_mut().zip(last).for_each(|(first, last)| *first = larger(*first, *last));
    }
    lanes[0]
}

/// Joins each value with the lane of its index modulo 16.
#[inline]
pub(crate) fn gather(lanes: &mut [f32; LANES], values: &[f32], join: impl Fn(f32, f32) -> f32) {
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = join(*lane, *value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = join(*lane, *value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_counts_once() {
        for count in 0..50 {
            let values: Vec<f32> = (0..count).map(|i| i as f32 - 25.0).collect();
            assert_eq!(sum(&values, |value| 2.0 * value), 2.0 * values.iter().sum::<f32>());
            assert_eq!(largest(&values), values.last().copied().unwrap_or(f32::NEG_INFINITY));
        }
    }

    #[test]
    fn rounding_errors_stay_small() {
        let values = vec![0.1; 1 << 14];
        let error = sum(&values, |value| value) / (0.1 * values.len() as f32) - 1.0;
        assert!(error.abs() < 1e-5, "{error}");
    }
}
