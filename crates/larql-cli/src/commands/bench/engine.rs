//! LARQL as one of the engines that are measured.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use larql_compute::attention::KeyValueFormat;
use larql_compute::{Pool, Precision};
use larql_eval::EvalError;
use larql_eval::speed;
use larql_inference::{KeyValueCache, Model, predictions};

use super::protocol::{Greeting, Holding, Refusal, Request, Resident, Timed};

/// Opens one model and runs it as it is told.
pub(super) struct LarqlEngine {
    path: PathBuf,
    pool: Arc<Pool>,
    precision: Precision,
    key_values: KeyValueFormat,
    /// The model and the sequence that it ran last.
    loaded: Option<(Model, KeyValueCache)>,
}

impl LarqlEngine {
    /// An engine that has loaded nothing yet.
    pub(super) fn new(
        path: PathBuf,
        pool: Arc<Pool>,
        precision: Precision,
        key_values: KeyValueFormat,
    ) -> LarqlEngine {
        LarqlEngine { path, pool, precision, key_values, loaded: None }
    }

    /// Answers requests until there are no more.
    ///
    /// # Errors
    /// If requests cannot be read or answers not written.
    pub(super) fn serve(&mut self, requests: impl BufRead, mut answers: impl Write) -> std::io::Result<()> {
        let engine = concat!("LARQL ", env!("CARGO_PKG_VERSION")).to_owned();
        say(&mut answers, &Greeting { engine, resident: Resident::of_this_process() })?;
        for line in requests.lines() {
            match serde_json::from_str(&line?) {
                Ok(Request::Resident) => {
                    say(&mut answers, &Holding { resident: Resident::of_this_process() })?;
                }
                Ok(request) => match self.time(request) {
                    Ok(seconds) => say(&mut answers, &Timed { seconds })?,
                    Err(error) => say(&mut answers, &Refusal { error })?,
                },
                Err(error) => say(&mut answers, &Refusal { error: format!("this is no request: {error}") })?,
            }
        }
        Ok(())
    }

    fn time(&mut self, request: Request) -> Result<f64, String> {
        if let Request::Load { tokens, .. } = request {
            return self.load(&tokens).map_err(text);
        }
        let Some((model, state)) = &mut self.loaded else { return Err("no model is loaded yet".into()) };
        *state = KeyValueCache::new(model.spec()).with_format(self.key_values);
        let taken = match request {
            Request::Prefill { tokens } => {
                speed::time_pass(model, state, &tokens, self.precision).map(|(taken, _)| taken)
            }
            Request::Decode { tokens, count } => {
                speed::time_decoding(model, state, &tokens, count, self.precision)
            }
            Request::DecodeTogether { prompts, count } => {
                let formats = (self.precision, self.key_values);
                speed::time_decoding_together(model, &prompts, count, formats)
            }
            Request::Load { .. } | Request::Resident => return Err("that is not timed here".into()),
        };
        taken.map(|taken| taken.as_secs_f64()).map_err(text)
    }

    fn load(&mut self, tokens: &[u32]) -> Result<f64, EvalError> {
        self.loaded = None;
        let started = Instant::now();
        let model = Model::open(&self.path, Arc::clone(&self.pool))?;
        let mut state = KeyValueCache::new(model.spec()).with_format(self.key_values);
        let (_, logits) = speed::time_pass(&model, &mut state, tokens, self.precision)?;
        predictions(&logits, 1);
        let taken = started.elapsed();
        self.loaded = Some((model, state));
        Ok(taken.as_secs_f64())
    }
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}

fn say(answers: &mut impl Write, answer: &impl serde::Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *answers, answer)?;
    answers.write_all(b"\n")?;
    answers.flush()
}
