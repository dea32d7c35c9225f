//! How fast a model runs here.

use std::time::Instant;

use larql_compute::Precision;
use serde::Serialize;

use crate::{Cache, InferenceError, LogitsFor, Model, NoHook, Pass, Sequence, predictions};

/// What to measure, and how often.
#[derive(Clone, Debug)]
pub struct SpeedOptions {
    /// Prompt lengths for prefill, in tokens.
    pub prompts: Vec<usize>,
    /// Tokens to decode in one run.
    pub decode: usize,
    /// Runs of each; the median counts.
    pub runs: usize,
    /// How products treat activations.
    pub precision: Precision,
}

/// One figure with its spread over the runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// The middle run.
    pub median: f64,
    /// The smallest value of any run.
    pub lowest: f64,
    /// The largest value of any run.
    pub highest: f64,
}

impl Figure {
    /// The figure of several runs; `values` has at least one.
    pub fn of(name: impl Into<String>, unit: &'static str, mut values: Vec<f64>) -> Figure {
        values.sort_by(f64::total_cmp);
        Figure {
            name: name.into(),
            unit,
            median: values[values.len() / 2],
            lowest: values[0],
            highest: values[values.len() - 1],
        }
    }

    /// Seconds that `work` takes, over `runs` runs after one that warms up.
    ///
    /// # Errors
    /// The first error of `work`.
    pub fn seconds<E>(
        name: impl Into<String>,
        runs: usize,
        mut work: impl FnMut() -> Result<(), E>,
    ) -> Result<Figure, E> {
        work()?;
        let timed = (0..runs.max(1)).map(|_| {
            let started = Instant::now();
            work().map(|()| started.elapsed().as_secs_f64())
        });
        Ok(Figure::of(name, "s", timed.collect::<Result<_, _>>()?))
    }
}

/// Measures prefill at each prompt length and decoding after a short prompt, in tokens per second. `on_figure`
/// sees each as it is known.
///
/// # Errors
/// If a prompt length is outside what the model can take.
pub fn measure(
    model: &Model,
    options: &SpeedOptions,
    mut on_figure: impl FnMut(Figure),
) -> Result<(), InferenceError> {
    let ffn = model.dense_ffn();
    let mut hook = NoHook;
    let mut pass = Pass { model, feed_forward: &ffn, precision: options.precision, hook: &mut hook };
    let mut step =
        |cache: &mut Cache, tokens: &[u32]| pass.run(&mut [Sequence { cache, tokens }], LogitsFor::LastToken);
    // Any tokens do: the work does not depend on which they are.
    let vocabulary = model.spec().vocab_size as u32;
    let prompt = |length: usize| (0..length as u32).map(|i| i % vocabulary).collect::<Vec<_>>();

    for &length in &options.prompts {
        let tokens = prompt(length);
        let mut rates = Vec::new();
        for _ in 0..=options.runs {
            let mut cache = Cache::new(model.spec());
            let started = Instant::now();
            step(&mut cache, &tokens)?;
            rates.push(length as f64 / started.elapsed().as_secs_f64());
        }
        // The first run warms up: it also reads the weights from the disk.
        on_figure(Figure::of(format!("prefill {length}"), "tokens/s", rates.split_off(1.min(options.runs))));
    }
    let mut rates = Vec::new();
    for _ in 0..options.runs.max(1) {
        let mut cache = Cache::new(model.spec());
        let mut logits = step(&mut cache, &prompt(8))?;
        let started = Instant::now();
        for _ in 0..options.decode {
            logits = step(&mut cache, &[predictions(&logits, 1)[0].token])?;
        }
        rates.push(options.decode as f64 / started.elapsed().as_secs_f64());
    }
    on_figure(Figure::of(format!("decode {}", options.decode), "tokens/s", rates));
    Ok(())
}
