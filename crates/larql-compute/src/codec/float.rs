//! Rows of floats, which may lie at any address.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Values converted at a time: a stack buffer brings unaligned halves into line.
const RUN: usize = 64;

pub(super) fn decode_f32(bytes: &[u8], out: &mut [f32]) {
    for (bytes, value) in bytes.as_chunks().0.iter().zip(out) {
        *value = f32::from_le_bytes(*bytes);
    }
}

/// Uses the processor's conversion where it has one.
pub(super) fn decode_f16(bytes: &[u8], out: &mut [f32]) {
    let mut run = [f16::ZERO; RUN];
    for (bytes, out) in bytes.chunks(2 * RUN).zip(out.chunks_mut(RUN)) {
        let run = &mut run[..out.len()];
        for (bytes, half) in bytes.as_chunks().0.iter().zip(run.iter_mut()) {
            *half = f16::from_le_bytes(*bytes);
        }
        run.convert_to_f32_slice(out);
    }
}

pub(super) fn decode_bf16(bytes: &[u8], out: &mut [f32]) {
    for (bytes, value) in bytes.as_chunks().0.iter().zip(out) {
        *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

/// The half-precision scale of a block.
pub(super) fn half_to_f32(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// A scale as a block stores it.
pub(super) fn f32_to_half(value: f32) -> [u8; 2] {
    f16::from_f32(value).to_le_bytes()
}

pub(super) fn encode_f32(values: &[f32], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

pub(super) fn encode_f16(values: &[f32], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()));
}

pub(super) fn encode_bf16(values: &[f32], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()));
}
