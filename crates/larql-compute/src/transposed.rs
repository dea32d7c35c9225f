//! Matrix products with the transposed matrix, as the backward pass of [`matmul`](crate::matmul) needs them.

use crate::kernels::{Isa, PANEL_ROWS, Tile};
use crate::product::Columns;
use crate::{MatRef, Pool};

/// `out = input x weights`, where [`matmul`](crate::matmul) is `input x weights^T`: what gradients of a product's
/// output, `[batch, rows]`, are for its input, `[batch, cols]`. Exact in the same sense as
/// [`Precision::Exact`](crate::Precision::Exact). Rows of weights whose inputs are all zero are not read.
///
/// # Panics
/// If `input` is not whole rows of `weights.rows()`, or `out` is not `[batch, cols]`.
pub fn matmul_transposed(pool: &Pool, weights: MatRef<'_>, input: &[f32], out: &mut [f32]) {
    let (all, width) = (weights.rows(), weights.cols());
    assert!(all > 0 && input.len().is_multiple_of(all), "{} values in rows of {all}", input.len());
    assert_eq!(out.len(), input.len() / all * width, "output has the wrong size");
    let rows: Vec<usize> =
        (0..all).filter(|row| input[*row..].iter().step_by(all).any(|x| *x != 0.0)).collect();
    if rows.is_empty() {
        out.fill(0.0);
        return;
    }
    let gathered: Vec<f32>;
    let x = if rows.len() == all {
        input
    } else {
        gathered = input.chunks_exact(all).flat_map(|x| rows.iter().map(|row| x[*row])).collect();
        &gathered
    };
    let isa = Isa::best();
    let out = Columns::new(out, width);
    pool.for_each_range(width, weights.format().block_len().max(PANEL_ROWS), |range| {
        Tile::default().multiply_columns(isa, (weights, &rows), range, x, |b, first, products| {
            // SAFETY: no two ranges overlap.
            unsafe { out.part(b, first..first + products.len()) }.copy_from_slice(products);
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, Matrix};

    #[test]
    fn equals_its_definition() {
        for (format, rows, cols, batch) in [
            (Format::F32, 7, 50, 3),
            (Format::Q4_0, 40, 96, 1),
            (Format::Q4_K, 1100, 512, 6),
            (Format::BF16, 3, 4, 5),
        ] {
            let values: Vec<f32> = (0..rows * cols).map(|i| ((i * 7919) % 97) as f32 / 48.0 - 1.0).collect();
            let mut bytes = Vec::new();
            format.encode(&values, &mut bytes).unwrap();
            let weights = Matrix::new(format, rows, cols, bytes.into()).unwrap();
            let decoded = weights.view().to_f32();
            // Every third row has weight zero.
            let x: Vec<f32> = (0..batch * rows)
                .map(|i| if i % rows % 3 == 1 { 0.0 } else { ((i * 31) % 17) as f32 - 8.0 })
                .collect();
            let mut out = vec![f32::NAN; batch * cols];
            matmul_transposed(&Pool::new(2), weights.view(), &x, &mut out);
            for (b, out) in out.chunks_exact(cols).enumerate() {
                for (c, out) in out.iter().enumerate() {
                    let term = |r: usize| f64::from(x[b * rows + r]) * f64::from(decoded[r * cols + c]);
                    let expected: f64 = (0..rows).map(term).sum();
                    assert!((f64::from(*out) - expected).abs() < 1e-2, "{format}: {out} for {expected}");
                }
            }
        }
    }

    #[test]
    fn an_empty_input_gives_an_empty_output() {
        let weights = Matrix::from_f32(2, 2, &[1.0; 4]).unwrap();
        let mut out = [5.0; 2];
        matmul_transposed(&Pool::new(1), weights.view(), &[0.0; 2], &mut out);
        assert_eq!(out, [0.0; 2]);
    }
}
