//! Measures engines in turn, so that whatever else the machine does meets all of them alike.
//!
//! In each round every measurement is made once with each engine, whose order changes from round to round; the first
//! round only warms up. Ratios are taken within a round.

use std::process::Command;

use indicatif::ProgressBar;
use larql_compute::Pool;
use larql_compute::limits::ReadProbe;

use super::client::{Engine, EngineError};
use super::figure::Measured;
use super::protocol::{Request, Resident};

/// Plan of a measurement.
#[derive(Debug)]
pub(super) struct Plan {
    /// Prompt lengths for prefill, in tokens.
    pub(super) prompts: Vec<usize>,
    /// Tokens that a sequence has before decoding is timed.
    pub(super) contexts: Vec<usize>,
    /// Numbers of sequences that decode together, each after as many tokens as the first of `contexts`.
    pub(super) sequences: Vec<usize>,
    /// Tokens to decode each time.
    pub(super) decode: usize,
    /// Rounds that count.
    pub(super) rounds: usize,
    /// Tokens in the vocabulary.
    pub(super) vocabulary: usize,
    /// Bytes of weights that decoding one token reads.
    pub(super) weight_bytes: u64,
}

/// Tokens of the prompt of the load to its first token.
const SHORT_PROMPT: usize = 8;
/// Tokens of the prompt after which memory is looked at.
const MEMORY_PROMPT: usize = 256;

const MEMORY: &str = "memory, reading 1 GiB";

fn decoding(context: usize) -> String {
    format!("decode after {context}")
}

impl Plan {
    /// Measures LARQL and, where there is one, a peer, both given as programs to start. Returns their names and the
    /// measurements.
    pub(super) fn measure(
        &self,
        pool: &Pool,
        mut programs: Vec<Command>,
    ) -> Result<(Vec<String>, Measured), EngineError> {
        let context = self.longest();
        let mut running = Vec::new();
        for program in &mut programs {
            let mut engine = Engine::start(program)?;
            engine.time(&Request::Load { tokens: self.tokens(SHORT_PROMPT), context })?;
            running.push(engine);
        }
        let probes = [ReadProbe::new(1 << 30), ReadProbe::new(self.weight_bytes as usize)];
        let steps = 2 + self.prompts.len() + self.contexts.len() + self.sequences.len();
        let bar = ProgressBar::new(((self.rounds + 1) * steps) as u64);
        let mut measured = Measured::default();
        for round in 0..=self.rounds {
            // What warms up is measured too, and forgotten.
            if round == 1 {
                measured = Measured::default();
            }
            let mut order: Vec<usize> = (0..programs.len()).collect();
            order.rotate_left(round % programs.len());

            for &side in &order {
                self.load(&mut programs[side], side > 0, &mut measured)?;
            }
            bar.inc(1);
            for &length in &self.prompts {
                let request = Request::Prefill { tokens: self.tokens(length) };
                for &side in &order {
                    let rate = length as f64 / running[side].time(&request)?;
                    measured.add(&format!("prefill {length}"), "tokens/s", side > 0, rate);
                }
                bar.inc(1);
            }
            let [large, small] = &probes;
            measured.add(MEMORY, "GB/s", false, large.bytes_per_second(pool) / 1e9);
            measured.add("weights that a token reads", "MB", false, self.weight_bytes as f64 / 1e6);
            let name = "memory, reading as many bytes";
            measured.add(name, "GB/s", false, small.bytes_per_second(pool) / 1e9);
            bar.inc(1);
            for &context in &self.contexts {
                let request = Request::Decode { tokens: self.tokens(context), count: self.decode };
                for &side in &order {
                    let rate = self.decode as f64 / running[side].time(&request)?;
                    measured.add(&decoding(context), "tokens/s", side > 0, rate);
                }
                bar.inc(1);
            }
            for &sequences in &self.sequences {
                let request =
                    Request::DecodeTogether { prompts: self.prompts_of(sequences), count: self.decode };
                for &side in &order {
                    let rate = (sequences * self.decode) as f64 / running[side].time(&request)?;
                    measured.add(&format!("decode of {sequences} sequences"), "tokens/s", side > 0, rate);
                }
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        for &context in &self.contexts {
            self.add_share(&decoding(context), &mut measured);
        }
        Ok((running.iter().map(|engine| engine.name().to_owned()).collect(), measured))
    }

    /// Load to first token, and the memory after a longer prompt, of a process of their own.
    fn load(&self, program: &mut Command, peer: bool, measured: &mut Measured) -> Result<(), EngineError> {
        let mut engine = Engine::start(program)?;
        let context = MEMORY_PROMPT + self.decode;
        let seconds = engine.time(&Request::Load { tokens: self.tokens(SHORT_PROMPT), context })?;
        measured.add("load to first token", "s", peer, seconds);
        engine.time(&Request::Decode { tokens: self.tokens(MEMORY_PROMPT), count: self.decode })?;
        if let Some(Resident { peak, anonymous, file }) = engine.resident()? {
            let parts = [("peak", peak), ("its own", anonymous), ("mapped files", file)];
            for (part, bytes) in parts {
                measured.add(&format!("resident memory, {part}"), "MB", peer, bytes as f64 / 1e6);
            }
        }
        Ok(())
    }

    /// Adds which share of the memory's bandwidth decoding uses for weights. What else runs can only slow the memory
    /// down, so its best round counts.
    fn add_share(&self, name: &str, measured: &mut Measured) {
        let Some(bandwidth) = measured.ours(MEMORY).iter().copied().reduce(f64::max) else { return };
        let percent = 100.0 * self.weight_bytes as f64 / 1e9 / bandwidth;
        for (peer, rates) in [(false, measured.ours(name).to_vec()), (true, measured.peers(name).to_vec())] {
            for rate in rates {
                measured.add(&format!("{name}, share of bandwidth"), "%", peer, rate * percent);
            }
        }
    }

    /// Any tokens do: the work does not depend on which they are.
    fn tokens(&self, length: usize) -> Vec<u32> {
        self.tokens_from(0, length)
    }

    fn tokens_from(&self, first: usize, length: usize) -> Vec<u32> {
        (first..first + length).map(|token| (token % self.vocabulary) as u32).collect()
    }

    /// Prompts of sequences that decode together, which differ, so that not all choose the same experts.
    fn prompts_of(&self, sequences: usize) -> Vec<Vec<u32>> {
        let length = self.contexts.first().copied().unwrap_or(SHORT_PROMPT);
        (0..sequences).map(|sequence| self.tokens_from(sequence * length, length)).collect()
    }

    /// Tokens of the longest sequence.
    fn longest(&self) -> usize {
        let decoded = self.contexts.iter().map(|context| context + self.decode);
        decoded.chain(self.prompts.iter().copied()).max().unwrap_or(0).max(SHORT_PROMPT)
    }
}
