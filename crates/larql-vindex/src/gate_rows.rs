//! The gate rows of a layer, in the order in which its features are numbered.

use std::sync::OnceLock;

use larql_compute::{
    Activations, Format, Matrix, Pool, Precision, matmul, row_lengths, top_k_by_magnitude, top_k_rows,
};

/// The gate rows of a layer, `[features, hidden]`, in one piece or, in a mixture, one for each expert and one for the
/// step that every token passes.
#[derive(Clone, Debug, Default)]
pub(crate) struct GateRows {
    pieces: Vec<Matrix>,
    /// Lengths of the rows of each piece, measured at the first search.
    lengths: Vec<OnceLock<Vec<f32>>>,
}

impl GateRows {
    pub(crate) fn new(pieces: Vec<Matrix>) -> GateRows {
        GateRows { lengths: vec![OnceLock::new(); pieces.len()], pieces }
    }

    /// The pieces, in the order in which features are numbered.
    pub(crate) fn pieces(&self) -> &[Matrix] {
        &self.pieces
    }

    /// Number of features; none if the rows are not held.
    pub(crate) fn features(&self) -> usize {
        self.pieces.iter().map(Matrix::rows).sum()
    }

    /// Format of the rows.
    pub(crate) fn format(&self) -> Option<Format> {
        self.pieces.first().map(Matrix::format)
    }

    /// The product of queries with every row; `out` is `[n, features]`. `query_of` gives the queries, `[n, hidden]`,
    /// for a piece, by its number.
    pub(crate) fn scores<'a>(
        &self,
        pool: &Pool,
        query_of: impl Fn(usize) -> &'a Activations<'a>,
        out: &mut [f32],
    ) {
        if let [whole] = self.pieces.as_slice() {
            return matmul(pool, whole.view(), query_of(0), Precision::Exact, out);
        }
        let features = self.features();
        let mut first = 0;
        for (index, piece) in self.pieces.iter().enumerate() {
            let queries = query_of(index);
            let mut scores = vec![0.0; queries.batch() * piece.rows()];
            matmul(pool, piece.view(), queries, Precision::Exact, &mut scores);
            for (scores, out) in scores.chunks_exact(piece.rows()).zip(out.chunks_exact_mut(features)) {
                out[first..first + piece.rows()].copy_from_slice(scores);
            }
            first += piece.rows();
        }
    }

    /// The `k` features whose rows have the largest products with a query, by magnitude, with the products; strongest first.
    /// `query_of` gives the query, `[1, hidden]`, for a piece.
    pub(crate) fn strongest<'a>(
        &self,
        pool: &Pool,
        query_of: impl Fn(usize) -> &'a Activations<'a>,
        k: usize,
    ) -> Vec<(usize, f32)> {
        let mut strongest = Vec::new();
        let mut first = 0;
        for (index, (piece, lengths)) in self.pieces.iter().zip(&self.lengths).enumerate() {
            let lengths = lengths.get_or_init(|| row_lengths(pool, piece.view()));
            let of_piece = top_k_rows(pool, piece.view(), lengths, query_of(index), k);
            strongest.extend(of_piece.into_iter().map(|(row, score)| (first + row, score)));
            first += piece.rows();
        }
        if self.pieces.len() > 1 {
            let scores: Vec<f32> = strongest.iter().map(|(_, score)| *score).collect();
            strongest =
                top_k_by_magnitude(&scores, k).into_iter().map(|(index, _)| strongest[index]).collect();
        }
        strongest
    }

    /// Writes one row to `out`, `[hidden]`.
    ///
    /// # Panics
    /// If there is no such row, or `out` has the wrong length.
    pub(crate) fn decode_row(&self, feature: usize, out: &mut [f32]) {
        let mut row = feature;
        for piece in &self.pieces {
            match row.checked_sub(piece.rows()) {
                None => return piece.view().decode_row(row, out),
                Some(rest) => row = rest,
            }
        }
        panic!("feature {feature} of a layer that has {}", self.features());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_one_list_of_rows() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let whole = GateRows::new(vec![Matrix::from_f32(3, 2, &values).unwrap()]);
        let piece =
            |range: std::ops::Range<usize>| Matrix::from_f32(range.len() / 2, 2, &values[range]).unwrap();
        let pieces = GateRows::new(vec![piece(0..2), piece(2..6)]);
        let queries = Activations::new(&[1.0, 0.0, 1.0, -1.0], 2);
        let query = Activations::new(&[1.0, 0.0], 2);
        let scores = |rows: &GateRows| {
            let mut out = vec![0.0; 6];
            rows.scores(&Pool::new(1), |_| &queries, &mut out);
            out
        };
        assert_eq!(scores(&whole), [1.0, 3.0, 5.0, -1.0, -1.0, -1.0]);
        assert_eq!(scores(&pieces), scores(&whole));
        let strongest = |rows: &GateRows| rows.strongest(&Pool::new(1), |_| &query, 2);
        assert_eq!(strongest(&pieces), [(2, 5.0), (1, 3.0)]);
        assert_eq!(strongest(&whole), [(2, 5.0), (1, 3.0)]);
        let mut row = [0.0; 2];
        pieces.decode_row(2, &mut row);
        assert_eq!((row, pieces.features()), ([5.0, 6.0], 3));
    }
}
