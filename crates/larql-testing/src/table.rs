//! Tables of benchmarks: measured time next to the least time that this machine allows.

use std::time::{Duration, Instant};

/// Time for which one measurement is repeated.
const PATIENCE: Duration = Duration::from_secs(1);
/// Least number of repetitions.
const REPEATS: usize = 3;

/// Lines of measurements under a heading.
pub struct Table {
    /// The last line's work and seconds, to say how the next one grows.
    last: Option<(f64, f64)>,
}

impl Table {
    /// A table of times beside limits.
    pub fn beside_limits(title: &str) -> Table {
        println!("{title:<44} {:>12} {:>12} {:>7}  limit", "time", "limit", "share");
        Table { last: None }
    }

    /// A table of times that grow with the amount of work.
    pub fn of_growth(title: &str) -> Table {
        println!("{title:<44} {:>12} {:>12}", "time", "exponent");
        Table { last: None }
    }

    /// Times `work` and what limits it in turn and prints the best of each, which leaves out what other programs
    /// take. `limit` gives the seconds that `what` takes.
    pub fn line(&mut self, name: &str, mut work: impl FnMut(), what: &str, mut limit: impl FnMut() -> f64) {
        let (mut best, mut least) = (f64::INFINITY, f64::INFINITY);
        repeat(|| {
            best = best.min(seconds(&mut work));
            least = least.min(limit());
        });
        self.print(name, best, what, least);
    }

    /// Prints what was timed already.
    pub fn print(&mut self, name: &str, seconds: f64, what: &str, limit: f64) {
        let share = 100.0 * limit / seconds;
        println!("{name:<44} {:>12} {:>12} {share:6.0}%  {what}", duration(seconds), duration(limit));
    }

    /// Times `work`, of which there is `amount`, and prints the best time and with which power of the amount it grew
    /// since the line before.
    pub fn growth(&mut self, name: &str, amount: usize, mut work: impl FnMut()) {
        let mut best = f64::INFINITY;
        repeat(|| best = best.min(seconds(&mut work)));
        self.grown(name, amount, best);
    }

    /// As [`Table::growth`], of what was timed already.
    pub fn grown(&mut self, name: &str, amount: usize, seconds: f64) {
        let amount = amount as f64;
        let grown = self.last.filter(|(before, _)| *before != amount);
        let exponent = grown.map(|(before, then)| (seconds / then).ln() / (amount / before).ln());
        let exponent = exponent.map_or_else(String::new, |exponent| format!("{exponent:.2}"));
        println!("{name:<44} {:>12} {exponent:>12}", duration(seconds));
        self.last = Some((amount, seconds));
    }
}

fn seconds(work: &mut impl FnMut()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

fn repeat(mut measure: impl FnMut()) {
    let begun = Instant::now();
    for number in 0.. {
        if number >= REPEATS && begun.elapsed() >= PATIENCE {
            break;
        }
        measure();
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds >= 1.0 => format!("{seconds:.2} s"),
        _ if seconds >= 1e-3 => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{:.2} µs", seconds * 1e6),
    }
}
