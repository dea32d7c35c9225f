//! The forward pass: tokens of one or several sequences through every layer, once.

use std::ops::Range;

use larql_compute::Precision;
use larql_core::progress::CancelToken;

use crate::batch::{Batching, Logits, LogitsFor, Rows, Sequence};
use crate::ends::Ends;
use crate::feed_forward::FfnBackend;
use crate::hook::{Hook, Point, PointSet};
use crate::layer::LayerContext;
use crate::model::Model;
use crate::per_layer_inputs::TokenInputs;
use crate::watch::Watch;
use crate::{PassError, SequenceState};

/// A configured forward pass: a model's weights, the feed-forward step and ends that run in place of its own, precision,
/// hook, and what may cancel it.
///
/// ```no_run
/// # fn f(model: &larql_inference::Model) -> Result<(), larql_inference::PassError> {
/// use larql_inference::{KeyValueCache, Pass, Record, Stage};
///
/// let mut residuals = Record::new(Stage::LayerOutput);
/// let mut state = KeyValueCache::new(model.spec());
/// let logits = Pass::new(model).with_hook(&mut residuals).last_logits(&mut state, &[1, 2, 3])?;
/// assert_eq!(logits.len(), model.spec().vocab_size);
/// # Ok(())
/// # }
/// ```
pub struct Pass<'a> {
    model: &'a Model,
    feed_forward: Option<&'a dyn FfnBackend>,
    ends: Option<&'a dyn Ends>,
    precision: Precision,
    batching: Batching,
    hook: Option<&'a mut dyn Hook>,
    /// The points that the hook asks for.
    points: PointSet,
    cancel: CancelToken,
}

