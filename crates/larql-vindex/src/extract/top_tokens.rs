//! The tokens that each feature writes most: its down vector times every row of the output head.
//!
//! For a layer that is a product of `[features, hidden]` with `[vocab, hidden]`, far too large to hold and most of
//! an extraction's work. It is done for a tile of the vocabulary at a time, in 8 bits, which is several times
//! faster than in f32; and since the error of 8 bits is bounded, only the few tokens that may beat a feature's
//! weakest remembered one are scored again, exactly. The result is that of exact scores throughout.

use std::ops::Range;

use larql_compute::vector::{dot, norm};
use larql_compute::{Activations, Format, MatRef, Matrix, Pool, Precision, matmul};

use crate::{TokenScore, VindexError};

/// Scores held at a time.
const TILE_SCORES: usize = 4 << 20;
/// Fewest and most rows of the head in a tile; a multiple of [`LANES`].
const TILE_ROWS: std::ops::RangeInclusive<usize> = 256..=4096;
/// Scores that are compared with the threshold together; one comparison rejects nearly all of them.
const LANES: usize = 32;
/// Bound on the rounding error of a product, as a share of the norms of its factors; the actual error is far
/// smaller.
const ROUNDING: f32 = 1e-4;

/// The `k` strongest tokens of every feature of a layer. `head` is `[vocab, hidden]`, `down` is
/// `[hidden, features]`; `after_tile` is called with the share of the work that a tile was.
pub(crate) fn top_tokens(
    pool: &Pool,
    head: &Matrix,
    down: MatRef<'_>,
    k: usize,
    mut after_tile: impl FnMut(f64) -> Result<(), VindexError>,
) -> Result<Vec<Vec<TokenScore>>, VindexError> {
    let (hidden, features) = (down.rows(), down.cols());
    let vectors = transposed(down);
    let activations = Activations::new(&vectors, hidden);
    let block_len = coarse_format(head).block_len();
    let mut searches: Vec<Search<'_>> =
        vectors.chunks_exact(hidden).map(|vector| Search::new(vector, block_len, k)).collect();
    let tile_rows = (TILE_SCORES / features).clamp(*TILE_ROWS.start(), *TILE_ROWS.end()) / LANES * LANES;
    let mut scores = vec![0.0; features * tile_rows.min(head.rows())];
    for start in (0..head.rows()).step_by(tile_rows) {
        let rows = start..(start + tile_rows).min(head.rows());
        let (tile, width) = (Tile::new(pool, head, rows.clone()), rows.len());
        let scores = &mut scores[..features * width];
        matmul(pool, tile.coarse.view(), &activations, Precision::Fast, scores);
        let scores = &*scores;
        pool.for_each_piece(&mut searches, 1, |first, searches| {
            let scores = scores[first * width..].chunks_exact(width);
            searches.iter_mut().zip(scores).for_each(|(search, scores)| search.look(&tile, scores));
        });
        after_tile(width as f64 / head.rows() as f64)?;
    }
    Ok(searches.into_iter().map(|search| search.strongest).collect())
}

/// A matrix `[rows, cols]` as `[cols, rows]` in f32.
fn transposed(matrix: MatRef<'_>) -> Vec<f32> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let mut out = vec![0.0; rows * cols];
    let mut values = vec![0.0; cols];
    for row in 0..rows {
        matrix.decode_row(row, &mut values);
        for (col, value) in values.iter().enumerate() {
            out[col * rows + row] = *value;
        }
    }
    out
}

/// The format in which rows of the head are multiplied: blocks as they are; floats as 8-bit blocks, where their
/// width allows.
fn coarse_format(head: &Matrix) -> Format {
    let fits = head.cols().is_multiple_of(Format::Q8_0.block_len());
    if head.format().is_float() && fits { Format::Q8_0 } else { head.format() }
}

/// Some rows of the head.
struct Tile {
    first_token: usize,
    hidden: usize,
    /// The rows exactly, `[rows, hidden]`.
    exact: Vec<f32>,
    /// The rows in a form that is multiplied fast.
    coarse: Matrix,
    /// For each group of [`LANES`] rows.
    bounds: Vec<Bounds>,
}

