//! Many facts at once: one change of what all features of a layer write, in the place of features for each fact.
//!
//! Let `k` be what the features of a layer do at a token, `[features]`, and `r` what is missing there from what the layer
//! writes, `[hidden]`. The change `D` of the down projection, `[hidden, features]`, minimises the mean of `|D k - r|^2`
//! over tokens after which a target is due, plus the mean of `|D k|^2` over tokens after which nothing is to change, plus
//! `lambda` times that mean over ordinary text: `D = R K^T (K K^T + K_0 K_0^T + lambda C)^-1` (MEMIT, arXiv 2210.07229).
//! It is sought among the changes that do nothing along the directions that carry nearly all of ordinary text (AlphaEdit,
//! arXiv 2410.02355).
//!
//! What is missing is what the facts' own features write there, so that nothing is searched for twice.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use larql_compute::{Activations, Precision};

use super::compose::{Statement, dense};
use super::statistics::inputs_of_layers;
use crate::feed_forward::Dense;
use crate::{InferenceError, Model};

/// Facts that features carry, and what is to stay as it is without these.
#[derive(Clone, Copy, Debug)]
pub struct Together<'a> {
    /// The model with the features that carry the facts.
    pub with: &'a Model,
    /// The same model without them.
    pub without: &'a Model,
    /// The layers that the features are in.
    pub layers: &'a [usize],
    /// The facts.
    pub statements: &'a [Statement],
    /// Texts after which nothing is to change, besides those that the statements name.
    pub kept: &'a [Vec<u32>],
    /// Ordinary text.
    pub ordinary: &'a [Vec<u32>],
    /// How much a change on ordinary text counts beside one where a target is due.
    pub lambda: f64,
}

/// What the features of a layer write instead.
#[derive(Clone, Debug, PartialEq)]
pub struct SolvedLayer {
    /// The layer.
    pub layer: usize,
    /// The down vector of each feature, `[hidden]`.
    pub downs: Vec<Arc<[f32]>>,
    /// The length of the change as a share of that of all down vectors together (Frobenius norms).
    pub change: f64,
}

/// What a change on ordinary text counts where nobody says otherwise. With more, fewer edges of a hundred come out; with
/// less, answers about others change more.
pub const LAMBDA: f64 = 0.03;

/// The share of the activations' squares on ordinary text that the directions carry along which there may be a change.
const OPEN_SHARE: f64 = 0.1;

/// Added to all directions, as a share of the mean, so that there is always a solution.
const RIDGE: f64 = 1e-6;

/// Statements that are run at once.
const STATEMENTS_AT_ONCE: usize = 8;

