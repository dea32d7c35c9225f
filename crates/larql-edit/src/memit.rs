//! Batch editing in closed form (MEMIT): one update of the down projection replaces the features of each fact.
//!
//! Let `k` be the activations of a layer's features at a token, `[features]`, and `r` the residual that is missing there
//! from the layer's output, `[hidden]`. The update `D` of the down projection, `[hidden, features]`, minimises the mean of
//! `|D k - r|^2` over tokens where a token of a target is the expected next one, plus the mean of `|D k|^2` over tokens
//! after which nothing is to change, plus `lambda` times that mean over background text:
//! `D = R K^T (K K^T + K_0 K_0^T + lambda C)^-1` (MEMIT, arXiv 2210.07229). It is restricted to updates that do nothing
//! along the directions that carry nearly all of background text (AlphaEdit, arXiv 2410.02355).
//!
//! The missing residual is the output of the facts' own features, so that nothing is optimised twice.

use std::collections::HashSet;
use std::sync::Arc;

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use larql_core::progress::CancelToken;
use larql_inference::{DenseStep, Model, inputs_of_layers};
use larql_vindex::{EditedFeature, FeatureEdit, FeatureEdits};

use crate::error::EditError;
use crate::statement::Statement;

/// Batch of facts that are carried by features, to be solved for as updates of the down projections.
#[derive(Clone, Copy, Debug)]
pub struct BatchEdit<'a> {
    /// Model with the features that carry the facts.
    pub with: &'a Model,
    /// The same model without them.
    pub without: &'a Model,
    /// Layers of the features.
    pub layers: &'a [usize],
    /// The facts.
    pub statements: &'a [Statement],
    /// Texts after which nothing is to change, besides those that the statements name.
    pub kept: &'a [Vec<u32>],
    /// Background text.
    pub background: &'a [Vec<u32>],
    /// Weight of a change on background text beside one where a token of a target is expected.
    pub lambda: f64,
}

/// Updated down projection of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct SolvedLayer {
    /// The layer.
    pub layer: usize,
    /// Down vector of each feature, `[hidden]`.
    pub downs: Vec<Arc<[f32]>>,
    /// Frobenius norm of the update, as a share of that of the down projection.
    pub change: f64,
}

impl SolvedLayer {
    /// Lays the updated down vectors over edits.
    pub fn lay_over(&self, edits: &mut FeatureEdits) {
        for (feature, down) in self.downs.iter().enumerate() {
            let edited = EditedFeature { down: Some(Arc::clone(down)), ..EditedFeature::default() };
            edits.set(self.layer, feature, FeatureEdit::Changed(edited));
        }
    }
}

/// Default weight of a change on background text. With more, fewer edges of a hundred succeed; with less, neighbourhood
/// answers change more.
pub const DEFAULT_LAMBDA: f64 = 0.03;

/// Share of the activations' squares on background text that is carried by the directions along which an update is
/// allowed.
const OPEN_SHARE: f64 = 0.1;

/// Added to all directions, as a share of the mean, so that there is always a solution.
const RIDGE: f64 = 1e-6;

/// Statements that are run at once.
const STATEMENTS_AT_ONCE: usize = 8;

