//! Whitening: coordinates in which a layer's feed-forward inputs on background text have the identity as second moment.

use crate::WhiteningError;

/// Map of inputs `x`, `[hidden]`, to `L^-1 x`, where `L L^T` is the second moment `E[x x^T]` on background text.
///
/// The second moment and not the covariance, because rows of a weight matrix have no bias: the mean stays a direction, and
/// serves as one.
#[derive(Clone, Debug)]
pub struct Whitening {
    /// Lower triangle, row by row: row `i` has `i + 1` numbers.
    factor: Vec<f64>,
    /// `L^-1 E[x]`
    mean: Vec<f64>,
}

impl Whitening {
    /// Measures inputs `[tokens, hidden]`. `shrinkage`, a share of the mean variance, is added to every direction, because
    /// few tokens estimate rare directions badly.
    ///
    /// # Errors
    /// If the inputs are not finite, so that there is no such factor.
    pub fn new(inputs: &[f32], hidden: usize, shrinkage: f64) -> Result<Whitening, WhiteningError> {
        let tokens = (inputs.len() / hidden).max(1) as f64;
        let (mut moment, mut mean) = (vec![0.0; hidden * (hidden + 1) / 2], vec![0.0; hidden]);
        for x in inputs.chunks_exact(hidden) {
            for i in 0..hidden {
                let xi = f64::from(x[i]) / tokens;
                mean[i] += xi;
                for (m, xj) in moment[row(i)].iter_mut().zip(x) {
                    *m += xi * f64::from(*xj);
                }
            }
        }
        let trace: f64 = (0..hidden).map(|i| moment[row(i)][i]).sum();
        let added = shrinkage * trace / hidden as f64;
        (0..hidden).for_each(|i| moment[row(i)][i] += added);
        let mut whitening = Whitening { factor: factorise(moment, hidden)?, mean: Vec::new() };
        whitening.solve(&mut mean);
        whitening.mean = mean;
        Ok(whitening)
    }

    /// Width of the inputs.
    pub fn hidden_size(&self) -> usize {
        self.mean.len()
    }

    /// Mean of the inputs, whitened: `[hidden]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Whitens an input, `[hidden]`.
    pub fn whiten(&self, x: &[f32]) -> WhitenedInput {
        let mut values: Vec<f64> = x.iter().copied().map(f64::from).collect();
        self.solve(&mut values);
        WhitenedInput { square: dot(&values, &values), values }
    }

    /// Direction `g`, `[hidden]`, for which `g . x` is the dot product of `white` with the whitened `x`: `L^-T white`.
    pub fn direction(&self, mut white: Vec<f64>) -> Vec<f32> {
        for i in (0..white.len()).rev() {
            let row = &self.factor[row(i)];
            white[i] /= row[i];
            let solved = white[i];
            white[..i].iter_mut().zip(row).for_each(|(w, l)| *w -= l * solved);
        }
        white.into_iter().map(|w| w as f32).collect()
    }

    /// `L^-1`, `[hidden, hidden]`: its product with an input is the whitened input.
    pub fn matrix(&self) -> Vec<f32> {
        let hidden = self.hidden_size();
        let mut matrix = vec![0.0; hidden * hidden];
        for column in 0..hidden {
            let mut unit = vec![0.0; hidden];
            unit[column] = 1.0;
            self.solve(&mut unit);
            let places = matrix[column..].iter_mut().step_by(hidden);
            places.zip(unit).for_each(|(place, value)| *place = value as f32);
        }
        matrix
    }

    fn solve(&self, x: &mut [f64]) {
        for i in 0..x.len() {
            let row = &self.factor[row(i)];
            x[i] = (x[i] - dot(&row[..i], &x[..i])) / row[i];
        }
    }
}

/// Input in whitened coordinates.
#[derive(Clone, Debug)]
pub struct WhitenedInput {
    values: Vec<f64>,
    square: f64,
}

impl WhitenedInput {
    /// Coordinates, `[hidden]`.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Squared norm.
    pub fn square(&self) -> f64 {
        self.square
    }

    /// Dot product with a direction in whitened coordinates, `[hidden]`.
    pub fn dot(&self, direction: &[f64]) -> f64 {
        dot(&self.values, direction)
    }
}

/// Range of row `i` in a lower triangle.
fn row(i: usize) -> std::ops::Range<usize> {
    i * (i + 1) / 2..(i + 1) * (i + 2) / 2
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // In lanes, so that it becomes vector code.
    let (mut lanes, a, b) = ([0.0; 8], a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.0.iter().zip(b.0) {
        (0..8).for_each(|i| lanes[i] += a[i] * b[i]);
    }
    lanes.iter().sum::<f64>() + a.1.iter().zip(b.1).map(|(a, b)| a * b).sum::<f64>()
}

/// The Cholesky factor of a symmetric matrix given by its lower triangle.
fn factorise(mut matrix: Vec<f64>, size: usize) -> Result<Vec<f64>, WhiteningError> {
    for i in 0..size {
        let (done, rest) = matrix.split_at_mut(row(i).start);
        let own = &mut rest[..=i];
        for j in 0..i {
            let other = &done[row(j)];
            own[j] = (own[j] - dot(&own[..j], &other[..j])) / other[j];
        }
        let left = own[i] - dot(&own[..i], &own[..i]);
        if !(left > 0.0 && left.is_finite()) {
            return Err(WhiteningError);
        }
        own[i] = left.sqrt();
    }
    Ok(matrix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitened_inputs_have_the_identity_as_second_moment() {
        // Two directions of different strength, around a mean.
        let inputs: Vec<f32> =
            (0..400).flat_map(|i| [5.0 + (i % 20) as f32, 1.0 - (i / 20) as f32]).collect();
        let whitening = Whitening::new(&inputs, 2, 0.0).unwrap();
        let mut moment = [0.0; 3];
        for x in inputs.chunks_exact(2) {
            let white = whitening.whiten(x);
            let white = white.values();
            let products = [white[0] * white[0], white[0] * white[1], white[1] * white[1]];
            moment.iter_mut().zip(products).for_each(|(m, p)| *m += p / 400.0);
            // A product of white vectors is that of an input with a direction.
            let direction = whitening.direction(vec![0.3, -0.2]);
            let found = f64::from(direction[0] * x[0] + direction[1] * x[1]);
            assert!((found - (0.3 * white[0] - 0.2 * white[1])).abs() < 1e-4);
        }
        for (found, expected) in moment.iter().zip([1.0, 0.0, 1.0]) {
            assert!((found - expected).abs() < 1e-9, "{moment:?}");
        }
    }

    #[test]
    fn inputs_without_numbers_are_refused() {
        assert!(Whitening::new(&[f32::NAN, 1.0], 2, 0.1).is_err());
        assert!(Whitening::new(&[0.0; 2], 2, 0.1).is_err());
    }
}
