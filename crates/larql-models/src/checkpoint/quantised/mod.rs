//! Weights that a library for quantising stored as codes, with what turns codes into values beside them.
//!
//! All of these formats say the same: `value = scale * (level(code) - zero)`. They differ in the order of the codes, in
//! the levels (integers, 8-bit floats, a table of 16 values), and in which values share a scale and a zero point. A
//! [`Scheme`] is read from the configuration, finds the tensors of a matrix by their names, and checks them; the result is
//! a [`Quantised`], which `repack` turns into blocks that can be computed with.

mod awq;
mod bitsandbytes;
mod byte_codes;
mod codes;
mod compressed;
mod fp8;
mod gptq;
mod levels;
mod repack;
mod scheme;
mod shelf;

use std::path::PathBuf;

use larql_compute::Matrix;

use crate::ModelError;
use codes::Codes;
use levels::{Groups, Levels, Scales, Zeros};

pub(super) use scheme::Scheme;
use shelf::Found;
pub(super) use shelf::Shelf;

/// A quantised matrix, `[outputs, inputs]`, whose tensors have been checked against each other.
#[derive(Clone, Debug)]
pub(super) struct Quantised {
    outputs: usize,
    inputs: usize,
    codes: Codes,
    /// True if a row of the codes belongs to an input, not to an output.
    codes_by_input: bool,
    levels: Levels,
    scales: Scales,
    zeros: Zeros,
    groups: Groups,
    origin: Origin,
}

/// The stored tensors that a matrix is made of.
#[derive(Clone, Debug)]
struct Origin {
    /// Name of the tensor of the codes.
    codes: String,
    /// Name of the tensor of the scales.
    scales: String,
    /// File of the codes.
    file: PathBuf,
    /// Indices of all tensors.
    tensors: Vec<usize>,
}

impl Origin {
    fn new<'a>(codes: Found<'a>, scales: Found<'a>, others: impl IntoIterator<Item = Found<'a>>) -> Origin {
        let all = [codes, scales].into_iter().chain(others);
        Origin {
            codes: codes.tensor.name.clone(),
            scales: scales.tensor.name.clone(),
            file: codes.file.into(),
            tensors: all.map(|found| found.index).collect(),
        }
    }
}

/// Scale and zero point of a group of inputs.
#[derive(Clone, Copy, Debug, Default)]
struct Factor {
    scale: f32,
    zero: f32,
}

impl Quantised {
    /// Indices of the stored tensors that it takes.
    pub(super) fn tensors(&self) -> &[usize] {
        &self.origin.tensors
    }

    /// Inputs of an output.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Outputs of the stored matrix.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// The values of one output, as the format defines them: `[inputs]`.
    ///
    /// # Errors
    /// If one of them is not a number, by file and tensor.
    pub(super) fn values(&self, output: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let mut codes = vec![0; self.inputs];
        self.row_of_codes(output, &mut codes);
        let factors = self.factors(output)?;
        for (input, (out, code)) in out.iter_mut().zip(&codes).enumerate() {
            let Factor { scale, zero } = factors[self.groups.of(output, input, self.inputs)];
            *out = scale * (self.levels.of(*code) - zero);
        }
        match out.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(input) => {
                let found = format!("{} for input {input} of output {output}", out[input]);
                Err(shelf::malformed(&self.origin.file, &self.origin.codes, "numbers", found))
            }
        }
    }

    /// Some of the outputs in the block format that is nearest.
    ///
    /// # Errors
    /// As [`Quantised::values`].
    pub(super) fn rows(
        &self,
        outputs: impl ExactSizeIterator<Item = usize> + Clone,
    ) -> Result<Matrix, ModelError> {
        repack::rows(self, outputs)
    }

    fn row_of_codes(&self, output: usize, out: &mut [u8]) {
        match self.codes_by_input {
            true => self.codes.column(output, out),
            false => self.codes.row(output, out),
        }
    }

    /// Scales and zero points of the groups of one output.
    fn factors(&self, output: usize) -> Result<Vec<Factor>, ModelError> {
        let (first, count) = self.groups.span(output, self.inputs);
        let mut factors = Vec::with_capacity(count);
        for group in first..first + count {
            let scale = self.scales.of(output, group);
            if !scale.is_finite() {
                let found = format!("the scale {scale} for group {group} of output {output}");
                return Err(shelf::malformed(&self.origin.file, &self.origin.scales, "finite scales", found));
            }
            factors.push(Factor { scale, zero: self.zeros.of(output, group) });
        }
        Ok(factors)
    }
}
