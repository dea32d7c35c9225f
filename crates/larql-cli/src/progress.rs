//! Long work as a bar on the terminal, with rate and time left. Nothing is drawn where standard error is no terminal.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use larql_core::progress::{CancelToken, Progress, Stage, Step};

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

    fn bar(&self, stage: Stage, total: u64) -> ProgressBar {
        let counts = match stage.unit() {
            "bytes" => "{bytes}/{total_bytes} {bytes_per_sec}".to_owned(),
            unit if self.fleeting => format!("{{pos}}/{{len}} {unit}"),
            unit => format!("{{pos}}/{{len}} {unit}, {{per_sec}}"),
        };
        ProgressBar::new(total).with_style(style(stage.name(), &counts))
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
            *current = Some((step.stage, self.bar(step.stage, step.total)));
        }
        if let Some((_, bar)) = &*current {
            bar.set_length(step.total);
            bar.set_message(step.item.to_owned());
            bar.set_position(step.done);
        }
    }

    fn cancel_token(&self) -> &CancelToken {
        &self.token
    }
}

fn style(name: &str, counts: &str) -> ProgressStyle {
    let template = format!("{name:<10} {{bar:30}} {counts}, {{eta}} left  {{wide_msg}}");
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
