//! The tokens that each feature writes most: its down vector times every row of the output head.
//!
//! For a layer that is a product of `[features, hidden]` with `[vocab, hidden]`, far too large to hold and most of
//! an extraction's work. It is done for a tile of the vocabulary at a time, in 8 bits, which is several times
//! faster than in f32; and since the error of 8 bits is bounded, only the few tokens that may beat a feature's
//! weakest remembered one are scored again, exactly. The result is that of exact scores throughout.

use larql_compute::vector::dot;
use larql_compute::{CoarsePanels, CoarseVectors, MatRef, Matrix, Pool};

use crate::{TokenScore, VindexError};

/// Values of a tile of the head, which is decoded at once: many, since all vectors are read for each tile.
const TILE_VALUES: usize = 3 << 21;
/// Rows of a tile: multiples of it, and at least as many.
const TILE_ROWS: usize = 32;

/// The `k` strongest tokens of every feature of a layer. `head` is `[vocab, hidden]`, `down` is
/// `[hidden, features]`; `after_tile` is called with the share of the work that a tile was.
pub(crate) fn top_tokens(
    pool: &Pool,
    head: &Matrix,
    down: MatRef<'_>,
    k: usize,
    after_tile: impl FnMut(f64) -> Result<(), VindexError>,
) -> Result<Vec<Vec<TokenScore>>, VindexError> {
    in_tiles(pool, head, down, k, TILE_VALUES, after_tile)
}

/// As [`top_tokens`], with tiles of about `tile_values`.
fn in_tiles(
    pool: &Pool,
    head: &Matrix,
    down: MatRef<'_>,
    k: usize,
    tile_values: usize,
    mut after_tile: impl FnMut(f64) -> Result<(), VindexError>,
) -> Result<Vec<Vec<TokenScore>>, VindexError> {
    let hidden = down.rows();
    let vectors = transposed(down);
    let coarse = CoarseVectors::new(pool, &vectors, hidden);
    let mut searches: Vec<Search<'_>> =
        vectors.chunks_exact(hidden).map(|vector| Search::new(vector, k)).collect();
    let tile_rows = (tile_values / hidden / TILE_ROWS * TILE_ROWS).max(TILE_ROWS);
    let mut exact = vec![0.0; tile_rows.min(head.rows()) * hidden];
    for first in (0..head.rows()).step_by(tile_rows) {
        let rows = first..(first + tile_rows).min(head.rows());
        let exact = &mut exact[..rows.len() * hidden];
        pool.for_each_piece(exact, hidden, |start, exact| {
            for (row, values) in (first + start / hidden..).zip(exact.chunks_exact_mut(hidden)) {
                head.view().decode_row(row, values);
            }
        });
        let tile = CoarsePanels::new(pool, exact, hidden);
        tile.for_each_candidate(
            pool,
            &coarse,
            &mut searches,
            |search| search.to_beat,
            |search, row| {
                search.look((first + row) as u32, &exact[row * hidden..][..hidden]);
            },
        );
        after_tile(rows.len() as f64 / head.rows() as f64)?;
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

/// The search for the strongest tokens of one feature.
struct Search<'a> {
    vector: &'a [f32],
    k: usize,
    /// Strongest first; of equal ones the first seen.
    strongest: Vec<TokenScore>,
    /// Score of the weakest kept token; a score must be greater.
    to_beat: f32,
}

impl<'a> Search<'a> {
    fn new(vector: &'a [f32], k: usize) -> Search<'a> {
        let to_beat = if k == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        Search { vector, k, strongest: Vec::with_capacity(k + 1), to_beat }
    }

    /// Scores a token exactly, of which `row` is the row of the head, and keeps it if it is among the strongest.
    fn look(&mut self, token: u32, row: &[f32]) {
        let score = dot(self.vector, row);
        if score > self.to_beat {
            self.insert(TokenScore { token, score });
        }
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
    use larql_compute::{Format, top_k_by_value};
    use larql_testing::noise;

    use super::*;

    fn encode(format: Format, rows: usize, values: &[f32]) -> Matrix {
        let mut bytes = Vec::new();
        format.encode(values, &mut bytes).unwrap();
        Matrix::new(format, rows, values.len() / rows, bytes.into()).unwrap()
    }

    /// The definition, score by score.
    fn exactly(head: &Matrix, down: MatRef<'_>, k: usize) -> Vec<Vec<TokenScore>> {
        let (head, vectors) = (head.view().to_f32(), transposed(down));
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
        // Several tiles, the last of which is not full.
        let tile_values = vocab * 40 / 3;
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
                    let (pool, down) = (Pool::new(threads), down.view());
                    let mut tiles = 0;
                    let found = in_tiles(&pool, &head, down, 10, tile_values, |_| {
                        tiles += 1;
                        Ok(())
                    });
                    assert!(tiles > 2);
                    let found = found.unwrap();
                    assert_eq!(found, exactly(&head, down, 10), "{format}");
                }
            }
        }
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
