//! Weight rows that are multiplied at a time.

/// Rows that are multiplied at a time, so that what is loaded of the activations serves all of them and their
/// scales are converted together.
pub(crate) const ROWS: usize = 4;

/// Greatest number of activations that are multiplied with weights as soon as these are unpacked.
pub(crate) const ACTIVATIONS: usize = 4;

/// Up to [`ROWS`] rows of `row_len` blocks. Where rows are missing the last one is there again.
#[inline(always)]
pub(super) fn split<B>(rows: &[B], row_len: usize) -> [&[B]; ROWS] {
    let last = rows.len() / row_len - 1;
    // Written out, so that the compiler sees that all are equally long.
    [
        &rows[..row_len],
        &rows[last.min(1) * row_len..][..row_len],
        &rows[last.min(2) * row_len..][..row_len],
        &rows[last.min(3) * row_len..][..row_len],
    ]
}
