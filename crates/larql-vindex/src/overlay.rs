//! Overlay: a vindex with edits, as every reader of features sees it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use larql_compute::vector::add_to_rows;
use larql_compute::{Activations, Matrix, Pool, Precision, matmul, top_k_by_magnitude};
use larql_models::{ProjectionRoles, Role, StepRoles, WeightSource};

use crate::search::{Firing, FiringRates};
use crate::{
    Component, FeatureEdit, FeatureEdits, FeatureStore, KnnStore, Label, LabelSource, Labels, TopTokens,
    Vindex, VindexError,
};

/// A vindex with edited features. As a [`FeatureStore`] and a [`WeightSource`] it includes the edits; everything else
/// comes from the [`base`](Overlay::base), which is never written.
///
/// The same edits in the forward pass are `Model::edited` of `larql-inference`.
#[derive(Clone, Debug)]
pub struct Overlay {
    base: Arc<Vindex>,
    edits: FeatureEdits,
    knn: Arc<KnnStore>,
    layers: BTreeMap<usize, Arc<EditedLayer>>,
    labels: OnceLock<Labels>,
}

/// The edited features of one layer, as matrices.
#[derive(Clone, Debug)]
struct EditedLayer {
    /// Their numbers, ascending.
    features: Vec<usize>,
    gate: Rows,
    /// None in a layer that is not gated, or without up projections.
    up: Option<Rows>,
    rates: OnceLock<FiringRates>,
}

/// Rows `[edited features, hidden]` with their biases, zeros where the layer has none.
#[derive(Clone, Debug)]
struct Rows {
    matrix: Matrix,
    bias: Vec<f32>,
}

impl Overlay {
    /// Applies `edits` to `base`. The edge memory is the base's.
    ///
    /// # Errors
    /// [`VindexError::BadEdit`] if one does not fit the model.
    pub fn new(base: Arc<Vindex>, edits: FeatureEdits) -> Result<Overlay, VindexError> {
        let knn = base.knn_store()?;
        Overlay::with_knn(base, edits, knn)
    }

    /// As [`Overlay::new`], with another edge memory.
    ///
    /// # Errors
    /// As [`Overlay::new`].
    pub fn with_knn(base: Arc<Vindex>, edits: FeatureEdits, knn: KnnStore) -> Result<Overlay, VindexError> {
        edits.check(base.spec())?;
        let layers = 0..base.layers();
        let nothing = Overlay {
            base,
            edits: FeatureEdits::default(),
            knn: Arc::default(),
            layers: BTreeMap::new(),
            labels: OnceLock::new(),
        };
        nothing.with_layers(edits, Arc::new(knn), layers)
    }

    /// The same base with other edits, which must fit it, and another edge memory. Only `layers` are edited differently from
    /// here; data of the other layers are shared.
    pub(crate) fn with_layers(
        &self,
        edits: FeatureEdits,
        knn: Arc<KnnStore>,
        layers: impl IntoIterator<Item = usize>,
    ) -> Result<Overlay, VindexError> {
        let base = Arc::clone(&self.base);
        let mut edited = self.layers.clone();
        for layer in layers {
            let of_layer = edits.of_layer(layer).filter(|(_, edit)| edit.changes_vectors());
            let of_layer: Vec<_> = of_layer.collect();
            // Layers whose gates are not held have no features to search.
            if of_layer.is_empty() || base.features(layer) == 0 {
                edited.remove(&layer);
            } else {
                edited.insert(layer, Arc::new(EditedLayer::new(&base, layer, &of_layer)?));
            }
        }
        Ok(Overlay { base, edits, knn, layers: edited, labels: OnceLock::new() })
    }

    /// Returns the unedited vindex.
    pub fn base(&self) -> &Arc<Vindex> {
        &self.base
    }

    /// Returns the edits.
    pub fn edits(&self) -> &FeatureEdits {
        &self.edits
    }

    /// The edge memory.
    pub fn knn(&self) -> &KnnStore {
        &self.knn
    }

    /// The same for writing, without a copy if it has no other owner.
    pub(crate) fn shared_knn(&self) -> Arc<KnnStore> {
        Arc::clone(&self.knn)
    }

