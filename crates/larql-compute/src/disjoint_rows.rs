//! One output, written by several threads at once.

use std::marker::PhantomData;

/// The rows of one output slice, handed out to threads that each write different ones.
pub(crate) struct DisjointRows<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only used through `row`, whose caller promises that no two threads use one row.
unsafe impl Sync for DisjointRows<'_> {}

impl<'a> DisjointRows<'a> {
    /// `out` as rows of `width` values.
    pub(crate) fn new(out: &'a mut [f32], width: usize) -> Self {
        DisjointRows { start: out.as_mut_ptr(), rows: out.len() / width, width, borrow: PhantomData }
    }

    /// One row, for writing.
    ///
    /// # Safety
    /// No other thread may hold the same row at the same time.
    #[allow(clippy::mut_from_ref, reason = "rows are disjoint by the caller's promise")]
    pub(crate) unsafe fn row(&self, row: usize) -> &mut [f32] {
        assert!(row < self.rows);
        // SAFETY: the row lies inside the borrowed slice, and is used by this caller alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.width), self.width) }
    }
}
