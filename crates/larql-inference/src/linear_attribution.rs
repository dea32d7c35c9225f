//! Linear attribution of a logit: how much every embedding, head and feature brings it about, and through which others.
//!
//! With attention patterns and the scales of norms held at their values, everything between the residual stream and a logit is
//! linear but the features. An activation `act(g) u` is attributed to its two products by halves, `a/2` to `g` and `a/2` to
//! `u`, so that nothing is lost (the rule for products of AttnLRP, arXiv 2402.05602); without an up row it goes to `g` whole.
//! The influences of the embeddings then add up to the logit, but for biases.
//!
//! Every figure is in units of the logit, measured from the mean logit of all tokens, since a constant that is added to all
//! logits changes no probability.

use larql_compute::vector::{dot, norm};
use larql_compute::{Activations, Pool, Precision, matmul_transposed};
use larql_models::NormKind;

use crate::attention::{Attention, KeysAndValues};
use crate::attribution::along_columns;
use crate::batch::{Rows, Sequence};
use crate::feed_forward::{Dense, FeedForward};
use crate::hook::{Hook, HookError, Point, PointSet, Stage};
use crate::layer::Layer;
use crate::norm::{Norm, normed};
use crate::projection::add;
use crate::{BackendError, GradientError, KeyValueCache, Model};

/// A part of a pass that writes to the residual stream at one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// The embedding of a token.
    Embedding {
        /// Position of the token.
        position: usize,
    },
    /// An attention head.
    Head {
        /// Its layer.
        layer: usize,
        /// The position that it writes to.
        position: usize,
        /// The head.
        head: usize,
    },
    /// A feature of a feed-forward step.
    Feature {
        /// Its layer.
        layer: usize,
        /// The position.
        position: usize,
        /// The feature.
        feature: usize,
    },
}

impl Component {
    /// The position that it writes to.
    pub fn position(self) -> usize {
        match self {
            Component::Embedding { position }
            | Component::Head { position, .. }
            | Component::Feature { position, .. } => position,
        }
    }

    /// The layer; none of an embedding.
    pub fn layer(self) -> Option<usize> {
        match self {
            Component::Embedding { .. } => None,
            Component::Head { layer, .. } | Component::Feature { layer, .. } => Some(layer),
        }
    }
}

/// Linear attribution of one token's logit after a prompt.
pub struct LinearAttribution<'a> {
    model: &'a Model,
    tokens: usize,
    layers: Vec<RecordedLayer>,
    /// Input of the first layer, `[tokens, hidden]`.
    embedding: Vec<f32>,
    /// Gradient with respect to that, `[tokens, hidden]`.
    embedding_gradient: Vec<f32>,
    /// Gradient with respect to the last layer's output at the last token, `[hidden]`.
    direction: Vec<f32>,
    /// The logit less the mean logit of all tokens, without soft cap.
    logit: f32,
}

/// Components with what each writes to the stream, `[hidden]`.
pub struct Sources(Vec<(Component, Vec<f32>)>);

/// Values of a pass in one layer, and the gradients of the logit with respect to them.
#[derive(Default)]
struct RecordedLayer {
    /// The residual that enters, `[tokens, hidden]`.
    input: Vec<f32>,
    /// `[tokens, heads, tokens]`
    pattern: Vec<f32>,
    /// `[tokens, heads * value_dim]`
    heads: Vec<f32>,
    /// The residual before the feed-forward step, `[tokens, hidden]`.
    middle: Vec<f32>,
    /// `[tokens, features]`
    activations: Vec<f32>,
    /// Output of attention before its norm, where it has one, `[tokens, hidden]`.
    attention_output: Vec<f32>,
    /// The same of the feed-forward step.
    feed_forward_output: Vec<f32>,
    /// Gradient with respect to the outputs of the heads, `[tokens, heads * value_dim]`.
    along_heads: Vec<f32>,
    /// Gradient with respect to the activations, `[tokens, features]`.
    along_features: Vec<f32>,
}

