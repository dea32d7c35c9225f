use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use larql_compute::limits::ReadProbe;
use larql_core::facts::Facts;
use larql_core::progress::CancelToken;
use larql_eval::knowledge::{
    KnowledgeScore, NamedWay, known_facts, median_seconds, raw_embedding_edges, score, written_words,
};
use larql_eval::{EvalError, Share};
use larql_knowledge::{
    AskableRelations, EntityResidual, KnowledgeReader, LanguageModel, PrefixCache, ResidualRates,
    RetrievalMethod, entity_tokens,
};
use larql_vindex::FeatureStore;
use larql_vindex::search::{DescribeOptions, Via, Words, describe};
use miette::IntoDiagnostic;
use serde::Serialize;

use crate::arguments::{ReportFormat, Threads};
use crate::progress::Bars;
use crate::{interrupt, library};

/// How well DESCRIBE, labels and SELECT tell what the model knows
///
/// Asks about subjects that `larql probe` held out, in wordings that it never used. A fact counts as known when the model
/// says its object first after one of those wordings.
#[derive(Args)]
#[command(after_help = "Examples:
  larql probe smollm2.vindex && larql eval knowledge smollm2.vindex
  larql eval knowledge smollm2.vindex --format json")]
pub(crate) struct Arguments {
    /// The vindex, which has been probed
    vindex: PathBuf,
    /// Facts to ask about [default: the shipped facts]
    #[arg(long, value_name = "PATH")]
    facts: Option<PathBuf>,
    #[command(flatten)]
    format: ReportFormat,
    #[command(flatten)]
    threads: Threads,
}

/// Everything that is measured.
#[derive(Serialize)]
struct Report {
    model: String,
    subjects: usize,
    scores: Vec<KnowledgeScore>,
    seconds: Seconds,
}

/// Medians, warm.
#[derive(Serialize)]
struct Seconds {
    default_describe: f64,
    residual_describe: f64,
    forward: f64,
    embedding_describe: f64,
    reading_gates: f64,
}

/// The ways, the default first.
const DEFAULT: &str = "default";
const WAYS: [&str; 6] = [DEFAULT, "contextual", "residual", "attribution", "embedding", "raw knn"];
/// Edges that DESCRIBE shows when nobody says how many.
const SHOWN: usize = 20;
/// Subjects on which times are taken.
const TIMED: usize = 12;

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let facts = crate::commands::facts(arguments.facts.as_deref())?;
    let vindex = crate::commands::open_for_predicting(&library::find(&arguments.vindex)?)?;
    let pool = arguments.threads.pool();
    let language = LanguageModel::of_vindex(&vindex, Arc::clone(&pool)).map_err(crate::commands::report)?;
    let relations =
        AskableRelations::read(vindex.path(), language.model().spec()).map_err(crate::commands::report)?;
    let Some(relations) = relations else {
        let path = arguments.vindex.display();
        miette::bail!(
            "{path} has not been probed; `larql probe {path}` does that and holds subjects out for this"
        );
    };
    let seen: BTreeSet<&str> = relations.subjects.iter().map(String::as_str).collect();
    let facts = facts.filtered(|fact| !seen.contains(&*fact.entity));
    if facts.iter().next().is_none() {
        let path = arguments.vindex.display();
        miette::bail!(
            "the probe saw every subject of these facts; `larql probe {path} --hold-out 0.2` leaves some out"
        );
    }
    let report = Evaluation { vindex: &vindex, language: &language, relations: &relations, facts: &facts }
        .run(&interrupt::token()?);
    let report = match report {
        Err(error) if error.is_cancelled() => return Ok(ExitCode::from(interrupt::EXIT_CODE)),
        report => report.map_err(crate::commands::report)?,
    };
    if arguments.format.is_json() {
        println!("{}", serde_json::to_string(&report).into_diagnostic()?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

struct Evaluation<'a> {
    vindex: &'a larql_vindex::Vindex,
    language: &'a LanguageModel,
    relations: &'a AskableRelations,
    facts: &'a Facts,
}

impl Evaluation<'_> {
    fn run(&self, token: &CancelToken) -> Result<Report, EvalError> {
        let Evaluation { vindex, language, relations, facts } = *self;
        let (model, tokenizer) = (language.model(), language.tokenizer());
        let layers = vindex.manifest().bands().knowledge.layers();
        let bars = Bars::fleeting(token.clone());
        let known = known_facts(model, tokenizer, facts, &bars)?;
        bars.finish();
        let rates = ResidualRates::measure(model, vindex, tokenizer)?;
        let prefixes = PrefixCache::default();
        let words = Words::new(tokenizer.clone(), model.spec().vocab_size);
        let reader = KnowledgeReader {
            model,
            store: vindex,
            tokenizer,
            words: &words,
            rates: &rates,
            prefixes: &prefixes,
            relations: Some(relations),
        };
        let by = |way| move |entity: &str| Ok(reader.edges(entity, layers.clone(), way, SHOWN)?);
        let layers = vindex.manifest().bands().knowledge.layers();
        let embedding = |entity: &str| {
            let tokens = entity_tokens(tokenizer, entity)?;
            let firings = vindex.embedding_firings(model.pool(), &tokens, layers.clone())?;
            let options = DescribeOptions { limit: SHOWN, relations_only: false, via: Via::Embedding };
            let mut edges = describe(model.pool(), vindex, &words, &firings, options);
            edges.retain(|edge| !edge.target.eq_ignore_ascii_case(entity));
            Ok(edges)
        };
        let raw = |entity: &str| raw_embedding_edges(vindex, model.pool(), tokenizer, entity, layers.clone());
        let (best, contextual) = (by.clone()(RetrievalMethod::Best), by.clone()(RetrievalMethod::Contextual));
        let (residual, attribution) =
            (by.clone()(RetrievalMethod::Residual), by(RetrievalMethod::Attribution));
        let ways: [NamedWay<'_>; 6] = [
            (WAYS[0], &best),
            (WAYS[1], &contextual),
            (WAYS[2], &residual),
            (WAYS[3], &attribution),
            (WAYS[4], &embedding),
            (WAYS[5], &raw),
        ];
        let written = written_words(vindex, tokenizer, layers.clone());
        let scores = score(facts, &known, &ways, &written, &bars)?;
        bars.finish();

        let subjects: BTreeSet<&str> = facts.iter().map(|fact| &*fact.entity).collect();
        let step = (subjects.len() / TIMED).max(1);
        let timed: Vec<&str> = subjects.iter().step_by(step).take(TIMED).copied().collect();
        let gate_bytes: usize = layers.clone().map(|layer| gate_bytes(vindex, layer)).sum();
        // Of more than caches hold.
        let reading = ReadProbe::new(1 << 30);
        let run = |entity: &str| -> Result<(), EvalError> {
            EntityResidual::of(model, tokenizer, &entity_tokens(tokenizer, entity)?)?;
            Ok(())
        };
        Ok(Report {
            model: vindex.manifest().model.clone(),
            subjects: subjects.len(),
            scores,
            seconds: Seconds {
                default_describe: median_seconds(&timed, |entity| best(entity).map(drop))?,
                residual_describe: median_seconds(&timed, |entity| residual(entity).map(drop))?,
                forward: median_seconds(&timed, run)?,
                embedding_describe: median_seconds(&timed, |entity| embedding(entity).map(drop))?,
                reading_gates: gate_bytes as f64 / reading.bytes_per_second(model.pool()),
            },
        })
    }
}

