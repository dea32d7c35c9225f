//! bitsandbytes, as transformers stores what it quantised with it.
//!
//! *4 bits*: `X.weight` holds the codes of all values in one sequence, two in a byte; `X.weight.quant_map` the 16 levels (of
//! NF4 or FP4); `X.weight.absmax` a scale for each block of the sequence. With double quantisation the scales are codes
//! themselves, with `nested_quant_map` and `nested_absmax`. `X.weight.quant_state.bitsandbytes__nf4` is a JSON object in
//! bytes with the sizes. *8 bits*: `X.weight` holds signed bytes `[outputs, inputs]`, `X.SCB` for each output the value
//! that 127 stands for.

use std::sync::Arc;

use serde::Deserialize;

use super::byte_codes::ByteCodes;
use super::codes::{Codes, Order};
use super::levels::{Groups, Levels, ScaleShape, Scales, Zeros};
use super::shelf::{BY_CONFIGURATION, Found, Shelf};
use super::{Origin, Quantised};
use crate::{ModelError, python_json};

/// Names of the levels of 4-bit codes.
const KINDS: [&str; 2] = ["nf4", "fp4"];
/// A step of 8-bit codes, where the scale is the largest value: 1 / 127, as the library rounds it.
const STEP: f32 = 0.007_874_016;

/// Sizes of a matrix of 4-bit codes.
#[derive(Deserialize)]
struct State {
    blocksize: usize,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
}

/// Finds the matrix `[outputs, inputs]` whose tensors begin with `stem`.
pub(super) fn find(
    shelf: &Shelf<'_>,
    stem: &str,
    shape: [usize; 2],
) -> Result<Option<Quantised>, ModelError> {
    let Some(codes) = shelf.get(&format!("{stem}.weight")) else { return Ok(None) };
    if codes.is_type("I8") {
        return eight_bits(shelf, stem, shape, codes).map(Some);
    }
    if !codes.is_type("U8") {
        return Ok(None);
    }
    let state =
        KINDS.iter().find_map(|kind| shelf.get(&format!("{stem}.weight.quant_state.bitsandbytes__{kind}")));
    match state {
        Some(state) => four_bits(shelf, stem, shape, codes, state).map(Some),
        None => shelf.require(&format!("{stem}.weight.quant_state.bitsandbytes__nf4"), codes).map(|_| None),
    }
}

fn eight_bits(
    shelf: &Shelf<'_>,
    stem: &str,
    shape @ [outputs, _]: [usize; 2],
    codes: Found<'_>,
) -> Result<Quantised, ModelError> {
    let scales = shelf.require(&format!("{stem}.SCB"), codes)?;
    scales.expect_shape(&[outputs], "a scale for each output")?;
    // 0 stands for rows, the one order that is written since 2023.
    let order = shelf.get(&format!("{stem}.weight_format"));
    if let Some(order) = order
        && order.tensor.bytes.first() != Some(&0)
    {
        return Err(order.malformed("0, for codes in rows", format!("{:?}", order.tensor.bytes.first())));
    }
    let bytes = ByteCodes { levels: Levels::Integers, turned: 0x80, zeros: Zeros::All(128.0), times: STEP };
    let mut quantised = bytes.matrix(codes, scales, shape, None)?;
    quantised.origin.tensors.extend(order.map(|order| order.index));
    Ok(quantised)
}

fn four_bits(
    shelf: &Shelf<'_>,
    stem: &str,
    [outputs, inputs]: [usize; 2],
    codes: Found<'_>,
    state: Found<'_>,
) -> Result<Quantised, ModelError> {
    let sizes: State = python_json::parse(&state.tensor.bytes).map_err(|error| {
        state.malformed("a JSON object with `blocksize` and `shape`", python_json::problem(&error))
    })?;
    if sizes.shape != [outputs, inputs] {
        let expected = format!("`shape` [{outputs}, {inputs}], {BY_CONFIGURATION}");
        return Err(state.malformed(expected, format!("{:?}", sizes.shape)));
    }
    let values = outputs * inputs;
    if sizes.blocksize == 0 {
        return Err(state.malformed("a `blocksize` above 0", "0"));
    }
    if codes.count() != values.div_ceil(2) {
        let expected = format!("{} bytes, two of {outputs} x {inputs} codes in each", values.div_ceil(2));
        return Err(codes.malformed(expected, format!("{:?}", codes.tensor.shape)));
    }
    let part = |part: &str| shelf.require(&format!("{stem}.weight.{part}"), codes);
    let (map, scales) = (part("quant_map")?, part("absmax")?);
    let levels = map.single_floats(16, "the level of each code")?;
    let blocks = values.div_ceil(sizes.blocksize);
    scales.expect_shape(&[blocks], &format!("a scale for each block of {} values", sizes.blocksize))?;
    let mut others = vec![state, map];
    let factors = if scales.is_type("U8") {
        let (map, nested) = (part("nested_quant_map")?, part("nested_absmax")?);
        others.extend([map, nested]);
        let size = sizes
            .nested_blocksize
            .filter(|size| *size > 0)
            .ok_or_else(|| state.malformed("a `nested_blocksize` above 0, since scales are codes", "none"))?;
        nested.expect_shape(&[blocks.div_ceil(size)], &format!("a scale for each {size} scales"))?;
        Scales::Nested {
            codes: scales.tensor.bytes.clone(),
            levels: Arc::from(map.single_floats(256, "the level of each code")?),
            scales: nested.floats()?,
            size,
            offset: sizes.nested_offset.unwrap_or(0.0),
        }
    } else {
        Scales::Table { floats: scales.floats()?, shape: ScaleShape::Sequence, times: 1.0 }
    };
    Ok(Quantised {
        outputs,
        inputs,
        codes: Codes::new(codes, [outputs, inputs], 4, Order::UpperFirst),
        codes_by_input: false,
        levels: Levels::Table(Arc::from(levels)),
        scales: factors,
        zeros: Zeros::All(0.0),
        groups: Groups::Sequence(sizes.blocksize),
        origin: Origin::new(codes, scales, others),
    })
}
