//! MLX's affine quantisation: codes of a few bits, and for each group of inputs a scale and a minimum.
//!
//! `X.weight` holds the codes, packed into 32-bit words from the lowest bit up; `X.scales` and `X.biases` are floats,
//! one a group; a value is `scale * code + bias` (`mlx.core.quantize`). Rows become blocks of 32, the smallest group
//! there is: [`Format::Q4_1`] where that says the same, else [`Format::AFFINE8`].

use larql_compute::{ComputeError, Format, Matrix};

/// Values in a block of both formats.
const BLOCK: usize = 32;

/// The three tensors of a matrix.
pub(super) struct Affine<'a> {
    /// `[outputs, inputs * bits / 8]` bytes.
    pub(super) codes: &'a [u8],
    /// `[outputs, groups]`
    pub(super) scales: Matrix,
    /// `[outputs, groups]`
    pub(super) minima: Matrix,
}

/// Packing of the inputs of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packing {
    /// Bits of a code, at most 8.
    pub(super) bits: usize,
    /// Inputs that share a scale, a multiple of 32.
    pub(super) group: usize,
    /// Format of scales and minima.
    pub(super) factors: Format,
}

impl Packing {
    /// Derives the packing from the widths of the tensors: `words` of codes and `groups` for `inputs`.
    pub(super) fn of(inputs: usize, words: usize, groups: usize, factors: Format) -> Option<Packing> {
        let divide = |a: usize, b: usize| (b > 0 && a.is_multiple_of(b)).then(|| a / b);
        let packing = Packing {
            bits: divide(words.checked_mul(32)?, inputs)?,
            group: divide(inputs, groups)?,
            factors,
        };
        let is_known = matches!(packing.bits, 2..=6 | 8) && packing.group.is_multiple_of(BLOCK);
        is_known.then_some(packing)
    }
}

impl Affine<'_> {
    /// Some of the rows in a block format.
    pub(super) fn rows(
        &self,
        packing: Packing,
        rows: impl ExactSizeIterator<Item = usize> + Clone,
    ) -> Result<Matrix, ComputeError> {
        let inputs = self.scales.cols() * packing.group;
        let count = rows.len();
        let mut blocks = Vec::with_capacity(count * inputs / BLOCK);
        let mut factors = vec![[0.0; 2]; self.scales.cols()];
        let (mut scales, mut minima) = (vec![0.0; factors.len()], vec![0.0; factors.len()]);
        for row in rows {
            self.scales.view().decode_row(row, &mut scales);
            self.minima.view().decode_row(row, &mut minima);
            for ((factors, scale), minimum) in factors.iter_mut().zip(&scales).zip(&minima) {
                *factors = [*scale, *minimum];
            }
            let codes = &self.codes[row * inputs * packing.bits / 8..][..inputs * packing.bits / 8];
            for first in (0..inputs).step_by(BLOCK) {
                let codes = std::array::from_fn(|i| code(codes, first + i, packing.bits));
                blocks.push((factors[first / packing.group], codes));
            }
        }
        let fits = packing.bits == 4 && blocks.iter().all(|(factors, _)| factors.iter().all(|f| is_half(*f)));
        let (format, bytes) = match fits {
            true => (Format::Q4_1, blocks.iter().flat_map(|(f, codes)| q4_1(*f, codes)).collect::<Vec<u8>>()),
            false => (Format::AFFINE8, blocks.iter().flat_map(|(f, codes)| affine8(*f, codes)).collect()),
        };
        Matrix::new(format, count, inputs, bytes.into())
    }
}

/// Code `index` of a row. Codes of 3 and 6 bits may begin in one byte and end in the next.
fn code(row: &[u8], index: usize, bits: usize) -> u8 {
    let (byte, shift) = (index * bits / 8, index * bits % 8);
    let next = row.get(byte + 1).copied().unwrap_or(0);
    let both = u16::from_le_bytes([row[byte], next]) >> shift;
    (both & ((1 << bits) - 1)) as u8
}

/// True if a number is the same in half precision.
fn is_half(value: f32) -> bool {
    half(value).is_some_and(|bytes| {
        let mut back = [0.0];
        Format::F16.decode(&bytes, &mut back);
        back[0] == value
    })
}

fn half(value: f32) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    Format::F16.encode(&[value], &mut bytes).ok().map(|()| bytes)
}

fn q4_1([scale, minimum]: [f32; 2], codes: &[u8; BLOCK]) -> Vec<u8> {
    let factors = [scale, minimum].into_iter().filter_map(half).flatten();
    factors.chain((0..16).map(|i| codes[i] | (codes[i + 16] << 4))).collect()
}

fn affine8([scale, minimum]: [f32; 2], codes: &[u8; BLOCK]) -> Vec<u8> {
    [&scale.to_le_bytes()[..], &minimum.to_le_bytes(), codes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of two groups of 32 whose codes are `(7 row + 5 input) mod 2^bits`.
    fn rows(bits: usize, scale: f32) -> (Matrix, Vec<f32>) {
        let code = |row: usize, input: usize| (7 * row + 5 * input) % (1 << bits);
        let mut bytes = vec![0u8; 2 * 64 * bits / 8];
        let mut expected = Vec::new();
        let factors = |row: usize, input: usize| [scale * (1 + row) as f32, (input / 32) as f32 - 0.5];
        for row in 0..2 {
            for input in 0..64 {
                for bit in 0..bits {
                    let at = (row * 64 + input) * bits + bit;
                    bytes[at / 8] |= ((code(row, input) >> bit & 1) << (at % 8)) as u8;
                }
                let [scale, minimum] = factors(row, input);
                expected.push(scale * code(row, input) as f32 + minimum);
            }
        }
        let group = |i: usize| factors(i / 2, i % 2 * 32);
        let floats = |part: usize| Matrix::from_f32(2, 2, &[0, 1, 2, 3].map(|i| group(i)[part])).unwrap();
        let affine = Affine { codes: &bytes, scales: floats(0), minima: floats(1) };
        (affine.rows(Packing { bits, group: 32, factors: Format::F32 }, 0..2).unwrap(), expected)
    }

    #[test]
    fn every_width_of_codes_is_unpacked() {
        for bits in [2, 3, 4, 5, 6, 8] {
            let (matrix, expected) = rows(bits, 0.25);
            assert_eq!(matrix.format(), if bits == 4 { Format::Q4_1 } else { Format::AFFINE8 });
            assert_eq!(matrix.view().to_f32(), expected, "{bits} bits");
        }
    }

    #[test]
    fn scales_that_halves_cannot_hold_stay_whole() {
        let (matrix, expected) = rows(4, 0.1);
        assert_eq!(matrix.format(), Format::AFFINE8);
        assert_eq!(matrix.view().to_f32(), expected);
    }
}
