use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use larql_compute::limits::ReadProbe;
use larql_core::facts::Facts;
use larql_core::progress::{CancelToken, rounded_time};
use larql_eval::knowledge::{
    KnowledgeScore, NamedWay, known_facts, median_seconds, raw_embedding_edges, score, written_words,
};
use larql_eval::{EvalError, Share};
use larql_knowledge::probe::{ProbePlan, reading_time};
use larql_knowledge::unprobed::{ShippedReading, taught_subjects};
use larql_knowledge::{
    AskableRelations, EntityResidual, KnowledgeReader, LanguageModel, PrefixCache, ResidualRates,
    RetrievalMethod, entity_tokens,
};
use larql_vindex::search::{DescribeOptions, Via, Words, describe};
use larql_vindex::{FeatureStore, LabelSource, Summary};
use miette::IntoDiagnostic;
use serde::Serialize;

use crate::arguments::{ReportFormat, Threads};
use crate::output;
use crate::output::outln;
use crate::progress::Bars;
use crate::{interrupt, library, sizes};

/// Measure how well DESCRIBE, labels and SELECT show what the model knows
///
/// Asks about subjects that `larql probe` held out, in wordings that it never used. A fact counts as known when the model
/// says its object first after one of those wordings. A vindex that was never probed is asked about the same subjects of the
/// shipped facts.
#[derive(Args)]
#[command(after_help = "Examples:
  larql probe smollm2.vindex && larql eval knowledge smollm2.vindex
  larql eval knowledge smollm2.vindex --unprobed --subjects 100
  larql eval knowledge smollm2.vindex --format json")]
pub(crate) struct Arguments {
    /// The vindex
    vindex: PathBuf,
    /// Facts to ask about [default: those of the probe, else the shipped facts]
    #[arg(long, value_name = "PATH")]
    facts: Option<PathBuf>,
    /// Ask about this many of the subjects only
    #[arg(long, value_name = "N")]
    subjects: Option<usize>,
    /// Evaluate as if the vindex had not been probed
    #[arg(long)]
    unprobed: bool,
    /// Wordings and belief for models that were never probed, as `larql eval learn` prints them [default: the shipped ones]
    #[arg(long, value_name = "FILE", requires = "unprobed")]
    reading: Option<PathBuf>,
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

/// The default way.
const DEFAULT: &str = "default";
/// Bytes that are read to find out how fast memory is: more than most caches hold.
const READ_PROBE: usize = 1 << 28;
/// Tokens that are read for each subject, about.
const TOKENS_A_SUBJECT: usize = 600;
/// Tokens of examples before a wording, about.
const EXAMPLE_TOKENS: usize = 70;
/// Edges that DESCRIBE shows when nobody says how many.
const SHOWN: usize = 20;
/// Subjects on which times are taken.
const TIMED: usize = 12;

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let vindex = crate::commands::open_for_predicting(&library::find(&arguments.vindex)?)?;
    let pool = arguments.threads.pool();
    let language = LanguageModel::of_vindex(&vindex, Arc::clone(&pool)).map_err(crate::commands::report)?;
    let probed = if arguments.unprobed {
        None
    } else {
        AskableRelations::read(vindex.path(), language.model().spec()).map_err(crate::commands::report)?
    };
    let token = interrupt::token()?;
    let facts = match &arguments.facts {
        None if probed.is_some() => {
            let plan = ProbePlan::read(vindex.path()).map_err(crate::commands::report)?;
            plan.map_or_else(|| Facts::shipped().clone(), |plan| plan.facts)
        }
        path => crate::commands::facts(path.as_deref())?,
    };
    let is_probed = probed.is_some();
    let (relations, seen) = match probed {
        Some(relations) => {
            let seen = relations.subjects.iter().cloned().collect();
            (relations, seen)
        }
        None => {
            let reading = match &arguments.reading {
                Some(path) => ShippedReading::read(path).map_err(crate::commands::report)?,
                None => ShippedReading::shipped().clone(),
            };
            let bars = Bars::fleeting(token.clone());
            let relations = reading.relations_of(language.model(), language.tokenizer(), &bars);
            (relations.map_err(crate::commands::report)?, taught_subjects())
        }
    };
    let facts = facts.filtered(|fact| !seen.contains(&fact.entity));
    let facts = arguments.subjects.map_or(facts.clone(), |count| some_subjects(&facts, count));
    if facts.iter().next().is_none() {
        let path = arguments.vindex.display();
        miette::bail!(
            "the probe learnt from every subject of these facts; `larql probe {path} --hold-out 0.2` leaves some out"
        );
    }
    let evaluation =
        Evaluation { vindex: &vindex, language: &language, relations: &relations, facts: &facts };
    eprintln!("{}", evaluation.announcement()?);
    let report = evaluation.run(&token);
    let report = match report {
        Err(error) if error.is_cancelled() => return Ok(ExitCode::from(interrupt::EXIT_CODE)),
        report => report.map_err(crate::commands::report)?,
    };
    if arguments.format.is_json() {
        output::json(&report)?;
    } else {
        print(&report, is_probed)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn subjects(facts: &Facts) -> BTreeSet<&str> {
    facts.iter().map(|fact| &*fact.entity).collect()
}

/// The facts of `count` subjects, evenly chosen.
fn some_subjects(facts: &Facts, count: usize) -> Facts {
    let subjects: Vec<&str> = subjects(facts).into_iter().collect();
    let chosen: BTreeSet<&str> =
        (0..count.min(subjects.len())).map(|index| subjects[index * subjects.len() / count]).collect();
    facts.filtered(|fact| chosen.contains(&*fact.entity))
}

struct Evaluation<'a> {
    vindex: &'a larql_vindex::Vindex,
    language: &'a LanguageModel,
    relations: &'a AskableRelations,
    facts: &'a Facts,
}

impl Evaluation<'_> {
    /// Says how much there is to do, how long that takes and how much memory.
    fn announcement(&self) -> miette::Result<String> {
        let model = self.language.model();
        let subjects = subjects(self.facts).len();
        let time = reading_time(model, subjects * TOKENS_A_SUBJECT).into_diagnostic()?;
        let remembered: usize = model
            .spec()
            .layers
            .iter()
            .map(|layer| {
                layer.attention.kv_heads
                    * (layer.attention.head_dim + layer.attention.value_dim)
                    * size_of::<f32>()
            })
            .sum();
        let summary = Summary::read(self.vindex.path()).map_err(crate::commands::report)?;
        let wordings: usize = self.relations.relations.iter().map(|relation| relation.templates.len()).sum();
        let bytes = summary.bytes() as usize + READ_PROBE + wordings * EXAMPLE_TOKENS * remembered;
        Ok(format!(
            "asking about {subjects} subjects: about {}, {} of memory",
            rounded_time(time),
            sizes::human(bytes as u64)
        ))
    }

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
            (DEFAULT, &best),
            ("contextual", &contextual),
            ("residual", &residual),
            ("attribution", &attribution),
            ("embedding", &embedding),
            ("raw knn", &raw),
        ];
        // Without a probe, what is asked in words is what is found by default.
        let asks_twice = relations.source == LabelSource::Probe;
        let ways: Vec<NamedWay<'_>> =
            ways.into_iter().filter(|(name, _)| asks_twice || *name != "contextual").collect();
        let written = written_words(vindex, tokenizer, layers.clone());
        let scores = score(facts, &known, &ways, &written, &bars)?;
        bars.finish();

        let subjects = subjects(facts);
        let step = (subjects.len() / TIMED).max(1);
        let timed: Vec<&str> = subjects.iter().step_by(step).take(TIMED).copied().collect();
        let gate_bytes: usize = layers.clone().map(|layer| gate_bytes(vindex, layer)).sum();
        let reading = ReadProbe::new(READ_PROBE);
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

