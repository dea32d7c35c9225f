//! Weight rows and activations that are multiplied at a time.

#[cfg(target_arch = "x86_64")]
use super::QuantisedRow;

/// Rows that are multiplied at a time, so that what is loaded of the activations serves all of them and their
/// scales are converted together.
pub(crate) const ROWS: usize = 4;

/// Greatest number of activations that are multiplied with weights as soon as these are unpacked.
pub(crate) const ACTIVATIONS: usize = 4;

/// The planes of up to `N` activations. In place of missing ones the last is there again.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn planes_of<'a, const PLANES: usize, const N: usize>(
    x: &[&'a [QuantisedRow]],
) -> [[&'a QuantisedRow; PLANES]; N] {
    assert!(x.len() <= N);
    std::array::from_fn(|n| std::array::from_fn(|plane| &x[n.min(x.len() - 1)][plane]))
}

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
