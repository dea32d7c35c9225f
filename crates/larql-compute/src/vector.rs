//! Arithmetic of vectors: products, lengths and sums of slices of floats.
//!
//! Sums run in sixteen partial sums that are added up at the end, whatever the machine, so that results have the same bits
//! everywhere.
//!
//! ```
//! use larql_compute::vector;
//!
//! let mut sum = [1.0, 0.0];
//! vector::axpy(2.0, &[1.0, 2.0], &mut sum);
//! assert_eq!(sum, [3.0, 4.0]);
//! assert_eq!(vector::norm(&sum), 5.0);
//! assert_eq!(vector::normalised(&sum), [0.6, 0.8]);
//! assert_eq!(vector::cosine(&sum, &[30.0, 40.0]), 1.0);
//! ```

/// Partial sums of a product: as many as the widest vector registers hold.
const LANES: usize = 16;

/// Returns the dot product of two vectors of the same length.
///
/// # Panics
/// If the lengths differ.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors differ in length");
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Returns the Euclidean length.
pub fn norm(values: &[f32]) -> f32 {
    dot(values, values).sqrt()
}

/// Returns the cosine of the angle between two vectors of the same length; 0 if one of them is zero.
///
/// # Panics
/// If the lengths differ.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b) / (norm(a) * norm(b)).max(f32::MIN_POSITIVE)
}

/// Adds `factor * values` to `sum`, of the same length (the `axpy` of BLAS).
///
/// # Panics
/// If the lengths differ.
pub fn axpy(factor: f32, values: &[f32], sum: &mut [f32]) {
    assert_eq!(values.len(), sum.len(), "vectors differ in length");
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
}

/// Multiplies a vector by `factor`, in place.
pub fn scale(factor: f32, values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value *= factor);
}

/// Divides a vector by its length, in place. Zero stays zero.
pub fn normalise(values: &mut [f32]) {
    let norm = norm(values);
    if norm > 0.0 {
        values.iter_mut().for_each(|value| *value /= norm);
    }
}

/// Returns a vector divided by its length; zero stays zero.
pub fn normalised(values: &[f32]) -> Vec<f32> {
    let mut values = values.to_vec();
    normalise(&mut values);
    values
}

/// Adds `values` to each row of `rows`, `[n, values.len()]`.
///
/// # Panics
/// If `rows` is not a number of whole rows.
pub fn add_to_rows(values: &[f32], rows: &mut [f32]) {
    assert!(rows.len().is_multiple_of(values.len()), "rows are not of the vector's length");
    rows.chunks_exact_mut(values.len()).for_each(|row| axpy(1.0, values, row));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_any_length_are_those_of_f64() {
        for length in [0, 1, 15, 16, 17, 100] {
            let a: Vec<f32> = (0..length).map(|i| (i as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..length).map(|i| (i as f32 * 0.11).cos()).collect();
            let exact: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(dot(&a, &b)) - exact).abs() < 1e-5, "length {length}");
        }
    }

    #[test]
    fn zero_has_no_direction() {
        assert_eq!(normalised(&[0.0; 3]), [0.0; 3]);
        assert_eq!(cosine(&[0.0; 2], &[1.0, 0.0]), 0.0);
    }

    #[test]
    fn rows_are_added_to_one_by_one() {
        let mut rows = [0.0, 1.0, 2.0, 3.0];
        add_to_rows(&[1.0, -1.0], &mut rows);
        assert_eq!(rows, [1.0, 0.0, 3.0, 2.0]);
        scale(0.5, &mut rows);
        assert_eq!(rows, [0.5, 0.0, 1.5, 1.0]);
    }
}
