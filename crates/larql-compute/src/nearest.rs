//! The rows of a matrix with the largest products with a vector, without multiplying all of them exactly.

use crate::vector::norm;
use crate::{Activations, MatRef, Pool, Precision, matmul, top_k_by_magnitude, top_k_by_value};

/// Bound on the error of a product in 8 bits apart from the rounding of its activations, as a share of both
/// lengths: the rounding of sums.
const ROUNDING: f32 = 1e-5;

/// Rows that are asked for, as a share of all, from which on all are multiplied exactly.
const GREATEST_SHARE: f32 = 0.25;

/// The Euclidean length of each row, or slightly more: `[rows]`.
pub fn row_lengths(pool: &Pool, weights: MatRef<'_>) -> Vec<f32> {
    let mut lengths = vec![0.0; weights.rows()];
    pool.for_each_piece(&mut lengths, 16, |first, lengths| {
        let mut row = vec![0.0; weights.cols()];
        for (index, length) in (first..).zip(lengths) {
            weights.decode_row(index, &mut row);
            let square: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
            *length = square.sqrt() as f32 * (1.0 + f32::EPSILON);
        }
    });
    lengths
}

/// The `k` rows of `weights` whose products with `x`, `[1, width]`, are farthest from zero, with these products, which are
/// those of [`Precision::Exact`]; farthest first. `lengths` are [`row_lengths`].
///
/// All rows are multiplied with `x` in 8 bits. By the Cauchy-Schwarz inequality such a product is off by no more than the
/// length of the row times the length of what rounding took from `x`, and only rows that this does not rule out are
/// multiplied exactly.
///
/// # Panics
/// If `x` is not one vector, or a width or number of rows differs.
pub fn top_k_rows(
    pool: &Pool,
    weights: MatRef<'_>,
    lengths: &[f32],
    x: &Activations<'_>,
    k: usize,
) -> Vec<(usize, f32)> {
    assert_eq!(lengths.len(), weights.rows(), "a length for each row");
    assert_eq!(x.batch(), 1, "one vector");
    let mut products = vec![0.0; weights.rows()];
    let few = (k as f32) < GREATEST_SHARE * weights.rows() as f32;
    let Some(lost) = x.lost_in_8_bits(pool, weights.format()).filter(|_| few) else {
        matmul(pool, weights, x, Precision::Exact, &mut products);
        return top_k_by_magnitude(&products, k);
    };
    matmul(pool, weights, x, Precision::Fast, &mut products);
    let doubt = lost[0] + ROUNDING * norm(x.values());
    let least: Vec<f32> = products.iter().zip(lengths).map(|(p, length)| p.abs() - doubt * length).collect();
    let to_reach = top_k_by_value(&least, k).last().map_or(f32::NEG_INFINITY, |(_, least)| *least);
    // Written so that what is not a number is looked at.
    let ruled_out = |row: &usize| products[*row].abs() + doubt * lengths[*row] < to_reach;
    let left: Vec<usize> = (0..products.len()).filter(|row| !ruled_out(row)).collect();
    // Together, because rows are multiplied several at a time.
    let mut bytes = Vec::with_capacity(left.len() * weights.row_bytes());
    left.iter().for_each(|row| bytes.extend_from_slice(weights.row(*row)));
    let rows_left =
        MatRef::new(weights.format(), left.len(), weights.cols(), &bytes).expect("rows of the same width");
    let products = &mut products[..left.len()];
    matmul(pool, rows_left, x, Precision::Exact, products);
    let strongest = top_k_by_magnitude(products, k).into_iter();
    strongest.map(|(place, product)| (left[place], product)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Format, Matrix};

    proptest! {
        #[test]
        fn the_nearest_rows_are_those_of_all_exact_products(
            seed in any::<u64>(),
            format in prop::sample::select(vec![Format::Q4_1, Format::Q5_0, Format::Q8_0, Format::Q6_K, Format::F16]),
            k in 0usize..80,
            spread in 0.0f32..3.0,
        ) {
            let (rows, width) = (97, 512);
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            };
            // Values of many sizes, so that 8 bits lose much of some.
            let x: Vec<f32> = (0..width).map(|_| next() * (spread * next()).exp()).collect();
            let values: Vec<f32> = (0..rows * width).map(|_| next()).collect();
            let mut bytes = Vec::new();
            format.encode(&values, &mut bytes).unwrap();
            let weights = Matrix::new(format, rows, width, bytes.into()).unwrap();
            let pool = Pool::new(2);
            let mut products = vec![0.0; rows];
            let x = Activations::new(&x, width);
            matmul(&pool, weights.view(), &x, Precision::Exact, &mut products);
            let lengths = row_lengths(&pool, weights.view());
            let found = top_k_rows(&pool, weights.view(), &lengths, &x, k);
            prop_assert_eq!(found, top_k_by_magnitude(&products, k));
        }
    }

    #[test]
    fn rows_that_are_not_numbers_hide_no_others() {
        let mut bytes = Vec::new();
        Format::Q8_0.encode(&[0.5; 64 * 32], &mut bytes).unwrap();
        // The scale of the second row.
        bytes[34..36].copy_from_slice(&[0xff, 0x7f]);
        let weights = Matrix::new(Format::Q8_0, 64, 32, bytes.into()).unwrap();
        let pool = Pool::new(1);
        let lengths = row_lengths(&pool, weights.view());
        let found = top_k_rows(&pool, weights.view(), &lengths, &Activations::new(&[1.0; 32], 32), 3);
        let rows: Vec<usize> = found.iter().map(|(row, _)| *row).collect();
        assert_eq!(rows, [0, 2, 3]);
    }
}