/// Length of an attention sink's residual from which on it is one, in lengths of the median one.
const SINK: f32 = 8.0;

/// Hook that records what the backward pass needs.
#[derive(Default)]
struct Recorder(Vec<RecordedLayer>);

impl Hook for Recorder {
    fn points(&self) -> PointSet {
        PointSet::stages([
            Stage::LayerInput,
            Stage::AttentionPattern,
            Stage::HeadOutputs,
            Stage::AttentionOutput,
            Stage::FeatureActivations,
        ])
    }

    fn at(&mut self, point: Point, _: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        let Point::Layer { layer, stage } = point else { return Ok(()) };
        if layer == self.0.len() {
            self.0.push(RecordedLayer::default());
        }
        let recorded = &mut self.0[layer];
        let values = values.to_vec();
        match stage {
            Stage::LayerInput => recorded.input = values,
            Stage::AttentionPattern => recorded.pattern = values,
            Stage::HeadOutputs => recorded.heads = values,
            Stage::AttentionOutput => {
                recorded.middle = recorded.input.clone();
                add(&mut recorded.middle, &values);
            }
            _ => recorded.activations = values,
        }
        Ok(())
    }
}

impl<'a> LinearAttribution<'a> {
    /// Runs a prompt and attributes the logit of `token` after it.
    ///
    /// # Errors
    /// [`GradientError::NotDifferentiable`] if a layer is not covered, or if the pass fails or weights are absent.
    pub fn new(model: &'a Model, prompt: &[u32], token: u32) -> Result<LinearAttribution<'a>, GradientError> {
        model.check_differentiable(0)?;
        let mut recorder = Recorder::default();
        let mut state = KeyValueCache::new(&model.spec);
        let mut pass = model.pass().with_hook(&mut recorder);
        let output = pass.residual(&mut [Sequence::new(&mut state, prompt)])?;
        let hidden = model.spec.hidden_size;
        let last = &output[output.len() - hidden..];
        let direction = model.centred_logit_direction(token, last)?;
        let logit = dot(&direction, last);
        let mut attribution = LinearAttribution {
            model,
            tokens: prompt.len(),
            embedding: recorder.0.first().map_or_else(Vec::new, |layer| layer.input.clone()),
            layers: recorder.0,
            embedding_gradient: Vec::new(),
            direction,
            logit,
        };
        let mut gradient = vec![0.0; output.len()];
        gradient[output.len() - hidden..].copy_from_slice(&attribution.direction);
        for index in (0..attribution.layers.len()).rev() {
            model.cancel.check().map_err(crate::PassError::from)?;
            attribution.backward(index, &mut gradient);
        }
        attribution.embedding_gradient = gradient;
        Ok(attribution)
    }

    /// The logit less the mean logit of all tokens, without soft cap.
    pub fn logit(&self) -> f32 {
        self.logit
    }

    /// Number of tokens of the prompt.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Positions to which heads give the attention that they have no use for, as many models learn to do with the first one:
    /// their residual is many times as long as that of others in the middle of the model (massive activations, arXiv
    /// 2402.17762). What passes through them serves every answer alike.
    pub fn attention_sinks(&self) -> Vec<usize> {
        let Some(middle) = self.layers.get(self.layers.len() / 2) else { return Vec::new() };
        let norms: Vec<f32> =
            (0..self.tokens).map(|position| norm(&middle.input[self.row(position)])).collect();
        let mut sorted = norms.clone();
        sorted.sort_by(f32::total_cmp);
        let median = sorted[sorted.len() / 2];
        (0..self.tokens).filter(|position| norms[*position] > SINK * median).collect()
    }

    /// Number of heads of a layer.
    pub fn heads(&self, layer: usize) -> usize {
        self.shape(layer).heads
    }

    /// Every component with its influence: the part of the logit that goes through it, by all ways together.
    pub fn influences(&self) -> impl Iterator<Item = (Component, f32)> + '_ {
        let embeddings = (0..self.tokens).map(|position| Component::Embedding { position });
        let layers = self.layers.iter().enumerate().flat_map(|(layer, recorded)| {
            let (heads, features) =
                (self.shape(layer).heads, recorded.activations.len() / self.tokens.max(1));
            (0..self.tokens).flat_map(move |position| {
                let heads = (0..heads).map(move |head| Component::Head { layer, position, head });
                let features = 0..features;
                heads.chain(features.map(move |feature| Component::Feature { layer, position, feature }))
            })
        });
        embeddings.chain(layers).map(|component| (component, self.influence(component)))
    }

