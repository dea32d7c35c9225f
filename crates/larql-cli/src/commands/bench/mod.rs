mod client;
mod engine;
mod figure;
mod peer;
mod processes;
mod protocol;
mod rounds;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use larql_compute::Pool;
use larql_compute::attention::KeyValueFormat;
use larql_eval::{key_value_divergence, speed};
use larql_knowledge::calibration_texts;
use larql_models::{Checkpoint, WeightSource};
use larql_vindex::search::gate_knn_in_layers;
use larql_vindex::{FeatureStore, Vindex};
use miette::IntoDiagnostic;

use self::engine::LarqlEngine;
use self::figure::{Figure, Measured, table};
use self::peer::Peer;
use self::rounds::Plan;
use crate::arguments::{KeyValues, PrecisionArgument, ReportFormat, Threads};
use crate::library;
use crate::output;
use crate::output::{out, outln};

/// Measure how fast a model runs here
///
/// Load to first token, memory, prefill and decoding beside the machine's memory bandwidth; of a vindex also opening,
/// gate KNN, DESCRIBE and INFER. Each figure is the median of several rounds, with the lowest and the highest. With a peer,
/// both do the same work in turn on as many threads, and ratios are LARQL's value divided by the peer's, round by round.
#[derive(Args)]
#[command(after_help = "Examples:
  larql bench smollm2.gguf
  larql bench smollm2.gguf --peer llama-cpp --threads 2
  larql bench smollm2.vindex --prompts 16,256 --rounds 7 --format json")]
pub(crate) struct Arguments {
    /// A vindex, a GGUF file or a checkpoint directory
    model: PathBuf,
    /// Measure another implementation beside this one: llama-cpp, which takes GGUF files, or larql-reference=PATH,
    /// another larql program, both timed as whole processes
    #[arg(long)]
    peer: Option<Peer>,
    /// Prompt lengths for prefill, in tokens
    #[arg(long, value_delimiter = ',', default_values_t = [16, 256, 1024], value_parser = positive)]
    prompts: Vec<usize>,
    /// Tokens that a sequence has before decoding is timed
    #[arg(long, value_delimiter = ',', default_values_t = [8, 1024], value_parser = positive)]
    contexts: Vec<usize>,
    /// Numbers of sequences to decode together, as a server does, after as many tokens as the first of --contexts
    #[arg(long, value_delimiter = ',', value_parser = positive)]
    sequences: Vec<usize>,
    /// Tokens to decode in a round
    #[arg(long, default_value_t = 64, value_parser = positive)]
    decode: usize,
    /// Rounds of each measurement, after one that warms up
    #[arg(long, alias = "runs", default_value_t = 5, value_parser = positive)]
    rounds: usize,
    /// Precision of activations in products
    #[arg(long, value_enum, default_value = "fast")]
    precision: PrecisionArgument,
    #[command(flatten)]
    key_values: KeyValues,
    #[command(flatten)]
    format: ReportFormat,
    #[command(flatten)]
    threads: Threads,
    /// Be the engine that another `larql bench` measures
    #[arg(long, hide = true)]
    engine: bool,
}

/// Tokens of the text on which divergence is measured.
const DIVERGENCE_TOKENS: usize = 2048;