impl<'a> Pass<'a> {
    /// An exact pass through a model as it is, without a hook, that the model's own token cancels.
    pub fn new(model: &'a Model) -> Pass<'a> {
        Pass {
            model,
            feed_forward: None,
            ends: None,
            precision: Precision::Exact,
            batching: Batching::default(),
            hook: None,
            points: PointSet::default(),
            cancel: model.cancel.clone(),
        }
    }

    /// Runs `feed_forward` in place of the model's own step.
    #[must_use]
    pub fn with_feed_forward(self, feed_forward: &'a dyn FfnBackend) -> Pass<'a> {
        Pass { feed_forward: Some(feed_forward), ..self }
    }

    /// Embeds tokens and computes logits by `ends` in place of the model's own matrices.
    #[must_use]
    pub fn with_ends(self, ends: &'a dyn Ends) -> Pass<'a> {
        Pass { ends: Some(ends), ..self }
    }

    /// Sets how products treat activations.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Pass<'a> {
        Pass { precision, ..self }
    }

    /// Sets how sequences that run together share the work.
    #[must_use]
    pub fn with_batching(self, batching: Batching) -> Pass<'a> {
        Pass { batching, ..self }
    }

    /// Calls `hook` at the points that it asks for.
    #[must_use]
    pub fn with_hook(self, hook: &'a mut dyn Hook) -> Pass<'a> {
        Pass { points: hook.points(), hook: Some(hook), ..self }
    }

    /// Ends the pass at the next layer once `cancel` is cancelled.
    #[must_use]
    pub fn with_cancel(self, cancel: &CancelToken) -> Pass<'a> {
        Pass { cancel: cancel.clone(), ..self }
    }

    /// Runs the new tokens of all sequences through the model together: prefill is one sequence with many tokens, decoding is
    /// many sequences with one token each. Commits them, and returns the logits that the sequences ask for.
    ///
    /// # Errors
    /// If a sequence has no tokens, a token or position is outside the model, weights are absent, or the hook, a back end
    /// or the cancel token ends the pass. The states are as before then.
    pub fn run(&mut self, sequences: &mut [Sequence<'_>]) -> Result<Logits, PassError> {
        let rows = Rows::of_sequences(sequences, self.batching);
        let result =
            self.residual_of(&rows, sequences).and_then(|residual| self.logits(&rows, sequences, &residual));
        settle(sequences, &result);
        result
    }

    /// Runs new tokens of one sequence and returns the logits of the last one, `[vocab]`.
    ///
    /// # Errors
    /// As [`Pass::run`].
    pub fn last_logits(
        &mut self,
        state: &mut dyn SequenceState,
        tokens: &[u32],
    ) -> Result<Vec<f32>, PassError> {
        Ok(self.run(&mut [Sequence::new(state, tokens)])?.into_values())
    }

    /// Runs new tokens of one sequence and returns the logits of each of them, `[tokens, vocab]`.
    ///
    /// # Errors
    /// As [`Pass::run`].
    pub fn all_logits(
        &mut self,
        state: &mut dyn SequenceState,
        tokens: &[u32],
    ) -> Result<Vec<f32>, PassError> {
        let sequence = Sequence { logits: LogitsFor::AllTokens, ..Sequence::new(state, tokens) };
        Ok(self.run(&mut [sequence])?.into_values())
    }

    /// Runs the new tokens of all sequences, commits them, and returns the last layer's output before the final norm,
    /// `[rows, hidden]`. No logits are computed.
    ///
    /// # Errors
    /// As [`Pass::run`].
    pub fn residual(&mut self, sequences: &mut [Sequence<'_>]) -> Result<Vec<f32>, PassError> {
        let rows = Rows::of_sequences(sequences, self.batching);
        let result = self.residual_of(&rows, sequences);
        settle(sequences, &result);
        result
    }

    /// Runs new tokens through the layers below `end` alone, and returns what enters that layer, `[rows, hidden]`. Nothing is
    /// committed: the states are as before.
    ///
    /// # Errors
    /// As [`Pass::run`].
    pub fn residual_below(
        &mut self,
        end: usize,
        sequences: &mut [Sequence<'_>],
    ) -> Result<Vec<f32>, PassError> {
        let rows = Rows::of_sequences(sequences, self.batching);
        let result = self.residual_of_layers(end, &rows, sequences);
        sequences.iter_mut().for_each(|sequence| sequence.state.rollback());
        result
    }

    fn residual_of(&mut self, rows: &Rows, sequences: &mut [Sequence<'_>]) -> Result<Vec<f32>, PassError> {
        self.residual_of_layers(self.model.layers.len(), rows, sequences)
    }

    /// Embeds the tokens and runs them through the layers below `end`.
    fn residual_of_layers(
        &mut self,
        end: usize,
        rows: &Rows,
        sequences: &mut [Sequence<'_>],
    ) -> Result<Vec<f32>, PassError> {
        let mut residual = self.embed(rows, sequences)?;
        let model = self.model;
        let inputs = model.per_layer_inputs.as_ref().map(|inputs| {
            let embeddings = rows.activations(&residual, model.spec.hidden_size);
            inputs.of_tokens(&model.pool, sequences, &embeddings, self.precision)
        });
        self.layers(0..end, inputs.as_ref(), rows, sequences, &mut residual)?;
        Ok(residual)
    }

    /// Runs residuals, `[rows, hidden]`, that enter the first of `layers` through these. The states grow, but nothing is
    /// committed.
    pub(crate) fn layers(
        &mut self,
        layers: Range<usize>,
        inputs: Option<&TokenInputs>,
        rows: &Rows,
        sequences: &mut [Sequence<'_>],
        residual: &mut [f32],
    ) -> Result<(), PassError> {
        let model = self.model;
        let dense = model.dense_ffn();
        let feed_forward = self.feed_forward.unwrap_or(&dense);
        let (precision, cancel) = (self.precision, self.cancel.clone());
        let mut watch = self.watch(rows);
        if layers.start == 0 {
            watch.at_point(Point::Embedding, residual)?;
        }
        for index in layers {
            cancel.check()?;
            let (pool, hidden) = (&*model.pool, model.spec.hidden_size);
            let context = LayerContext { pool, index, hidden, precision, feed_forward, inputs };
            model.layers[index].forward(&context, sequences, &mut watch, residual)?;
        }
        Ok(())
    }

    /// Judges every token and position, and embeds them: `[rows, hidden]`.
    fn embed(&self, rows: &Rows, sequences: &[Sequence<'_>]) -> Result<Vec<f32>, PassError> {
        let ends = self.ends();
        let vocab_size = ends.vocab_size().min(self.model.per_layer_vocab_size());
        for sequence in sequences {
            if sequence.tokens.is_empty() {
                return Err(PassError::NoTokens);
            }
            if let Some(&token) = sequence.tokens.iter().find(|t| **t as usize >= vocab_size) {
                return Err(PassError::TokenOutOfRange { token, vocab_size });
            }
            let length = sequence.state.len() + sequence.tokens.len();
            if let Some(limit) = ends.position_limit()
                && length > limit
            {
                return Err(PassError::ContextExceeded { length, limit });
            }
        }
        let tokens: Vec<u32> = sequences.iter().flat_map(|sequence| sequence.tokens).copied().collect();
        let mut residual = vec![0.0; tokens.len() * self.model.spec.hidden_size];
        ends.embed(&tokens, rows, &mut residual)?;
        Ok(residual)
    }

    /// The logits that the sequences ask for, of the last layer's outputs `[rows, hidden]`.
    fn logits(
        &mut self,
        rows: &Rows,
        sequences: &[Sequence<'_>],
        residual: &[f32],
    ) -> Result<Logits, PassError> {
        let hidden = self.model.spec.hidden_size;
        let wanted: Vec<Range<usize>> = sequences
            .iter()
            .enumerate()
            .map(|(sequence, Sequence { logits, .. })| match logits {
                LogitsFor::None => rows.of(sequence).end..rows.of(sequence).end,
                LogitsFor::LastToken => rows.last(sequence)..rows.of(sequence).end,
                LogitsFor::AllTokens => rows.of(sequence),
            })
            .collect();
        let counts = wanted.iter().map(ExactSizeIterator::len);
        let asked = wanted.iter().enumerate().map(|(sequence, wanted)| {
            let before = rows.positions(sequence).end - wanted.len();
            (before, wanted.len())
        });
        let asked = Rows::new(asked, self.batching).in_parts_of(sequences);
        let mut normed: Vec<f32> = wanted
            .iter()
            .flat_map(|rows| &residual[rows.start * hidden..rows.end * hidden])
            .copied()
            .collect();
        let vocab_size = self.model.spec.vocab_size;
        if normed.is_empty() {
            return Ok(Logits::new(Vec::new(), vocab_size, counts));
        }
        self.ends().final_norm(&mut normed)?;
        self.watch(&asked).at_point(Point::FinalNorm, &mut normed)?;
        let mut values = self.ends().logits(&asked.activations(&normed, hidden), self.precision)?;
        self.watch(&asked).at_point(Point::Logits, &mut values)?;
        Ok(Logits::new(values, vocab_size, counts))
    }

    fn ends(&self) -> &dyn Ends {
        self.ends.unwrap_or(&*self.model.ends)
    }

    fn watch<'b>(&'b mut self, rows: &'b Rows) -> Watch<'b> {
        let points = &self.points;
        match &mut self.hook {
            Some(hook) => Watch { points, hook: Some(&mut **hook), rows },
            None => Watch { points, hook: None, rows },
        }
    }
}

impl Model {
    /// An exact pass through this model.
    pub fn pass(&self) -> Pass<'_> {
        Pass::new(self)
    }
}

/// Commits what a pass appended to the states, or takes it back.
fn settle<T>(sequences: &mut [Sequence<'_>], result: &Result<T, PassError>) {
    for sequence in sequences {
        match result {
            Ok(_) => sequence.state.commit(sequence.tokens.len()),
            Err(_) => sequence.state.rollback(),
        }
    }
}
