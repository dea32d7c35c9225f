//! Backward pass: gradients of the logits with respect to the residual stream. Weights are constants.
//!
//! The recorded forward pass keeps two residuals for each layer, and the backward pass recomputes the rest of the layer.
//! Tokens that the caches already hold are constants too, so that an optimiser runs a common prefix once.

use larql_compute::attention::{AttentionJob, attend, attend_gradient};
use larql_compute::{Activations, Pool, Precision, activation, matmul_transposed};

use crate::attention::{Attention, KeysAndValues};
use crate::batch::{Batching, Rows, Sequence};
use crate::feed_forward::{Dense, FeedForward};
use crate::layer::Layer;
use crate::norm::{Norm, normed};
use crate::projection::{Projection, add, products};
use crate::{BackendError, GradientError, Hook, HookError, Model, Point, PointSet, Stage};

impl Model {
    /// Checks that the backward pass covers every part of the layers from `first` on.
    ///
    /// # Errors
    /// [`GradientError::NotDifferentiable`] with the first part that it does not cover.
    pub fn check_differentiable(&self, first: usize) -> Result<(), GradientError> {
        for (layer, parts) in self.layers.iter().enumerate().skip(first) {
            let absent = |part| Err(BackendError::Absent { part, layer: Some(layer) }.into());
            let Some(attention) = &parts.attention else { return absent("attention") };
            let part = if matches!(parts.feed_forward, FeedForward::Absent) {
                return absent("the feed-forward step");
            } else if matches!(parts.feed_forward, FeedForward::Mixture(_)) {
                "a mixture of experts"
            } else if parts.per_layer_input.is_some() {
                "inputs of its own for every token"
            } else if attention.query_down.is_some() {
                "narrow queries"
            } else {
                match attention.keys_and_values {
                    KeysAndValues::Projected { .. } => continue,
                    KeysAndValues::Borrowed { .. } => "keys and values of another layer",
                    KeysAndValues::Latent { .. } => "latent keys and values",
                }
            };
            return Err(GradientError::NotDifferentiable { layer, part });
        }
        Ok(())
    }

    /// Gradient with respect to the last layer's output `residual`, `[tokens, hidden]`, given the gradient with respect to
    /// its logits, `[tokens, vocab]`, where they are `logits`. The head's row of a logit whose gradient is zero is not read.
    ///
    /// # Errors
    /// If the final norm or the output head is absent.
    pub fn logits_gradient(
        &self,
        residual: &[f32],
        logits: &[f32],
        mut gradient: Vec<f32>,
    ) -> Result<Vec<f32>, BackendError> {
        if let Some(cap) = self.spec.logit_soft_cap {
            for (gradient, capped) in gradient.iter_mut().zip(logits) {
                *gradient *= activation::soft_cap_derivative(*capped, cap);
            }
        }
        gradient.iter_mut().for_each(|g| *g *= self.spec.logit_scale);
        let mut out = vec![0.0; residual.len()];
        matmul_transposed(&self.pool, self.ends.head()?.weight.view(), &gradient, &mut out);
        self.ends.norm()?.gradient(residual, &mut out);
        Ok(out)
    }

    /// Output of a layer, given the residual before its feed-forward step and the step's output before its norm; all
    /// `[tokens, hidden]`. Layers with per-token inputs of their own are not covered.
    pub fn finish_feed_forward(&self, layer: usize, residual: &[f32], output: &[f32]) -> Vec<f32> {
        let layer = &self.layers[layer];
        let mut branch = output.to_vec();
        layer.finish_branch(&layer.post_feed_forward_norm, &mut branch);
        let mut residual = residual.to_vec();
        add(&mut residual, &branch);
        let scale = layer.output_scale.unwrap_or(1.0);
        residual.iter_mut().for_each(|v| *v *= scale);
        residual
    }

    /// Replaces the gradient with respect to [`Model::finish_feed_forward`] by the gradient with respect to its `output`;
    /// both `[tokens, hidden]`.
    pub fn finish_feed_forward_gradient(&self, layer: usize, output: &[f32], gradient: &mut [f32]) {
        let layer = &self.layers[layer];
        let scale = layer.output_scale.unwrap_or(1.0);
        gradient.iter_mut().for_each(|g| *g *= scale * layer.residual_multiplier);
        if let Some(norm) = &layer.post_feed_forward_norm {
            norm.gradient(output, gradient);
        }
    }
}

