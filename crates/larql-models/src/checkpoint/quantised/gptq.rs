//! GPTQ, as AutoGPTQ and GPTQModel store it.
//!
//! `X.qweight` holds the codes, `[inputs * bits / 32, outputs]` words, each with codes of successive inputs; `X.qzeros`
//! the zero points, `[groups, outputs * bits / 32]`, less one in the first version of the format; `X.scales`
//! `[groups, outputs]`; `X.g_idx` the group of each input, which with act-order is not in order.

use std::sync::Arc;

use super::codes::{Codes, Order};
use super::levels::{Groups, Levels, ScaleShape, Scales, Zeros};
use super::shelf::{Found, Shelf};
use super::{Origin, Quantised};
use crate::ModelError;

/// Properties that the configuration states.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gptq {
    /// Bits of a code, if all matrices have the same.
    pub(super) bits: Option<usize>,
    /// Inputs of a group, if all matrices have the same; `usize::MAX` for one group.
    pub(super) group: Option<usize>,
    /// True if stored zero points are one less than they mean.
    pub(super) less_one: bool,
}

/// Finds the matrix `[outputs, inputs]` whose tensors begin with `stem`.
pub(super) fn find(
    shelf: &Shelf<'_>,
    stem: &str,
    [outputs, inputs]: [usize; 2],
    gptq: Gptq,
) -> Result<Option<Quantised>, ModelError> {
    let Some(codes) = shelf.get(&format!("{stem}.qweight")) else { return Ok(None) };
    let require = |part: &str| shelf.require(&format!("{stem}.{part}"), codes);
    let (scales, zeros) = (require("scales")?, require("qzeros")?);
    codes.expect_type(&["I32", "U32"])?;
    zeros.expect_type(&["I32", "U32"])?;

    let bits = gptq.bits.or_else(|| match codes.tensor.shape[..] {
        [words, _] if (words * 32).is_multiple_of(inputs) => Some(words * 32 / inputs),
        _ => None,
    });
    let bits = bits.filter(|bits| matches!(bits, 2 | 3 | 4 | 8)).ok_or_else(|| {
        let expected = format!("words with codes of 2, 3, 4 or 8 bits for {inputs} inputs");
        codes.malformed(expected, format!("{:?}", codes.tensor.shape))
    })?;
    let meaning = format!("codes of {bits} bits for {inputs} inputs and {outputs} outputs");
    codes.expect_shape(&[Codes::packed_words(inputs, bits), outputs], &meaning)?;

    let (size, count) = groups(scales, [outputs, inputs], gptq.group)?;
    let meaning = format!("zero points of {bits} bits for {count} groups and {outputs} outputs");
    zeros.expect_shape(&[count, Codes::packed_words(outputs, bits)], &meaning)?;

    let listed = shelf.get(&format!("{stem}.g_idx"));
    let groups = match listed {
        Some(listed) => in_order(listed, inputs, size, count)?,
        None => Groups::Even(size),
    };
    Ok(Some(Quantised {
        outputs,
        inputs,
        codes: Codes::new(codes, [inputs, outputs], bits, Order::AlongColumns),
        codes_by_input: true,
        levels: Levels::Integers,
        scales: Scales::Table {
            floats: scales.floats()?,
            shape: ScaleShape::ByGroup { outputs },
            times: 1.0,
        },
        zeros: Zeros::Packed {
            codes: Codes::new(zeros, [count, outputs], bits, Order::AlongRows),
            by_group: true,
            plus: u8::from(gptq.less_one),
        },
        groups,
        origin: Origin::new(codes, scales, [zeros].into_iter().chain(listed)),
    }))
}

/// Inputs of a group, and the number of groups, where `scales` are `[groups, outputs]`.
pub(super) fn groups(
    scales: Found<'_>,
    [outputs, inputs]: [usize; 2],
    stated: Option<usize>,
) -> Result<(usize, usize), ModelError> {
    if let Some(size) = stated {
        let (size, count) = (size.min(inputs), inputs.div_ceil(size.min(inputs)));
        let meaning = format!("a scale for each group of {size} inputs, of {inputs}, and each output");
        scales.expect_shape(&[count, outputs], &meaning)?;
        return Ok((size, count));
    }
    match scales.tensor.shape[..] {
        [count, cols] if cols == outputs && count > 0 && inputs.is_multiple_of(count) => {
            Ok((inputs / count, count))
        }
        _ => {
            let expected = format!("[groups, {outputs}], with groups of {inputs} inputs");
            Err(scales.malformed(expected, format!("{:?}", scales.tensor.shape)))
        }
    }
}

/// The groups that a list of a number for each input names.
pub(super) fn in_order(
    listed: Found<'_>,
    inputs: usize,
    size: usize,
    count: usize,
) -> Result<Groups, ModelError> {
    listed.expect_type(&["I32"])?;
    listed.expect_shape(&[inputs], "the group of each input")?;
    let numbers = listed.tensor.bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes));
    // compressed-tensors write this where there is no order.
    if numbers.clone().all(|group| group == -1) {
        return Ok(Groups::Even(size));
    }
    let mut of = Vec::with_capacity(inputs);
    for (input, group) in numbers.enumerate() {
        match usize::try_from(group) {
            Ok(number) if number < count => of.push(group as u32),
            _ => {
                let expected = format!("groups from 0 to {}, as there are scales", count - 1);
                return Err(listed.malformed(expected, format!("{group} for input {input}")));
            }
        }
    }
    let is_even = of.iter().enumerate().all(|(input, group)| input / size == *group as usize);
    Ok(if is_even { Groups::Even(size) } else { Groups::Listed { of: Arc::from(of), count } })
}
