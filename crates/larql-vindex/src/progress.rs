//! Long work reports how far it is, and can be stopped.

use std::ops::ControlFlow;

use crate::VindexError;

/// What long work is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Computing the digests of the source's files; counted in bytes.
    Digests,
    /// Writing weights; counted in bytes written.
    Weights,
    /// Finding the tokens that each feature writes; counted in features.
    DownMeta,
    /// Finding the tokens that features answer to; counted in tokens, for each layer anew.
    Triggers,
    /// Comparing files with their checksums; counted in bytes.
    Verify,
}

/// How far work is.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// What is being done.
    pub stage: Stage,
    /// The file or layer that it is being done to.
    pub item: &'a str,
    /// How much of the stage is done.
    pub done: u64,
    /// How much there is to do in this stage.
    pub total: u64,
}

/// Watches long work.
pub trait Progress {
    /// Called several times a second. Breaking stops the work, which then returns [`VindexError::Cancelled`].
    fn step(&self, step: Step<'_>) -> ControlFlow<()>;
}

/// Nobody watches.
#[derive(Clone, Copy, Debug)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn step(&self, _: Step<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Counts one stage.
pub(crate) struct Meter<'a> {
    progress: &'a dyn Progress,
    stage: Stage,
    item: String,
    done: u64,
    total: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(progress: &'a dyn Progress, stage: Stage, total: u64) -> Meter<'a> {
        Meter { progress, stage, item: String::new(), done: 0, total }
    }

    /// What the following steps are about.
    pub(crate) fn set_item(&mut self, item: &str) {
        item.clone_into(&mut self.item);
    }

    /// So much more is done.
    pub(crate) fn advance(&mut self, amount: u64) -> Result<(), VindexError> {
        self.done += amount;
        let step = Step { stage: self.stage, item: &self.item, done: self.done, total: self.total };
        match self.progress.step(step) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(VindexError::Cancelled),
        }
    }
}