/// Forward pass through the layers from one on, recorded for the backward pass.
#[derive(Clone, Debug)]
pub struct RecordedForward {
    first: usize,
    /// Input of each layer, `[tokens, hidden]`.
    inputs: Vec<Vec<f32>>,
    /// Output of each layer's attention, `[tokens, hidden]`.
    branches: Vec<Vec<f32>>,
    /// Output of the last layer, `[tokens, hidden]`.
    pub output: Vec<f32>,
}

impl Hook for RecordedForward {
    fn points(&self) -> PointSet {
        PointSet::stages([Stage::LayerInput, Stage::AttentionOutput])
    }

    fn at(&mut self, point: Point, _: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        match point.stage() {
            Some(Stage::LayerInput) => self.inputs.push(values.to_vec()),
            _ => self.branches.push(values.to_vec()),
        }
        Ok(())
    }
}

impl RecordedForward {
    /// Runs the input of layer `first`, `[tokens, hidden]`, through it and all layers above, after the tokens that the
    /// caches hold. The caches of those layers hold the new tokens beyond their length, where the backward pass reads
    /// them, until they are truncated.
    ///
    /// # Errors
    /// [`GradientError::NotDifferentiable`] if the backward pass does not cover a layer.
    pub fn new(
        model: &Model,
        first: usize,
        mut residual: Vec<f32>,
        sequences: &mut [Sequence<'_>],
    ) -> Result<RecordedForward, GradientError> {
        model.check_differentiable(first)?;
        let mut run = RecordedForward { first, inputs: Vec::new(), branches: Vec::new(), output: Vec::new() };
        let rows = Rows::of_sequences(sequences, Batching::Shared);
        let layers = first..model.layers.len();
        model.pass().with_hook(&mut run).layers(layers, None, &rows, sequences, &mut residual)?;
        run.output = residual;
        Ok(run)
    }

    /// Gradient with respect to the input of the first layer, `[tokens, hidden]`, given the gradient with respect to
    /// [`RecordedForward::output`]. `sequences` are those of [`RecordedForward::new`], not truncated yet.
    pub fn gradient(&self, model: &Model, sequences: &[Sequence<'_>], mut gradient: Vec<f32>) -> Vec<f32> {
        let recorded = self.inputs.iter().zip(&self.branches).enumerate().rev();
        for (index, (input, branch)) in recorded {
            let index = self.first + index;
            let layer = LayerGradient { pool: &model.pool, index, layer: &model.layers[index], sequences };
            layer.backward(input, branch, &mut gradient);
        }
        gradient
    }
}

/// Backward pass of one layer.
struct LayerGradient<'a, 's> {
    pool: &'a Pool,
    index: usize,
    layer: &'a Layer,
    sequences: &'a [Sequence<'s>],
}

impl LayerGradient<'_, '_> {
    /// Replaces the gradient with respect to the layer's output by the gradient with respect to its `input`; `branch` is
    /// the attention output. All are `[tokens, hidden]`.
    fn backward(&self, input: &[f32], branch: &[f32], gradient: &mut [f32]) {
        let layer = self.layer;
        if let Some(scale) = layer.output_scale {
            gradient.iter_mut().for_each(|g| *g *= scale);
        }
        if layer.parallel {
            let normed = normed(&layer.attention_norm, input);
            let mut of_normed = self.feed_forward(&normed, gradient);
            add(&mut of_normed, &self.attention(&normed, gradient));
            norm_gradient(&layer.attention_norm, input, &mut of_normed);
            add(gradient, &of_normed);
            return;
        }
        let mut middle = input.to_vec();
        add(&mut middle, branch);
        let mut of_middle = self.feed_forward(&normed(&layer.feed_forward_norm, &middle), gradient);
        norm_gradient(&layer.feed_forward_norm, &middle, &mut of_middle);
        add(gradient, &of_middle);

        let mut of_input = self.attention(&normed(&layer.attention_norm, input), gradient);
        norm_gradient(&layer.attention_norm, input, &mut of_input);
        add(gradient, &of_input);
    }