    /// The part of the logit that goes through a component, by all ways together.
    ///
    /// # Panics
    /// If there is no such component, as in all methods that take one.
    pub fn influence(&self, component: Component) -> f32 {
        match component {
            Component::Embedding { position } => {
                let row = self.row(position);
                dot(&self.embedding[row.clone()], &self.embedding_gradient[row])
            }
            Component::Head { layer, position, head } => {
                let (recorded, values) = (&self.layers[layer], self.head_values(layer, position, head));
                dot(&recorded.heads[values.clone()], &recorded.along_heads[values])
            }
            Component::Feature { .. } => self.activation(component) * self.along(component),
        }
    }

    /// The activation of a feature; 0 of other components.
    pub fn activation(&self, component: Component) -> f32 {
        match component {
            Component::Feature { layer, position, feature } => {
                let activations = &self.layers[layer].activations;
                activations[position * (activations.len() / self.tokens) + feature]
            }
            _ => 0.0,
        }
    }

    /// Components with what they write, for [`LinearAttribution::parts_into`].
    pub fn sources(&self, components: impl IntoIterator<Item = Component>) -> Sources {
        let source = |component| (component, self.output(component));
        Sources(components.into_iter().map(source).collect())
    }

    /// The part of the logit that goes straight from each source into `target`, without passing another component; into the
    /// logit itself if `target` is none. All parts that go into a component add up to its influence, but for biases.
    pub fn parts_into(&self, target: Option<Component>, sources: &Sources) -> Vec<f32> {
        let readings = self.readings(target);
        let part = |(source, output): &(Component, Vec<f32>)| {
            let reading = readings.iter().find(|(position, _)| *position == source.position());
            match reading {
                Some((_, reading)) if self.comes_before(*source, target) => {
                    self.scale_between(*source, target) * dot(output, reading)
                }
                _ => 0.0,
            }
        };
        sources.0.iter().map(part).collect()
    }

    /// Reports if a component writes to the stream before another reads from it.
    fn comes_before(&self, source: Component, target: Option<Component>) -> bool {
        let Some((target, reader)) = target.and_then(|target| Some((target, target.layer()?))) else {
            return target.is_none();
        };
        match source {
            Component::Embedding { .. } => true,
            Component::Feature { layer, .. } => layer < reader,
            Component::Head { layer, .. } => {
                let reads_attention =
                    matches!(target, Component::Feature { .. }) && !self.model.layers[reader].parallel;
                layer < reader || layer == reader && reads_attention
            }
        }
    }

    /// The factor that layers give to the whole stream between a component and what reads it.
    fn scale_between(&self, source: Component, target: Option<Component>) -> f32 {
        let first = source.layer().unwrap_or(0);
        let end = target.and_then(Component::layer).unwrap_or(self.layers.len());
        self.model.layers[first..end.max(first)].iter().filter_map(|layer| layer.output_scale).product()
    }

