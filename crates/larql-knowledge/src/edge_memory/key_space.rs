//! The coordinates in which residuals are compared: raw ones of unrelated prompts come near a cosine of 1.

use larql_compute::vector::normalise;
use larql_compute::{Activations, Matrix, Pool, Precision, matmul};
use larql_inference::Model;
use larql_inference::{Whitening, layer_inputs};

use crate::KnowledgeError;

/// Coordinates in which a layer's residuals on background text have mean 0, and every direction carries as much as every
/// other one. Residuals are here what the layer's feed-forward step reads.
#[derive(Clone, Debug)]
pub struct KeySpace {
    layer: usize,
    /// `[hidden, hidden]`
    whitening: Matrix,
    /// The mean of ordinary residuals, white.
    mean: Vec<f32>,
    /// Ordinary residuals in these coordinates, each of length 1: `[tokens, hidden]`.
    ordinary: Matrix,
}

/// Added to every direction of the residuals' second moment, as a share of the mean.
const SHRINKAGE: f64 = 0.03;

impl KeySpace {
    /// Runs ordinary `texts` up to a layer.
    ///
    /// # Errors
    /// If a text is empty or has tokens of another model, or there is too little text.
    pub fn measure(model: &Model, layer: usize, texts: &[Vec<u32>]) -> Result<KeySpace, KnowledgeError> {
        let hidden = model.spec().hidden_size;
        let inputs = layer_inputs(model, layer, texts)?.concat();
        let whitening = Whitening::new(&inputs, hidden, SHRINKAGE)?;
        let mean = whitening.mean().iter().map(|m| *m as f32).collect();
        let nothing = Matrix::from_f32(0, hidden, &[])?;
        let whitening = Matrix::from_f32(hidden, hidden, &whitening.matrix())?;
        let mut space = KeySpace { layer, whitening, mean, ordinary: nothing };
        let ordinary = space.directions(model.pool(), &inputs);
        space.ordinary = Matrix::from_f32(ordinary.len() / hidden, hidden, &ordinary)?;
        Ok(space)
    }

    /// The layer.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// Width of residuals.
    pub fn hidden_size(&self) -> usize {
        self.mean.len()
    }

    /// Residuals `[n, hidden]` in these coordinates, each of length 1.
    pub fn directions(&self, pool: &Pool, residuals: &[f32]) -> Vec<f32> {
        let hidden = self.mean.len();
        let mut white = vec![0.0; residuals.len()];
        let residuals = Activations::new(residuals, hidden);
        matmul(pool, self.whitening.view(), &residuals, Precision::Exact, &mut white);
        for row in white.chunks_exact_mut(hidden) {
            row.iter_mut().zip(&self.mean).for_each(|(w, m)| *w -= m);
            normalise(row);
        }
        white
    }

    /// For each of `directions`, `[n, hidden]`, the greatest cosine below `limit` with a token of the background text:
    /// `[n]`.
    pub fn nearest_ordinary(&self, pool: &Pool, directions: &[f32], limit: f32) -> Vec<f32> {
        greatest_cosines(pool, &self.ordinary, directions, |_, _, cosine| cosine < limit)
    }
}

/// For each of `directions`, `[n, hidden]`, the greatest cosine with a row of `rows`, `[m, hidden]`, that counts: `[n]`.
/// `counts` is told which direction, which row, and their cosine.
pub fn greatest_cosines(
    pool: &Pool,
    rows: &Matrix,
    directions: &[f32],
    counts: impl Fn(usize, usize, f32) -> bool,
) -> Vec<f32> {
    const BATCH: usize = 64;
    let hidden = rows.cols();
    let mut greatest = Vec::with_capacity(directions.len() / hidden);
    for batch in directions.chunks(BATCH * hidden) {
        let batch = Activations::new(batch, hidden);
        let mut cosines = vec![0.0; batch.batch() * rows.rows()];
        matmul(pool, rows.view(), &batch, Precision::Exact, &mut cosines);
        for cosines in cosines.chunks_exact(rows.rows()) {
            let own = greatest.len();
            let counted = cosines.iter().enumerate().filter(|(row, cosine)| counts(own, *row, **cosine));
            greatest.push(counted.map(|(_, cosine)| *cosine).fold(-1.0, f32::max));
        }
    }
    greatest
}