    /// The relations of features, those that edits state among them.
    pub fn labels(&self) -> &Labels {
        self.labels.get_or_init(|| {
            let mut labels = self.base.labels().clone();
            for (layer, feature, _) in self.edits.iter() {
                labels.set((layer, feature), self.label(layer, feature));
            }
            labels
        })
    }

    /// As [`Vindex::embedding_firings`].
    ///
    /// # Errors
    /// As [`Vindex::embedding_query`].
    pub fn embedding_firings(
        &self,
        pool: &Pool,
        tokens: &[u32],
        layers: Range<usize>,
    ) -> Result<Vec<Firing>, VindexError> {
        self.base.embedding_firings_in(self, pool, tokens, layers, |layer| self.embedding_rates(pool, layer))
    }

    /// As those of the base, measured again where a layer is edited.
    fn embedding_rates(&self, pool: &Pool, layer: usize) -> Result<&FiringRates, VindexError> {
        let Some(edited) = self.layers.get(&layer) else { return self.base.embedding_rates(pool, layer) };
        if let Some(rates) = edited.rates.get() {
            return Ok(rates);
        }
        let rates = self.base.measure_embedding_rates(self, pool, layer)?;
        Ok(edited.rates.get_or_init(|| rates))
    }

    /// Products `[n, edited features]` of queries with rows of edited features; in a mixture whose experts read an
    /// input of their own, with that.
    fn products(
        &self,
        pool: &Pool,
        layer: usize,
        edited: &EditedLayer,
        rows: &Rows,
        queries: &Activations<'_>,
    ) -> Vec<f32> {
        let product = |queries: &Activations<'_>| {
            let mut out = vec![0.0; queries.batch() * edited.features.len()];
            matmul(pool, rows.matrix.view(), queries, Precision::Exact, &mut out);
            out
        };
        let mut out = product(queries);
        let mixture = self.base.mixture(layer);
        let own = mixture.as_ref().and_then(|mixture| mixture.expert_inputs(queries).ok().flatten());
        if let Some(own) = own {
            let own = product(&Activations::new(&own, queries.width()));
            let feed_forward = &self.base.spec().layers[layer].feed_forward;
            let of_experts = feed_forward.features() - feed_forward.dense_features();
            let features = edited.features.iter().cycle();
            for ((out, own), feature) in out.iter_mut().zip(own).zip(features) {
                if *feature < of_experts {
                    *out = own;
                }
            }
        }
        out
    }
}

impl EditedLayer {
    fn new(base: &Vindex, layer: usize, edits: &[(usize, &FeatureEdit)]) -> Result<EditedLayer, VindexError> {
        let spec = &base.spec().layers[layer].feed_forward;
        let has_up = spec.is_gated() && base.holdings().contains(Component::Up);
        let hidden = base.hidden_size();
        let (mut gate, mut up) = (vec![0.0; edits.len() * hidden], vec![0.0; edits.len() * hidden]);
        let (mut gate_bias, mut up_bias) = (vec![0.0; edits.len()], vec![0.0; edits.len()]);
        for (place, (feature, edit)) in edits.iter().enumerate() {
            let FeatureEdit::Changed(edited) = edit else { continue };
            let (roles, row) = StepRoles::of_feature(spec, *feature);
            let values = place * hidden..(place + 1) * hidden;
            let bias = |projection: ProjectionRoles| -> Result<f32, VindexError> {
                let Some(role) = projection.bias else { return Ok(0.0) };
                Ok(base.vector(Role::Layer(layer, role))?[row])
            };
            match &edited.gate {
                Some(vector) => gate[values.clone()].copy_from_slice(vector),
                None => base.gate_row(layer, *feature, &mut gate[values.clone()]),
            }
            gate_bias[place] = bias(roles.gate)?;
            if let Some(projection) = roles.up.filter(|_| has_up) {
                match &edited.up {
                    Some(vector) => up[values].copy_from_slice(vector),
                    None => {
                        let rows = base.matrix(Role::Layer(layer, projection.weight))?;
                        rows.view().decode_row(row, &mut up[values]);
                    }
                }
                up_bias[place] = bias(projection)?;
            }
        }
        let rows = |values: &[f32], bias| -> Result<Rows, VindexError> {
            let matrix =
                Matrix::from_f32(edits.len(), hidden, values).map_err(|source| VindexError::Tensor {
                    path: base.path().into(),
                    tensor: format!("edited features of layer {layer}"),
                    source,
                })?;
            Ok(Rows { matrix, bias })
        };
        Ok(EditedLayer {
            features: edits.iter().map(|(feature, _)| *feature).collect(),
            gate: rows(&gate, gate_bias)?,
            up: if has_up { Some(rows(&up, up_bias)?) } else { None },
            rates: OnceLock::new(),
        })
    }

