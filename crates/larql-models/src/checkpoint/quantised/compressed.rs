//! compressed-tensors, as llm-compressor and vLLM store weights.
//!
//! *Packed*: `X.weight_packed` holds integers plus half of their range, `[outputs, inputs * bits / 32]` words, a stream of
//! bits for each output; `X.weight_shape` is `[outputs, inputs]`; `X.weight_zero_point`, of matrices that have one, is
//! packed likewise along the outputs, `[outputs * bits / 32, groups]`; `X.weight_g_idx` is the group of each input.
//! *Naive*: `X.weight` holds a byte a value, integers or E4M3 floats. Both have `X.weight_scale`, `[outputs, groups]` or
//! one number, and may have scales of activations, which do not change weights.

use super::byte_codes::{self, ByteCodes};
use super::codes::{Codes, Order};
use super::levels::{Groups, Levels, Scales, Zeros};
use super::shelf::{BY_CONFIGURATION, Found, Shelf};
use super::{Origin, Quantised, fp8, gptq};
use crate::ModelError;

/// The bit of a signed byte that shows the sign.
const SIGN: u8 = 0x80;

/// Finds the matrix `[outputs, inputs]` whose tensors begin with `stem`; `tile` is the configuration's size of tiles.
pub(super) fn find(
    shelf: &Shelf<'_>,
    stem: &str,
    shape: [usize; 2],
    tile: Option<[usize; 2]>,
) -> Result<Option<Quantised>, ModelError> {
    if let Some(codes) = shelf.get(&format!("{stem}.weight_packed")) {
        return packed(shelf, stem, shape, codes).map(Some);
    }
    let Some(codes) = shelf.get(&format!("{stem}.weight")) else { return Ok(None) };
    if !codes.is_type("I8") {
        return fp8::find(shelf, stem, shape, tile);
    }
    let scales = shelf.require(&format!("{stem}.weight_scale"), codes)?;
    let (_, groups) = byte_codes::of_scales(scales, shape, tile)?;
    let zeros = shelf.get(&format!("{stem}.weight_zero_point"));
    let zero_points = match zeros {
        None => Zeros::All(SIGN.into()),
        Some(zeros) => signed(zeros, shape, &groups)?,
    };
    let bytes = ByteCodes { levels: Levels::Integers, turned: SIGN, zeros: zero_points, times: 1.0 };
    let mut quantised = bytes.matrix(codes, scales, shape, tile)?;
    quantised.origin.tensors.extend(zeros.map(|zeros| zeros.index));
    Ok(Some(quantised))
}

/// Zero points of a signed byte each: for each output its groups.
fn signed(zeros: Found<'_>, [outputs, inputs]: [usize; 2], groups: &Groups) -> Result<Zeros, ModelError> {
    zeros.expect_type(&["I8"])?;
    let (_, count) = groups.span(0, inputs);
    let rows = if zeros.count() == 1 { 1 } else { outputs };
    if rows == outputs {
        zeros.expect_shape(&[outputs, count], "a zero point for each scale")?;
    }
    let codes = Codes::new(zeros, [rows, count], 8, Order::AlongRows).with_turned(SIGN);
    Ok(match rows == outputs {
        true => Zeros::Packed { codes, by_group: false, plus: 0 },
        false => Zeros::All(codes.get(0, 0).into()),
    })
}

fn packed(
    shelf: &Shelf<'_>,
    stem: &str,
    [outputs, inputs]: [usize; 2],
    codes: Found<'_>,
) -> Result<Quantised, ModelError> {
    codes.expect_type(&["I32"])?;
    let require = |part: &str| shelf.require(&format!("{stem}.{part}"), codes);
    let (scales, stated) = (require("weight_scale")?, require("weight_shape")?);
    stated.expect_type(&["I64", "I32"])?;
    stated.expect_shape(&[2], "the numbers of outputs and inputs")?;
    let numbers = stated.integers();
    if numbers != [outputs as i64, inputs as i64] {
        let expected = format!("[{outputs}, {inputs}], {}", BY_CONFIGURATION);
        return Err(stated.malformed(expected, format!("{numbers:?}")));
    }
    let bits = match codes.tensor.shape[..] {
        [rows, words] if rows == outputs => {
            (1..=8).find(|bits| Codes::packed_words(inputs, *bits) == words).filter(|bits| *bits > 1)
        }
        _ => None,
    };
    let Some(bits) = bits else {
        let expected = format!("[{outputs}, words] with codes of 2 to 8 bits for {inputs} inputs");
        return Err(codes.malformed(expected, format!("{:?}", codes.tensor.shape)));
    };
    let (shape, mut groups) = byte_codes::of_scales(scales, [outputs, inputs], None)?;
    let (_, count) = groups.span(0, inputs);
    let zeros = shelf.get(&format!("{stem}.weight_zero_point"));
    let listed = shelf.get(&format!("{stem}.weight_g_idx"));
    if let Some(listed) = listed {
        groups = gptq::in_order(listed, inputs, inputs / count, count)?;
    }
    let middle = 1 << (bits - 1);
    let zero_points = match zeros {
        None => Zeros::All(middle as f32),
        Some(zeros) => {
            zeros.expect_type(&["I32"])?;
            let words = Codes::packed_words(outputs, bits);
            let meaning = format!("zero points of {bits} bits for {outputs} outputs and {count} groups");
            zeros.expect_shape(&[words, count], &meaning)?;
            Zeros::Packed {
                codes: Codes::new(zeros, [outputs, count], bits, Order::AlongColumns),
                by_group: false,
                plus: 0,
            }
        }
    };
    let others = [stated].into_iter().chain(zeros).chain(listed);
    Ok(Quantised {
        outputs,
        inputs,
        codes: Codes::new(codes, [outputs, inputs], bits, Order::AlongRows),
        codes_by_input: false,
        levels: Levels::Integers,
        scales: Scales::Table { floats: scales.floats()?, shape, times: 1.0 },
        zeros: zero_points,
        groups,
        origin: Origin::new(codes, scales, others),
    })
}