    /// The gradient of the feed-forward branch's input for that of what it adds to the residual.
    fn feed_forward(&self, input: &[f32], gradient: &[f32]) -> Vec<f32> {
        let FeedForward::Dense(dense) = &self.layer.feed_forward else {
            unreachable!("recorded passes begin with `check_differentiable`")
        };
        let activations = Activations::new(input, dense.gate.weight.cols());
        let norm = self.layer.post_feed_forward_norm.as_ref();
        let output = || {
            let mut output = vec![0.0; input.len()];
            dense.forward(self.pool, &activations, Precision::Exact, &mut output);
            output
        };
        dense.gradient(self.pool, &activations, &self.branch_gradient(norm, &output, gradient))
    }

    /// The gradient of attention's input for that of what it adds to the residual.
    fn attention(&self, input: &[f32], gradient: &[f32]) -> Vec<f32> {
        let norm = self.layer.post_attention_norm.as_ref();
        let finish = |output: &dyn Fn() -> Vec<f32>| self.branch_gradient(norm, output, gradient);
        let Some(attention) = &self.layer.attention else {
            unreachable!("recorded passes begin with `check_differentiable`")
        };
        attention.gradient((self.pool, self.index), input, self.sequences, finish)
    }

    /// The gradient of a branch's output, computed if its norm needs it, for that of what it adds to the residual.
    fn branch_gradient(
        &self,
        norm: Option<&Norm>,
        output: &dyn Fn() -> Vec<f32>,
        gradient: &[f32],
    ) -> Vec<f32> {
        let mut gradient: Vec<f32> = gradient.iter().map(|g| g * self.layer.residual_multiplier).collect();
        if let Some(norm) = norm {
            norm.gradient(&output(), &mut gradient);
        }
        gradient
    }
}

fn norm_gradient(norm: &Option<Norm>, input: &[f32], gradient: &mut [f32]) {
    if let Some(norm) = norm {
        norm.gradient(input, gradient);
    }
}

impl Projection {
    /// Adds to `out`, `[tokens, cols]`, the gradient of the input for that of the product, `[tokens, rows]`.
    pub(crate) fn add_gradient(&self, pool: &Pool, gradient: &[f32], out: &mut [f32]) {
        add(out, &self.input_gradient(pool, gradient));
    }

