//! Quantised matrices as blocks that can be computed with.
//!
//! Codes that are integers keep their places where whole blocks of 32 share a scale and a zero point: 4 bits around the
//! middle become [`Format::Q4_0`], other codes of up to 4 bits [`Format::Q4_1`], signed codes of 8 bits [`Format::Q8_0`].
//! Scales, and the values of code 0 in `Q4_1`, are rounded to halves, which changes values by 1/2048 of themselves (or of the
//! value of code 0); [`Format::AFFINE8`] holds what halves do not reach. All other values are rounded to `Q8_0`.

use larql_compute::{ComputeError, Format, Matrix};

use super::levels::Levels;
use super::{Factor, Quantised};
use crate::ModelError;

/// Values in a block of the formats that are written.
const BLOCK: usize = 32;
/// The smallest half with all of its precision.
const SMALLEST_HALF: f32 = 6.103_515_6e-5;
const LARGEST_HALF: f32 = 65504.0;

/// Some outputs of a matrix in the nearest block format.
pub(super) fn rows(
    matrix: &Quantised,
    outputs: impl ExactSizeIterator<Item = usize> + Clone,
) -> Result<Matrix, ModelError> {
    let is_whole = matrix.groups.size(matrix.inputs).is_some_and(|size| size.is_multiple_of(BLOCK));
    let keeps_codes = matches!(matrix.levels, Levels::Integers) && is_whole;
    let (count, cols) = (outputs.len(), matrix.inputs);
    let (format, bytes) = match keeps_codes && cols.is_multiple_of(BLOCK) {
        true => with_codes(matrix, outputs)?,
        false => rounded(matrix, outputs)?,
    };
    Matrix::new(format, count, cols, bytes.into()).map_err(|source| failed(matrix, source))
}

/// Blocks with the codes of the source.
fn with_codes(
    matrix: &Quantised,
    outputs: impl Iterator<Item = usize> + Clone,
) -> Result<(Format, Vec<u8>), ModelError> {
    let mut choice = Choice::new(matrix.codes.bits);
    for output in outputs.clone() {
        matrix.factors(output)?.into_iter().for_each(|factor| choice.look_at(factor));
    }
    let format = choice.format();
    let describe = |source| failed(matrix, source);
    let mut bytes = Vec::new();
    let mut codes = vec![0; matrix.inputs];
    for output in outputs {
        matrix.row_of_codes(output, &mut codes);
        let factors = matrix.factors(output)?;
        for (index, codes) in codes.as_chunks::<BLOCK>().0.iter().enumerate() {
            let Factor { scale, zero } = factors[matrix.groups.of(output, index * BLOCK, matrix.inputs)];
            match format {
                Format::Q4_0 => {
                    put_halves(&[scale], &mut bytes).map_err(describe)?;
                    // The middle of Q4_0's codes is 8.
                    let shifted = codes.map(|code| (f32::from(code) - zero + 8.0) as u8);
                    put_nibbles(&shifted, &mut bytes);
                }
                Format::Q4_1 => {
                    put_halves(&[scale, -scale * zero], &mut bytes).map_err(describe)?;
                    put_nibbles(codes, &mut bytes);
                }
                Format::Q8_0 => {
                    put_halves(&[scale], &mut bytes).map_err(describe)?;
                    bytes.extend(codes.map(|code| (f32::from(code) - zero) as i8 as u8));
                }
                _ => {
                    bytes.extend(scale.to_le_bytes());
                    bytes.extend((-scale * zero).to_le_bytes());
                    bytes.extend(codes);
                }
            }
        }
    }
    Ok((format, bytes))
}

/// Blocks of rounded values; rows that are no whole number of blocks are halves, or floats where halves do not reach.
fn rounded(
    matrix: &Quantised,
    outputs: impl Iterator<Item = usize>,
) -> Result<(Format, Vec<u8>), ModelError> {
    let format = if matrix.inputs.is_multiple_of(BLOCK) { Format::Q8_0 } else { Format::BF16 };
    let (mut values, mut bytes) = (vec![0.0; matrix.inputs], Vec::new());
    for output in outputs {
        matrix.values(output, &mut values)?;
        format.encode(&values, &mut bytes).map_err(|source| failed(matrix, source))?;
    }
    Ok((format, bytes))
}

/// The format that holds codes with the factors seen so far.
struct Choice {
    /// Codes that the bits allow.
    codes: f32,
    /// True if all zero points are such that codes less them fit.
    is_centred: [bool; 2],
    /// True if halves hold the scales, and the values of code 0.
    in_halves: [bool; 2],
}

impl Choice {
    fn new(bits: usize) -> Choice {
        Choice { codes: (1 << bits) as f32, is_centred: [true; 2], in_halves: [true; 2] }
    }

    fn look_at(&mut self, Factor { scale, zero }: Factor) {
        for (is_centred, middle) in self.is_centred.iter_mut().zip([8.0, 128.0]) {
            *is_centred &= zero <= middle && self.codes - zero <= middle;
        }
        let fits = |value: f32| value == 0.0 || (SMALLEST_HALF..=LARGEST_HALF).contains(&value.abs());
        self.in_halves[0] &= fits(scale);
        self.in_halves[1] &= fits(scale * zero);
    }

    fn format(&self) -> Format {
        let ([of_4_bits, of_8_bits], [scales, minima]) = (self.is_centred, self.in_halves);
        match self.codes <= 16.0 {
            true if of_4_bits && scales => Format::Q4_0,
            true if scales && minima => Format::Q4_1,
            _ if of_8_bits && scales => Format::Q8_0,
            _ => Format::AFFINE8,
        }
    }
}

fn put_halves(values: &[f32], bytes: &mut Vec<u8>) -> Result<(), ComputeError> {
    Format::F16.encode(values, bytes)
}

/// Codes of 4 bits as ggml packs them: code `i` in the lower half of byte `i`, code `i + 16` in the upper one.
fn put_nibbles(codes: &[u8; BLOCK], bytes: &mut Vec<u8>) {
    bytes.extend((0..BLOCK / 2).map(|i| codes[i] | codes[i + BLOCK / 2] << 4));
}

fn failed(matrix: &Quantised, source: ComputeError) -> ModelError {
    ModelError::Tensor { path: matrix.origin.file.clone(), tensor: matrix.origin.codes.clone(), source }
}
