//! Long work as a bar on the terminal, with rate and time left. Nothing is drawn where standard error is no terminal.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use larql_core::progress::{Progress, Stage, Step};

/// A bar for each stage, one after another.
pub(crate) struct Bars {
    interrupted: Arc<AtomicBool>,
    current: Mutex<Option<(Stage, ProgressBar)>>,
}

impl Bars {
    /// Bars over work that stops once `interrupted` is set.
    pub(crate) fn new(interrupted: Arc<AtomicBool>) -> Bars {
        Bars { interrupted, current: Mutex::new(None) }
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
    fn step(&self, step: Step<'_>) -> ControlFlow<()> {
        // A poisoned lock means that drawing panicked; the work itself goes on without its bar.
        if let Ok(mut current) = self.current.lock() {
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
        if self.interrupted.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// A bar over one kind of work that stops once it is interrupted, and is gone afterwards.
pub(crate) struct Bar {
    bar: ProgressBar,
    interrupted: Arc<AtomicBool>,
}

impl Bar {
    /// `name` says what is done, `unit` to what.
    pub(crate) fn new(name: &str, unit: &str, interrupted: &Arc<AtomicBool>) -> Bar {
        let bar = ProgressBar::no_length();
        bar.set_style(style(name, &format!("{{pos}}/{{len}} {unit}")));
        Bar { bar, interrupted: Arc::clone(interrupted) }
    }

    /// `done` of `total` are done.
    pub(crate) fn at(&self, done: usize, total: usize) -> ControlFlow<()> {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        if self.interrupted.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
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
    let (name, counts) = match stage {
        Stage::Digests => ("reading", "{bytes}/{total_bytes} {bytes_per_sec}"),
        Stage::Weights => ("writing", "{bytes}/{total_bytes} {bytes_per_sec}"),
        Stage::DownMeta => ("top tokens", "{pos}/{len} features, {per_sec}"),
        Stage::Triggers => ("triggers", "{pos}/{len} tokens, {per_sec}"),
        Stage::Verify => ("verifying", "{bytes}/{total_bytes} {bytes_per_sec}"),
    };
    ProgressBar::new(total).with_style(style(name, counts))
}
