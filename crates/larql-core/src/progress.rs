//! Progress and cancelling of long work.
//!
//! Work takes a `&dyn Progress`, reports [`Step`]s to it and returns [`Cancelled`] (or an error made from it) soon after the
//! [`CancelToken`] of that progress is cancelled. Work that reports nothing, such as a forward pass, holds a token alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The work was cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

/// Flag that asks work to stop. Clones share one flag, so that the holder of one can stop the work that holds another.
#[derive(Clone, Debug)]
pub struct CancelToken {
    /// The flag; `None` of a token that cannot be cancelled.
    flag: Option<Arc<AtomicBool>>,
}

impl CancelToken {
    /// Returns a token with a flag of its own.
    pub fn new() -> CancelToken {
        CancelToken { flag: Some(Arc::new(AtomicBool::new(false))) }
    }

    /// Returns a token that cannot be cancelled, for work that always runs to its end.
    pub const fn never() -> CancelToken {
        CancelToken { flag: None }
    }

    /// Asks the work to stop. Returns false if that was asked before.
    pub fn cancel(&self) -> bool {
        self.flag.as_ref().is_some_and(|flag| !flag.swap(true, Ordering::AcqRel))
    }

    /// Takes the request back, so that the next work of the same holder can run.
    pub fn reset(&self) {
        if let Some(flag) = &self.flag {
            flag.store(false, Ordering::Release);
        }
    }

    /// Returns true once the work is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.flag.as_ref().is_some_and(|flag| flag.load(Ordering::Acquire))
    }

    /// Ends the calling work by an error once it is to stop.
    ///
    /// # Errors
    /// [`Cancelled`] if the token is cancelled.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }
}

impl Default for CancelToken {
    fn default() -> CancelToken {
        CancelToken::new()
    }
}

/// Stage of long work, counted in a unit of its own.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Computing the digests of a source's files.
    Digests,
    /// Writing the weights of a vindex.
    Weights,
    /// Finding the tokens that each feature writes.
    DownMeta,
    /// Finding the tokens that features answer to, for each layer anew.
    Triggers,
    /// Comparing files with their checksums.
    Verify,
    /// A probe as a whole, in parts of a thousand.
    Probe,
    /// Reading the subjects of facts.
    Subjects,
    /// Trying the wordings of relations.
    ProbeWordings,
    /// Asking about subjects whose facts are known.
    ProbeQuestions,
    /// Removing features to see whether answers suffer.
    Ablations,
    /// Measuring the effect of each layer on answers, once for each model.
    CausalTrace,
    /// Recording the inputs of layers on calibration text, once for each model.
    Statistics,
    /// Writing edges into features.
    Inserting,
    /// Recording the keys of edges in external memory.
    Remembering,
    /// Asking the questions of an evaluation.
    Asking,
    /// Describing the entities of an evaluation.
    Describing,
    /// Building the layers of a Vindexfile.
    Building,
    /// Receiving files from a server.
    Download,
    /// Sending files to a server.
    Upload,
}

impl Stage {
    /// Returns the stage as progress displays name it, for instance `verifying`.
    pub fn name(self) -> &'static str {
        self.name_and_unit().0
    }

    /// Returns the unit that the stage is counted in, in the plural, for instance `bytes`; empty for parts of the whole.
    pub fn unit(self) -> &'static str {
        self.name_and_unit().1
    }

    const fn name_and_unit(self) -> (&'static str, &'static str) {
        match self {
            Stage::Digests => ("reading", "bytes"),
            Stage::Weights => ("writing", "bytes"),
            Stage::DownMeta => ("top tokens", "features"),
            Stage::Triggers => ("triggers", "tokens"),
            Stage::Verify => ("verifying", "bytes"),
            Stage::Probe => ("probing", ""),
            Stage::Subjects => ("reading", "subjects"),
            Stage::ProbeWordings => ("wordings", "relations"),
            Stage::ProbeQuestions => ("asking", "questions"),
            Stage::Ablations => ("removing", "features"),
            Stage::CausalTrace => ("measuring the model once", "steps"),
            Stage::Statistics => ("measuring the layer once", "texts"),
            Stage::Inserting => ("inserting", "edges"),
            Stage::Remembering => ("remembering", "questions"),
            Stage::Asking => ("asking", "questions"),
            Stage::Describing => ("describing", "subjects"),
            Stage::Building => ("building", "layers"),
            Stage::Download => ("downloading", "bytes"),
            Stage::Upload => ("uploading", "bytes"),
        }
    }
}

/// State of long work.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The stage that the work is at.
    pub stage: Stage,
    /// The file, layer or other item that is worked on; empty if there is none to name.
    pub item: &'a str,
    /// The amount of this stage that is done, in [`Stage::unit`].
    pub done: u64,
    /// The amount of this stage in all.
    pub total: u64,
}

