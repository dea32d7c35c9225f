//! Executor of passes: a model with everything that is fixed from one pass to the next.

use std::sync::{Arc, Mutex, PoisonError};

use larql_compute::Precision;
use larql_compute::attention::KeyValueFormat;
use larql_core::progress::CancelToken;
use larql_models::ModelSpec;

use crate::{
    Batching, Ends, FfnBackend, Hook, HookError, KeyValueCache, Logits, Model, Pass, PassError, Point,
    PointSet, Rows, Sequence, SequenceState,
};

/// Runs forward passes. Whatever generates text drives one of these, so that it need not know where or how passes run.
pub trait Executor: Send + Sync {
    /// The specification of the model.
    fn spec(&self) -> &ModelSpec;

    /// Returns true if [drafts](Sequence::is_draft) may be run: passes change nothing but the states, which can forget tokens.
    fn runs_drafts(&self) -> bool {
        false
    }

    /// Creates the state of an empty sequence.
    fn new_state(&self) -> Box<dyn SequenceState>;

    /// Runs the new tokens of all sequences in one pass, and returns the logits that they ask for. `hook` is called at the
    /// points that it asks for; `cancel` ends the pass between layers.
    ///
    /// # Errors
    /// As [`Pass::run`]; the states are as before then.
    fn forward(
        &self,
        sequences: &mut [Sequence<'_>],
        hook: Option<&mut dyn Hook>,
        cancel: &CancelToken,
    ) -> Result<Logits, PassError>;
}

/// Executor that runs a model on the threads of its pool.
#[derive(Clone)]
pub struct CpuExecutor {
    model: Model,
    feed_forward: Arc<dyn FfnBackend>,
    ends: Arc<dyn Ends>,
    precision: Precision,
    batching: Batching,
    key_values: KeyValueFormat,
}

impl CpuExecutor {
    /// An executor of a model as it is, as fast as it runs: activations in 8 bits, and each sequence independent of those that
    /// run beside it.
    pub fn new(model: Model) -> CpuExecutor {
        CpuExecutor {
            feed_forward: Arc::new(model.dense_ffn()),
            ends: model.ends(),
            model,
            precision: Precision::Fast,
            batching: Batching::Independent,
            key_values: KeyValueFormat::default(),
        }
    }

    /// Runs `feed_forward` in place of the model's own step.
    #[must_use]
    pub fn with_feed_forward(self, feed_forward: Arc<dyn FfnBackend>) -> CpuExecutor {
        CpuExecutor { feed_forward, ..self }
    }

    /// Embeds tokens and computes logits by `ends` in place of the model's own matrices.
    #[must_use]
    pub fn with_ends(self, ends: Arc<dyn Ends>) -> CpuExecutor {
        CpuExecutor { ends, ..self }
    }

    /// Sets how products treat activations.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> CpuExecutor {
        CpuExecutor { precision, ..self }
    }

    /// Sets how new sequences store keys and values.
    #[must_use]
    pub fn with_key_values(self, key_values: KeyValueFormat) -> CpuExecutor {
        CpuExecutor { key_values, ..self }
    }
}

impl Executor for CpuExecutor {
    fn spec(&self) -> &ModelSpec {
        self.model.spec()
    }

    fn runs_drafts(&self) -> bool {
        self.batching == Batching::Independent
    }

    fn new_state(&self) -> Box<dyn SequenceState> {
        Box::new(KeyValueCache::new(self.model.spec()).with_format(self.key_values))
    }

    fn forward(
        &self,
        sequences: &mut [Sequence<'_>],
        hook: Option<&mut dyn Hook>,
        cancel: &CancelToken,
    ) -> Result<Logits, PassError> {
        let mut pass = Pass::new(&self.model)
            .with_feed_forward(&*self.feed_forward)
            .with_ends(&*self.ends)
            .with_precision(self.precision)
            .with_batching(self.batching)
            .with_cancel(cancel);
        if let Some(hook) = hook {
            pass = pass.with_hook(hook);
        }
        pass.run(sequences)
    }
}

/// Executor all of whose passes run a hook, before the hook of the pass.
pub struct HookedExecutor<E, H> {
    executor: E,
    hook: Arc<Mutex<H>>,
}

impl<E: Executor, H: Hook + Send> HookedExecutor<E, H> {
    /// Runs `hook` in all passes of an executor.
    pub fn new(executor: E, hook: Arc<Mutex<H>>) -> HookedExecutor<E, H> {
        HookedExecutor { executor, hook }
    }
}

impl<E: Executor, H: Hook + Send> Executor for HookedExecutor<E, H> {
    fn spec(&self) -> &ModelSpec {
        self.executor.spec()
    }

    fn new_state(&self) -> Box<dyn SequenceState> {
        self.executor.new_state()
    }

    fn forward(
        &self,
        sequences: &mut [Sequence<'_>],
        hook: Option<&mut dyn Hook>,
        cancel: &CancelToken,
    ) -> Result<Logits, PassError> {
        let mut first = self.hook.lock().unwrap_or_else(PoisonError::into_inner);
        let mut both = Both { first: &mut *first, second: hook };
        self.executor.forward(sequences, Some(&mut both), cancel)
    }
}

/// Two hooks, the second of which sees what the first changed.
struct Both<'a, 'b> {
    first: &'a mut dyn Hook,
    second: Option<&'b mut dyn Hook>,
}

impl Hook for Both<'_, '_> {
    fn points(&self) -> PointSet {
        let second = self.second.as_ref().map_or_else(PointSet::default, |hook| hook.points());
        self.first.points().union(second)
    }

    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        if self.first.points().contains(point) {
            self.first.at(point, rows, values)?;
        }
        match &mut self.second {
            Some(hook) if hook.points().contains(point) => hook.at(point, rows, values),
            _ => Ok(()),
        }
    }
}