    fn input_gradient(&self, pool: &Pool, gradient: &[f32]) -> Vec<f32> {
        let mut product = vec![0.0; gradient.len() / self.weight.rows() * self.weight.cols()];
        matmul_transposed(pool, self.weight.view(), gradient, &mut product);
        product
    }
}

impl Dense {
    /// The gradient of the step's input for that of its output; both are `[tokens, hidden]`.
    fn gradient(&self, pool: &Pool, input: &Activations<'_>, gradient: &[f32]) -> Vec<f32> {
        let gates = self.gate.product(pool, input, Precision::Exact);
        let mut of_gates = self.down.input_gradient(pool, gradient);
        let mut out = vec![0.0; input.values().len()];
        if let Some(edits) = &self.edits {
            edits.take(&mut of_gates, self.feature_count());
            add(&mut out, &edits.step.gradient(pool, input, gradient));
        }
        if let Some(up) = &self.up {
            let ups = up.product(pool, input, Precision::Exact);
            let mut fired = gates.clone();
            self.activation.apply(&mut fired);
            let mut of_ups = of_gates.clone();
            for (((of_gate, of_up), fired), up) in of_gates.iter_mut().zip(&mut of_ups).zip(&fired).zip(&ups)
            {
                *of_gate *= self.activation.factor(*up);
                *of_up *= fired * self.activation.factor_derivative(*up);
            }
            up.add_gradient(pool, &of_ups, &mut out);
        }
        of_gates.iter_mut().zip(&gates).for_each(|(g, gate)| *g *= self.activation.derivative(*gate));
        self.gate.add_gradient(pool, &of_gates, &mut out);
        out
    }
}

impl Attention {
    /// The gradient of the branch's normed input, `[tokens, hidden]`, after a pass whose tokens the caches still hold
    /// beyond their length. `of_output` gives that of its output, and may ask for the output itself.
    fn gradient(
        &self,
        (pool, layer): (&Pool, usize),
        input: &[f32],
        sequences: &[Sequence<'_>],
        of_output: impl Fn(&dyn Fn() -> Vec<f32>) -> Vec<f32>,
    ) -> Vec<f32> {
        let KeysAndValues::Projected { key, value, key_norm, value_norm } = &self.keys_and_values else {
            unreachable!("recorded passes begin with `check_differentiable`")
        };
        let activations = Activations::new(input, self.query.weight.cols());
        let [raw_queries, raw_keys, raw_values] =
            products(pool, [&self.query, key, value.as_ref().unwrap_or(key)], &activations, Precision::Exact);
        let shape = &self.shape;
        let tokens = activations.batch();
        let [query_width, key_width, value_width, mixed_width] =
            [raw_queries.len(), raw_keys.len(), raw_values.len(), tokens * shape.heads * shape.value_dim]
                .map(|all| all / tokens);
        let parts: Vec<_> = sequences
            .iter()
            .scan(0, |first, sequence| {
                let part = *first..*first + sequence.tokens.len();
                *first = part.end;
                let start = sequence.state.len();
                let positions = start..start + part.len();
                let rotation = self.rotation(positions.clone(), positions.end);
                Some((part, positions, rotation, sequence.state.view(layer)))
            })
            .collect();

        let mut queries = raw_queries.clone();
        for (part, positions, rotation, _) in &parts {
            let queries = &mut queries[part.start * query_width..part.end * query_width];
            self.prepare_queries(positions.clone(), rotation.as_ref(), queries);
        }
        let gradient = of_output(&|| {
            let mut mixed = vec![0.0; tokens * mixed_width];
            for (part, _, _, cached) in &parts {
                let queries = &queries[part.start * query_width..part.end * query_width];
                let out = &mut mixed[part.start * mixed_width..part.end * mixed_width];
                attend(pool, shape, &mut [AttentionJob { cached: *cached, queries, out }]);
            }
            self.output.product(pool, &Activations::new(&mixed, mixed_width), Precision::Exact)
        });

        let of_mixed = self.output.input_gradient(pool, &gradient);
        let (mut of_queries, mut of_keys, mut of_values) = (Vec::new(), Vec::new(), Vec::new());
        for (part, positions, rotation, cached) in &parts {
            let [raw_queries, queries] = [&raw_queries, &queries]
                .map(|queries| &queries[part.start * query_width..part.end * query_width]);
            let raw_keys = &raw_keys[part.start * key_width..part.end * key_width];
            let of_mixed = &of_mixed[part.start * mixed_width..part.end * mixed_width];
            let mut gradient = attend_gradient(pool, shape, *cached, queries, of_mixed);
            let rotation = rotation.as_ref();
            self.prepare_queries_gradient(positions.clone(), rotation, raw_queries, &mut gradient.queries);
            self.turn_gradient(key_norm, rotation, raw_keys, &mut gradient.keys, key_width);
            of_queries.extend(gradient.queries);
            of_keys.extend(gradient.keys);
            of_values.extend(gradient.values);
        }
        norm_gradient(value_norm, &raw_values, &mut of_values);
        debug_assert_eq!(of_values.len(), tokens * value_width);
        let mut out = self.query.input_gradient(pool, &of_queries);
        key.add_gradient(pool, &of_keys, &mut out);
        value.as_ref().unwrap_or(key).add_gradient(pool, &of_values, &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larql_models::Checkpoint;
    use larql_testing::noise;

    use super::*;
    use crate::{KeyValueCache, Record};

    /// Families of which everything is known here, each with something that the others lack: grouped queries, windows,
    /// soft caps, one-plus norms on both sides, norms of queries and keys, biases, learned positions, parallel
    /// branches, multipliers, squares, layer norms of every kind, norms of single heads and of rotated ones, queries that
    /// grow.
    const KNOWN: [&str; 21] = [
        "llama",
        "llama3",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "phi",
        "phi3",
        "olmo2",
        "granite",
        "starcoder2",
        "nemotron",
        "stablelm",
        "hunyuan_dense",
        "ministral3",
        "cohere2",
        "exaone4",
        "glm4",
    ];

    fn open(family: &str) -> Model {
        let folder = larql_testing::repository("conformance").join(family);
        Model::load(&Checkpoint::open(&folder).unwrap(), Arc::new(Pool::new(2))).unwrap()
    }

    #[test]
    fn foretells_how_small_steps_change_log_probabilities() {
        for family in KNOWN {
            let model = open(family);
            let (layers, hidden, vocab) = (model.layers.len(), model.spec.hidden_size, model.spec.vocab_size);
            let texts: [Vec<u32>; 2] = [
                (1..12).map(|i| i * 7 % vocab as u32).collect(),
                (1..9).map(|i| i * 5 % vocab as u32).collect(),
            ];
            for first in [0, layers - 1] {
                // The first tokens of each text are constants.
                let mut caches = [KeyValueCache::new(&model.spec), KeyValueCache::new(&model.spec)];
                let mut at = Vec::new();
                for (cache, text) in caches.iter_mut().zip(&texts) {
                    model.pass().residual(&mut [Sequence::new(cache, &text[..4])]).unwrap();
                    let mut inputs = Record::new(Stage::LayerInput);
                    let mut pass = model.pass().with_hook(&mut inputs);
                    pass.residual(&mut [Sequence::new(cache, &text[4..])]).unwrap();
                    at.extend_from_slice(&inputs.layers[first]);
                    cache.truncate(4);
                }
                let mut value = |residual: Vec<f32>, back: bool| {
                    let mut sequences: Vec<Sequence<'_>> = caches
                        .iter_mut()
                        .zip(&texts)
                        .map(|(cache, text)| Sequence::new(cache, &text[4..]))
                        .collect();
                    let run = RecordedForward::new(&model, first, residual, &mut sequences).unwrap();
                    let logits = model.logit_lens(&run.output).unwrap();
                    let mut gradient = vec![0.0; logits.len()];
                    let mut value = 0.0;
                    let rows = logits.chunks_exact(vocab).zip(gradient.chunks_exact_mut(vocab));
                    for (t, (logits, gradient)) in rows.enumerate() {
                        gradient.copy_from_slice(logits);
                        activation::softmax(gradient);
                        let target = (t * 13 + 3) % vocab;
                        value += f64::from(gradient[target]).ln();
                        gradient.iter_mut().for_each(|p| *p = -*p);
                        gradient[target] += 1.0;
                    }
                    let gradient = back.then(|| {
                        let gradient = model.logits_gradient(&run.output, &logits, gradient).unwrap();
                        run.gradient(&model, &sequences, gradient)
                    });
                    caches.iter_mut().for_each(|cache| cache.truncate(4));
                    (value, gradient)
                };
                let gradient = value(at.clone(), true).1.unwrap();
                assert_eq!(gradient.len() % hidden, 0);
                // Along the gradient itself, so that it must have the right length, and along noise.
                let length = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
                let size = at.iter().map(|x| x * x).sum::<f32>().sqrt() * 2e-4;
                let mut noise = noise(at.len(), 5);
                let noise_length = noise.iter().map(|x| x * x).sum::<f32>().sqrt();
                noise
                    .iter_mut()
                    .zip(&gradient)
                    .for_each(|(n, g)| *n = 0.5 * *n / noise_length + 0.5 * g / length);
                for step in [gradient.iter().map(|g| g / length).collect(), noise] {
                    let mut moved = |size: f32| {
                        let at = at.iter().zip(&step).map(|(x, s)| x + size * s).collect();
                        value(at, false).0
                    };
                    let found = (moved(size) - moved(-size)) / (2.0 * f64::from(size));
                    let foretold: f64 = gradient.iter().zip(&step).map(|(g, s)| f64::from(g * s)).sum();
                    let error = (found / foretold - 1.0).abs();
                    assert!(error < 1e-2, "{family} from layer {first}: {found}, not {foretold}");
                }
            }
        }
    }

    #[test]
    fn models_of_other_kinds_are_refused() {
        for family in ["mixtral", "deepseek_v2", "gemma4_e2b"] {
            let error = open(family).check_differentiable(0).unwrap_err();
            assert!(error.to_string().ends_with("through which gradients are not computed"), "{error}");
        }
    }
}
