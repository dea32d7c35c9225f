//! Long work as a bar on the terminal, with rate and time left. Nothing is drawn where standard error is no terminal.

use std::ops::ControlFlow;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use larql_core::progress::{CancelToken, Progress, Stage, Step};

/// A bar for each stage, one after another.
pub(crate) struct Bars {
    token: CancelToken,
    current: Mutex<Option<(Stage, ProgressBar)>>,
}

impl Bars {
    /// Returns bars over work that `token` cancels.
    pub(crate) fn new(token: CancelToken) -> Bars {
        Bars { token, current: Mutex::new(None) }
    }

    /// Leaves the last bar as it stands.
    pub(crate) fn finish(&self) {
        if let Ok(mut current) = self.current.lock()
            && let Some((_, bar)) = current.take()
        {
            bar.abandon();
        }
    }
}

impl Progress for Bars {
    fn report(&self, step: Step<'_>) {
        // A poisoned lock means that drawing panicked; the work itself goes on without its bar.
        let Ok(mut current) = self.current.lock() else { return };
        if current.as_ref().is_none_or(|(stage, _)| *stage != step.stage) {
            if let Some((_, finished)) = current.take() {
                finished.abandon();
            }
            *current = Some((step.stage, bar(step.stage, step.total)));
        }
        if let Some((_, bar)) = &*current {
            bar.set_message(step.item.to_owned());
            bar.set_position(step.done);
        }
    }

    fn cancel_token(&self) -> &CancelToken {
        &self.token
    }
}

/// A bar over one kind of work that can be cancelled. It disappears afterwards.
pub(crate) struct Bar {
    bar: ProgressBar,
    token: CancelToken,
}

impl Bar {
    /// Returns a bar over the work `name`, counted in `unit`, that `token` cancels.
    pub(crate) fn new(name: &str, unit: &str, token: &CancelToken) -> Bar {
        let bar = ProgressBar::no_length();
        bar.set_style(style(name, &format!("{{pos}}/{{len}} {unit}")));
        Bar { bar, token: token.clone() }
    }

    /// Shows that `done` of `total` are done.
    pub(crate) fn at(&self, done: usize, total: usize) -> ControlFlow<()> {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        if self.token.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(name: &str, counts: &str) -> ProgressStyle {
    let template = format!("{name:<10} {{bar:30}} {counts}, {{eta}} left  {{wide_msg}}");
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn bar(stage: Stage, total: u64) -> ProgressBar {
    let counts = match stage.unit() {
        "bytes" => "{bytes}/{total_bytes} {bytes_per_sec}".to_owned(),
        unit => format!("{{pos}}/{{len}} {unit}, {{per_sec}}"),
    };
    ProgressBar::new(total).with_style(style(stage.name(), &counts))
}
