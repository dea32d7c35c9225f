//! Keys in 8 bits, of 16 positions side by side.

use half::f16;

use super::{Isa, KEYS_SIDE_BY_SIDE};

/// Numbers of a key that share a scale.
pub(crate) const KEY_GROUP: usize = 32;

/// [`KEY_GROUP`] numbers of the keys of 16 positions.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct KeyGroup {
    /// For each position an f16, little-endian.
    pub(crate) scales: [[u8; 2]; KEYS_SIDE_BY_SIDE],
    pub(crate) codes: [[i8; KEYS_SIDE_BY_SIDE]; KEY_GROUP],
}

/// Plain code in which the compiler finds the vectors, so each instruction set calls it from a function of its own.
#[inline(always)]
pub(super) fn decode(groups: &[KeyGroup], out: &mut [[f32; KEYS_SIDE_BY_SIDE]]) {
    for (KeyGroup { scales, codes }, out) in groups.iter().zip(out.chunks_mut(KEY_GROUP)) {
        let scales = scales.map(|scale| f16::from_le_bytes(scale).to_f32());
        for (codes, out) in codes.iter().zip(out) {
            for ((out, code), scale) in out.iter_mut().zip(codes).zip(&scales) {
                *out = f32::from(*code) * scale;
            }
        }
    }
}

impl Isa {
    /// Writes the keys of 16 positions, `[head_dim, 16]`.
    pub(crate) fn decode_keys(self, groups: &[KeyGroup], out: &mut [[f32; KEYS_SIDE_BY_SIDE]]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` hands out an instruction set only where the machine has it.
            Isa::Avx512 => unsafe { super::avx512::decode_keys(groups, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { super::avx2::decode_keys(groups, out) },
            _ => decode(groups, out),
        }
    }
}
