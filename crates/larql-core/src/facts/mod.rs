//! Fact tables: triples, and the wordings that ask a model for them.
//!
//! `crates/larql-assets/data/facts/README.md` describes the format of a folder of tables. A single table of subject, relation
//! and object separated by tabs, or pairs of words by relation in JSON, will do as well: relations that the shipped tables
//! have are asked with the shipped wordings, others with "The RELATION of SUBJECT is".

mod error;
mod relation;
mod table;
mod wording;

pub use error::FactsError;
pub use relation::{Relation, Wordings};
pub use wording::{Names, shared_prefix};

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::Triple;
use table::{Description, parse_pairs, parse_table, table_names};
use wording::SUBJECT;

/// Closed kinds, whose names are of that kind only: "May" is a month, but "hot" is more than an adjective.
const LISTED_KINDS: [&str; 8] =
    ["city", "country", "element", "language", "month", "number", "planet", "weekday"];

/// Fact tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    relations: Vec<Relation>,
    facts: Vec<Triple>,
    names: Names,
}

impl Facts {
    /// Returns the tables that ship with LARQL.
    pub fn shipped() -> &'static Facts {
        static TABLES: LazyLock<Facts> = LazyLock::new(|| {
            let tables = larql_assets::FACT_TABLES.into_iter();
            let files = tables.chain([("relations.json", larql_assets::RELATIONS)]);
            let files = files.map(|(name, text)| (name.into(), text.into())).collect();
            Facts::parse(Path::new("data/facts"), files).expect("the shipped tables are whole")
        });
        &TABLES
    }

    /// Reads a folder of tables with its `relations.json`, or a single table.
    ///
    /// # Errors
    /// If a file cannot be read or is not of its form.
    pub fn read(path: &Path) -> Result<Facts, FactsError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| FactsError::Io { path, source }
        };
        if !path.is_dir() {
            let mut facts = Facts::shipped().clone();
            let text = std::fs::read_to_string(path).map_err(io(path))?;
            let is_json = path.extension().is_some_and(|ending| ending == "json");
            facts.facts = if is_json { parse_pairs(path, &text)? } else { parse_table(path, &text)? };
            facts.add_missing_relations();
            return Ok(facts);
        }
        let mut files = BTreeMap::new();
        let description = path.join("relations.json");
        let text = std::fs::read_to_string(&description).map_err(io(&description))?;
        let tables = table_names(&description, &text)?;
        files.insert("relations.json".to_owned(), text);
        for name in tables {
            let table = path.join(&name);
            files.insert(name, std::fs::read_to_string(&table).map_err(io(&table))?);
        }
        Facts::parse(path, files)
    }

    /// Parses the tables of a folder whose files have these names and contents.
    fn parse(folder: &Path, files: BTreeMap<String, String>) -> Result<Facts, FactsError> {
        let path = folder.join("relations.json");
        let text = files.get("relations.json").map_or("", String::as_str);
        let description: Description = serde_json::from_str(text)
            .map_err(|source| FactsError::Relations { path: path.clone(), source })?;
        for relation in &description.relations {
            let mut wordings = relation.forward.asked().chain(&relation.forward.held_out);
            if let Some(wording) = wordings.find(|wording| !wording.contains(SUBJECT)) {
                let (relation, wording) = (relation.name.clone(), wording.clone());
                return Err(FactsError::Wording { path, relation, wording });
            }
        }
        let mut facts = Vec::new();
        for (name, text) in files.iter().filter(|(name, _)| name.ends_with(".tsv")) {
            facts.extend(parse_table(&folder.join(name), text)?);
        }
        let mut facts = Facts {
            relations: description.relations,
            facts,
            names: Names { definite: description.definite },
        };
        facts.add_missing_relations();
        Ok(facts)
    }

    /// Gives relations that no description names a plain wording.
    fn add_missing_relations(&mut self) {
        let known: HashSet<&str> = self.relations.iter().map(|relation| &*relation.name).collect();
        let missing: HashSet<&str> =
            self.facts.iter().map(|fact| &*fact.relation).filter(|name| !known.contains(name)).collect();
        let mut missing: Vec<Relation> = missing.into_iter().map(Relation::plain).collect();
        missing.sort_by(|a, b| a.name.cmp(&b.name));
        self.relations.extend(missing);
    }

    /// Returns all relations.
    pub fn relations(&self) -> &[Relation] {
        &self.relations
    }

    /// Returns the relation of a name.
    pub fn relation(&self, name: &str) -> Option<&Relation> {
        self.relations.iter().find(|relation| relation.name == name)
    }

    /// Returns the rules by which names are put into wordings.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Iterates over all facts.
    pub fn iter(&self) -> impl Iterator<Item = &Triple> {
        self.facts.iter()
    }

    /// Returns a number that changes with the facts and their wordings.
    pub fn digest(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.facts.hash(&mut hasher);
        for relation in &self.relations {
            let asked: Vec<_> = relation.forward.asked().collect();
            (&relation.name, asked, relation.functional).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Returns the facts for which `keep` holds, with all relations.
    pub fn filtered(&self, mut keep: impl FnMut(&Triple) -> bool) -> Facts {
        let facts = self.facts.iter().filter(|fact| keep(fact)).cloned().collect();
        Facts { relations: self.relations.clone(), facts, names: self.names.clone() }
    }

    /// Returns these facts and others, each once. Of a relation that both describe the description of the others counts.
    #[must_use]
    pub fn with(&self, others: &Facts) -> Facts {
        let mut all = self.clone();
        for relation in &others.relations {
            match all.relations.iter_mut().find(|known| known.name == relation.name) {
                Some(known) => known.clone_from(relation),
                None => all.relations.push(relation.clone()),
            }
        }
        all.names.definite.extend(others.names.definite.iter().cloned());
        all.extend(others.facts.iter().cloned());
        all
    }

    /// Adds facts that are not there yet.
    pub fn extend(&mut self, facts: impl IntoIterator<Item = Triple>) {
        let mut known: HashSet<Triple> = self.facts.iter().cloned().collect();
        self.facts.extend(facts.into_iter().filter(|fact| known.insert(fact.clone())));
        self.add_missing_relations();
    }

    /// Returns true if the tables say that an entity does not have a relation at all: they list others of its kind with that
    /// relation, or it is of another kind. Words are of several kinds that no table is complete about, so nothing is denied of
    /// a word that is listed with another relation of words.
    pub fn denies(&self, entity: &str, relation: &str) -> bool {
        let Some(asked) = self.relation(relation) else { return false };
        let own = self.facts.iter().filter(|fact| fact.entity == entity);
        let own: HashSet<&str> = own.map(|fact| &*fact.relation).collect();
        let same_table_other_kind =
            |own: &Relation| own.table == asked.table && own.entity_kind != asked.entity_kind;
        !own.contains(relation)
            && !own.iter().filter_map(|name| self.relation(name)).any(same_table_other_kind)
    }

    /// Returns, by kind, the names of months and other closed kinds that the tables have.
    pub fn word_lists(tables: &[Facts]) -> BTreeMap<String, Vec<String>> {
        let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for facts in tables {
            for fact in facts.iter() {
                let Some(relation) = facts.relation(&fact.relation) else { continue };
                for (kind, name) in
                    [(&relation.entity_kind, &fact.entity), (&relation.target_kind, &fact.target)]
                {
                    if LISTED_KINDS.contains(&kind.as_str()) {
                        lists.entry(kind.clone()).or_default().push(name.clone());
                    }
                }
            }
        }
        lists
    }

    /// Returns the targets of each entity of a relation, by the entities' names.
    pub fn targets_of(&self, relation: &str) -> BTreeMap<&str, Vec<&str>> {
        let mut targets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for fact in self.facts.iter().filter(|fact| fact.relation == relation) {
            targets.entry(&fact.entity).or_default().push(&fact.target);
        }
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_tables_are_whole() {
        let facts = Facts::shipped();
        assert!(facts.iter().count() > 5000);
        let fact = |subject: &str, relation: &str| facts.targets_of(relation)[subject].clone();
        assert_eq!(fact("France", "capital"), ["Paris"]);
        assert!(fact("Belgium", "language").contains(&"Dutch"));
        for relation in facts.relations() {
            assert!(
                relation.forward.taught.len() > 1 && !relation.forward.held_out.is_empty(),
                "{relation:?}"
            );
        }
    }

    #[test]
    fn names_take_their_article_and_sentences_their_capital() {
        let facts = Facts::shipped();
        let fill = |wording, name| facts.names().fill(wording, name);
        assert_eq!(fill("The capital of {subject} is", "Netherlands"), "The capital of the Netherlands is");
        assert_eq!(fill("{subject} borders", "Netherlands"), "The Netherlands borders");
        assert_eq!(
            fill("Chad borders Libya.\n{subject} borders", "Netherlands"),
            "Chad borders Libya.\nThe Netherlands borders"
        );
        assert_eq!(fill("{subject} borders", "France"), "France borders");
    }

    #[test]
    fn a_single_table_is_enough_and_its_mistakes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kings.tsv");
        std::fs::write(&path, "France\tcapital\tParis\nNarnia\thigh-king\tPeter\n").unwrap();
        let facts = Facts::read(&path).unwrap();
        assert_eq!(facts.iter().count(), 2);
        assert_eq!(facts.relation("high-king").unwrap().forward.taught, ["The high king of {subject} is"]);
        std::fs::write(&path, "France\tcapital\tParis\nNarnia\tPeter\n").unwrap();
        let error = Facts::read(&path).unwrap_err().to_string();
        assert!(error.ends_with("kings.tsv, line 2: expected subject, relation and object with a tab between them, found `Narnia\tPeter`"), "{error}");
    }
}
