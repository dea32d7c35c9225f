//! AWQ, as AutoAWQ stores it for its matrix product (`version: gemm`).
//!
//! `X.qweight` holds the codes, `[inputs, outputs / 8]` words with eight neighbouring outputs in the order 0, 2, 4, 6, 1, 3,
//! 5, 7; `X.qzeros` the zero points, `[groups, outputs / 8]`, packed alike; `X.scales` `[groups, outputs]`.

use super::codes::{Codes, Order};
use super::gptq;
use super::levels::{Levels, ScaleShape, Scales, Zeros};
use super::shelf::Shelf;
use super::{Origin, Quantised};
use crate::ModelError;

/// Bits of a code.
const BITS: usize = 4;

/// Finds the matrix `[outputs, inputs]` whose tensors begin with `stem`; `group` is the configuration's size of groups.
pub(super) fn find(
    shelf: &Shelf<'_>,
    stem: &str,
    [outputs, inputs]: [usize; 2],
    group: Option<usize>,
) -> Result<Option<Quantised>, ModelError> {
    let Some(codes) = shelf.get(&format!("{stem}.qweight")) else { return Ok(None) };
    let require = |part: &str| shelf.require(&format!("{stem}.{part}"), codes);
    let (scales, zeros) = (require("scales")?, require("qzeros")?);
    codes.expect_type(&["I32", "U32"])?;
    zeros.expect_type(&["I32", "U32"])?;
    if !outputs.is_multiple_of(8) {
        let expected = "a number of outputs that eight in a word divide";
        return Err(codes.malformed(expected, format!("{outputs} by the model's configuration")));
    }
    let words = Codes::packed_words(outputs, BITS);
    let meaning = format!("codes of 4 bits for {inputs} inputs and {outputs} outputs");
    codes.expect_shape(&[inputs, words], &meaning)?;
    let (size, count) = gptq::groups(scales, [outputs, inputs], group)?;
    let meaning = format!("zero points of 4 bits for {count} groups and {outputs} outputs");
    zeros.expect_shape(&[count, words], &meaning)?;
    let packed = |stored, rows| Codes::new(stored, [rows, outputs], BITS, Order::Interleaved);
    Ok(Some(Quantised {
        outputs,
        inputs,
        codes: packed(codes, inputs),
        codes_by_input: true,
        levels: Levels::Integers,
        scales: Scales::Table {
            floats: scales.floats()?,
            shape: ScaleShape::ByGroup { outputs },
            times: 1.0,
        },
        zeros: Zeros::Packed { codes: packed(zeros, count), by_group: true, plus: 0 },
        groups: super::Groups::Even(size),
        origin: Origin::new(codes, scales, [zeros]),
    }))
}
