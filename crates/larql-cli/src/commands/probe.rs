use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use larql_core::progress::rounded_time;
use larql_knowledge::probe::{Journal, LabelledFeature, ProbeOptions, ProbePlan, estimated_time, probe};
use larql_knowledge::{AskableRelations, LanguageModel};
use larql_models::WeightSource;
use larql_vindex::{Label, LabelSource, Vindex};
use miette::IntoDiagnostic;
use serde::Serialize;

use crate::arguments::{ReportFormat, Threads};
use crate::output;
use crate::output::outln;
use crate::progress::Bars;
use crate::{interrupt, library};

/// Find out what a model knows, how to ask it, and which features carry the answers
///
/// Asks about facts in several wordings, follows right answers back to features, and removes each to see whether the
/// answer suffers. Writes relations and labels into the vindex; DESCRIBE and SELECT use them. Facts are added to those of
/// earlier probes. Some subjects are held out, so that `larql eval knowledge` can ask about what the probe never saw. What
/// is found is kept as it comes: interrupted, the same command goes on.
#[derive(Args)]
#[command(after_help = "Examples:
  larql probe smollm2.vindex
  larql probe smollm2.vindex --facts my-facts.tsv --hold-out 0")]
pub(crate) struct Arguments {
    /// The vindex; of level inference at least
    vindex: PathBuf,
    /// A folder of fact tables, or a table of subject, relation and object between tabs [default: the shipped facts]
    #[arg(long, value_name = "PATH")]
    facts: Option<PathBuf>,
    /// The share of subjects that nothing is learnt from
    #[arg(long, value_name = "SHARE", default_value = "0.2", value_parser = share)]
    hold_out: f64,
    /// Wordings that are used of each relation
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u8).range(1..=16))]
    wordings: u8,
    /// Start anew in place of adding to an earlier probe
    #[arg(long)]
    replace: bool,
    /// Decides which subjects are held out
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    #[command(flatten)]
    format: ReportFormat,
    #[command(flatten)]
    threads: Threads,
}

/// A share of subjects that leaves some to learn from.
fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if (0.0..=0.9).contains(&share) { Ok(share) } else { Err("expected 0 to 0.9".into()) }
}

/// Results of a probe, as they are printed.
#[derive(Serialize)]
struct Report<'a> {
    questions: usize,
    right: usize,
    labelled_features: usize,
    relations: Vec<RelationReport<'a>>,
    seconds: f64,
}

#[derive(Serialize)]
struct RelationReport<'a> {
    relation: &'a str,
    asked: usize,
    right: usize,
    labelled_features: usize,
    template: &'a str,
}

/// Subjects of a relation below which what is learnt about it is mostly chance.
const FEW_SUBJECTS: usize = 6;

/// Says what becomes of an earlier probe, and of which relations there are too few facts.
fn announce(vindex: &Vindex, earlier: Option<&ProbePlan>, plan: &ProbePlan) -> miette::Result<()> {
    match earlier {
        Some(earlier) => {
            let added = plan.facts.iter().count() - earlier.facts.iter().count();
            eprintln!("adds {added} facts to the {} of the earlier probe", earlier.facts.iter().count());
            if earlier.options != plan.options {
                eprintln!("all are asked anew, because the options are others than before");
            }
        }
        None => {
            let known = AskableRelations::read(vindex.path(), vindex.spec()).map_err(super::report)?;
            if let Some(known) = known {
                let labels = LabelledFeature::read_all(vindex.path()).map_err(super::report)?.len();
                let relations = known.relations.len();
                eprintln!("replaces the earlier probe: {relations} relations, {labels} labels");
            }
        }
    }
    for (relation, subjects) in plan.scarce(FEW_SUBJECTS) {
        let subjects = if subjects == 1 { "1 subject".into() } else { format!("{subjects} subjects") };
        eprintln!(
            "{relation}: {subjects} to learn from; labels from fewer than {FEW_SUBJECTS} are mostly chance"
        );
    }
    Ok(())
}