    /// Output of a component to the stream, `[hidden]`.
    pub fn output(&self, component: Component) -> Vec<f32> {
        let hidden = self.model.spec.hidden_size;
        let mut output = vec![0.0; hidden];
        match component {
            Component::Embedding { position } => output.copy_from_slice(&self.embedding[self.row(position)]),
            Component::Head { layer, position, head } => {
                let (weights, recorded) = (&self.model.layers[layer], &self.layers[layer]);
                let values = self.head_values(layer, position, head);
                let attention = self.attention(layer);
                let first = head * attention.shape.value_dim;
                let mut row = vec![0.0; attention.output.weight.cols()];
                for (r, out) in output.iter_mut().enumerate() {
                    attention.output.weight.view().decode_row(r, &mut row);
                    *out = dot(&row[first..first + values.len()], &recorded.heads[values.clone()]);
                }
                self.finish(
                    weights,
                    &weights.post_attention_norm,
                    &recorded.attention_output,
                    position,
                    &mut output,
                );
            }
            Component::Feature { layer, position, feature } => {
                let (weights, recorded) = (&self.model.layers[layer], &self.layers[layer]);
                self.dense(layer).down_vector(feature, &mut output);
                let activation = self.activation(component);
                output.iter_mut().for_each(|value| *value *= activation);
                let norm = &weights.post_feed_forward_norm;
                self.finish(weights, norm, &recorded.feed_forward_output, position, &mut output);
            }
        }
        output
    }

    /// Norms and scales a part of a branch's output at a position, with the norm's scale held.
    fn finish(&self, layer: &Layer, norm: &Option<Norm>, whole: &[f32], position: usize, part: &mut [f32]) {
        if let Some(norm) = norm {
            norm.push_forward(part, &whole[self.row(position)]);
        }
        part.iter_mut().for_each(|value| *value *= layer.residual_multiplier);
    }

    /// The directions of the stream along which the part of the logit that goes through a component grows, each with the
    /// position that it reads: `[hidden]` each.
    fn readings(&self, target: Option<Component>) -> Vec<(usize, Vec<f32>)> {
        let hidden = self.model.spec.hidden_size;
        match target {
            None => vec![(self.tokens - 1, self.direction.clone())],
            Some(Component::Embedding { .. }) => Vec::new(),
            Some(target @ Component::Feature { layer, position, feature }) => {
                let (norm, stream) = self.feed_forward_norm(layer);
                let input = normed(norm, &stream[self.row(position)]);
                let mut along = vec![0.0; self.dense(layer).feature_count()];
                along[feature] = self.along(target);
                let activations = Activations::new(&input, hidden);
                let mut reading = self.dense(layer).halves(&self.model.pool, &activations, along);
                pull_back(norm, &stream[self.row(position)], &mut reading, hidden);
                vec![(position, reading)]
            }
            Some(Component::Head { layer, position, head }) => {
                let recorded = &self.layers[layer];
                let mut along = vec![0.0; recorded.along_heads.len()];
                let values = self.head_values(layer, position, head);
                along[values.clone()].copy_from_slice(&recorded.along_heads[values]);
                let mut reading = self.through_values(layer, &along);
                pull_back(&self.model.layers[layer].attention_norm, &recorded.input, &mut reading, hidden);
                reading.chunks_exact(hidden).map(<[f32]>::to_vec).enumerate().take(position + 1).collect()
            }
        }
    }

