//! Inputs that tokens have in every layer besides the residual (see
//! [`PerLayerInputSpec`](larql_models::PerLayerInputSpec)).

use std::f32::consts::FRAC_1_SQRT_2;

use larql_compute::{Activations, Matrix, Pool, Precision};
use larql_models::{Activation, Role, WeightSource};

use crate::LoadError;
use crate::batch::Sequence;
use crate::norm::Norm;
use crate::projection::Projection;

/// Weights that compute the inputs of all layers.
#[derive(Clone, Debug)]
pub(crate) struct PerLayerInputs {
    width: usize,
    /// `[vocab, layers * width]`
    table: Matrix,
    /// `[layers * width, hidden]`
    projection: Projection,
    norm: Norm,
}

/// Weights by which one layer uses its input.
#[derive(Clone, Debug)]
pub(crate) struct PerLayerBranch {
    pub(crate) activation: Activation,
    pub(crate) gate: Projection,
    pub(crate) projection: Projection,
    pub(crate) norm: Norm,
}

/// The inputs of every layer for the tokens of a pass.
pub(crate) struct TokenInputs {
    width: usize,
    /// `[tokens, layers, width]`
    values: Vec<f32>,
}

impl PerLayerInputs {
    /// The tables of a model that has such inputs.
    pub(crate) fn load(source: &dyn WeightSource) -> Result<Option<PerLayerInputs>, LoadError> {
        let Some(spec) = &source.spec().per_layer_inputs else { return Ok(None) };
        let norm = Role::PerLayerProjectionNorm;
        Ok(Some(PerLayerInputs {
            width: spec.width,
            table: source.matrix(Role::PerLayerEmbedding)?,
            projection: Projection { weight: source.matrix(Role::PerLayerModelProjection)?, bias: None },
            norm: Norm::load(source, spec.norm, norm, norm)?,
        }))
    }

    /// Rows of the table.
    pub(crate) fn vocab_size(&self) -> usize {
        self.table.rows()
    }

    /// The inputs for tokens whose scaled embeddings are `[tokens, hidden]`.
    pub(crate) fn of_tokens(
        &self,
        pool: &Pool,
        sequences: &[Sequence<'_>],
        embeddings: &Activations<'_>,
        precision: Precision,
    ) -> TokenInputs {
        let mut values = self.projection.product(pool, embeddings, precision);
        let projection_scale = (embeddings.width() as f32).sqrt().recip();
        values.iter_mut().for_each(|value| *value *= projection_scale);
        self.norm.apply(&mut values);
        let table_scale = (self.width as f32).sqrt();
        let mut row = vec![0.0; self.table.cols()];
        let tokens = sequences.iter().flat_map(|sequence| sequence.tokens);
        for (token, values) in tokens.zip(values.chunks_exact_mut(self.table.cols())) {
            self.table.view().decode_row(*token as usize, &mut row);
            for (value, own) in values.iter_mut().zip(&row) {
                *value = (*value + own * table_scale) * FRAC_1_SQRT_2;
            }
        }
        TokenInputs { width: self.width, values }
    }
}

impl TokenInputs {
    /// The inputs of one layer, `[tokens, width]`.
    fn of_layer(&self, layer: usize, tokens: usize) -> impl Iterator<Item = &[f32]> {
        let all = self.values.chunks_exact(self.values.len() / tokens.max(1));
        all.map(move |token| &token[layer * self.width..][..self.width])
    }
}

impl PerLayerBranch {
    /// Output of the branch, which is added to the residual `[tokens, hidden]`.
    pub(crate) fn forward(
        &self,
        pool: &Pool,
        layer: usize,
        inputs: &TokenInputs,
        residual: &Activations<'_>,
        precision: Precision,
    ) -> Vec<f32> {
        let mut gated = self.gate.product(pool, residual, precision);
        self.activation.apply(&mut gated);
        let own = inputs.of_layer(layer, residual.batch());
        for (gated, input) in gated.chunks_exact_mut(inputs.width).zip(own) {
            gated.iter_mut().zip(input).for_each(|(gate, input)| *gate *= input);
        }
        let mut out = self.projection.product(pool, &residual.with_values(&gated, inputs.width), precision);
        self.norm.apply(&mut out);
        out
    }
}