impl Together<'_> {
    /// The change that does for all facts what their features do. `on_read` hears how many statements are read, and may end
    /// it.
    ///
    /// # Errors
    /// If a layer has no down projection of its own, a text is empty or has tokens of another model, the activations are
    /// not finite, or `on_read` ended it.
    pub fn solve(
        &self,
        on_read: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<SolvedLayer>, InferenceError> {
        let mut sums =
            self.layers.iter().map(|layer| Sums::new(self, *layer)).collect::<Result<Vec<_>, _>>()?;
        let ordinary = inputs_of_layers(self.without, self.layers, self.ordinary)?;
        for (sums, inputs) in sums.iter_mut().zip(ordinary) {
            inputs.chunks(TEXTS_SUMMED).for_each(|inputs| sums.ordinary.add(&sums.keys(&inputs.concat())));
        }
        let mut known = HashSet::new();
        self.keep(&mut sums, self.kept.iter().filter(|text| known.insert(*text)).cloned().collect())?;
        for (index, statements) in self.statements.chunks(STATEMENTS_AT_ONCE).enumerate() {
            if on_read(index * STATEMENTS_AT_ONCE).is_break() {
                return Err(InferenceError::Interrupted);
            }
            let others = statements.iter().flat_map(|statement| &statement.others);
            let others = others.filter(|text| known.insert(*text)).cloned().collect();
            self.keep(&mut sums, others)?;
            self.state(&mut sums, statements)?;
        }
        sums.iter().map(|sums| sums.solve(self.lambda)).collect()
    }

    /// Adds texts after which nothing is to change.
    fn keep(&self, sums: &mut [Sums<'_>], texts: Vec<Vec<u32>>) -> Result<(), InferenceError> {
        let hidden = self.with.spec().hidden_size;
        let inputs = inputs_of_layers(self.without, self.layers, &texts)?;
        for (sums, inputs) in sums.iter_mut().zip(inputs) {
            for inputs in inputs.chunks(TEXTS_SUMMED) {
                let last: Vec<f32> = inputs.iter().flat_map(|x| &x[x.len() - hidden..]).copied().collect();
                sums.kept.add(&sums.keys(&last));
            }
        }
        Ok(())
    }

    /// Adds the places where targets are due, and the tokens before them.
    fn state(&self, sums: &mut [Sums<'_>], statements: &[Statement]) -> Result<(), InferenceError> {
        let hidden = self.with.spec().hidden_size;
        let (mut texts, mut due) = (Vec::new(), Vec::new());
        for Statement { prompts, target, .. } in statements {
            let begun = target.split_last().map(|(_, begun)| begun).ok_or(InferenceError::EmptyPrompt)?;
            for prompt in prompts {
                texts.push([prompt, begun].concat());
                due.push(target.len());
            }
        }
        let inputs = inputs_of_layers(self.with, self.layers, &texts)?;
        for (sums, inputs) in sums.iter_mut().zip(inputs) {
            let (mut wanted, mut before) = (Vec::new(), Vec::new());
            for (inputs, due) in inputs.iter().zip(&due) {
                let (quiet, own) = inputs.split_at(inputs.len() - due * hidden);
                wanted.extend_from_slice(own);
                before.extend_from_slice(quiet);
            }
            let keys = sums.keys(&wanted);
            sums.missing += sums.missing_at(&wanted).transpose() * &keys;
            sums.wanted.add(&keys);
            sums.kept.add(&sums.keys(&before));
        }
        Ok(())
    }
}

/// Texts whose activations are summed at once.
const TEXTS_SUMMED: usize = 64;

/// Sums of products of activations.
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

/// What is known of one layer.
struct Sums<'a> {
    layer: usize,
    with: &'a Dense,
    model: &'a Model,
    without: &'a Dense,
    wanted: Moment,
    kept: Moment,
    ordinary: Moment,
    /// What is missing times activations, `[hidden, features]`.
    missing: Mat<f64>,
}

impl<'a> Sums<'a> {
    fn new(together: &Together<'a>, layer: usize) -> Result<Sums<'a>, InferenceError> {
        let (with, without) = (dense(together.with, layer)?, dense(together.without, layer)?);
        let (features, hidden) = (without.feature_count(), together.without.spec().hidden_size);
        Ok(Sums {
            layer,
            with,
            model: together.without,
            without,
            wanted: Moment::new(features),
            kept: Moment::new(features),
            ordinary: Moment::new(features),
            missing: Mat::zeros(hidden, features),
        })
    }

    /// What the features do for inputs `[tokens, hidden]`, without those that carry facts: `[tokens, features]`.
    fn keys(&self, inputs: &[f32]) -> Mat<f64> {
        let features = self.without.feature_count();
        let values = match inputs.is_empty() {
            true => Vec::new(),
            false => self.model.feature_activations(self.layer, inputs),
        };
        matrix(&values, features)
    }

    /// What the features that carry facts write for inputs `[tokens, hidden]`: `[tokens, hidden]`.
    fn missing_at(&self, inputs: &[f32]) -> Mat<f64> {
        let hidden = self.model.spec().hidden_size;
        let activations = Activations::new(inputs, hidden);
        let mut written = [vec![0.0; inputs.len()], vec![0.0; inputs.len()]];
        for (step, out) in [self.with, self.without].into_iter().zip(&mut written) {
            step.forward(&self.model.pool, &activations, Precision::Exact, out);
        }
        let [with, without] = written;
        let missing: Vec<f32> = with.iter().zip(without).map(|(with, without)| with - without).collect();
        matrix(&missing, hidden)
    }

    fn solve(&self, lambda: f64) -> Result<SolvedLayer, InferenceError> {
        let features = self.without.feature_count();
        let eigen =
            self.ordinary.mean().self_adjoint_eigen(Side::Lower).map_err(|_| InferenceError::NoStatistics)?;
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
        let ordinary = strengths.iter().sum::<f64>() / features as f64;
        for (i, strength) in strengths.iter().enumerate().take(system.nrows()) {
            system[(i, i)] += lambda * (strength + ordinary) + RIDGE * mean;
        }
        let missing = &self.missing * faer::Scale(1.0 / self.wanted.tokens.max(1) as f64);
        let factors = system.llt(Side::Lower).map_err(|_| InferenceError::NoStatistics)?;
        let change = open * factors.solve((missing * open).transpose());
        self.changed(&change)
    }

    /// The layer's down vectors with a change, `[features, hidden]`.
    fn changed(&self, change: &Mat<f64>) -> Result<SolvedLayer, InferenceError> {
        let hidden = self.model.spec().hidden_size;
        let (mut squares, mut column) = (0.0, vec![0.0; hidden]);
        let mut downs: Vec<Arc<[f32]>> = Vec::with_capacity(change.nrows());
        for feature in 0..change.nrows() {
            self.without.down_vector(feature, &mut column);
            squares += column.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
            let changed = column.iter().enumerate().map(|(i, value)| value + change[(feature, i)] as f32);
            let changed: Arc<[f32]> = changed.collect();
            if changed.iter().any(|value| !value.is_finite()) {
                return Err(InferenceError::NoStatistics);
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
