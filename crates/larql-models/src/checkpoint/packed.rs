//! MXFP4 as GPT-OSS checkpoints store it, blocks and scales in two tensors, in the order of ggml.

use larql_compute::Format;

/// Matrices in MXFP4, one after the other: of every row, groups of 32 values.
pub(crate) struct Packed<'a> {
    /// Sixteen bytes a group: value `2 b` in the low half of byte `b`, value `2 b + 1` in the high one.
    pub(crate) blocks: &'a [u8],
    /// A byte a group.
    pub(crate) scales: &'a [u8],
    /// Groups a row.
    pub(crate) groups: usize,
}

/// Code bytes of a group.
const CODES: usize = 16;

impl Packed<'_> {
    /// The given rows as [`Format::MXFP4`] has them: the scale, then sixteen bytes with value `j` in the low half of
    /// byte `j` and value `j + 16` in the high one. No value changes.
    ///
    /// # Panics
    /// If there is no such row.
    pub(crate) fn rows(&self, rows: impl ExactSizeIterator<Item = usize>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(rows.len() * self.groups * Format::MXFP4.block_bytes());
        for row in rows {
            for group in row * self.groups..(row + 1) * self.groups {
                let codes = &self.blocks[group * CODES..][..CODES];
                let code = |value: usize| (codes[value / 2] >> (value % 2 * 4)) & 15;
                bytes.push(self.scales[group]);
                bytes.extend((0..CODES).map(|j| code(j) | (code(j + CODES) << 4)));
            }
        }
        bytes
    }
}

/// The reverse: from values in the order of [`Format::MXFP4`] the blocks and the scales that hold them apart.
pub(crate) fn apart(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut blocks, mut scales) = (Vec::new(), Vec::new());
    for group in bytes.chunks_exact(Format::MXFP4.block_bytes()) {
        let code = |value: usize| (group[1 + value % CODES] >> (value / CODES * 4)) & 15;
        scales.push(group[0]);
        blocks.extend((0..CODES).map(|byte| code(2 * byte) | (code(2 * byte + 1) << 4)));
    }
    (blocks, scales)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_places() {
        let code = |value: usize, row: usize| ((value + row) % 16) as u8;
        let codes = |row| (0..CODES).map(move |b| code(2 * b, row) | (code(2 * b + 1, row) << 4));
        let blocks: Vec<u8> = (0..3).flat_map(codes).collect();
        let packed = Packed { blocks: &blocks, scales: &[127, 128, 129], groups: 1 };
        let bytes = packed.rows([2, 0].into_iter());
        assert_eq!(
            apart(&bytes),
            (blocks[32..].iter().chain(&blocks[..16]).copied().collect(), vec![129, 127])
        );
        let mut values = [0.0; 64];
        Format::MXFP4.decode(&bytes, &mut values);
        let magnitudes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        for (i, value) in values.into_iter().enumerate() {
            let (row, scale) = if i < 32 { (2, 4.0) } else { (0, 1.0) };
            let code = usize::from(code(i % 32, row));
            let sign = if code < 8 { scale } else { -scale };
            assert_eq!(value, sign * magnitudes[code % 8], "value {i}");
        }
    }
}
