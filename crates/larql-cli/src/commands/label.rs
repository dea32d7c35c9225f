use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use larql_core::Triple;
use larql_core::facts::Facts;
use larql_models::Tokenizer;
use larql_vindex::{
    ClusterGroup, ClusterOptions, Clusters, Vindex, VindexError, cluster, find_patterns, merge_labels,
    write_patterns,
};
use serde::Serialize;

use crate::arguments::{ReportFormat, Threads};
use crate::output;
use crate::output::outln;
use crate::progress::Bars;
use crate::{interrupt, library};

/// Find names for what features stand for
///
/// With --clusters, groups the features of the knowledge band by the direction from the tokens that they answer to, to the
/// tokens that they write, and names groups after facts that occur among these tokens. With --patterns, finds features
/// that write names of countries, languages, months, weekdays or numbers. With --from, adds the labels of a file.
/// Priority: probe and --from, then --clusters, then --patterns. Running one never deletes another's labels.
#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).multiple(true)))]
#[command(after_help = "Examples:
  larql label smollm2.vindex --clusters --patterns
  larql label smollm2.vindex --clusters --facts wordnet.json
  larql label smollm2.vindex --from feature_labels.json")]
pub(crate) struct Arguments {
    /// The vindex, or its name
    vindex: PathBuf,
    /// Find labels by grouping features
    #[arg(long, group = "source")]
    clusters: bool,
    /// Find features that write words of one kind
    #[arg(long, group = "source")]
    patterns: bool,
    /// Add the labels of a file: {"LAYER:FEATURE": "relation"}; labels of probes and of earlier files stay
    #[arg(long, group = "source", value_name = "FILE")]
    from: Vec<PathBuf>,
    /// A table of facts: lines of subject, relation and object with tabs between them, or JSON as
    /// {"relation": [["subject", "object"]]} [default: the shipped facts]
    #[arg(long, value_name = "FILE")]
    facts: Vec<PathBuf>,
    /// Number of groups to make [default: one for every eight features, 1024 at most]
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
    let mut report = Report::default();
    for file in &arguments.from {
        let json = std::fs::read(file).map_err(|error| miette::miette!("{}: {error}", file.display()))?;
        let added = merge_labels(&vindex, file, &json).map_err(super::report)?;
        *report.added.get_or_insert_default() += added;
    }
    if arguments.patterns {
        let patterns = find_patterns(&vindex, &*tokenizer, &Facts::word_lists(&tables));
        write_patterns(&patterns, &path).map_err(super::report)?;
        let found = report.patterns.get_or_insert_default();
        patterns.into_values().for_each(|kind| *found.entry(kind).or_default() += 1);
    }
    if arguments.clusters {
        let Some(clusters) = find_clusters(&arguments, &vindex, &tokenizer, &tables)? else {
            return Ok(ExitCode::from(interrupt::EXIT_CODE));
        };
        clusters.write(&path).map_err(super::report)?;
        report.clusters = Some(ClusterReport::of(&clusters));
    }
    if arguments.format.is_json() {
        output::json(&report)?;
    } else {
        report.print()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The groups of features; none if the work was interrupted.
fn find_clusters(
    arguments: &Arguments,
    vindex: &Vindex,
    tokenizer: &Tokenizer,
    tables: &[Facts],
) -> miette::Result<Option<Clusters>> {
    let options =
        ClusterOptions { groups: arguments.groups.map(|groups| groups as usize), seed: arguments.seed };
    let bars = Bars::new(interrupt::token()?);
    let facts = tables.iter().flat_map(Facts::iter);
    let triples = facts.map(Triple::as_array);
    let result = cluster(vindex, &arguments.threads.pool(), tokenizer, triples, &options, &bars);
    bars.finish();
    match result {
        Err(VindexError::Cancelled) => Ok(None),
        result => result.map(Some).map_err(super::report),
    }
}

/// Result of labelling.
#[derive(Default, Serialize)]
struct Report {
    /// Labels that files brought.
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<usize>,
    /// Features by the kind of their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    patterns: Option<BTreeMap<String, usize>>,
    #[serde(flatten)]
    clusters: Option<ClusterReport>,
}

impl Report {
    fn print(&self) -> miette::Result<()> {
        if let Some(added) = self.added {
            outln!("{added} labels added")?;
        }
        if let Some(patterns) = &self.patterns {
            outln!("{} features write words of one kind", patterns.values().sum::<usize>())?;
            for (kind, features) in patterns {
                outln!("  {kind:<20} {features:>6} features")?;
            }
        }
        let Some(clusters) = &self.clusters else { return Ok(()) };
        outln!(
            "{} of {} groups have a name, and with them {} of {} features",
            clusters.named_groups,
            clusters.groups,
            clusters.named_features,
            clusters.features
        )?;
        for (relation, found) in &clusters.relations {
            outln!(
                "  {relation:<20} {:>4} groups {:>6} features, {} by facts of their own",
                found.groups,
                found.features,
                found.confirmed
            )?;
        }
        Ok(())
    }
}

/// Result of grouping.
#[derive(Serialize)]
struct ClusterReport {
    groups: usize,
    named_groups: usize,
    features: usize,
    named_features: usize,
    relations: BTreeMap<String, Found>,
}

/// Result of labelling for a relation.
#[derive(Default, Serialize)]
struct Found {
    groups: usize,
    features: usize,
    /// Features that lead from the subject of a fact to its object themselves.
    confirmed: usize,
}

impl ClusterReport {
    fn of(clusters: &Clusters) -> ClusterReport {
        let named: Vec<&ClusterGroup> =
            clusters.groups.iter().filter(|group| !group.label.is_empty()).collect();
        let mut relations: BTreeMap<String, Found> = BTreeMap::new();
        for group in &named {
            let found = relations.entry(group.label.clone()).or_default();
            found.groups += 1;
            found.features += group.features;
            found.confirmed += group.confirmed;
        }
        ClusterReport {
            groups: clusters.groups.len(),
            named_groups: named.len(),
            features: clusters.members.len(),
            named_features: named.iter().map(|group| group.features).sum(),
            relations,
        }
    }
}