/// Bytes of the gate rows of a layer.
fn gate_bytes(vindex: &larql_vindex::Vindex, layer: usize) -> usize {
    let values = vindex.features(layer) * vindex.hidden_size();
    vindex.gate_format(layer).map_or(0, |format| values / format.block_len() * format.block_bytes())
}

fn print(report: &Report) {
    println!("{}: {} subjects that the probe never saw", report.model, report.subjects);
    println!(
        "{:<18} {:>11} {:>8} {:>10} {:>8} {:>11} {:>9} {:>7} {:>9} {:>9} {:>7}",
        "relation",
        "known",
        WAYS[0],
        WAYS[1],
        WAYS[2],
        WAYS[3],
        WAYS[4],
        WAYS[5],
        "relation",
        "label",
        "ceiling"
    );
    for score in &report.scores {
        let known = format!("{}/{}", score.known.hits, score.known.of);
        let recall = |way: usize| percent(score.recall.get(WAYS[way]).copied().unwrap_or_default());
        println!(
            "{:<18} {known:>11} {:>8} {:>10} {:>8} {:>11} {:>9} {:>7} {:>9} {:>9} {:>7}",
            score.relation,
            recall(0),
            recall(1),
            recall(2),
            recall(3),
            recall(4),
            recall(5),
            percent(score.relation_accuracy),
            percent(score.label_precision),
            percent(score.ceiling),
        );
    }
    if let Some(total) = report.scores.last() {
        let select = (percent(total.select_precision), percent(total.select_recall));
        println!("SELECT by relation: precision {}, recall {}", select.0, select.1);
    }
    let Seconds { default_describe, residual_describe, forward, embedding_describe, reading_gates } =
        report.seconds;
    println!("DESCRIBE, warm: default {:.1} ms", default_describe * 1e3);
    println!(
        "  residual {:.1} ms, {:.2} of a forward pass; embedding {:.2} ms, {:.2} of reading the gate rows from memory once",
        residual_describe * 1e3,
        residual_describe / forward,
        embedding_describe * 1e3,
        embedding_describe / reading_gates,
    );
}

fn percent(share: Share) -> String {
    share.value().map_or_else(|| "—".into(), |value| format!("{:.1} %", value * 100.0))
}
