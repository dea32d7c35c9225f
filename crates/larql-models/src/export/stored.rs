//! The tensors of a file to be written, and how the roles of a model make them up.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use larql_compute::{ComputeError, Format, Matrix};

use super::conversion::Conversion;
use crate::family::{Part, Place};
use crate::{ModelError, ModelSpec, Role, Shape, WeightSource};

/// A tensor of a file to be written.
pub(super) struct Stored {
    pub(super) name: String,
    /// Outermost dimension first.
    pub(super) shape: Vec<usize>,
    parts: Vec<StoredPart>,
}

/// The part of it that belongs to one role.
struct StoredPart {
    role: Role,
    shape: Shape,
    place: Place,
}

/// Every tensor of a model whose roles lie where `place` says, in the order of [`ModelSpec::tensors`].
pub(super) fn stored_tensors(spec: &ModelSpec, place: impl Fn(Role) -> Place) -> Vec<Stored> {
    let mut tensors: Vec<Stored> = Vec::new();
    let mut by_name: HashMap<String, usize> = HashMap::new();
    for (role, shape) in spec.tensors() {
        let part = StoredPart { role, shape, place: place(role) };
        match by_name.get(&part.place.name) {
            Some(index) => tensors[*index].parts.push(part),
            None => {
                by_name.insert(part.place.name.clone(), tensors.len());
                tensors.push(Stored {
                    name: part.place.name.clone(),
                    shape: part.place.stored_shape(part.shape),
                    parts: vec![part],
                });
            }
        }
    }
    tensors
}

impl Stored {
    /// The same with every matrix as `[outputs, inputs]`, as blocks need it.
    pub(super) fn untransposed(mut self) -> Stored {
        for part in &mut self.parts {
            part.place.transposed = false;
        }
        self.shape = self.parts[0].place.stored_shape(self.parts[0].shape);
        self
    }

    /// The format in which `weights` hold all of its roles, if they agree; vectors, which are handed out decoded,
    /// have none.
    pub(super) fn format_held(&self, weights: &dyn WeightSource) -> Result<Option<Format>, ModelError> {
        let mut held = None;
        for part in &self.parts {
            if let Shape::Matrix(..) = part.shape {
                let format = weights.matrix(part.role)?.format();
                if held.is_some_and(|held| held != format) {
                    return Ok(None);
                }
                held = Some(format);
            }
        }
        Ok(held)
    }

    /// True if it is made of vectors: norms, biases, scales.
    pub(super) fn holds_vectors(&self) -> bool {
        self.parts.iter().all(|part| matches!(part.shape, Shape::Vector(_)))
    }

    /// Bytes that it takes in `format`; `None` if its rows are no whole number of blocks.
    pub(super) fn byte_size(&self, format: Format) -> Option<u64> {
        let [rows @ .., cols] = &self.shape[..] else { return None };
        let row = format.row_bytes(*cols).ok()?;
        Some(rows.iter().map(|size| *size as u64).product::<u64>() * row as u64)
    }

    /// Its bytes in `format`. Where one role is all of it and has that format already, they are those of the source.
    ///
    /// # Errors
    /// If a role is not there, or cannot be encoded so; `path` is the file that is written.
    pub(super) fn bytes(
        &self,
        format: Format,
        weights: &dyn WeightSource,
        conversion: &Conversion<'_>,
        path: &Path,
    ) -> Result<Bytes, ModelError> {
        let failed = |source| ModelError::Tensor { path: path.into(), tensor: self.name.clone(), source };
        if let [part] = &self.parts[..]
            && part.place.part == Part::Whole
            && part.place.stacked.is_none()
            && !part.place.transposed
        {
            return Ok(part.matrix(format, weights, conversion, failed)?.bytes().clone());
        }
        let size = self.byte_size(format).and_then(|size| usize::try_from(size).ok());
        let mut bytes = vec![0; size.expect("formats are chosen to fit rows")];
        for part in &self.parts {
            part.put(&part.matrix(format, weights, conversion, failed)?, &mut bytes);
        }
        Ok(bytes.into())
    }
}

impl StoredPart {
    /// The role's values as the target wants them, `[outputs, inputs]`, or `[1, outputs]` of a vector.
    fn matrix(
        &self,
        format: Format,
        weights: &dyn WeightSource,
        conversion: &Conversion<'_>,
        failed: impl Fn(ComputeError) -> ModelError,
    ) -> Result<Matrix, ModelError> {
        let matrix = match self.shape {
            Shape::Vector(_) => {
                let values = conversion.vector(self.role, weights.vector(self.role)?);
                Matrix::from_f32(1, values.len(), &values)
            }
            Shape::Matrix(..) => conversion.matrix(self.role, weights.matrix(self.role)?),
        };
        matrix.and_then(|matrix| encoded(matrix, format)).map_err(failed)
    }

    /// Puts the role's values where they belong among those of the stored tensor.
    fn put(&self, matrix: &Matrix, stored: &mut [u8]) {
        let (outputs, inputs, by_row) = match self.shape {
            Shape::Vector(outputs) => (outputs, 1, false),
            Shape::Matrix(outputs, inputs) => (outputs, inputs, !self.place.transposed),
        };
        let (view, width) = (matrix.view(), matrix.format().block_bytes());
        let stored_outputs = self.place.stored_outputs(outputs);
        let one = match by_row {
            true => stored_outputs * view.row_bytes(),
            false => stored_outputs * inputs * width,
        };
        let start = self.place.stacked.map_or(0, |stacked| stacked.index) * one;
        let stored = &mut stored[start..start + one];
        for (index, output) in self.place.outputs(stored_outputs).enumerate() {
            if by_row {
                let row = view.row_bytes();
                stored[output * row..][..row].copy_from_slice(view.row(index));
                continue;
            }
            // A vector's values are the columns of its one row.
            let values = match self.shape {
                Shape::Vector(_) => &view.row(0)[index * width..][..width],
                Shape::Matrix(..) => view.row(index),
            };
            for (input, value) in values.chunks_exact(width).enumerate() {
                stored[(input * stored_outputs + output) * width..][..width].copy_from_slice(value);
            }
        }
    }
}

/// The same values in another format.
fn encoded(matrix: Matrix, format: Format) -> Result<Matrix, ComputeError> {
    if matrix.format() == format {
        return Ok(matrix);
    }
    let view = matrix.view();
    let (mut values, mut bytes) = (vec![0.0; view.cols()], Vec::new());
    for row in 0..view.rows() {
        view.decode_row(row, &mut values);
        format.encode(&values, &mut bytes)?;
    }
    Matrix::new(format, view.rows(), view.cols(), bytes.into())
}