/// Bounds of a group of rows.
#[derive(Clone, Copy, Default)]
struct Bounds {
    /// The largest norm.
    norm: f32,
    /// The largest norm of the difference between exact and coarse rows.
    loss: f32,
}

impl Tile {
    fn new(pool: &Pool, head: &Matrix, tokens: Range<usize>) -> Tile {
        let (hidden, first_token, rows) = (head.cols(), tokens.start, tokens.len());
        let head = head.slice_rows(tokens);
        let mut exact = vec![0.0; rows * hidden];
        pool.for_each_piece(&mut exact, hidden, |start, exact| {
            for (row, values) in exact.chunks_exact_mut(hidden).enumerate() {
                head.view().decode_row(start / hidden + row, values);
            }
        });
        let format = coarse_format(&head);
        let coarse = if format == head.format() { head } else { encoded(pool, format, hidden, &exact) };
        let mut bounds = vec![Bounds::default(); rows.div_ceil(LANES)];
        pool.for_each_piece(&mut bounds, 1, |first, bounds| {
            let mut lost = vec![0.0; hidden];
            for (group, bounds) in bounds.iter_mut().enumerate() {
                let start = (first + group) * LANES;
                for row in start..(start + LANES).min(rows) {
                    let exact = &exact[row * hidden..][..hidden];
                    coarse.view().decode_row(row, &mut lost);
                    lost.iter_mut().zip(exact).for_each(|(value, exact)| *value -= exact);
                    bounds.norm = bounds.norm.max(norm(exact));
                    bounds.loss = bounds.loss.max(norm(&lost));
                }
            }
        });
        Tile { first_token, hidden, exact, coarse, bounds }
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.exact[row * self.hidden..][..self.hidden]
    }
}

/// Rows of `width` values in another format, whose blocks fill them.
fn encoded(pool: &Pool, format: Format, width: usize, values: &[f32]) -> Matrix {
    let mut rows = vec![Vec::new(); values.len() / width];
    pool.for_each_piece(&mut rows, 1, |first, rows| {
        for (row, values) in rows.iter_mut().zip(values[first * width..].chunks_exact(width)) {
            format.encode(values, row).expect("8-bit blocks can be encoded and fill the rows");
        }
    });
    Matrix::new(format, rows.len(), width, rows.concat().into()).expect("every row was encoded")
}

/// The search for the strongest tokens of one feature.
struct Search<'a> {
    vector: &'a [f32],
    norm: f32,
    /// Bound on the norm of what the vector loses in 8 bits.
    loss: f32,
    k: usize,
    /// Strongest first; of equal ones the first seen.
    strongest: Vec<TokenScore>,
    /// Score of the weakest kept token; a score must be greater.
    to_beat: f32,
}

impl<'a> Search<'a> {
    /// `block_len` is that of the format that the vector is multiplied with.
    fn new(vector: &'a [f32], block_len: usize, k: usize) -> Search<'a> {
        // A block's codes go up to 127 and are rounded to the nearest: each value is off by half a step at most.
        let half_step = |block: &[f32]| block.iter().fold(0.0, |m: f32, x| m.max(x.abs())) / 127.0 / 2.0;
        let squares = vector.chunks(block_len).map(|block| half_step(block).powi(2) * block.len() as f32);
        let loss = if block_len == 1 { 0.0 } else { squares.sum::<f32>().sqrt() };
        let to_beat = if k == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        Search { vector, norm: norm(vector), loss, k, strongest: Vec::with_capacity(k + 1), to_beat }
    }

    /// Goes through the coarse scores of a tile's tokens.
    fn look(&mut self, tile: &Tile, scores: &[f32]) {
        for (group, (scores, bounds)) in scores.chunks(LANES).zip(&tile.bounds).enumerate() {
            let margin = self.margin(*bounds);
            // Without a branch for each, so that many are compared at once. NaN, which comes from rows that are not
            // numbers, beats nothing.
            let any_may_beat = scores.iter().fold(false, |any, score| any | (score + margin > self.to_beat));
            if margin.is_finite() && !any_may_beat {
                continue;
            }
            for (lane, score) in scores.iter().enumerate() {
                if score + margin <= self.to_beat {
                    continue;
                }
                let row = group * LANES + lane;
                let score = dot(self.vector, tile.row(row));
                if score > self.to_beat {
                    self.insert(TokenScore { token: (tile.first_token + row) as u32, score });
                }
            }
        }
    }

    /// Bound on the distance of a coarse score from the exact one: with `d` the vector, `u` a row and `'` for their
    /// coarse forms, `|d.u - d'.u'| <= |d| |u - u'| + |d - d'| |u'|`, by the Cauchy-Schwarz inequality.
    fn margin(&self, row: Bounds) -> f32 {
        self.norm * row.loss + self.loss * (row.norm + row.loss) + ROUNDING * self.norm * row.norm
    }

    fn insert(&mut self, new: TokenScore) {
        let place = self.strongest.partition_point(|token| token.score >= new.score);
        self.strongest.insert(place, new);
        self.strongest.truncate(self.k);
        if self.strongest.len() == self.k {
            self.to_beat = self.strongest[self.k - 1].score;
        }
    }
}

#[cfg(test)]
mod tests {
    use larql_compute::top_k_by_value;
    use larql_testing::noise;