    /// Overwrites values `[n, all features]` with those of the edited ones, `[n, edited features]`.
    fn put(&self, edited: &[f32], out: &mut [f32], all_features: usize) {
        let rows = out.chunks_exact_mut(all_features).zip(edited.chunks_exact(self.features.len()));
        for (out, edited) in rows {
            self.features.iter().zip(edited).for_each(|(feature, value)| out[*feature] = *value);
        }
    }
}

impl FeatureStore for Overlay {
    fn layers(&self) -> usize {
        self.base.layers()
    }

    fn hidden_size(&self) -> usize {
        self.base.hidden_size()
    }

    fn features(&self, layer: usize) -> usize {
        self.base.features(layer)
    }

    fn gate_scores(&self, pool: &Pool, layer: usize, queries: &Activations<'_>, out: &mut [f32]) {
        self.base.gate_scores(pool, layer, queries, out);
        if let Some(edited) = self.layers.get(&layer) {
            let scores = self.products(pool, layer, edited, &edited.gate, queries);
            edited.put(&scores, out, self.features(layer));
        }
    }

    fn strongest_gates(
        &self,
        pool: &Pool,
        layer: usize,
        query: &Activations<'_>,
        k: usize,
    ) -> Vec<(usize, f32)> {
        let Some(edited) = self.layers.get(&layer) else {
            return self.base.strongest_gates(pool, layer, query, k);
        };
        // Of the base's so many that `k` are left without the edited ones.
        let mut strongest =
            self.base.strongest_gates(pool, layer, query, k.saturating_add(edited.features.len()));
        strongest.retain(|(feature, _)| edited.features.binary_search(feature).is_err());
        let scores = self.products(pool, layer, edited, &edited.gate, query);
        strongest.extend(edited.features.iter().copied().zip(scores));
        strongest.sort_unstable_by_key(|(feature, _)| *feature);
        let scores: Vec<f32> = strongest.iter().map(|(_, score)| *score).collect();
        top_k_by_magnitude(&scores, k).into_iter().map(|(index, _)| strongest[index]).collect()
    }

    fn activations(
        &self,
        pool: &Pool,
        layer: usize,
        inputs: &Activations<'_>,
        out: &mut [f32],
    ) -> Result<(), VindexError> {
        self.base.activations(pool, layer, inputs, out)?;
        let Some(edited) = self.layers.get(&layer) else { return Ok(()) };
        let function = self.base.spec().layers[layer].feed_forward.activation();
        let project = |rows: &Rows| {
            let mut values = self.products(pool, layer, edited, rows, inputs);
            add_to_rows(&rows.bias, &mut values);
            values
        };
        let mut values = project(&edited.gate);
        function.apply(&mut values);
        if let Some(up) = &edited.up {
            function.multiply(&mut values, &project(up));
        }
        let rows = values.chunks_exact_mut(edited.features.len());
        for (values, input) in rows.zip(inputs.values().chunks_exact(inputs.width())) {
            if let Some(weights) = self.feature_weights(pool, layer, input)? {
                edited.features.iter().zip(values).for_each(|(feature, value)| *value *= weights[*feature]);
            }
        }
        edited.put(&values, out, self.features(layer));
        Ok(())
    }

    fn feature_weights(
        &self,
        pool: &Pool,
        layer: usize,
        input: &[f32],
    ) -> Result<Option<Vec<f32>>, VindexError> {
        self.base.feature_weights(pool, layer, input)
    }