/// A count of at least one, small enough to be of use.
fn positive(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=1_000_000).contains(count));
    count.ok_or_else(|| "expected a number from 1 to 1000000".into())
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let model = library::find(&arguments.model)?;
    let pool = arguments.threads.pool();
    if arguments.engine {
        let mut engine =
            LarqlEngine::new(model, pool, arguments.precision.into(), arguments.key_values.format());
        engine.serve(std::io::stdin().lock(), std::io::stdout().lock()).into_diagnostic()?;
        return Ok(ExitCode::SUCCESS);
    }
    let (heading, mut measured) = match &arguments.peer {
        Some(Peer::LarqlReference(other)) => {
            let own = std::env::current_exe().into_diagnostic()?;
            let amount = (arguments.decode, arguments.rounds);
            let measured = processes::measure([&own, other], &model, pool.threads(), amount)?;
            (format!("LARQL beside {}, as processes", other.display()), measured)
        }
        peer => measure_engines(&arguments, &model, &pool, peer.is_some())?,
    };
    if Vindex::is_at(&model) && arguments.peer.is_none() {
        measure_vindex(&model, &pool, arguments.rounds, &mut measured)?;
    }
    if arguments.key_values.format() != KeyValueFormat::Float {
        measure_divergence(&model, &pool, arguments.key_values.format(), &mut measured)?;
    }
    let figures: Vec<Figure> = measured.figures().collect();
    if arguments.format.is_json() {
        for figure in figures {
            output::json(&figure)?;
        }
    } else {
        outln!("{heading}; threads: {}; rounds: {}", pool.threads(), arguments.rounds)?;
        out!("{}", table(&figures))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures this program as an engine, and llama.cpp beside it if that is asked for; what was measured, and with whom.
fn measure_engines(
    arguments: &Arguments,
    model: &Path,
    pool: &Pool,
    beside_llama_cpp: bool,
) -> miette::Result<(String, Measured)> {
    let source: Box<dyn WeightSource> = if Vindex::is_at(model) {
        Box::new(super::open_for_predicting(model)?)
    } else {
        Box::new(Checkpoint::open(model).map_err(super::report)?)
    };
    let plan = Plan {
        prompts: arguments.prompts.clone(),
        contexts: arguments.contexts.clone(),
        sequences: arguments.sequences.clone(),
        decode: arguments.decode,
        rounds: arguments.rounds,
        vocabulary: source.spec().vocab_size,
        weight_bytes: speed::weight_bytes_per_token(&*source).map_err(super::report)?,
    };
    let mut own = Command::new(std::env::current_exe().into_diagnostic()?);
    own.args(["bench", "--engine"]);
    if let Some(precision) = arguments.precision.to_possible_value() {
        own.args(["--precision", precision.get_name()]);
    }
    if let Some(format) = arguments.key_values.name() {
        own.args(["--key-values", &format]);
    }
    let mut programs = vec![own];
    if beside_llama_cpp {
        programs.push(peer::llama_cpp()?);
    }
    for program in &mut programs {
        program.arg(model).args(["--threads", &pool.threads().to_string()]);
    }
    let (names, measured) = plan.measure(pool, programs)?;
    Ok((names.join(" beside "), measured))
}

/// Divergence of predictions on the calibration text from those with keys and values as floats.
fn measure_divergence(
    model: &Path,
    pool: &Arc<Pool>,
    format: KeyValueFormat,
    measured: &mut Measured,
) -> miette::Result<()> {
    let language = super::open_edited_model(model, &[], Arc::clone(pool))?;
    let texts = calibration_texts(language.tokenizer()).map_err(super::report)?;
    let context = language.model().spec().context_length.min(DIVERGENCE_TOKENS);
    let tokens: Vec<u32> = texts.concat().into_iter().take(context).collect();
    let found = key_value_divergence(language.model(), &tokens, format).map_err(super::report)?;
    measured.add("keys and values: KL divergence from floats", "nats", false, found.mean_nats);
    measured.add("keys and values: same likeliest token", "%", false, 100.0 * found.same_likeliest);
    Ok(())
}

/// Opening, gate KNN over a layer and over the knowledge band, DESCRIBE, and INFER of a short prompt, all warm.
fn measure_vindex(
    path: &Path,
    pool: &Arc<Pool>,
    rounds: usize,
    measured: &mut Measured,
) -> miette::Result<()> {
    let open = || Vindex::open(path).map_err(super::report);
    let vindex = open()?;
    let band = vindex.manifest().bands().knowledge.layers();
    let query = vec![1.0; vindex.hidden_size()];
    let knn = |layers| drop(gate_knn_in_layers(&vindex, pool, layers, &query, 10));
    let mut session = library::session_without_library(Arc::clone(pool));
    session.open_path(path).map_err(super::report)?;
    let describe = larql_lql::parse_statement("DESCRIBE 'France'").into_diagnostic()?;
    let infer = larql_lql::parse_statement("INFER 'The capital of France is' TOP 5").into_diagnostic()?;
    for round in 0..=rounds {
        let mut time = |name: &str, work: &mut dyn FnMut() -> miette::Result<()>| {
            let started = Instant::now();
            work()?;
            if round > 0 {
                measured.add(name, "s", false, started.elapsed().as_secs_f64());
            }
            Ok::<(), miette::Report>(())
        };
        time("open", &mut || open().map(drop))?;
        time("gate knn, one layer", &mut || {
            knn(band.start..band.start + 1);
            Ok(())
        })?;
        time("gate knn, knowledge band", &mut || {
            knn(band.clone());
            Ok(())
        })?;
        time("describe", &mut || session.execute(&describe).map(drop).map_err(super::report))?;
        time("infer, exact", &mut || session.execute(&infer).map(drop).map_err(super::report))?;
    }
    Ok(())
}
