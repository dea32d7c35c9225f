//! Weights in 8-bit floats, `X.weight` as E4M3 `[outputs, inputs]`, with scales beside them.
//!
//! `X.weight_scale_inv` (DeepSeek, and transformers' `fp8`) has a scale for each tile, mostly of 128 × 128 values;
//! `X.weight_scale` one for the tensor or for each output. Both are factors, in spite of the name.

use super::Quantised;
use super::codes::{Codes, Order};
use super::levels::{Groups, Levels, ScaleShape, Scales, Zeros};
use super::shelf::{BY_CONFIGURATION, Found, Shelf};
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
    let bytes = Bytes { levels: Levels::e4m3(), turned: 0, zeros: Zeros::All(0.0) };
    bytes.matrix(codes, scales, shape, tile).map(Some)
}

/// Meaning of codes of one byte each.
pub(super) struct Bytes {
    pub(super) levels: Levels,
    /// Bits that are stored turned.
    pub(super) turned: u8,
    pub(super) zeros: Zeros,
}

impl Bytes {
    /// The matrix of such codes, with scales for the tensor, its outputs, groups of its inputs, or tiles.
    pub(super) fn matrix(
        self,
        codes: Found<'_>,
        scales: Found<'_>,
        [outputs, inputs]: [usize; 2],
        tile: Option<[usize; 2]>,
    ) -> Result<Quantised, ModelError> {
        codes.expect_shape(&[outputs, inputs], BY_CONFIGURATION)?;
        let (shape, groups) = of_scales(scales, [outputs, inputs], tile)?;
        Ok(Quantised {
            outputs,
            inputs,
            codes: Codes {
                bytes: codes.tensor.bytes.clone(),
                rows: outputs,
                cols: inputs,
                bits: 8,
                order: Order::AlongRows,
                turned: self.turned,
            },
            codes_by_input: false,
            levels: self.levels,
            scales: Scales::Table { floats: scales.floats()?, shape, times: 1.0 },
            zeros: self.zeros,
            groups,
            name: codes.tensor.name.clone(),
            name_of_scales: scales.tensor.name.clone(),
            file: codes.file.into(),
            tensors: vec![codes.index, scales.index],
        })
    }
}

/// Meaning of a table of scales, by its shape.
pub(super) fn of_scales(
    scales: Found<'_>,
    [outputs, inputs]: [usize; 2],
    tile: Option<[usize; 2]>,
) -> Result<(ScaleShape, Groups), ModelError> {
    if scales.count() == 1 {
        return Ok((ScaleShape::Single, Groups::Even(inputs)));
    }
    let shape = &scales.tensor.shape[..];
    if let Some([rows, cols]) = tile {
        let expected = [outputs.div_ceil(rows), inputs.div_ceil(cols)];
        scales.expect_shape(&expected, &format!("a scale for each tile of {rows} x {cols} values"))?;
        return Ok((ScaleShape::ByOutput { groups: expected[1], shared: rows }, Groups::Even(cols)));
    }
    let groups = match shape {
        [rows] if *rows == outputs => 1,
        [rows, groups] if *rows == outputs && *groups > 0 && inputs.is_multiple_of(*groups) => *groups,
        _ => {
            let expected =
                format!("[{outputs}, groups], with a scale for each group of {inputs} inputs, or [1]");
            return Err(scales.malformed(expected, format!("{shape:?}")));
        }
    };
    Ok((ScaleShape::ByOutput { groups, shared: 1 }, Groups::Even(inputs / groups)))
}