    fn gate_row(&self, layer: usize, feature: usize, out: &mut [f32]) {
        match self.edits.get(layer, feature) {
            Some(FeatureEdit::Deleted) => out.fill(0.0),
            Some(FeatureEdit::Changed(edited)) if let Some(gate) = &edited.gate => out.copy_from_slice(gate),
            _ => self.base.gate_row(layer, feature, out),
        }
    }

    fn down_vector(&self, layer: usize, feature: usize, out: &mut [f32]) -> Result<(), VindexError> {
        match self.edits.get(layer, feature) {
            Some(FeatureEdit::Deleted) => out.fill(0.0),
            Some(FeatureEdit::Changed(edited)) if let Some(down) = &edited.down => out.copy_from_slice(down),
            _ => return self.base.down_vector(layer, feature, out),
        }
        Ok(())
    }

    fn top_tokens(&self, layer: usize, feature: usize) -> TopTokens<'_> {
        match self.edits.get(layer, feature) {
            Some(FeatureEdit::Deleted) => TopTokens::listed(&[]),
            Some(FeatureEdit::Changed(edited)) if let Some(tokens) = &edited.tokens => {
                TopTokens::listed(tokens)
            }
            _ => self.base.top_tokens(layer, feature),
        }
    }

    fn label(&self, layer: usize, feature: usize) -> Option<Label> {
        match self.edits.get(layer, feature) {
            Some(FeatureEdit::Deleted) => None,
            Some(FeatureEdit::Changed(edited)) if edited.edge.is_unlearned() => None,
            Some(FeatureEdit::Changed(edited)) if let Some(relation) = &edited.edge.relation => {
                Some(Label { relation: relation.clone(), source: LabelSource::Inserted })
            }
            _ => self.base.label(layer, feature),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EditedFeature, StatedEdge, TokenScore};

    fn lay(edits: &FeatureEdits) -> Overlay {
        let path = larql_testing::repository("fixtures/llama-f32-browse.vindex");
        Overlay::new(Arc::new(Vindex::open(&path).unwrap()), edits.clone()).unwrap()
    }

    #[test]
    fn edits_are_searched_and_read_at_browse_level() {
        let pool = Pool::new(1);
        let base = lay(&FeatureEdits::default());
        let query = base.base().layer_query(1, &base.base().embedding_query(&[40, 41]).unwrap());
        let tokens = vec![TokenScore { token: 300, score: 9.0 }];
        let edge = StatedEdge { relation: Some("capital".into()), ..StatedEdge::default() };
        let mut edits = FeatureEdits::default();
        let edited = EditedFeature {
            gate: Some(query.clone().into()),
            tokens: Some(tokens.clone()),
            edge,
            ..EditedFeature::default()
        };
        edits.set(1, 9, FeatureEdit::Changed(edited));
        edits.set(1, 4, FeatureEdit::Deleted);
        let overlay = lay(&edits);

        let scores = |store: &dyn FeatureStore| {
            let mut scores = vec![0.0; store.features(1)];
            store.gate_scores(&pool, 1, &Activations::new(&query, query.len()), &mut scores);
            scores
        };
        let (mut before, after) = (scores(&base), scores(&overlay));
        assert!(after[9] > after.iter().take(9).copied().fold(0.0, f32::max));
        (before[4], before[9]) = (0.0, after[9]);
        assert_eq!(after, before);
        for k in [1, 3, 1000] {
            let query = Activations::new(&query, query.len());
            let found = overlay.strongest_gates(&pool, 1, &query, k);
            assert_eq!(found, top_k_by_magnitude(&after, k));
        }
        assert!(overlay.top_tokens(1, 9).eq(tokens) && overlay.top_tokens(1, 4).next().is_none());
        let label = overlay.label(1, 9).unwrap();
        assert_eq!((&*label.relation, label.source), ("capital", LabelSource::Inserted));
        assert_eq!(overlay.labels().iter().count(), 1);

        let fired = overlay.embedding_firings(&pool, &[40, 41], 0..3).unwrap();
        let rates = overlay.embedding_rates(&pool, 1).unwrap();
        assert_eq!(rates.damped(&vec![1.0; after.len()])[4], 1.0);
        assert_eq!(fired[1], Firing::new(1, &after, rates));
        assert_eq!(fired[0], base.embedding_firings(&pool, &[40, 41], 0..1).unwrap()[0]);
    }
}
