//! Sums of a few columns of an encoded matrix.

use std::ops::Range;

use crate::kernels::Isa;
use crate::{MatRef, Pool};

/// Columns that are read together at least: what is next to a float costs no more than the float alone.
const GRANULE: usize = 32;

/// Adds to `out`, `[rows]`, the sum of the given columns of `weights`, `[rows, cols]`, each times its coefficient.
/// It is the product with an activation row that is zero everywhere else, and exact in the same sense as
/// [`matmul`](crate::matmul) is with [`Precision::Exact`](crate::Precision::Exact).
///
/// Of every row those blocks are read and decoded that hold a given column, so a column of a format with blocks
/// of 256 costs as much as 256 neighbouring ones.
///
/// # Panics
/// If there are not as many coefficients as columns, a column does not exist, or `out` is not as long as there
/// are rows.
pub fn accumulate_columns(
    pool: &Pool,
    weights: MatRef<'_>,
    columns: &[usize],
    coefficients: &[f32],
    out: &mut [f32],
) {
    assert_eq!(columns.len(), coefficients.len(), "columns and coefficients differ in number");
    assert_eq!(out.len(), weights.rows(), "output has the wrong size");
    let (isa, format) = (Isa::best(), weights.format());
    let runs = runs(weights.cols(), format.block_len().max(GRANULE), columns, coefficients);
    pool.for_each_piece(out, 1, |start, out| {
        for (i, out) in out.iter_mut().enumerate() {
            for (range, x) in &runs {
                *out += isa.dot_decoded(format, weights.row_part(start + i, range.clone()), x);
            }
        }
    });
}

/// The coefficients with zeros between them, in runs of columns that begin at multiples of `granule`.
fn runs(
    width: usize,
    granule: usize,
    columns: &[usize],
    coefficients: &[f32],
) -> Vec<(Range<usize>, Vec<f32>)> {
    let mut sorted: Vec<(usize, f32)> = columns.iter().copied().zip(coefficients.iter().copied()).collect();
    sorted.sort_by_key(|(column, _)| *column);
    let mut runs: Vec<(Range<usize>, Vec<f32>)> = Vec::new();
    for (column, coefficient) in sorted {
        assert!(column < width, "column {column} of a matrix with {width} columns");
        let start = column / granule * granule;
        let end = (start + granule).min(width);
        match runs.last_mut() {
            Some((range, x)) if range.end >= start => {
                range.end = end;
                x.resize(range.len(), 0.0);
            }
            _ => runs.push((start..end, vec![0.0; end - start])),
        }
        if let Some((range, x)) = runs.last_mut() {
            x[column - range.start] += coefficient;
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, Matrix};

    #[test]
    fn only_the_given_columns_count() {
        let (rows, cols) = (6, 771);
        let values: Vec<f32> = (0..rows * cols).map(|i| (i % 97) as f32 - 48.0).collect();
        let columns = [770, 3, 40, 500, 3, 41];
        let coefficients = [1.0, 2.0, -1.0, 0.5, 1.0, 4.0];
        for (format, cols) in [(Format::F32, cols), (Format::BF16, cols), (Format::Q8_0, 768)] {
            let mut bytes = Vec::new();
            format.encode(&values[..rows * cols], &mut bytes).unwrap();
            let weights = Matrix::new(format, rows, cols, bytes.into()).unwrap();
            let decoded = weights.view().to_f32();
            let columns = columns.map(|column: usize| column.min(cols - 1));
            let mut out = vec![10.0; rows];
            accumulate_columns(&Pool::new(2), weights.view(), &columns, &coefficients, &mut out);
            for (r, out) in out.iter().enumerate() {
                let terms = columns.iter().zip(coefficients).map(|(c, k)| k * decoded[r * cols + c]);
                assert!((10.0 + terms.sum::<f32>() - out).abs() < 1e-3, "{format} row {r}");
            }
        }
    }

    #[test]
    fn no_columns_add_nothing() {
        let weights = Matrix::from_f32(2, 2, &[1.0; 4]).unwrap();
        let mut out = [5.0, 6.0];
        accumulate_columns(&Pool::new(1), weights.view(), &[], &[], &mut out);
        assert_eq!(out, [5.0, 6.0]);
    }
}
