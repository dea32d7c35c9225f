//! The tokens that each feature writes most: its down vector times every row of the output head.
//!
//! For a layer that is a product of `[features, hidden]` with `[vocab, hidden]`, far too large to hold: it is
//! computed for a tile of the vocabulary at a time, and of each tile only the scores that beat a feature's
//! weakest remembered one are kept, which after the first tiles are few.

use larql_compute::{Activations, MatRef, Pool, Precision, matmul};

use crate::{TokenScore, VindexError};

/// Scores held at a time.
const TILE_SCORES: usize = 4 << 20;
/// Fewest and most rows of the head in a tile.
const TILE_ROWS: std::ops::RangeInclusive<usize> = 256..=4096;
/// Scores that are compared with the threshold together; one comparison rejects nearly all of them.
const LANES: usize = 32;

/// The `k` strongest tokens of every feature of a layer. `head` is `[vocab, hidden]`, `down` is
/// `[hidden, features]`; `after_tile` is called with the share of the work that a tile was.
pub(crate) fn top_tokens(
    pool: &Pool,
    head: MatRef<'_>,
    down: MatRef<'_>,
    k: usize,
    mut after_tile: impl FnMut(f64) -> Result<(), VindexError>,
) -> Result<Vec<Vec<TokenScore>>, VindexError> {
    let (hidden, features) = (down.rows(), down.cols());
    let vectors = transposed(down);
    let vectors = Activations::new(&vectors, hidden);
    let tile_rows = (TILE_SCORES / features).clamp(*TILE_ROWS.start(), *TILE_ROWS.end());
    let mut strongest: Vec<Strongest> = (0..features).map(|_| Strongest::new(k)).collect();
    let mut scores = vec![0.0; features * tile_rows.min(head.rows())];
    for start in (0..head.rows()).step_by(tile_rows) {
        let tile = head.slice_rows(start..(start + tile_rows).min(head.rows()));
        let scores = &mut scores[..features * tile.rows()];
        matmul(pool, tile, &vectors, Precision::Exact, scores);
        let scores = &*scores;
        pool.for_each_piece(&mut strongest, 1, |first, strongest| {
            let rows = scores[first * tile.rows()..].chunks_exact(tile.rows());
            strongest.iter_mut().zip(rows).for_each(|(strongest, scores)| strongest.add(start, scores));
        });
        after_tile(tile.rows() as f64 / head.rows() as f64)?;
    }
    Ok(strongest.into_iter().map(|strongest| strongest.tokens).collect())
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

/// The strongest tokens so far, strongest first; of equal ones the first seen.
struct Strongest {
    k: usize,
    tokens: Vec<TokenScore>,
    /// A score must be greater to matter.
    to_beat: f32,
}

impl Strongest {
    fn new(k: usize) -> Strongest {
        let to_beat = if k == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        Strongest { k, tokens: Vec::with_capacity(k + 1), to_beat }
    }

    /// Adds the scores of consecutive tokens.
    fn add(&mut self, first_token: usize, scores: &[f32]) {
        for (lane, scores) in scores.chunks(LANES).enumerate() {
            // `max` passes over NaN, which never matters.
            if scores.iter().fold(f32::NEG_INFINITY, |largest, score| largest.max(*score)) <= self.to_beat {
                continue;
            }
            for (place, score) in scores.iter().enumerate() {
                if *score > self.to_beat {
                    self.insert(TokenScore {
                        token: (first_token + lane * LANES + place) as u32,
                        score: *score,
                    });
                }
            }
        }
    }

    fn insert(&mut self, new: TokenScore) {
        let place = self.tokens.partition_point(|token| token.score >= new.score);
        self.tokens.insert(place, new);
        self.tokens.truncate(self.k);
        if self.tokens.len() == self.k {
            self.to_beat = self.tokens[self.k - 1].score;
        }
    }
}

#[cfg(test)]
mod tests {
    use larql_compute::{Matrix, top_k_by_value};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_sorting_everything(
            scores in prop::collection::vec(prop_oneof![(-9i8..9).prop_map(f32::from), Just(f32::NAN)], 0..300),
            k in 0usize..12,
            cut in 0usize..300,
        ) {
            let cut = cut.min(scores.len());
            let mut strongest = Strongest::new(k);
            strongest.add(0, &scores[..cut]);
            strongest.add(cut, &scores[cut..]);
            let found: Vec<(usize, f32)> =
                strongest.tokens.iter().map(|token| (token.token as usize, token.score)).collect();
            prop_assert_eq!(found, top_k_by_value(&scores, k));
        }
    }

    #[test]
    fn features_are_columns_of_down() {
        let head = Matrix::from_f32(3, 2, &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]).unwrap();
        let down = Matrix::from_f32(2, 2, &[3.0, -1.0, 1.0, 2.0]).unwrap();
        let mut done = 0.0;
        let found = top_tokens(&Pool::new(1), head.view(), down.view(), 2, |share| {
            done += share;
            Ok(())
        });
        let tokens: Vec<Vec<(u32, f32)>> =
            found.unwrap().iter().map(|f| f.iter().map(|t| (t.token, t.score)).collect()).collect();
        assert_eq!(tokens, [[(2, 4.0), (0, 3.0)], [(1, 2.0), (2, 1.0)]]);
        assert_eq!(done, 1.0);
    }
}
