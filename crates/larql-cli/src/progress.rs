//! Long work as a bar on the terminal, in a line of at most 80 columns. Nothing is drawn where standard error is no terminal.

use std::fmt::Write;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use larql_core::progress::{CancelToken, Progress, Stage, Step, rounded_time};

use crate::sizes;

/// A bar for each stage, one after another.
pub(crate) struct Bars {
    token: CancelToken,
    /// True if bars disappear afterwards.
    fleeting: bool,
    current: Mutex<Option<(Stage, ProgressBar)>>,
}

impl Bars {
    /// Returns bars over work that `token` cancels.
    pub(crate) fn new(token: CancelToken) -> Bars {
        Bars { token, fleeting: false, current: Mutex::default() }
    }

    /// Returns bars over work that `token` cancels, which disappear afterwards.
    pub(crate) fn fleeting(token: CancelToken) -> Bars {
        Bars { token, fleeting: true, current: Mutex::default() }
    }

    /// Ends the last bar.
    pub(crate) fn finish(&self) {
        if let Ok(mut current) = self.current.lock()
            && let Some((_, bar)) = current.take()
        {
            self.end(&bar);
        }
    }

    /// Leaves a bar as it stands, or clears it.
    fn end(&self, bar: &ProgressBar) {
        if self.fleeting {
            bar.finish_and_clear();
        } else {
            bar.abandon();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Progress for Bars {
    fn report(&self, step: Step<'_>) {
        // A poisoned lock means that drawing panicked; the work itself goes on without its bar.
        let Ok(mut current) = self.current.lock() else { return };
        if current.as_ref().is_none_or(|(stage, _)| *stage != step.stage) {
            if let Some((_, finished)) = current.take() {
                self.end(&finished);
            }
            *current = Some((step.stage, ProgressBar::new(step.total).with_style(style(step.stage))));
        }
        if let Some((_, bar)) = &*current {
            bar.set_length(step.total);
            bar.set_message(step.item.to_owned());
            bar.set_position(step.done);
        }
        // What follows may be the answer, which nobody announces here.
        if self.fleeting
            && step.done >= step.total
            && let Some((_, finished)) = current.take()
        {
            self.end(&finished);
        }
    }

    fn cancel_token(&self) -> &CancelToken {
        &self.token
    }
}

fn style(stage: Stage) -> ProgressStyle {
    // What is left of the line is for the item, which is cut to it.
    let template =
        format!("{:<11} {{bar:16}} {{percent:>3}} %  {{counts}}  {{left}}  {{wide_msg}}", stage.name());
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    // A line that cannot be written is drawn without these words.
    style
        .with_key("counts", move |state: &ProgressState, line: &mut dyn Write| {
            let _ = line.write_str(&counts(stage, state.pos(), state.len().unwrap_or(0)));
        })
        .with_key("left", |state: &ProgressState, line: &mut dyn Write| {
            let _ = line.write_str(&left(state.pos(), state.eta()));
        })
}

/// The amount that is done of a stage; nothing for one that counts in parts of the whole.
fn counts(stage: Stage, done: u64, total: u64) -> String {
    match stage.unit() {
        "" => String::new(),
        "bytes" => sizes::human(total),
        unit => format!("{done} of {total} {unit}"),
    }
}

/// The time that is left, in one unit; nothing before there is anything to judge by.
fn left(done: u64, time: Duration) -> String {
    if done == 0 { String::new() } else { format!("{} left", rounded_time(time)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_fit_a_line_of_80_columns() {
        let every = [
            (Stage::Weights, 253_113_024, "253.1 MB"),
            (Stage::Triggers, 262_144, "262144 of 262144 tokens"),
            (Stage::Probe, 1000, ""),
        ];
        for (stage, total, expected) in every {
            let counts = counts(stage, total, total);
            assert_eq!(counts, expected);
            let line = format!(
                "{:<11} {:16} 100 %  {counts}  {}",
                stage.name(),
                "",
                left(1, Duration::from_secs(5400))
            );
            assert!(line.len() < 80, "{line}");
        }
        assert_eq!(left(0, Duration::ZERO), "");
    }
}
