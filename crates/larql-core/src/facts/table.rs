//! Parsing of fact tables and of `relations.json`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use serde::Deserialize;

use super::{FactsError, Relation};
use crate::Triple;

/// Content of `relations.json`.
#[derive(Deserialize)]
pub(super) struct Description {
    #[serde(default)]
    pub(super) definite: BTreeSet<String>,
    pub(super) relations: Vec<Relation>,
}

/// Returns the file names of the tables that `relations.json` names.
pub(super) fn table_names(path: &Path, text: &str) -> Result<HashSet<String>, FactsError> {
    #[derive(Deserialize)]
    struct Entry {
        table: String,
    }
    #[derive(Deserialize)]
    struct Tables {
        relations: Vec<Entry>,
    }
    let tables: Tables = serde_json::from_str(text)
        .map_err(|source| FactsError::Relations { path: path.to_path_buf(), source })?;
    Ok(tables.relations.into_iter().map(|entry| entry.table).collect())
}

/// Parses pairs of words by relation, `{"capital": [["France", "Paris"]]}`.
pub(super) fn parse_pairs(path: &Path, text: &str) -> Result<Vec<Triple>, FactsError> {
    let pairs: BTreeMap<String, Vec<[String; 2]>> = serde_json::from_str(text)
        .map_err(|source| FactsError::Pairs { path: path.to_path_buf(), source })?;
    let facts = pairs.into_iter().flat_map(|(relation, pairs)| {
        pairs.into_iter().map(move |[entity, target]| Triple { entity, relation: relation.clone(), target })
    });
    Ok(facts.collect())
}

/// Parses a table. Its first line may be the header `subject relation object`.
pub(super) fn parse_table(path: &Path, text: &str) -> Result<Vec<Triple>, FactsError> {
    let mut facts = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || (number == 0 && line == "subject\trelation\tobject") {
            continue;
        }
        let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
        let [entity, relation, target] = fields[..] else {
            return Err(bad_line(path, number, line));
        };
        if [entity, relation, target].iter().any(|field| field.is_empty()) {
            return Err(bad_line(path, number, line));
        }
        facts.push(Triple::new(entity, relation, target));
    }
    Ok(facts)
}

fn bad_line(path: &Path, number: usize, line: &str) -> FactsError {
    let found = line.chars().take(80).collect();
    FactsError::Line { path: path.to_path_buf(), line: number + 1, found }
}
