//! Features as records: the one interface through which everything above sees them.

use larql_compute::{Activations, Pool, Precision, matmul};
use larql_models::{LayerRole, Role, WeightSource};
use larql_vindex_spec::ExtractLevel;

use crate::{Label, TokenScore, Vindex, VindexError};

/// The features of a model: feature `f` of layer `l` has a gate row, which says when it fires, a down vector,
/// which says what it writes, the tokens that it writes most, and perhaps a label.
///
/// A [`Vindex`] is one. Edits are an overlay that wraps one and is one again, so whatever works through this
/// trait sees them.
pub trait FeatureStore: Send + Sync {
    /// Layers of the model.
    fn layers(&self) -> usize;

    /// Width of gate rows, down vectors and queries.
    fn hidden_size(&self) -> usize;

    /// Features of a layer; none if its features are not held.
    fn features(&self, layer: usize) -> usize;

    /// The product of each query with each gate row: `queries` is `[n, hidden]`, `out` is `[n, features]`.
    ///
    /// # Panics
    /// If a width is wrong.
    fn gate_scores(&self, pool: &Pool, layer: usize, queries: &Activations<'_>, out: &mut [f32]);

    /// How strongly each feature fires: `inputs`, `[n, hidden]`, are what the feed-forward branch reads, after
    /// its norm; `out` is `[n, features]`. Times its down vector this is what a feature adds to the residual.
    ///
    /// # Errors
    /// [`VindexError::NotHeld`] below the level that has up projections.
    ///
    /// # Panics
    /// If a width is wrong.
    fn activations(
        &self,
        pool: &Pool,
        layer: usize,
        inputs: &Activations<'_>,
        out: &mut [f32],
    ) -> Result<(), VindexError>;

    /// Writes the gate row of a feature to `out`, `[hidden]`.
    ///
    /// # Panics
    /// If there is no such feature, or `out` has the wrong length.
    fn gate_row(&self, layer: usize, feature: usize, out: &mut [f32]);

    /// Writes the down vector of a feature to `out`, `[hidden]`.
    ///
    /// # Errors
    /// [`VindexError::NotHeld`] below the level that has down projections.
    ///
    /// # Panics
    /// If there is no such feature, or `out` has the wrong length.
    fn down_vector(&self, layer: usize, feature: usize, out: &mut [f32]) -> Result<(), VindexError>;

    /// The tokens that a feature writes most, strongest first; none if that is not known.
    fn top_tokens(&self, layer: usize, feature: usize) -> Vec<TokenScore>;

    /// The relation that a feature stands for, if one is known.
    fn label(&self, layer: usize, feature: usize) -> Option<Label>;
}

impl FeatureStore for Vindex {
    fn layers(&self) -> usize {
        self.manifest().num_layers
    }

    fn hidden_size(&self) -> usize {
        self.manifest().hidden_size
    }

    fn features(&self, layer: usize) -> usize {
        self.gate_rows(layer).map_or(0, |rows| rows.rows())
    }

    fn gate_scores(&self, pool: &Pool, layer: usize, queries: &Activations<'_>, out: &mut [f32]) {
        if let Some(rows) = self.gate_rows(layer) {
            matmul(pool, rows.view(), queries, Precision::Exact, out);
        }
    }

    fn activations(
        &self,
        pool: &Pool,
        layer: usize,
        inputs: &Activations<'_>,
        out: &mut [f32],
    ) -> Result<(), VindexError> {
        let feed_forward = &self.spec().layers[layer].feed_forward;
        let project = |role: LayerRole, bias: LayerRole, out: &mut [f32]| -> Result<(), VindexError> {
            let rows = self.matrix(Role::Layer(layer, role))?;
            matmul(pool, rows.view(), inputs, Precision::Exact, out);
            if feed_forward.has_bias() {
                let bias = self.vector(Role::Layer(layer, bias))?;
                out.chunks_exact_mut(bias.len()).for_each(|out| add(out, &bias));
            }
            Ok(())
        };
        // Asked for first, so that a vindex without it costs no product.
        let mut up = vec![0.0; if feed_forward.is_gated() { out.len() } else { 0 }];
        if feed_forward.is_gated() {
            self.require(ExtractLevel::Inference, "the strength at which features fire")?;
            project(LayerRole::Up, LayerRole::UpBias, &mut up)?;
        }
        project(LayerRole::Gate, LayerRole::GateBias, out)?;
        let function = feed_forward.activation();
        function.apply(out);
        if feed_forward.is_gated() {
            function.multiply(out, &up);
        }
        Ok(())
    }

    fn gate_row(&self, layer: usize, feature: usize, out: &mut [f32]) {
        let rows = self.gate_rows(layer).unwrap_or_else(|| panic!("layer {layer} has no features here"));
        rows.view().decode_row(feature, out);
    }

    fn down_vector(&self, layer: usize, feature: usize, out: &mut [f32]) -> Result<(), VindexError> {
        self.require(ExtractLevel::Inference, "what features write")?;
        let down = self.matrix(Role::Layer(layer, LayerRole::Down))?;
        let (down, format) = (down.view(), down.format());
        assert!(feature < down.cols(), "feature {feature} of layer {layer}, which has {}", down.cols());
        // A feature is a column: of each row only the block that it is in is decoded.
        let (block, place) = (feature / format.block_len(), feature % format.block_len());
        let mut values = vec![0.0; format.block_len()];
        for (row, out) in out.iter_mut().enumerate() {
            let bytes = &down.row(row)[block * format.block_bytes()..][..format.block_bytes()];
            format.decode(bytes, &mut values);
            *out = values[place];
        }
        Ok(())
    }

    fn top_tokens(&self, layer: usize, feature: usize) -> Vec<TokenScore> {
        let mut tokens = self.down_meta().map_or_else(Vec::new, |meta| meta.tokens(layer, feature));
        // Only a damaged file has others.
        tokens.retain(|token| (token.token as usize) < self.spec().vocab_size);
        tokens
    }

    fn label(&self, layer: usize, feature: usize) -> Option<Label> {
        self.labels().get(layer, feature).cloned()
    }
}

fn add(out: &mut [f32], bias: &[f32]) {
    out.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
}
