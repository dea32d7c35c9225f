//! Phases of a probe as parts of one whole, so that the remaining time can be estimated from the beginning.

use larql_core::progress::{CancelToken, Progress, Stage, Step};

/// A phase of a probe: progress that reports its share of the whole.
pub(super) struct Phase<'a> {
    progress: &'a dyn Progress,
    /// Begin and end, in parts of a thousand.
    begin: u64,
    end: u64,
}

impl<'a> Phase<'a> {
    // Shares of the time of a probe of the shipped facts (`docs/src/notebook/knowledge.md`).
    /// Reads the subjects.
    pub(super) fn subjects(progress: &'a dyn Progress) -> Phase<'a> {
        Phase { progress, begin: 0, end: 40 }
    }

    /// Chooses wordings.
    pub(super) fn wordings(progress: &'a dyn Progress) -> Phase<'a> {
        Phase { progress, begin: 40, end: 280 }
    }

    /// Asks about the subjects.
    pub(super) fn questions(progress: &'a dyn Progress) -> Phase<'a> {
        Phase { progress, begin: 280, end: 890 }
    }

    /// Removes features.
    pub(super) fn ablations(progress: &'a dyn Progress) -> Phase<'a> {
        Phase { progress, begin: 890, end: 1000 }
    }
}

impl Progress for Phase<'_> {
    fn report(&self, step: Step<'_>) {
        let width = self.end - self.begin;
        let done = self.begin + width * step.done.min(step.total) / step.total.max(1);
        let item = format!("{} {} of {}", step.stage.name(), step.done, step.total);
        self.progress.report(Step { stage: Stage::Probe, item: &item, done, total: 1000 });
    }

    fn cancel_token(&self) -> &CancelToken {
        self.progress.cancel_token()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn phases_follow_one_another_to_the_end() {
        #[derive(Default)]
        struct Recorded(Mutex<Vec<(String, u64)>>, CancelToken);
        impl Progress for Recorded {
            fn report(&self, step: Step<'_>) {
                assert_eq!((step.stage, step.total), (Stage::Probe, 1000));
                self.0.lock().unwrap().push((step.item.to_owned(), step.done));
            }
            fn cancel_token(&self) -> &CancelToken {
                &self.1
            }
        }
        let recorded = Recorded::default();
        let phases = [Phase::subjects, Phase::wordings, Phase::questions, Phase::ablations];
        let mut last = 0;
        for phase in phases.map(|phase| phase(&recorded)) {
            assert_eq!(phase.begin, last);
            last = phase.end;
            phase.report(Step { stage: Stage::ProbeQuestions, item: "", done: 5, total: 10 });
            phase.report(Step { stage: Stage::ProbeQuestions, item: "", done: 0, total: 0 });
        }
        let reports = recorded.0.lock().unwrap();
        assert_eq!((last, &reports[4]), (1000, &("asking 5 of 10".to_owned(), 585)));
    }
}