    /// Turns the gradient of a layer's output, `[tokens, hidden]`, into that of its input, and keeps what it meets.
    fn backward(&mut self, index: usize, gradient: &mut [f32]) {
        let (model, hidden) = (self.model, self.model.spec.hidden_size);
        let (weights, pool) = (&model.layers[index], &*model.pool);
        if let Some(scale) = weights.output_scale {
            gradient.iter_mut().for_each(|g| *g *= scale);
        }
        let of_branch = |norm: &Option<Norm>, whole: &[f32], gradient: &[f32]| {
            let mut of_branch: Vec<f32> = gradient.iter().map(|g| g * weights.residual_multiplier).collect();
            pull_back(norm, whole, &mut of_branch, hidden);
            of_branch
        };
        let (dense, attention) = (self.dense(index), self.attention(index));
        let recorded = &self.layers[index];

        let feed_forward_output = match &weights.post_feed_forward_norm {
            Some(_) => model.written(&weights.feed_forward, &recorded.activations),
            None => Vec::new(),
        };
        let of_output = of_branch(&weights.post_feed_forward_norm, &feed_forward_output, gradient);
        let along_features = dense.along_down(pool, &of_output);
        let (norm, stream) = self.feed_forward_norm(index);
        let input = normed(norm, stream);
        let mut of_input = dense.halves(pool, &Activations::new(&input, hidden), along_features.clone());
        pull_back(norm, stream, &mut of_input, hidden);

        let mut of_middle = gradient.to_vec();
        if !weights.parallel {
            add(&mut of_middle, &of_input);
        }
        let attention_output = match &weights.post_attention_norm {
            Some(_) => {
                let heads = Activations::new(&recorded.heads, attention.output.weight.cols());
                attention.output.product(pool, &heads, Precision::Exact)
            }
            None => Vec::new(),
        };
        let of_output = of_branch(&weights.post_attention_norm, &attention_output, &of_middle);
        let along_heads = along_columns(pool, attention.output.weight.view(), &of_output);
        let mut of_attention = self.through_values(index, &along_heads);
        pull_back(&weights.attention_norm, &recorded.input, &mut of_attention, hidden);

        gradient.copy_from_slice(&of_middle);
        add(gradient, &of_attention);
        if weights.parallel {
            add(gradient, &of_input);
        }
        let recorded = &mut self.layers[index];
        recorded.along_features = along_features;
        recorded.along_heads = along_heads;
        recorded.attention_output = attention_output;
        recorded.feed_forward_output = feed_forward_output;
    }

    /// The gradient of attention's normed input, `[tokens, hidden]`, for that of the heads' outputs,
    /// `[tokens, heads * value_dim]`, with the patterns held.
    fn through_values(&self, layer: usize, along_heads: &[f32]) -> Vec<f32> {
        let (model, attention, recorded) = (self.model, self.attention(layer), &self.layers[layer]);
        let shape = &attention.shape;
        let (tokens, dim) = (self.tokens, shape.value_dim);
        let group = shape.heads / shape.kv_heads;
        let mut of_values = vec![0.0; tokens * shape.kv_heads * dim];
        let heads = along_heads.chunks_exact(dim).zip(recorded.pattern.chunks_exact(tokens)).enumerate();
        for (index, (along, pattern)) in heads {
            if along.iter().all(|along| *along == 0.0) {
                continue;
            }
            let kv_head = index % shape.heads / group;
            for (position, weight) in pattern.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
                let own = &mut of_values[(position * shape.kv_heads + kv_head) * dim..][..dim];
                own.iter_mut().zip(along).for_each(|(value, along)| *value += weight * along);
            }
        }
        let KeysAndValues::Projected { key, value, value_norm, .. } = &attention.keys_and_values else {
            unreachable!("attribution begins with `check_differentiable`")
        };
        let projection = value.as_ref().unwrap_or(key);
        if value_norm.is_some() {
            let input = normed(&model.layers[layer].attention_norm, &recorded.input);
            let input = Activations::new(&input, model.spec.hidden_size);
            let raw = projection.product(&model.pool, &input, Precision::Exact);
            pull_back(value_norm, &raw, &mut of_values, dim);
        }
        let mut of_input = vec![0.0; tokens * model.spec.hidden_size];
        matmul_transposed(&model.pool, projection.weight.view(), &of_values, &mut of_input);
        of_input
    }

    /// The norm before the feed-forward step, and the stream that it reads.
    fn feed_forward_norm(&self, layer: usize) -> (&Option<Norm>, &[f32]) {
        let (weights, recorded) = (&self.model.layers[layer], &self.layers[layer]);
        match weights.parallel {
            true => (&weights.attention_norm, &recorded.input),
            false => (&weights.feed_forward_norm, &recorded.middle),
        }
    }

    fn along(&self, component: Component) -> f32 {
        match component {
            Component::Feature { layer, position, feature } => {
                let along = &self.layers[layer].along_features;
                along[position * (along.len() / self.tokens) + feature]
            }
            _ => 0.0,
        }
    }

    fn attention(&self, layer: usize) -> &'a Attention {
        match &self.model.layers[layer].attention {
            Some(attention) => attention,
            None => unreachable!("attribution begins with `check_differentiable`"),
        }
    }

    fn shape(&self, layer: usize) -> &'a larql_compute::attention::AttentionShape {
        &self.attention(layer).shape
    }

    fn dense(&self, layer: usize) -> &'a Dense {
        match &self.model.layers[layer].feed_forward {
            FeedForward::Dense(dense) => dense,
            _ => unreachable!("attribution begins with `check_differentiable`"),
        }
    }

    fn row(&self, position: usize) -> std::ops::Range<usize> {
        let hidden = self.model.spec.hidden_size;
        position * hidden..(position + 1) * hidden
    }

    /// Range of the output of a head at a position among all.
    fn head_values(&self, layer: usize, position: usize, head: usize) -> std::ops::Range<usize> {
        let shape = self.shape(layer);
        let first = (position * shape.heads + head) * shape.value_dim;
        first..first + shape.value_dim
    }
}

