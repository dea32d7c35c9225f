//! Another build or implementation of `larql`, measured from outside as whole processes, LARQL itself likewise.
//!
//! `larql run MODEL PROMPT -n N`, with `--raw` of LARQL itself, is the only interface that is used. From its start to its end with one token is the
//! load to the first token; what more tokens take beyond that, divided by their number, is decoding.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::client::EngineError;
use super::figure::Measured;

const PROMPT: &str = "Once upon a time";

/// Command line by which a program generates `tokens` tokens at most.
fn run(program: &Path, model: &Path, tokens: usize) -> Command {
    let mut command = Command::new(program);
    command
        .arg("run")
        .args([model.as_os_str(), OsStr::new(PROMPT), OsStr::new("-n")])
        .arg(tokens.to_string());
    command
}

/// Our own program with as many threads as were asked for, and the other one, which takes its number of threads from
/// the variable of the thread pool that it is built with.
fn commands(programs: [&Path; 2], model: &Path, threads: usize, tokens: usize) -> [Command; 2] {
    let mut commands = programs.map(|program| run(program, model, tokens));
    commands[0].args(["--raw", "--threads", &threads.to_string()]);
    commands[1].env("RAYON_NUM_THREADS", threads.to_string());
    commands
}

/// Measures our own program beside another one, in turn, after a round that warms up.
pub(super) fn measure(
    programs: [&Path; 2],
    model: &Path,
    threads: usize,
    (decode, rounds): (usize, usize),
) -> Result<Measured, EngineError> {
    let mut measured = Measured::default();
    for round in 0..=rounds {
        if round == 1 {
            measured = Measured::default();
        }
        let mut one = commands(programs, model, threads, 1);
        let mut more = commands(programs, model, threads, 1 + decode);
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let first = seconds(&mut one[side])?;
            measured.add("load to first token, as a process", "s", side > 0, first);
            let each = (seconds(&mut more[side])? - first) / decode as f64;
            measured.add(&format!("decode, each of {decode} tokens"), "s", side > 0, each);
        }
    }
    Ok(measured)
}

/// From the start of a process to its end.
fn seconds(command: &mut Command) -> Result<f64, EngineError> {
    let program = command.get_program().display().to_string();
    let started = Instant::now();
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = ended.map_err(|source| EngineError::Start { program: program.clone(), source })?;
    let taken = started.elapsed().as_secs_f64();
    if status.success() { Ok(taken) } else { Err(EngineError::Ended { engine: program }) }
}
