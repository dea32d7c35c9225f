//! From blocks to numbers and back: a file for each kind of block.
//!
//! Every block is a struct that lies in memory exactly as in a file, in bytes so that it needs no alignment.
//! The layouts are those of ggml's `ggml-common.h`.
#![allow(non_camel_case_types, reason = "blocks carry the names of their formats")]

mod affine8;
mod blocks_of_32;
mod float;
mod iq;
mod iq4;
mod iq_grids;
mod k_quants;
mod mxfp4;
mod search;
mod signed;
mod ternary;

use affine8::AFFINE8;
use bytemuck::Pod;

pub(crate) use blocks_of_32::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub(crate) use iq::{IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};
pub(crate) use iq4::{IQ4_NL, IQ4_VALUES, IQ4_XS};
pub(crate) use k_quants::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K};
pub(crate) use mxfp4::{DOUBLED_E2M1_VALUES, MXFP4};
pub(crate) use signed::SignedCodes;
pub(crate) use ternary::{TQ1_0, TQ2_0};

use crate::{ComputeError, Format};

/// The largest half-precision number. Values within it give finite scales in every block format.
const LARGEST_IN_BLOCKS: f32 = 65504.0;

/// A block of `LEN` values that can be read.
pub(crate) trait Block<const LEN: usize>: Pod {
    /// Writes the block's values to `out`. Any bytes are a block: what they cannot mean otherwise is NaN.
    fn decode(&self, out: &mut [f32; LEN]);
}

/// A block that can also be written.
pub(crate) trait EncodeBlock<const LEN: usize>: Block<LEN> {
    /// The block that stands for `values`: the nearest one by squared error, times the `importance` of each value where that
    /// is known and the format has a choice.
    fn encode(values: &[f32; LEN], importance: Option<&[f32; LEN]>) -> Self;
}

