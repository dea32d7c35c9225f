//! Long work as a bar on the terminal, in a line of at most 80 columns. Where standard error is no terminal, work that takes longer
//! than half a minute prints a line each half minute instead.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use larql_core::progress::{CancelToken, Progress, Stage, Step, rounded_time};

use crate::sizes;

/// The time between two lines about the same stage.
const BETWEEN_LINES: Duration = Duration::from_secs(30);

/// A bar for each stage, one after another; lines where there is no terminal.
pub(crate) struct Bars {
    token: CancelToken,
    /// True if bars disappear afterwards.
    fleeting: bool,
    /// The time of the last line; none where there is a terminal.
    last_line: Option<Mutex<Instant>>,
    current: Mutex<Option<(Stage, ProgressBar)>>,
}

impl Bars {
    /// Returns bars over work that `token` cancels.
    pub(crate) fn new(token: CancelToken) -> Bars {
        let last_line = (!std::io::stderr().is_terminal()).then(|| Mutex::new(Instant::now()));
        Bars { token, fleeting: false, last_line, current: Mutex::default() }
    }

    /// Returns bars over work that `token` cancels, which disappear afterwards.
    pub(crate) fn fleeting(token: CancelToken) -> Bars {
        let mut bars = Bars::new(token);
        bars.fleeting = true;
        bars
    }

    /// Ends the last bar.
    pub(crate) fn finish(&self) {
        if let Ok(mut current) = self.current.lock()
            && let Some((_, bar)) = current.take()
        {
            self.end(&bar);
        }
    }

    /// Prints how far a stage is where there is no terminal and the last line is half a minute old.
    fn print_line(&self, step: Step<'_>, eta: Duration) {
        let Some(Ok(mut last_line)) = self.last_line.as_ref().map(Mutex::lock) else { return };
        if last_line.elapsed() >= BETWEEN_LINES {
            *last_line = Instant::now();
            eprintln!("{}", line(step, eta));
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
            self.print_line(step, bar.eta());
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

/// The progress of a stage as a line for a log: `probing: 31 %, 9 min left (capital)`.
fn line(step: Step<'_>, eta: Duration) -> String {
    let percent = 100 * step.done / step.total.max(1);
    let figures = [counts(step.stage, step.done, step.total), left(step.done, eta)];
    let figures: String =
        figures.iter().filter(|text| !text.is_empty()).map(|text| format!(", {text}")).collect();
    let item = if step.item.is_empty() { String::new() } else { format!(" ({})", step.item) };
    format!("{}: {percent} %{figures}{item}", step.stage.name())
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

    #[test]
    fn a_line_for_a_log_says_how_far_the_stage_is() {
        let step = |stage, item, done| Step { stage, item, done, total: 1000 };
        let eta = Duration::from_secs(540);
        assert_eq!(line(step(Stage::Probe, "capital", 310), eta), "probing: 31 %, 9 min left (capital)");
        assert_eq!(
            line(step(Stage::DownMeta, "", 500), eta),
            "top tokens: 50 %, 500 of 1000 features, 9 min left"
        );
        assert_eq!(line(step(Stage::Probe, "", 0), Duration::ZERO), "probing: 0 %");
    }
}