impl Model {
    /// The direction in the last layer's output, `[hidden]`, along which a token's logit grows above the mean of all logits,
    /// with the scale of the final norm as it is at `residual`, `[hidden]`.
    fn centred_logit_direction(&self, token: u32, residual: &[f32]) -> Result<Vec<f32>, BackendError> {
        let head = &self.ends.head()?.weight;
        let mut weights = vec![-1.0 / head.rows() as f32; head.rows()];
        weights[token as usize] += 1.0;
        let mut direction = vec![0.0; self.spec.hidden_size];
        matmul_transposed(&self.pool, head.view(), &weights, &mut direction);
        self.ends.norm()?.pull_back(&mut direction, residual);
        direction.iter_mut().for_each(|along| *along *= self.spec.logit_scale);
        Ok(direction)
    }
}

impl Dense {
    /// The gradient of the step's input, `[tokens, hidden]`, for that of its activations, `[tokens, features]`, where each
    /// activation is attributed to its gate and up products by halves.
    fn halves(&self, pool: &Pool, input: &Activations<'_>, mut along: Vec<f32>) -> Vec<f32> {
        let mut out = vec![0.0; input.values().len()];
        if let Some(edits) = &self.edits {
            let own = edits.take(&mut along, self.feature_count());
            add(&mut out, &edits.step.halves(pool, input, own));
        }
        let gates = self.gate.product(pool, input, Precision::Exact);
        let mut fired = gates.clone();
        self.activation.apply(&mut fired);
        if let Some(up) = &self.up {
            let ups = up.product(pool, input, Precision::Exact);
            self.activation.multiply(&mut fired, &ups);
            along.iter_mut().for_each(|along| *along *= 0.5);
            let of_ups: Vec<f32> =
                along.iter().zip(&fired).zip(&ups).map(|((along, a), up)| along * share(*a, *up)).collect();
            up.add_gradient(pool, &of_ups, &mut out);
        }
        let gates = along.iter_mut().zip(&fired).zip(&gates);
        gates.for_each(|((along, a), gate)| *along *= share(*a, *gate));
        self.gate.add_gradient(pool, &along, &mut out);
        out
    }
}

/// `a / of`, and zero where there is nothing to divide by.
fn share(a: f32, of: f32) -> f32 {
    if of.abs() < 1e-12 { 0.0 } else { a / of }
}

/// Turns directions of a norm's output into those of its input `stream`, both `[rows, width]`, with its scales held.
fn pull_back(norm: &Option<Norm>, stream: &[f32], directions: &mut [f32], width: usize) {
    let Some(norm) = norm else { return };
    let rows = directions.chunks_exact_mut(width).zip(stream.chunks_exact(width));
    rows.for_each(|(direction, input)| norm.pull_back(direction, input));
}