    use super::*;

    fn encode(format: Format, rows: usize, values: &[f32]) -> Matrix {
        let mut bytes = Vec::new();
        format.encode(values, &mut bytes).unwrap();
        Matrix::new(format, rows, values.len() / rows, bytes.into()).unwrap()
    }

    /// The definition, score by score.
    fn exactly(head: &Matrix, down: &Matrix, k: usize) -> Vec<Vec<TokenScore>> {
        let (head, vectors) = (head.view().to_f32(), transposed(down.view()));
        let best = |vector: &[f32]| {
            let scores: Vec<f32> = head.chunks_exact(vector.len()).map(|row| dot(vector, row)).collect();
            let best = top_k_by_value(&scores, k).into_iter();
            best.map(|(token, score)| TokenScore { token: token as u32, score }).collect()
        };
        vectors.chunks_exact(down.rows()).map(best).collect()
    }

    #[test]
    fn screening_changes_nothing() {
        let (vocab, features) = (5003, 37);
        for (hidden, formats) in [
            (256, &[Format::F32, Format::F16, Format::BF16, Format::Q8_0, Format::Q4_1, Format::Q6_K][..]),
            (40, &[Format::F32, Format::F16]),
        ] {
            let mut weights = noise(hidden * features, 1);
            // One feature with a value that dwarfs the others, one of zeros, and one that is no number.
            weights[5] *= 1000.0;
            for row in 0..hidden {
                weights[row * features + 7] = 0.0;
            }
            weights[9] = f32::NAN;
            let down = encode(Format::F32, hidden, &weights);
            for format in formats {
                let head = encode(*format, vocab, &noise(vocab * hidden, 2));
                for threads in [1, 3] {
                    let found = top_tokens(&Pool::new(threads), &head, down.view(), 10, |_| Ok(())).unwrap();
                    assert_eq!(found, exactly(&head, &down, 10), "{format}");
                }
            }
        }
    }

    #[test]
    fn few_candidates_are_scored_exactly() {
        let (vocab, hidden) = (20_000, 256);
        let head = encode(Format::F32, vocab, &noise(vocab * hidden, 3));
        let vector = noise(hidden, 4);
        let search = Search::new(&vector, 32, 10);
        let tile = Tile::new(&Pool::new(1), &head, 0..vocab);
        let spread = search.norm * tile.bounds[0].norm / (hidden as f32).sqrt();
        assert!(search.margin(tile.bounds[0]) < 0.5 * spread);
    }

    #[test]
    fn features_are_columns_of_down() {
        let head = Matrix::from_f32(3, 2, &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]).unwrap();
        let down = Matrix::from_f32(2, 2, &[3.0, -1.0, 1.0, 2.0]).unwrap();
        let mut done = 0.0;
        let found = top_tokens(&Pool::new(1), &head, down.view(), 2, |share| {
            done += share;
            Ok(())
        });
        let tokens: Vec<Vec<(u32, f32)>> =
            found.unwrap().iter().map(|f| f.iter().map(|t| (t.token, t.score)).collect()).collect();
        assert_eq!(tokens, [[(2, 4.0), (0, 3.0)], [(1, 2.0), (2, 1.0)]]);
        assert_eq!(done, 1.0);
    }
}