impl BatchEdit<'_> {
    /// Solves for the update that replaces the features of all facts.
    ///
    /// # Errors
    /// If a layer has no down projection of its own, a text is empty or has tokens of another model, the activations are
    /// not finite, or the work is cancelled.
    pub fn solve(&self, cancel: &CancelToken) -> Result<Vec<SolvedLayer>, EditError> {
        let moments = self.layers.iter().map(|layer| LayerMoments::new(self, *layer));
        let mut moments = moments.collect::<Result<Vec<_>, _>>()?;
        let background = inputs_of_layers(self.without, self.layers, self.background)?;
        for (moments, inputs) in moments.iter_mut().zip(background) {
            for inputs in inputs.chunks(TEXTS_SUMMED) {
                moments.background.add(&moments.keys(&inputs.concat()));
            }
        }
        let mut known = HashSet::new();
        self.keep(&mut moments, self.kept.iter().filter(|text| known.insert(*text)).cloned().collect())?;
        for statements in self.statements.chunks(STATEMENTS_AT_ONCE) {
            cancel.check()?;
            let others = statements.iter().flat_map(|statement| &statement.others);
            let others = others.filter(|text| known.insert(*text)).cloned().collect();
            self.keep(&mut moments, others)?;
            self.state(&mut moments, statements)?;
        }
        moments.iter().map(|moments| moments.solve(self.lambda)).collect()
    }

    /// Adds texts after which nothing is to change.
    fn keep(&self, moments: &mut [LayerMoments<'_>], texts: Vec<Vec<u32>>) -> Result<(), EditError> {
        let hidden = self.with.spec().hidden_size;
        let inputs = inputs_of_layers(self.without, self.layers, &texts)?;
        for (moments, inputs) in moments.iter_mut().zip(inputs) {
            for inputs in inputs.chunks(TEXTS_SUMMED) {
                let last: Vec<f32> = inputs.iter().flat_map(|x| &x[x.len() - hidden..]).copied().collect();
                moments.kept.add(&moments.keys(&last));
            }
        }
        Ok(())
    }

    /// Adds the positions where tokens of targets are expected, and the positions before them.
    fn state(&self, moments: &mut [LayerMoments<'_>], statements: &[Statement]) -> Result<(), EditError> {
        let hidden = self.with.spec().hidden_size;
        let (mut texts, mut expected) = (Vec::new(), Vec::new());
        for Statement { prompts, target, .. } in statements {
            let Some((_, begun)) = target.split_last() else {
                let (found, expected) = ("an empty target", "a target with tokens");
                return Err(EditError::IncompleteStatement { found, expected });
            };
            for prompt in prompts {
                texts.push([prompt, begun].concat());
                expected.push(target.len());
            }
        }
        let inputs = inputs_of_layers(self.with, self.layers, &texts)?;
        for (moments, inputs) in moments.iter_mut().zip(inputs) {
            let (mut wanted, mut before) = (Vec::new(), Vec::new());
            for (inputs, expected) in inputs.iter().zip(&expected) {
                let (prompt, own) = inputs.split_at(inputs.len() - expected * hidden);
                wanted.extend_from_slice(own);
                before.extend_from_slice(prompt);
            }
            let keys = moments.keys(&wanted);
            moments.missing += moments.missing_at(&wanted).transpose() * &keys;
            moments.wanted.add(&keys);
            moments.kept.add(&moments.keys(&before));
        }
        Ok(())
    }
}

/// Texts whose activations are summed at once.
const TEXTS_SUMMED: usize = 64;

/// Second moment of activations.
struct Moment {
    /// `[features, features]`
    sum: Mat<f64>,
    tokens: usize,
}

impl Moment {
    fn new(features: usize) -> Moment {
        Moment { sum: Mat::zeros(features, features), tokens: 0 }
    }

    /// Adds activations, `[tokens, features]`.
    fn add(&mut self, keys: &Mat<f64>) {
        self.sum += keys.transpose() * keys;
        self.tokens += keys.nrows();
    }

    fn mean(&self) -> Mat<f64> {
        &self.sum * faer::Scale(1.0 / self.tokens.max(1) as f64)
    }
}

/// Moments of one layer's activations.
struct LayerMoments<'a> {
    layer: usize,
    with: DenseStep<'a>,
    model: &'a Model,
    without: DenseStep<'a>,
    wanted: Moment,
    kept: Moment,
    background: Moment,
    /// Missing residual times activations, `[hidden, features]`.
    missing: Mat<f64>,
}

