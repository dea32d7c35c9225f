//! Buffers that begin at a line of the cache.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

/// As many floats as fill a line of the cache, aligned as it is.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [f32; 16]);

/// A vector that begins at a line of the cache, so that loads and stores of whole lines never take two.
pub(crate) struct AlignedVec<T> {
    lines: Vec<Line>,
    len: usize,
    values: PhantomData<T>,
}

impl<T: Pod> AlignedVec<T> {
    /// Sets the length. Values that are kept stay; new ones are zero, or what a greater length before left in the last line.
    pub(crate) fn resize(&mut self, len: usize) {
        self.lines.resize((len * size_of::<T>()).div_ceil(size_of::<Line>()), Line::zeroed());
        self.len = len;
    }

    /// The same as a slice of that length.
    pub(crate) fn resized(&mut self, len: usize) -> &mut [T] {
        self.resize(len);
        self
    }
}

impl<T> Default for AlignedVec<T> {
    fn default() -> Self {
        AlignedVec { lines: Vec::new(), len: 0, values: PhantomData }
    }
}

impl<T: Pod> Deref for AlignedVec<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&bytemuck::cast_slice::<_, u8>(&self.lines)[..self.len * size_of::<T>()])
    }
}

impl<T: Pod> DerefMut for AlignedVec<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        let bytes = self.len * size_of::<T>();
        bytemuck::cast_slice_mut(&mut bytemuck::cast_slice_mut::<_, u8>(&mut self.lines)[..bytes])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_a_line_of_the_cache_and_is_as_long_as_asked_for() {
        let mut floats = AlignedVec::<[f32; 3]>::default();
        assert_eq!(floats.len(), 0);
        for len in [0, 1, 16, 100, 3] {
            let floats = floats.resized(len);
            assert_eq!((floats.len(), floats.as_ptr().addr() % 64), (len, 0));
            floats.fill([1.0, 2.0, len as f32]);
            assert_eq!(floats.last(), [[1.0, 2.0, len as f32]][..len.min(1)].first());
        }
    }
}