impl Norm {
    /// Applies the norm to a part of its input, both `[hidden]`, with its scale as it is at the whole `input`.
    fn push_forward(&self, part: &mut [f32], input: &[f32]) {
        if self.spec.kind == NormKind::Layer {
            let mean = part.iter().sum::<f32>() / part.len() as f32;
            part.iter_mut().for_each(|value| *value -= mean);
        }
        let scale = self.scale(input);
        part.iter_mut().zip(self.factors()).for_each(|(value, factor)| *value *= factor * scale);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larql_models::Checkpoint;

    use super::*;

    fn open(family: &str) -> Model {
        let folder = larql_testing::repository("conformance").join(family);
        Model::load(&Checkpoint::open(&folder).unwrap(), Arc::new(Pool::new(2))).unwrap()
    }

    /// Families without biases, so that nothing is left over: norms on both sides, norms of queries and keys, windows,
    /// multipliers, grouped queries.
    const WITHOUT_BIASES: [&str; 7] =
        ["llama", "mistral", "qwen3", "gemma2", "gemma3_text", "olmo2", "granite"];

    fn assert_close(found: f32, expected: f32, what: &str) {
        let tolerance = 2e-3 * expected.abs().max(0.1);
        assert!((found - expected).abs() <= tolerance, "{what}: {found} instead of {expected}");
    }

    #[test]
    fn what_goes_into_a_component_adds_up_to_what_goes_through_it() {
        for family in WITHOUT_BIASES {
            let model = open(family);
            let prompt: Vec<u32> = (1..9).map(|i| i * 7 % model.spec.vocab_size as u32).collect();
            let attribution = LinearAttribution::new(&model, &prompt, 5).unwrap();
            let all: Vec<(Component, f32)> = attribution.influences().collect();
            let sources = attribution.sources(all.iter().map(|(component, _)| *component));
            let into = |target| attribution.parts_into(target, &sources).iter().sum::<f32>();
            assert_close(into(None), attribution.logit(), &format!("{family}, the logit"));
            let embeddings = all.iter().filter(|(component, _)| component.layer().is_none());
            let traced: f32 = embeddings.map(|(_, influence)| influence).sum();
            assert_close(traced, attribution.logit(), &format!("{family}, the embeddings"));
            let mut strongest: Vec<_> =
                all.iter().filter(|(component, _)| component.layer().is_some()).collect();
            strongest.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
            for (component, influence) in &strongest[..12] {
                assert_close(into(Some(*component)), *influence, &format!("{family}, {component:?}"));
            }
        }
    }

    #[test]
    fn the_logit_is_the_models_own_above_the_mean() {
        for family in ["llama", "gpt2", "phi", "qwen2"] {
            let model = open(family);
            let prompt = [3, 1, 4, 1, 5];
            let mut state = KeyValueCache::new(&model.spec);
            let logits = model.pass().last_logits(&mut state, &prompt).unwrap();
            let mean = logits.iter().sum::<f32>() / logits.len() as f32;
            let attribution = LinearAttribution::new(&model, &prompt, 2).unwrap();
            // Biases of the final norm and of the head are no one's.
            let other = LinearAttribution::new(&model, &prompt, 7).unwrap();
            let found = attribution.logit() - other.logit();
            let biased = ["gpt2", "phi"].contains(&family);
            if !biased {
                assert_close(attribution.logit(), logits[2] - mean, family);
                assert_close(found, logits[2] - logits[7], family);
            }
            assert!(attribution.logit().is_finite());
        }
    }

    #[test]
    fn mixtures_are_refused() {
        let error = LinearAttribution::new(&open("mixtral"), &[1, 2], 3).err().unwrap();
        assert!(error.to_string().contains("a mixture of experts"), "{error}");
    }
}
