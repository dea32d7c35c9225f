//! Floats that begin at a line of the cache.

use bytemuck::{Pod, Zeroable};

/// A buffer of floats that begins at a line of the cache, so that loads and stores of vectors never take two lines.
#[derive(Default)]
pub(crate) struct AlignedFloats(Vec<Line>);

/// As many floats as fill a line of the cache, aligned as it is.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [f32; Line::LEN]);

impl Line {
    const LEN: usize = 16;
}

impl AlignedFloats {
    /// Makes room for `len` floats and returns them; they may have any values.
    pub(crate) fn resized(&mut self, len: usize) -> &mut [f32] {
        self.0.resize(len.div_ceil(Line::LEN), Line::zeroed());
        &mut bytemuck::cast_slice_mut(&mut self.0)[..len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_a_line_of_the_cache_and_is_as_long_as_asked_for() {
        let mut floats = AlignedFloats::default();
        for len in [0, 1, 16, 100, 3] {
            let floats = floats.resized(len);
            assert_eq!((floats.len(), floats.as_ptr().addr() % 64), (len, 0));
        }
    }
}
