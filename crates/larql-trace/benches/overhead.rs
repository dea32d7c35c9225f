//! Cost of tracing beside the pass alone: `cargo bench -p larql-trace --bench overhead`. Rounds are interleaved; each line has
//! the median and, over the rounds, the median of the ratio to the pass without a hook.

use std::sync::Arc;
use std::time::Instant;

use larql_compute::Pool;
use larql_inference::{Hook, HookError, KeyValueCache, Model, Point, PointSet, Rows, Stage};
use larql_trace::{Positions, Trace};

const TOKENS: usize = 256;
const ROUNDS: usize = 9;

/// Copy of the residual after each layer, `[layers][tokens × hidden]`.
#[derive(Default)]
struct Residuals(Vec<Vec<f32>>);

impl Hook for Residuals {
    fn points(&self) -> PointSet {
        PointSet::stages([Stage::LayerOutput])
    }

    fn at(&mut self, _point: Point, _rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        self.0.push(values.to_vec());
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = larql_testing::real_model(larql_testing::SMOLLM2)
        .unwrap_or_else(|| larql_testing::repository("conformance/llama_512"));
    let model = Model::open(&path, Arc::new(Pool::for_this_machine()))?;
    let tokens: Vec<u32> = (0..TOKENS as u32).map(|token| 100 + token % 150).collect();
    println!("{}, {} threads, {TOKENS} tokens, {ROUNDS} rounds", path.display(), model.pool().threads());
    let pass = |hook: Option<&mut dyn Hook>| {
        let mut state = KeyValueCache::new(model.spec());
        let mut pass = match hook {
            Some(hook) => model.pass().with_hook(hook),
            None => model.pass(),
        };
        pass.last_logits(&mut state, &tokens).map(drop)
    };
    let mut seconds: [Vec<f64>; 4] = Default::default();
    for round in 0..=ROUNDS {
        let mut time = |index: usize, work: &mut dyn FnMut() -> Result<(), Box<dyn std::error::Error>>| {
            let started = Instant::now();
            work()?;
            if round > 0 {
                seconds[index].push(started.elapsed().as_secs_f64());
            }
            Ok::<(), Box<dyn std::error::Error>>(())
        };
        time(0, &mut || Ok(pass(None)?))?;
        time(1, &mut || Ok(pass(Some(&mut Residuals::default()))?))?;
        time(2, &mut || {
            let trace = Trace::record(&model, &tokens, &Positions::Last)?;
            trace.read_position(&model, 0)?;
            Ok(())
        })?;
        time(3, &mut || {
            Trace::record(&model, &tokens, &Positions::All)?.read(&model)?;
            Ok(())
        })?;
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let names = [
        "pass without a hook",
        "every residual captured",
        "trace of the last position, with the lens",
        "trace of all positions, with the lens",
    ];
    for (name, values) in names.iter().zip(&seconds) {
        let ratios = values.iter().zip(&seconds[0]).map(|(value, pass)| value / pass).collect();
        println!("{name:<42} {:>8.3} s {:>7.2} x", median(values.clone()), median(ratios));
    }
    Ok(())
}