/// Number of labels of probes in the vindex that are not among `labels`.
fn replaced(vindex: &Vindex, labels: &[LabelledFeature]) -> usize {
    let same = |layer: usize, feature: usize, label: &Label| {
        labels
            .iter()
            .any(|new| (new.layer, new.feature) == (layer, feature) && new.relation == label.relation)
    };
    let of_probes = vindex.labels().iter().filter(|(_, _, label)| label.source == LabelSource::Probe);
    of_probes.filter(|(layer, feature, label)| !same(*layer, *feature, label)).count()
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let started = Instant::now();
    let facts = super::facts(arguments.facts.as_deref())?;
    let vindex = super::open_for_predicting(&library::find(&arguments.vindex)?)?;
    let language = LanguageModel::of_vindex(&vindex, arguments.threads.pool()).map_err(super::report)?;
    let options = ProbeOptions {
        hold_out: arguments.hold_out,
        wordings: arguments.wordings.into(),
        seed: arguments.seed,
    };
    let earlier =
        if arguments.replace { None } else { ProbePlan::read(vindex.path()).map_err(super::report)? };
    let plan = match &earlier {
        Some(earlier) => earlier.with(&facts, options),
        None => ProbePlan::new(&facts, options),
    };
    announce(&vindex, earlier.as_ref(), &plan)?;
    let mut journal = Journal::open(vindex.path(), &options).into_diagnostic()?;
    if journal.is_empty() {
        let time = estimated_time(language.model(), &plan).into_diagnostic()?;
        eprintln!("{} questions: about {}", plan.questions(), rounded_time(time));
    } else {
        eprintln!("{} questions are answered already, and not asked again", journal.len());
    }
    let bars = Bars::fleeting(interrupt::token()?);
    let result = probe(language.model(), language.tokenizer(), &plan, &mut journal, &bars);
    bars.finish();
    let probed = match result {
        Err(error) if error.is_cancelled() => {
            eprintln!("Interrupted. Run it again to go on: what was found so far is kept.");
            return Ok(ExitCode::from(interrupt::EXIT_CODE));
        }
        result => result.map_err(super::report)?,
    };
    let replaced = replaced(&vindex, &probed.labels);
    if replaced > 0 {
        eprintln!(
            "replaces {replaced} labels of features that stood for another relation, or for one no longer"
        );
    }
    probed.write(vindex.path()).map_err(super::report)?;

    let labels_of = |relation: &str| probed.labels.iter().filter(|label| label.relation == relation).count();
    let report = Report {
        questions: probed.asked,
        right: probed.right,
        labelled_features: probed.labels.len(),
        relations: probed
            .relations
            .relations
            .iter()
            .zip(&probed.right_by_relation)
            .map(|(relation, (asked, right))| RelationReport {
                relation: &relation.name,
                asked: *asked,
                right: *right,
                labelled_features: labels_of(&relation.name),
                template: relation.templates.first().map_or("", String::as_str),
            })
            .collect(),
        seconds: started.elapsed().as_secs_f64(),
    };
    if arguments.format.is_json() {
        output::json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    outln!("{:<18} {:>6} {:>6} {:>9}  best wording", "relation", "asked", "right", "features")?;
    for relation in &report.relations {
        let RelationReport { relation, asked, right, labelled_features, template } = relation;
        let (examples, wording) = template.rsplit_once('\n').unwrap_or(("", template));
        let after = if examples.is_empty() { "" } else { ", after examples" };
        outln!("{relation:<18} {asked:>6} {right:>6} {labelled_features:>9}  {wording}{after}")?;
    }
    let Report { questions, right, labelled_features, seconds, .. } = report;
    outln!(
        "{right} of {questions} questions answered right, {labelled_features} features labelled, in {seconds:.0} s"
    )?;
    Ok(ExitCode::SUCCESS)
}
