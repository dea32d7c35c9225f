//! From blocks to numbers and back: a file for each kind of block.
//!
//! Every block is a struct that lies in memory exactly as in a file, in bytes so that it needs no alignment.
//! The layouts are those of ggml's `ggml-common.h`.
#![allow(non_camel_case_types, reason = "blocks carry the names of their formats")]

mod blocks_of_32;
mod float;
mod iq4;
mod k_quants;
mod mxfp4;

use bytemuck::Pod;

pub(crate) use blocks_of_32::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub(crate) use iq4::{IQ4_NL, IQ4_XS};
pub(crate) use k_quants::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K};
pub(crate) use mxfp4::MXFP4;

use crate::{ComputeError, Format};

/// A block of `LEN` values that can be read.
pub(crate) trait Block<const LEN: usize>: Pod {
    /// Writes the block's values to `out`. Any bytes are a block: what they cannot mean otherwise is NaN.
    fn decode(&self, out: &mut [f32; LEN]);
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
            Format::MXFP4 => decode_blocks::<32, MXFP4>(bytes, out),
        }
    }

    /// Appends the encoding of `values` to `out`.
    ///
    /// # Errors
    /// [`ComputeError::PartialBlock`] if `values` are not whole blocks, [`ComputeError::NoEncoder`] if the
    /// format is only read.
    pub fn encode(self, values: &[f32], out: &mut Vec<u8>) -> Result<(), ComputeError> {
        self.row_bytes(values.len())?;
        match self {
            Format::F32 => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Format::F16 => out.extend(values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes())),
            Format::BF16 => out.extend(values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes())),
            format => return Err(ComputeError::NoEncoder { format }),
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
