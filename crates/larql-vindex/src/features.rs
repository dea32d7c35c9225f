//! Features as records: the interface that search, queries and editing use.

use larql_compute::vector::add_to_rows;
use larql_compute::{Activations, Pool, Precision, matmul, top_k_by_magnitude};
use larql_models::{Activation, ProjectionRoles, Role, StepRoles, WeightSource};

use crate::gate_rows::GateRows;
use crate::{Component, Label, TopTokens, Vindex, VindexError};

/// Components that activations depend on.
const FIRING: [Component; 3] = [Component::Gate, Component::Up, Component::Router];

/// The features of a model. Feature `f` of layer `l` has a gate row, which decides when it fires, a down vector,
/// which it adds to the residual, the tokens that it writes most, and perhaps a label.
///
/// [`Vindex`] implements it, and so does [`Overlay`](crate::Overlay), a vindex with edits: code that uses this
/// trait sees the edits.
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

    /// The `k` features of a layer whose gate rows have the largest products with `query`, `[1, hidden]`, by magnitude, with the
    /// products; strongest first.
    ///
    /// # Panics
    /// If a width is wrong.
    fn strongest_gates(
        &self,
        pool: &Pool,
        layer: usize,
        query: &Activations<'_>,
        k: usize,
    ) -> Vec<(usize, f32)> {
        let mut scores = vec![0.0; self.features(layer)];
        self.gate_scores(pool, layer, query, &mut scores);
        top_k_by_magnitude(&scores, k)
    }

    /// Activations of the features: `inputs`, `[n, hidden]`, are what the feed-forward branch reads, after
    /// its norm; `out` is `[n, features]`. Times its down vector this is what a feature adds to the residual.
    ///
    /// # Errors
    /// [`VindexError::NotHeld`] without gate rows and up projections.
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

    /// Weights by which a mixture of experts multiplies each feature's activation for an input `[hidden]`, as in
    /// [`FeatureStore::activations`]: 0 for features of experts that it is not routed to. None in other layers.
    ///
    /// # Errors
    /// If the router is not held.
    fn feature_weights(
        &self,
        _pool: &Pool,
        _layer: usize,
        _input: &[f32],
    ) -> Result<Option<Vec<f32>>, VindexError> {
        Ok(None)
    }

    /// Writes the gate row of a feature to `out`, `[hidden]`.
    ///
    /// # Panics
    /// If there is no such feature, or `out` has the wrong length.
    fn gate_row(&self, layer: usize, feature: usize, out: &mut [f32]);

    /// Writes the down vector of a feature to `out`, `[hidden]`.
    ///
    /// # Errors
    /// [`VindexError::NotHeld`] without down projections.
    ///
    /// # Panics
    /// If there is no such feature, or `out` has the wrong length.
    fn down_vector(&self, layer: usize, feature: usize, out: &mut [f32]) -> Result<(), VindexError>;

    /// The tokens that a feature writes most, strongest first; none if they are not held.
    fn top_tokens(&self, layer: usize, feature: usize) -> TopTokens<'_>;

    /// The label of a feature, if it has one.
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
        self.gate_rows(layer).map_or(0, GateRows::features)
    }

    fn gate_scores(&self, pool: &Pool, layer: usize, queries: &Activations<'_>, out: &mut [f32]) {
        self.search_gates(layer, queries, |rows, query_of| rows.scores(pool, query_of, out));
    }

    fn strongest_gates(
        &self,
        pool: &Pool,
        layer: usize,
        query: &Activations<'_>,
        k: usize,
    ) -> Vec<(usize, f32)> {
        self.search_gates(layer, query, |rows, query_of| rows.strongest(pool, query_of, k))
            .unwrap_or_default()
    }

    fn activations(
        &self,
        pool: &Pool,
        layer: usize,
        inputs: &Activations<'_>,
        out: &mut [f32],
    ) -> Result<(), VindexError> {
        if let Some(mixture) = self.mixture(layer) {
            self.require(&FIRING, "the strength at which features fire")?;
            return mixture.activations(pool, inputs, out);
        }
        let feed_forward = &self.spec().layers[layer].feed_forward;
        let step = StepRoles::of_dense(feed_forward);
        self.require(&FIRING, "the strength at which features fire")?;
        self.step_activations(pool, layer, step, feed_forward.activation(), inputs, out)
    }

    fn feature_weights(
        &self,
        pool: &Pool,
        layer: usize,
        input: &[f32],
    ) -> Result<Option<Vec<f32>>, VindexError> {
        self.mixture(layer).map(|mixture| mixture.feature_weights(pool, input)).transpose()
    }

    fn gate_row(&self, layer: usize, feature: usize, out: &mut [f32]) {
        let rows = self.gate_rows(layer).unwrap_or_else(|| panic!("there is no layer {layer}"));
        rows.decode_row(feature, out);
    }

    fn down_vector(&self, layer: usize, feature: usize, out: &mut [f32]) -> Result<(), VindexError> {
        self.require(&[Component::Down], "what features write")?;
        let (roles, column) = StepRoles::of_feature(&self.spec().layers[layer].feed_forward, feature);
        let down = self.matrix(Role::Layer(layer, roles.down.weight))?;
        down.view().decode_column(column, out);
        Ok(())
    }

    fn top_tokens(&self, layer: usize, feature: usize) -> TopTokens<'_> {
        let tokens = self.down_meta().map_or(TopTokens::listed(&[]), |meta| meta.tokens(layer, feature));
        tokens.of_vocabulary(self.spec().vocab_size)
    }

    fn label(&self, layer: usize, feature: usize) -> Option<Label> {
        self.labels().get(layer, feature).cloned()
    }
}