fn print(report: &Report, is_probed: bool) -> miette::Result<()> {
    let which = if is_probed { "that the probe never saw" } else { "of a model that was never probed" };
    outln!("{}: {} subjects {which}", report.model, report.subjects)?;
    outln!(
        "{:<18} {:>10} {:>8} {:>9} {:>8} {:>9}",
        "relation",
        "known",
        "found",
        "relation",
        "labels",
        "ceiling"
    )?;
    outln!("{:<18} {:>10} {:>8} {:>9} {:>8} {:>9}", "", "", "in 10", "right", "true", "by words")?;
    for score in &report.scores {
        outln!(
            "{:<18} {:>10} {:>8} {:>9} {:>8} {:>9}",
            score.relation,
            format!("{} of {}", score.known.hits, score.known.of),
            percent(score.recall.get(DEFAULT).copied().unwrap_or_default()),
            percent(score.relation_accuracy),
            percent(score.label_precision),
            percent(score.ceiling),
        )?;
    }
    if let Some(total) = report.scores.last() {
        let select = (percent(total.select_precision), percent(total.select_recall));
        let others = total.recall.iter().filter(|(way, _)| *way != DEFAULT);
        let others: Vec<String> = others.map(|(way, share)| format!("{way} {}", percent(*share))).collect();
        outln!("found in 10 by other ways:\n  {}", others.join(", "))?;
        outln!("SELECT by relation: {} true, {} found", select.0, select.1)?;
    }
    let Seconds { default_describe, residual_describe, forward, embedding_describe, reading_gates } =
        report.seconds;
    outln!("DESCRIBE, warm: default {:.1} ms", default_describe * 1e3)?;
    outln!(
        "  residual {:.1} ms, {:.2} of a forward pass",
        residual_describe * 1e3,
        residual_describe / forward
    )?;
    outln!(
        "  embedding {:.2} ms, {:.2} of reading the gate rows from memory once",
        embedding_describe * 1e3,
        embedding_describe / reading_gates
    )
}

fn percent(share: Share) -> String {
    share.value().map_or_else(|| "—".into(), |value| format!("{:.1} %", value * 100.0))
}
