use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_inference::facts::Facts;
use larql_vindex::{ClusterGroup, ClusterOptions, Clusters, Vindex, VindexError, cluster};
use miette::IntoDiagnostic;
use serde::Serialize;

use crate::arguments::{ReportFormat, Threads};
use crate::progress::Bars;
use crate::{interrupt, library};

/// Find names for what features stand for
///
/// Groups the features of the knowledge band by the direction from the tokens that they answer to, to the tokens that
/// they write, and names groups after facts that occur among these tokens. Labels that probes found stay, and count
/// more.
#[derive(Args)]
#[command(after_help = "Example:
  larql label smollm2.vindex --clusters")]
pub(crate) struct Arguments {
    /// The vindex, or its name
    vindex: PathBuf,
    /// Find labels by grouping features
    #[arg(long, required = true)]
    clusters: bool,
    /// A table of facts: lines of subject, relation and object with tabs between them, or JSON as
    /// {"relation": [["subject", "object"]]} [default: the shipped facts]
    #[arg(long, value_name = "FILE")]
    facts: Vec<PathBuf>,
    /// How many groups to make [default: one for every eight features, 1024 at most]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    groups: Option<u32>,
    /// Seed of the groups' first centres
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    format: ReportFormat,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let mut tables = Vec::new();
    for file in &arguments.facts {
        tables.push(super::facts(Some(file))?);
    }
    if tables.is_empty() {
        tables.push(super::facts(None)?);
    }
    let path = library::find(&arguments.vindex)?;
    let vindex = Vindex::open(&path).map_err(super::report)?;
    let Some(tokenizer) = vindex.text().tokenizer().map_err(super::report)? else {
        return Err(miette::miette!("{} has no tokenizer, so its features have no words", path.display()));
    };
    let options =
        ClusterOptions { groups: arguments.groups.map(|groups| groups as usize), seed: arguments.seed };
    let bars = Bars::new(interrupt::flag()?);
    let facts = tables.iter().flat_map(Facts::iter);
    let triples = facts.map(|fact| [&*fact.subject, &*fact.relation, &*fact.object]);
    let result = cluster(&vindex, &arguments.threads.pool(), &*tokenizer, triples, &options, &bars);
    bars.finish();
    let clusters = match result {
        Err(VindexError::Cancelled) => return Ok(ExitCode::from(interrupt::EXIT_CODE)),
        result => result.map_err(super::report)?,
    };
    clusters.write(&path).map_err(super::report)?;
    let report = Report::of(&clusters);
    if arguments.format.is_json() {
        println!("{}", serde_json::to_string(&report).into_diagnostic()?);
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} of {} groups have a name, and with them {} of {} features",
        report.named_groups, report.groups, report.named_features, report.features
    );
    for (relation, found) in report.relations {
        println!(
            "  {relation:<20} {:>4} groups {:>6} features, {} by facts of their own",
            found.groups, found.features, found.confirmed
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What came of it.
#[derive(Serialize)]
struct Report<'a> {
    groups: usize,
    named_groups: usize,
    features: usize,
    named_features: usize,
    relations: BTreeMap<&'a str, Found>,
}

/// What came of it for a relation.
#[derive(Default, Serialize)]
struct Found {
    groups: usize,
    features: usize,
    /// Features that lead from the subject of a fact to its object themselves.
    confirmed: usize,
}

impl<'a> Report<'a> {
    fn of(clusters: &'a Clusters) -> Report<'a> {
        let named: Vec<&ClusterGroup> =
            clusters.groups.iter().filter(|group| !group.label.is_empty()).collect();
        let mut relations: BTreeMap<&str, Found> = BTreeMap::new();
        for group in &named {
            let found = relations.entry(&group.label).or_default();
            found.groups += 1;
            found.features += group.features;
            found.confirmed += group.confirmed;
        }
        Report {
            groups: clusters.groups.len(),
            named_groups: named.len(),
            features: clusters.members.len(),
            named_features: named.iter().map(|group| group.features).sum(),
            relations,
        }
    }
}
