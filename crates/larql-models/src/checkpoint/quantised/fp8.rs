//! Weights in 8-bit floats, `X.weight` as E4M3 `[outputs, inputs]`, with scales beside them.
//!
//! `X.weight_scale_inv` (DeepSeek, and transformers' `fp8`) has a scale for each tile, mostly of 128 × 128 values;
//! `X.weight_scale` one for the tensor or for each output. Both are factors, in spite of the name.

use super::Quantised;
use super::byte_codes::ByteCodes;
use super::levels::{Levels, Zeros};
use super::shelf::Shelf;
use crate::ModelError;

/// Finds the matrix `[outputs, inputs]` whose tensors begin with `stem`; `tile` is the configuration's size of tiles.
pub(super) fn find(
    shelf: &Shelf<'_>,
    stem: &str,
    shape: [usize; 2],
    tile: Option<[usize; 2]>,
) -> Result<Option<Quantised>, ModelError> {
    let Some(codes) = shelf.get(&format!("{stem}.weight")) else { return Ok(None) };
    if codes.is_type("F8_E5M2") {
        return Err(codes.malformed("8-bit floats of type F8_E4M3, as weights have", "F8_E5M2"));
    }
    if !codes.is_type("F8_E4M3") {
        return Ok(None);
    }
    let scales = match shelf.get(&format!("{stem}.weight_scale_inv")) {
        Some(scales) => scales,
        None => shelf.require(&format!("{stem}.weight_scale"), codes)?,
    };
    let bytes = ByteCodes { levels: Levels::e4m3(), turned: 0, zeros: Zeros::All(0.0), times: 1.0 };
    bytes.matrix(codes, scales, shape, tile).map(Some)
}