impl Format {
    /// Writes the values that `bytes` encode to `out`.
    ///
    /// # Panics
    /// If `bytes` are not as many as `out.len()` values take in this format.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(Ok(bytes.len()), self.row_bytes(out.len()), "decoding {self}");
        match self {
            Format::F32 => float::decode_f32(bytes, out),
            Format::F16 => float::decode_f16(bytes, out),
            Format::BF16 => float::decode_bf16(bytes, out),
            Format::Q4_0 => decode_blocks::<32, Q4_0>(bytes, out),
            Format::Q4_1 => decode_blocks::<32, Q4_1>(bytes, out),
            Format::Q5_0 => decode_blocks::<32, Q5_0>(bytes, out),
            Format::Q5_1 => decode_blocks::<32, Q5_1>(bytes, out),
            Format::Q8_0 => decode_blocks::<32, Q8_0>(bytes, out),
            Format::Q2_K => decode_blocks::<256, Q2_K>(bytes, out),
            Format::Q3_K => decode_blocks::<256, Q3_K>(bytes, out),
            Format::Q4_K => decode_blocks::<256, Q4_K>(bytes, out),
            Format::Q5_K => decode_blocks::<256, Q5_K>(bytes, out),
            Format::Q6_K => decode_blocks::<256, Q6_K>(bytes, out),
            Format::Q8_K => decode_blocks::<256, Q8_K>(bytes, out),
            Format::IQ4_NL => decode_blocks::<32, IQ4_NL>(bytes, out),
            Format::IQ4_XS => decode_blocks::<256, IQ4_XS>(bytes, out),
            Format::IQ2_XXS => decode_blocks::<256, IQ2_XXS>(bytes, out),
            Format::IQ2_XS => decode_blocks::<256, IQ2_XS>(bytes, out),
            Format::IQ2_S => decode_blocks::<256, IQ2_S>(bytes, out),
            Format::IQ3_XXS => decode_blocks::<256, IQ3_XXS>(bytes, out),
            Format::IQ3_S => decode_blocks::<256, IQ3_S>(bytes, out),
            Format::IQ1_S => decode_blocks::<256, IQ1_S>(bytes, out),
            Format::IQ1_M => decode_blocks::<256, IQ1_M>(bytes, out),
            Format::TQ1_0 => decode_blocks::<256, TQ1_0>(bytes, out),
            Format::TQ2_0 => decode_blocks::<256, TQ2_0>(bytes, out),
            Format::MXFP4 => decode_blocks::<32, MXFP4>(bytes, out),
            Format::AFFINE8 => decode_blocks::<32, AFFINE8>(bytes, out),
        }
    }

    /// Appends the encoding of `values` to `out`, which stays as it was if there is an error.
    ///
    /// # Errors
    /// [`ComputeError::PartialBlock`] if `values` are not whole blocks, [`ComputeError::NoEncoder`] if the
    /// format is only read, [`ComputeError::OutOfRange`] if a block format is given a value that is not finite
    /// or beyond the largest half-precision number (the float formats take any).
    pub fn encode(self, values: &[f32], out: &mut Vec<u8>) -> Result<(), ComputeError> {
        self.encode_by(values, None, out)
    }

    /// As [`Format::encode`], so that errors of important values are small at the cost of others. `importance` has a
    /// positive number for each value. Floats and formats with 8 bits ignore it.
    ///
    /// # Errors
    /// As [`Format::encode`].
    ///
    /// # Panics
    /// If there are not as many numbers in `importance` as values.
    pub fn encode_weighted(
        self,
        values: &[f32],
        importance: &[f32],
        out: &mut Vec<u8>,
    ) -> Result<(), ComputeError> {
        assert_eq!(values.len(), importance.len(), "importance of values");
        self.encode_by(values, Some(importance), out)
    }

    fn encode_by(
        self,
        values: &[f32],
        importance: Option<&[f32]>,
        out: &mut Vec<u8>,
    ) -> Result<(), ComputeError> {
        let bytes = self.row_bytes(values.len())?;
        let in_range = |value: &f32| (-LARGEST_IN_BLOCKS..=LARGEST_IN_BLOCKS).contains(value);
        if !self.is_float()
            && let Some((index, value)) = values.iter().enumerate().find(|(_, value)| !in_range(value))
        {
            return Err(ComputeError::OutOfRange { format: self, index, value: value.to_string() });
        }
        out.reserve(bytes);
        match self {
            Format::F32 => float::encode_f32(values, out),
            Format::F16 => float::encode_f16(values, out),
            Format::BF16 => float::encode_bf16(values, out),
            Format::Q4_0 => encode_blocks::<32, Q4_0>(values, importance, out),
            Format::Q4_1 => encode_blocks::<32, Q4_1>(values, importance, out),
            Format::Q5_0 => encode_blocks::<32, Q5_0>(values, importance, out),
            Format::Q5_1 => encode_blocks::<32, Q5_1>(values, importance, out),
            Format::Q8_0 => encode_blocks::<32, Q8_0>(values, importance, out),
            Format::Q2_K => encode_blocks::<256, Q2_K>(values, importance, out),
            Format::Q3_K => encode_blocks::<256, Q3_K>(values, importance, out),
            Format::Q4_K => encode_blocks::<256, Q4_K>(values, importance, out),
            Format::Q5_K => encode_blocks::<256, Q5_K>(values, importance, out),
            Format::Q6_K => encode_blocks::<256, Q6_K>(values, importance, out),
            Format::Q8_K => encode_blocks::<256, Q8_K>(values, importance, out),
            Format::IQ4_NL => encode_blocks::<32, IQ4_NL>(values, importance, out),
            Format::IQ4_XS => encode_blocks::<256, IQ4_XS>(values, importance, out),
            Format::MXFP4 => encode_blocks::<32, MXFP4>(values, importance, out),
            Format::IQ2_XXS
            | Format::IQ2_XS
            | Format::IQ2_S
            | Format::IQ3_XXS
            | Format::IQ3_S
            | Format::IQ1_S
            | Format::IQ1_M
            | Format::TQ1_0
            | Format::TQ2_0
            | Format::AFFINE8 => {
                return Err(ComputeError::NoEncoder { format: self });
            }
        }
        Ok(())
    }
}

fn decode_blocks<const LEN: usize, B: Block<LEN>>(bytes: &[u8], out: &mut [f32]) {
    let (values, _) = out.as_chunks_mut::<LEN>();
    for (block, values) in bytemuck::cast_slice::<u8, B>(bytes).iter().zip(values) {
        block.decode(values);
    }
}

fn encode_blocks<const LEN: usize, B: EncodeBlock<LEN>>(
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut Vec<u8>,
) {
    let importance = importance.map(|importance| importance.as_chunks::<LEN>().0);
    for (i, values) in values.as_chunks::<LEN>().0.iter().enumerate() {
        let block = B::encode(values, importance.map(|importance| &importance[i]));
        out.extend_from_slice(bytemuck::bytes_of(&block));
    }
}

/// The value farthest from zero, with its sign; the first of several.
fn extreme(values: &[f32]) -> f32 {
    // Magnitudes are ordered as their bits are, and the largest whole number may be sought in any order.
    let largest = values.iter().map(|value| value.abs().to_bits()).max();
    let first = values.iter().find(|value| Some(value.abs().to_bits()) == largest);
    // Adding zero leaves no minus zero.
    first.unwrap_or(&0.0) + 0.0
}

/// Reciprocal of `scale`, or zero for a scale of zero, which sends everything to zero.
fn reciprocal(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}