/// Receiver of reports about long work, which can also cancel it.
pub trait Progress: Send + Sync {
    /// Receives a report. Work calls it several times a second.
    fn report(&self, step: Step<'_>);

    /// Returns the token that cancels the work.
    fn cancel_token(&self) -> &CancelToken;

    /// Ends the calling work by an error once it is to stop.
    ///
    /// # Errors
    /// [`Cancelled`] if the token is cancelled.
    fn check(&self) -> Result<(), Cancelled> {
        self.cancel_token().check()
    }
}

/// Silent progress that cancels nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn report(&self, _: Step<'_>) {}

    fn cancel_token(&self) -> &CancelToken {
        static NEVER: CancelToken = CancelToken::never();
        &NEVER
    }
}

/// A token alone is silent progress that can be cancelled.
impl Progress for CancelToken {
    fn report(&self, _: Step<'_>) {}

    fn cancel_token(&self) -> &CancelToken {
        self
    }
}

/// Returns a time in whole numbers of one unit, as displays show it: at most 99 of seconds and minutes, else hours.
pub fn rounded_time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..99.5 => format!("{seconds:.0} s"),
        ..5970.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

/// Counter of one stage, which reports each change and notices cancelling.
pub struct Meter<'a> {
    progress: &'a dyn Progress,
    stage: Stage,
    item: String,
    done: u64,
    total: u64,
}

impl<'a> Meter<'a> {
    /// Returns a counter at 0 of `total` units of `stage`. Nothing is reported before the first change.
    pub fn new(progress: &'a dyn Progress, stage: Stage, total: u64) -> Meter<'a> {
        Meter { progress, stage, item: String::new(), done: 0, total }
    }

    /// Names the item that the following reports are about.
    pub fn set_item(&mut self, item: &str) {
        item.clone_into(&mut self.item);
    }

    /// Adds `amount` to what is done.
    ///
    /// # Errors
    /// [`Cancelled`] if the work is to stop.
    pub fn advance(&mut self, amount: u64) -> Result<(), Cancelled> {
        self.set_done(self.done + amount)
    }

    /// Sets what is done, for work that counts by itself.
    ///
    /// # Errors
    /// [`Cancelled`] if the work is to stop.
    pub fn set_done(&mut self, done: u64) -> Result<(), Cancelled> {
        self.done = done;
        let step = Step { stage: self.stage, item: &self.item, done, total: self.total };
        self.progress.report(step);
        self.progress.check()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn clones_of_a_token_are_cancelled_together_and_once() {
        let token = CancelToken::new();
        let clone = token.clone();
        assert_eq!(clone.check(), Ok(()));
        assert!(token.cancel() && !clone.cancel());
        assert_eq!(clone.check(), Err(Cancelled));
        assert_eq!(Cancelled.to_string(), "interrupted");
        clone.reset();
        assert!(!token.is_cancelled());
    }

    #[test]
    fn work_without_progress_cannot_be_cancelled() {
        assert!(!NoProgress.cancel_token().cancel());
        assert_eq!(NoProgress.check(), Ok(()));
        assert!(!CancelToken::never().cancel() && CancelToken::default().cancel());
    }

    #[test]
    fn a_meter_reports_each_change_and_ends_once_cancelled() {
        #[derive(Default)]
        struct Recorded(Mutex<Vec<(Stage, String, u64, u64)>>, CancelToken);
        impl Progress for Recorded {
            fn report(&self, step: Step<'_>) {
                self.0.lock().unwrap().push((step.stage, step.item.to_owned(), step.done, step.total));
            }
            fn cancel_token(&self) -> &CancelToken {
                &self.1
            }
        }
        let recorded = Recorded(Mutex::default(), CancelToken::new());
        let mut meter = Meter::new(&recorded, Stage::Verify, 10);
        meter.set_item("a.bin");
        meter.advance(4).unwrap();
        recorded.cancel_token().cancel();
        assert_eq!(meter.advance(6), Err(Cancelled));
        let reports = recorded.0.lock().unwrap();
        let report = |done| (Stage::Verify, "a.bin".to_owned(), done, 10);
        assert_eq!(*reports, [report(4), report(10)]);
    }

    #[test]
    fn times_have_two_digits_and_one_unit() {
        let times = [0.4, 99.4, 99.6, 595.0, 5939.0, 7200.0];
        let times = times.map(|seconds| rounded_time(Duration::from_secs_f64(seconds)));
        assert_eq!(times, ["0 s", "99 s", "2 min", "10 min", "99 min", "2 h"]);
    }

    #[test]
    fn a_token_is_silent_progress() {
        let token = CancelToken::new();
        let mut meter = Meter::new(&token, Stage::Asking, 2);
        meter.set_done(1).unwrap();
        token.cancel();
        assert!(meter.set_done(2).is_err());
    }
}
