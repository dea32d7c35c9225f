//! From blocks to numbers and back, a file for each kind of block.

use crate::{ComputeError, Format};

impl Format {
    /// Writes the values that `bytes` encode to `out`.
    ///
    /// # Panics
    /// If `bytes` are not as many as `out.len()` values take in this format.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(Ok(bytes.len()), self.row_bytes(out.len()), "decoding {self}");
        match self {
            Format::F32 => {
                for (chunk, value) in bytes.chunks_exact(4).zip(out) {
                    *value = f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
                }
            }
            Format::F16 => {
                for (chunk, value) in bytes.chunks_exact(2).zip(out) {
                    *value = half::f16::from_le_bytes([chunk[0], chunk[1]]).to_f32();
                }
            }
            Format::BF16 => {
                for (chunk, value) in bytes.chunks_exact(2).zip(out) {
                    *value = half::bf16::from_le_bytes([chunk[0], chunk[1]]).to_f32();
                }
            }
            other => panic!("no decoder for {other} yet"),
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