impl Vindex {
    /// Writes the activations of one step, `act(gate) * up` or `act(gate)`, for inputs `[n, hidden]` to `out`,
    /// `[n, features of the step]`.
    pub(crate) fn step_activations(
        &self,
        pool: &Pool,
        layer: usize,
        step: StepRoles,
        function: Activation,
        inputs: &Activations<'_>,
        out: &mut [f32],
    ) -> Result<(), VindexError> {
        let project = |projection: ProjectionRoles, out: &mut [f32]| -> Result<(), VindexError> {
            let rows = self.matrix(Role::Layer(layer, projection.weight))?;
            matmul(pool, rows.view(), inputs, Precision::Exact, out);
            if let Some(bias) = projection.bias {
                add_to_rows(&self.vector(Role::Layer(layer, bias))?, out);
            }
            Ok(())
        };
        project(step.gate, out)?;
        function.apply(out);
        if let Some(rows) = step.up {
            let mut up = vec![0.0; out.len()];
            project(rows, &mut up)?;
            function.multiply(out, &up);
        }
        Ok(())
    }

    /// Result of `search` for a layer's gate rows and the queries for each of their pieces; nothing if the rows are
    /// not held.
    fn search_gates<T>(
        &self,
        layer: usize,
        queries: &Activations<'_>,
        search: impl for<'q> FnOnce(&GateRows, &dyn Fn(usize) -> &'q Activations<'q>) -> T,
    ) -> Option<T> {
        let rows = self.gate_rows(layer)?;
        // The experts of some mixtures have an input norm of their own; without it the query stays as it is.
        let mixture = self.mixture(layer);
        let own = mixture.as_ref().and_then(|mixture| mixture.expert_inputs(queries).ok().flatten());
        let own = own.as_ref().map(|own| Activations::new(own, queries.width()));
        let experts = self.spec().layers[layer].feed_forward.mixture().map_or(0, |mixture| mixture.experts);
        Some(search(rows, &|piece| own.as_ref().filter(|_| piece < experts).unwrap_or(queries)))
    }
}
