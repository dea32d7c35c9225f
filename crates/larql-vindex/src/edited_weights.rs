//! An overlay as weights: the matrices of a model with these edits, as files hold them.
//!
//! A matrix of floats keeps its format, and all of its bytes but those of edited rows or columns. One of blocks becomes
//! f16, because encoding an edited feature's block again would disturb its neighbours.

use larql_compute::{ComputeError, Format, Matrix};
use larql_models::{ModelError, ModelSpec, Role, StepRoles, WeightSource};

use crate::{EditedFeature, FeatureEdit, Overlay};

/// The vectors that edits put into one matrix.
struct Replaced<'a> {
    /// Row, or column of a down projection, and its new values; none for zeros.
    vectors: Vec<(usize, Option<&'a [f32]>)>,
    /// True if they are columns.
    columns: bool,
}

impl Overlay {
    /// Every tensor with edits, layer by layer.
    pub(crate) fn edited_roles(&self) -> Vec<Role> {
        let layers = 0..self.base().spec().layers.len();
        let roles = layers.flat_map(|layer| {
            let steps = StepRoles::of_layer(&self.base().spec().layers[layer].feed_forward);
            let projections = steps
                .into_iter()
                .flat_map(|(step, _)| [Some(step.gate), step.up, Some(step.down)].into_iter().flatten());
            projections.map(move |projection| Role::Layer(layer, projection.weight)).collect::<Vec<_>>()
        });
        roles.filter(|role| self.replaced(*role).is_some()).collect()
    }

    /// Edited rows or columns of a tensor, if there are any.
    fn replaced(&self, role: Role) -> Option<Replaced<'_>> {
        let Role::Layer(layer, role) = role else { return None };
        let feed_forward = &self.base().spec().layers[layer].feed_forward;
        type Part = fn(&EditedFeature) -> Option<&[f32]>;
        let mut first = 0;
        let found = StepRoles::of_layer(feed_forward).into_iter().find_map(|(step, count)| {
            let start = first;
            first += count;
            let part: Part = match role {
                _ if role == step.gate.weight => |edited| edited.gate.as_deref(),
                _ if step.up.is_some_and(|up| role == up.weight) => |edited| edited.up.as_deref(),
                _ if role == step.down.weight => |edited| edited.down.as_deref(),
                _ => return None,
            };
            Some((step, start..start + count, part))
        });
        let (step, features, part) = found?;
        let own = self.edits().of_layer(layer).filter(|(feature, _)| features.contains(feature));
        let vectors = own.filter_map(|(feature, edit)| match edit {
            // What does not fire and writes nothing has an up row as good as any.
            FeatureEdit::Deleted if step.up.is_some_and(|up| role == up.weight) => None,
            FeatureEdit::Deleted => Some((feature - features.start, None)),
            FeatureEdit::Changed(edited) => Some((feature - features.start, Some(part(edited)?))),
        });
        let vectors: Vec<_> = vectors.collect();
        (!vectors.is_empty()).then_some(Replaced { vectors, columns: role == step.down.weight })
    }
}

impl Replaced<'_> {
    /// `base` with these vectors in place.
    fn written_into(&self, base: &Matrix) -> Result<Matrix, ComputeError> {
        let (rows, cols) = (base.rows(), base.cols());
        if base.format().is_float() {
            let mut bytes = base.bytes().to_vec();
            let width = base.format().block_bytes();
            self.for_each_vector(base, |place, vector| {
                let mut encoded = Vec::with_capacity(vector.len() * width);
                base.format().encode(vector, &mut encoded)?;
                if self.columns {
                    for (row, value) in encoded.chunks_exact(width).enumerate() {
                        bytes[(row * cols + place) * width..][..width].copy_from_slice(value);
                    }
                } else {
                    bytes[place * cols * width..][..cols * width].copy_from_slice(&encoded);
                }
                Ok(())
            })?;
            return Matrix::new(base.format(), rows, cols, bytes.into());
        }
        let mut values = base.view().to_f32();
        self.for_each_vector(base, |place, vector| {
            match self.columns {
                true => {
                    vector.iter().enumerate().for_each(|(row, value)| values[row * cols + place] = *value)
                }
                false => values[place * cols..][..cols].copy_from_slice(vector),
            }
            Ok(())
        })?;
        let mut bytes = Vec::with_capacity(values.len() * Format::F16.block_bytes());
        Format::F16.encode(&values, &mut bytes)?;
        Matrix::new(Format::F16, rows, cols, bytes.into())
    }

    fn for_each_vector(
        &self,
        base: &Matrix,
        mut put: impl FnMut(usize, &[f32]) -> Result<(), ComputeError>,
    ) -> Result<(), ComputeError> {
        let zeros = vec![0.0; if self.columns { base.rows() } else { base.cols() }];
        self.vectors.iter().try_for_each(|(place, vector)| put(*place, vector.unwrap_or(&zeros)))
    }

    /// The first value that a format cannot hold, if there is one.
    fn lost(&self, format: Format) -> Option<f32> {
        let reach = if format == Format::F16 { HALF_MAX } else { f32::MAX };
        let values = self.vectors.iter().filter_map(|(_, vector)| *vector).flatten();
        values.copied().find(|value| value.abs() > reach)
    }
}

/// Largest number of f16.
const HALF_MAX: f32 = 65504.0;

/// The edited weights. Matrices without edits are the base's.
impl WeightSource for Overlay {
    fn spec(&self) -> &ModelSpec {
        self.base().spec()
    }

    fn matrix(&self, role: Role) -> Result<Matrix, ModelError> {
        self.rewritten(role, self.base().matrix(role)?)
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>, ModelError> {
        self.base().vector(role)
    }
}

impl Overlay {
    /// `base`, which is the tensor of a role or another copy of it, with the edits in place.
    pub(crate) fn rewritten(&self, role: Role, base: Matrix) -> Result<Matrix, ModelError> {
        let Some(replaced) = self.replaced(role) else { return Ok(base) };
        let format = if base.format().is_float() { base.format() } else { Format::F16 };
        let path = self.base().path().to_owned();
        if let Some(value) = replaced.lost(format) {
            let problem =
                format!("an edit of the {role} has the value {value:e}, which {format} cannot hold");
            return Err(ModelError::Contradiction { path, problem });
        }
        replaced.written_into(&base).map_err(|source| {
            let tensor = self.base().spec().tensor_name(role);
            ModelError::Tensor { path, tensor, source }
        })
    }
}
