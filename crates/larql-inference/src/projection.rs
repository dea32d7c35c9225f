//! A matrix with its bias.

use larql_compute::{Activations, Matmul, Matrix, Pool, Precision, matmul, matmul_each};

/// A matrix with the bias that is added to its product.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    /// `[rows, cols]`
    pub(crate) weight: Matrix,
    /// `[rows]`
    pub(crate) bias: Option<Vec<f32>>,
}

impl Projection {
    /// `input x weight^T + bias`: `[tokens, rows]`.
    pub(crate) fn product(&self, pool: &Pool, input: &Activations<'_>, precision: Precision) -> Vec<f32> {
        let mut out = vec![0.0; input.batch() * self.weight.rows()];
        self.product_into(pool, input, precision, &mut out);
        out
    }

    /// [`Projection::product`] into a slice of that size.
    pub(crate) fn product_into(
        &self,
        pool: &Pool,
        input: &Activations<'_>,
        precision: Precision,
        out: &mut [f32],
    ) {
        matmul(pool, self.weight.view(), input, precision, out);
        self.add_bias(out);
    }

    /// Adds the bias, if there is one, to each row of `out`, `[tokens, rows]`.
    pub(crate) fn add_bias(&self, out: &mut [f32]) {
        if let Some(bias) = &self.bias {
            out.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
        }
    }
}

/// The products of several projections that read the same input, each `[tokens, rows]`.
pub(crate) fn products<const N: usize>(
    pool: &Pool,
    projections: [&Projection; N],
    input: &Activations<'_>,
    precision: Precision,
) -> [Vec<f32>; N] {
    let mut out = projections.map(|projection| vec![0.0; input.batch() * projection.weight.rows()]);
    let products = projections.iter().zip(&mut out);
    let products = products.map(|(projection, out)| Matmul { weights: projection.weight.view(), input, out });
    matmul_each(pool, products, precision);
    projections.iter().zip(&mut out).for_each(|(projection, out)| projection.add_bias(out));
    out
}

/// Adds `values` to `to`.
pub(crate) fn add(to: &mut [f32], values: &[f32]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
}
