//! Codes of a byte each, with scales for the tensor, its outputs, groups of its inputs, or tiles.

use super::codes::{Codes, Order};
use super::levels::{Groups, Levels, ScaleShape, Scales, Zeros};
use super::shelf::{BY_CONFIGURATION, Found};
use super::{Origin, Quantised};
use crate::ModelError;

/// Meaning of codes of one byte each.
pub(super) struct ByteCodes {
    pub(super) levels: Levels,
    /// Bits that are stored turned.
    pub(super) turned: u8,
    pub(super) zeros: Zeros,
    /// Factor of each scale.
    pub(super) times: f32,
}

impl ByteCodes {
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
            codes: Codes::new(codes, [outputs, inputs], 8, Order::AlongRows).with_turned(self.turned),
            codes_by_input: false,
            levels: self.levels,
            scales: Scales::Table { floats: scales.floats()?, shape, times: self.times },
            zeros: self.zeros,
            groups,
            origin: Origin::new(codes, scales, []),
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