impl<'a> LayerMoments<'a> {
    fn new(batch: &BatchEdit<'a>, layer: usize) -> Result<LayerMoments<'a>, EditError> {
        let (with, without) = (batch.with.dense_step(layer)?, batch.without.dense_step(layer)?);
        let (features, hidden) = (without.feature_count(), batch.without.spec().hidden_size);
        Ok(LayerMoments {
            layer,
            with,
            model: batch.without,
            without,
            wanted: Moment::new(features),
            kept: Moment::new(features),
            background: Moment::new(features),
            missing: Mat::zeros(hidden, features),
        })
    }

    /// Activations for inputs `[tokens, hidden]`, without the features that carry facts: `[tokens, features]`.
    fn keys(&self, inputs: &[f32]) -> Mat<f64> {
        let features = self.without.feature_count();
        let values = match inputs.is_empty() {
            true => Vec::new(),
            false => self.model.feature_activations(self.layer, inputs),
        };
        matrix(&values, features)
    }

    /// Output of the features that carry facts for inputs `[tokens, hidden]`: `[tokens, hidden]`.
    fn missing_at(&self, inputs: &[f32]) -> Mat<f64> {
        let hidden = self.model.spec().hidden_size;
        let [with, without] = [self.with, self.without].map(|step| step.forward(inputs));
        let missing: Vec<f32> = with.iter().zip(without).map(|(with, without)| with - without).collect();
        matrix(&missing, hidden)
    }

    fn unsolvable(&self, problem: &'static str) -> EditError {
        EditError::Unsolvable { layer: self.layer, problem }
    }

    fn solve(&self, lambda: f64) -> Result<SolvedLayer, EditError> {
        let features = self.without.feature_count();
        let eigen = self
            .background
            .mean()
            .self_adjoint_eigen(Side::Lower)
            .map_err(|_| self.unsolvable("the activations on background text have no eigenvectors"))?;
        let strengths: Vec<f64> = eigen.S().column_vector().iter().map(|s| s.max(0.0)).collect();
        // The weakest directions come first.
        let bound = OPEN_SHARE * strengths.iter().sum::<f64>();
        let within = |(carried, count): (f64, usize), strength: &f64| {
            let carried = carried + strength;
            if carried <= bound { (carried, count + 1) } else { (f64::INFINITY, count) }
        };
        let (_, open) = strengths.iter().fold((0.0, 0), within);
        let open = eigen.U().subcols(0, open.max(1));

        let places =
            (&self.wanted.sum + &self.kept.sum) * faer::Scale(1.0 / self.wanted.tokens.max(1) as f64);
        let mut system = open.transpose() * places * open;
        let mean = (0..system.nrows()).map(|i| system[(i, i)]).sum::<f64>() / system.nrows() as f64;
        let mean_strength = strengths.iter().sum::<f64>() / features as f64;
        for (i, strength) in strengths.iter().enumerate().take(system.nrows()) {
            system[(i, i)] += lambda * (strength + mean_strength) + RIDGE * mean;
        }
        let missing = &self.missing * faer::Scale(1.0 / self.wanted.tokens.max(1) as f64);
        let factors = system.llt(Side::Lower);
        let factors = factors.map_err(|_| self.unsolvable("the activations are not finite"))?;
        let change = open * factors.solve((missing * open).transpose());
        self.changed(&change)
    }

    /// Down vectors with an update, `[features, hidden]`.
    fn changed(&self, change: &Mat<f64>) -> Result<SolvedLayer, EditError> {
        let hidden = self.model.spec().hidden_size;
        let (mut squares, mut column) = (0.0, vec![0.0; hidden]);
        let mut downs: Vec<Arc<[f32]>> = Vec::with_capacity(change.nrows());
        for feature in 0..change.nrows() {
            self.without.down_vector(feature, &mut column);
            squares += column.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
            let changed = column.iter().enumerate().map(|(i, value)| value + change[(feature, i)] as f32);
            let changed: Arc<[f32]> = changed.collect();
            if changed.iter().any(|value| !value.is_finite()) {
                return Err(self.unsolvable("the update is not finite"));
            }
            downs.push(changed);
        }
        let change = change.norm_l2() / squares.sqrt().max(f64::MIN_POSITIVE);
        Ok(SolvedLayer { layer: self.layer, downs, change })
    }
}

/// Rows of `width` values.
fn matrix(values: &[f32], width: usize) -> Mat<f64> {
    Mat::from_fn(values.len() / width, width, |row, column| f64::from(values[row * width + column]))
}
