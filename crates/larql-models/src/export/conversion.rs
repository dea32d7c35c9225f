//! From the way in which one container stores a model to the way of another.

use std::path::Path;

use larql_compute::rotary::{Pairing, Rotary, RotarySpec};
use larql_compute::{ComputeError, Matrix};

use crate::{LayerRole, ModelError, ModelSpec, NormKind, NormSpec, Role};

/// The two ways of storing one model.
pub(super) struct Conversion<'a> {
    from: &'a ModelSpec,
    to: &'a ModelSpec,
}

impl<'a> Conversion<'a> {
    /// # Errors
    /// [`ModelError::Contradiction`] if the two are not the same model; `path` is where `to` would be written.
    pub(super) fn between(
        from: &'a ModelSpec,
        to: &'a ModelSpec,
        path: &Path,
    ) -> Result<Conversion<'a>, ModelError> {
        let [expected, found] =
            [from, to].map(|spec| serde_json::to_value(meaning(spec)).unwrap_or_default());
        if let Some((key, expected, found)) = first_difference(&expected, &found, String::new()) {
            let problem = format!(
                "this container cannot hold the model: its {key} would become {found} where it is {expected}"
            );
            return Err(ModelError::Contradiction { path: path.into(), problem });
        }
        for (layer, (a, b)) in from.layers.iter().zip(&to.layers).enumerate() {
            if !rotate_alike(a.attention.rotary.as_ref(), b.attention.rotary.as_ref(), from.context_length) {
                let problem =
                    format!("this container cannot hold how layer {layer} rotates queries and keys");
                return Err(ModelError::Contradiction { path: path.into(), problem });
            }
        }
        Ok(Conversion { from, to })
    }

    /// A matrix as the target stores it.
    pub(super) fn matrix(&self, role: Role, matrix: Matrix) -> Result<Matrix, ComputeError> {
        let Some(order) = self.row_order(role, matrix.rows()) else { return Ok(matrix) };
        let view = matrix.view();
        let bytes: Vec<u8> = order.into_iter().flat_map(|row| view.row(row)).copied().collect();
        Matrix::new(matrix.format(), matrix.rows(), matrix.cols(), bytes.into())
    }

    /// A vector as the target stores it.
    pub(super) fn vector(&self, role: Role, mut values: Vec<f32>) -> Vec<f32> {
        if let Some(order) = self.row_order(role, values.len()) {
            values = order.into_iter().map(|index| values[index]).collect();
        }
        let offset = |spec| norm_kind(spec, role).map_or(0.0, NormKind::weight_offset);
        let shift = offset(self.from) - offset(self.to);
        values.iter_mut().for_each(|value| *value += shift);
        values
    }

    /// For each output of the target the output of the source, where their order differs: that of rotated heads.
    fn row_order(&self, role: Role, outputs: usize) -> Option<Vec<usize>> {
        let Role::Layer(layer, role) = role else { return None };
        let attention = &self.from.layers[layer].attention;
        use LayerRole::{Key, KeyBias, KeyHeadNorm, KeyNorm, Query, QueryBias, QueryHeadNorm, QueryNorm};
        let is_query = matches!(role, Query | QueryBias | QueryNorm | QueryHeadNorm(_));
        let is_rotated = is_query || matches!(role, Key | KeyBias | KeyNorm | KeyHeadNorm(_));
        let (from, to) = (attention.rotary.as_ref()?, self.to.layers[layer].attention.rotary.as_ref()?);
        if !is_rotated || from.pairing == to.pairing {
            return None;
        }
        let (head, dims) = (attention.head_dim, from.dims);
        let source = |output: usize| {
            let (start, at) = (output - output % head, output % head);
            start
                + match to.pairing {
                    _ if at >= dims => at,
                    Pairing::Interleaved => at / 2 + at % 2 * (dims / 2),
                    Pairing::Halves => at % (dims / 2) * 2 + at / (dims / 2),
                }
        };
        Some((0..outputs).map(source).collect())
    }
}

/// The spec without what [`Conversion`] converts, and without what is compared by its effect.
fn meaning(spec: &ModelSpec) -> ModelSpec {
    let mut spec = spec.clone();
    let plain = |norm: &mut NormSpec| norm.kind = norm.kind.with_finished_weight();
    spec.family.clear();
    plain(&mut spec.final_norm);
    for layer in &mut spec.layers {
        let norms = [
            &mut layer.attention_norm,
            &mut layer.post_attention_norm,
            &mut layer.feed_forward_norm,
            &mut layer.post_feed_forward_norm,
        ];
        norms.into_iter().flatten().for_each(plain);
        layer.attention.query_key_norm.iter_mut().for_each(|norm| plain(&mut norm.norm));
        layer.attention.rotary = None;
    }
    spec
}

/// The formula of the norm whose weight a role is.
fn norm_kind(spec: &ModelSpec, role: Role) -> Option<NormKind> {
    use LayerRole::*;
    let norm = match role {
        Role::FinalNorm => Some(spec.final_norm),
        Role::Layer(layer, role) => {
            let layer = &spec.layers[layer];
            match role {
                AttentionNorm => layer.attention_norm,
                PostAttentionNorm => layer.post_attention_norm,
                FeedForwardNorm => layer.feed_forward_norm,
                PostFeedForwardNorm => layer.post_feed_forward_norm,
                QueryNorm | QueryHeadNorm(_) | KeyNorm | KeyHeadNorm(_) => {
                    layer.attention.query_key_norm.map(|norm| norm.norm)
                }
                _ => None,
            }
        }
        _ => None,
    };
    norm.map(|norm| norm.kind)
}

/// True if two rotations turn by the same angles, however they are described.
fn rotate_alike(a: Option<&RotarySpec>, b: Option<&RotarySpec>, context: usize) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return a.is_none() && b.is_none() };
    let in_halves = |spec: &RotarySpec| Rotary::new(&RotarySpec { pairing: Pairing::Halves, ..spec.clone() });
    let (Ok(a), Ok(b)) = (in_halves(a), in_halves(b)) else { return false };
    // Angles may depend on the length of the sequence.
    [2, context].into_iter().all(|length| a.turns_like(&b, length))
}

/// The first difference of two values: the path to it, and both values.
fn first_difference(
    a: &serde_json::Value,
    b: &serde_json::Value,
    at: String,
) -> Option<(String, String, String)> {
    use serde_json::Value::{Array, Null, Number, Object};
    let join = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match (a, b) {
        _ if a == b => None,
        // Containers round numbers to single precision, and some say them in other terms.
        (Number(x), Number(y)) if is_close(x.as_f64(), y.as_f64()) => None,
        (Object(x), Object(y)) => {
            let keys = x.keys().chain(y.keys().filter(|key| !x.contains_key(*key)));
            keys.into_iter().find_map(|key| {
                first_difference(x.get(key).unwrap_or(&Null), y.get(key).unwrap_or(&Null), join(key))
            })
        }
        (Array(x), Array(y)) if x.len() == y.len() => (x.iter().zip(y).enumerate())
            .find_map(|(index, (x, y))| first_difference(x, y, join(&index.to_string()))),
        _ => Some((at, a.to_string(), b.to_string())),
    }
}

fn is_close(a: Option<f64>, b: Option<f64>) -> bool {
    a.zip(b).is_some_and(|(a, b)| (a - b).abs() <= 1e-6 * a.abs().max(b.abs()))
}
