//! Weight rows that are multiplied at a time.

/// Rows that are multiplied at a time, so that what is loaded of the activations serves all of them and their
/// scales are converted together.
pub(crate) const ROWS: usize = 4;

/// The blocks that stand below each other in up to [`ROWS`] rows of `row_len` blocks. Where rows are missing the
/// last one is there again.
#[inline]
pub(super) fn columns<B>(rows: &[B], row_len: usize) -> impl Iterator<Item = [&B; ROWS]> {
    let last = rows.len() / row_len - 1;
    let [a, b, c, d] = std::array::from_fn(|r| &rows[r.min(last) * row_len..][..row_len]);
    a.iter().zip(b).zip(c).zip(d).map(|(((a, b), c), d)| [a, b, c, d])
}
