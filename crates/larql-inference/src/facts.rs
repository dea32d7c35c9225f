//! Fact tables: what a model may know, in words that a model can be asked with.
//!
//! `data/facts/README.md` describes the format of a folder of tables. A single table of subject, relation and object
//! separated by tabs, or pairs of words by relation in JSON, will do as well: relations that the shipped tables have are
//! asked with the shipped wordings, others with "The RELATION of SUBJECT is".

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// What stands for the subject in a wording.
const SUBJECT: &str = "{subject}";

/// Kinds of things whose names are of that kind only: "May" is a month, but "hot" is more than an adjective.
const LISTED_KINDS: [&str; 8] =
    ["city", "country", "element", "language", "month", "number", "planet", "weekday"];

/// The fact tables that ship with LARQL: name and content of each file.
const SHIPPED: [(&str, &str); 8] = [
    ("relations.json", include_str!("../../../data/facts/relations.json")),
    ("cities.tsv", include_str!("../../../data/facts/cities.tsv")),
    ("countries.tsv", include_str!("../../../data/facts/countries.tsv")),
    ("elements.tsv", include_str!("../../../data/facts/elements.tsv")),
    ("numbers.tsv", include_str!("../../../data/facts/numbers.tsv")),
    ("records.tsv", include_str!("../../../data/facts/records.tsv")),
    ("sequences.tsv", include_str!("../../../data/facts/sequences.tsv")),
    ("words.tsv", include_str!("../../../data/facts/words.tsv")),
];

/// Why fact tables cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `relations.json` is not what it should be.
    #[error("{}: expected relations with their wordings, found: {source}", path.display())]
    Relations {
        /// The file.
        path: PathBuf,
        /// What the JSON reader said.
        source: serde_json::Error,
    },
    /// A JSON file has no pairs of words.
    #[error("{}: expected pairs of words by relation, found: {source}", path.display())]
    Pairs {
        /// The file.
        path: PathBuf,
        /// What the JSON reader said.
        source: serde_json::Error,
    },
    /// A line of a table is no fact.
    #[error(
        "{}, line {line}: expected subject, relation and object with a tab between them, found `{found}`",
        path.display()
    )]
    Line {
        /// The table.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The line.
        found: String,
    },
    /// A wording does not say where the subject goes.
    #[error("{}: the wording `{wording}` of {relation} has no `{SUBJECT}`", path.display())]
    Wording {
        /// The file.
        path: PathBuf,
        /// The relation.
        relation: String,
        /// Its wording.
        wording: String,
    },
}

/// That a relation holds between a subject and an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fact {
    /// For instance `France`.
    pub subject: String,
    /// For instance `capital`.
    pub relation: String,
    /// For instance `Paris`.
    pub object: String,
}

/// A relation, and the sentences that ask for its object: each has `{subject}` and ends right before the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// For instance `capital`.
    pub name: String,
    /// The table that its facts are in.
    #[serde(default)]
    pub table: String,
    /// What kind of thing subjects are, for instance `country`.
    #[serde(default)]
    pub subject: String,
    /// What kind of thing objects are, for instance `city`.
    #[serde(default)]
    pub object: String,
    /// Whether a subject has one object only.
    #[serde(default)]
    pub functional: bool,
    /// The sentences.
    pub forward: Wordings,
}

/// The sentences that ask for the object of a relation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wordings {
    /// Those that the bundled model was taught.
    pub taught: Vec<String>,
    /// More of them, which suit models that learnt from other texts.
    #[serde(default)]
    pub also_asked: Vec<String>,
    /// Those that only an evaluation uses.
    #[serde(default)]
    pub held_out: Vec<String>,
}

impl Wordings {
    /// Those that a model is asked with when it is probed and described.
    pub fn asked(&self) -> impl Iterator<Item = &String> {
        self.taught.iter().chain(&self.also_asked)
    }
}

/// `relations.json`.
#[derive(Deserialize)]
struct Description {
    #[serde(default)]
    definite: BTreeSet<String>,
    relations: Vec<Relation>,
}

/// Fact tables.
#[derive(Clone, Debug)]
pub struct Facts {
    relations: Vec<Relation>,
    facts: Vec<Fact>,
    names: Names,
}

/// How names stand in a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Names that take "the".
    pub definite: BTreeSet<String>,
}

impl Names {
    /// The sentence in which `name` stands for `{subject}`; it may follow others, each in a line of its own.
    pub fn fill(&self, wording: &str, name: &str) -> String {
        if !self.definite.contains(name) {
            return wording.replace(SUBJECT, name);
        }
        let (before, sentence) = wording.split_at(wording.rfind('\n').map_or(0, |end| end + 1));
        let sentence = match sentence.strip_prefix(SUBJECT) {
            Some(rest) => format!("The {name}{rest}"),
            None => sentence.to_owned(),
        };
        format!("{before}{}", sentence.replace(SUBJECT, &format!("the {name}")))
    }
}

/// What a wording says before it names its subject, if that is the same for every name.
pub fn beginning(wording: &str) -> &str {
    // Names may take an article, and tokens hold the space before them.
    wording.split(SUBJECT).next().unwrap_or("").trim_end()
}

impl Facts {
    /// The tables that ship with LARQL.
    pub fn shipped() -> &'static Facts {
        static TABLES: LazyLock<Facts> = LazyLock::new(|| {
            let files = SHIPPED.map(|(name, text)| (name.into(), text.into())).into();
            Facts::parse(Path::new("data/facts"), files).expect("the shipped tables are whole")
        });
        &TABLES
    }

    /// A folder of tables with its `relations.json`, or a single table.
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

    /// The tables of a folder whose files have these names and contents.
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

    /// All relations.
    pub fn relations(&self) -> &[Relation] {
        &self.relations
    }

    /// The relation of a name.
    pub fn relation(&self, name: &str) -> Option<&Relation> {
        self.relations.iter().find(|relation| relation.name == name)
    }

    /// How names stand in a sentence.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// All facts.
    pub fn iter(&self) -> impl Iterator<Item = &Fact> {
        self.facts.iter()
    }

    /// A number that changes with the facts and their wordings.
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

    /// Only the facts for which `keep` holds.
    pub fn filtered(&self, mut keep: impl FnMut(&Fact) -> bool) -> Facts {
        let facts = self.facts.iter().filter(|fact| keep(fact)).cloned().collect();
        Facts { relations: self.relations.clone(), facts, names: self.names.clone() }
    }

    /// Whether the tables say that a subject does not have a relation at all: that they list others of its kind with that
    /// relation, or it is of another kind. Words are of several kinds that no table is complete about, so of a word that
    /// is listed with another relation of words it is not said.
    pub fn denies(&self, subject: &str, relation: &str) -> bool {
        let Some(asked) = self.relation(relation) else { return false };
        let own = self.facts.iter().filter(|fact| fact.subject == subject);
        let own: HashSet<&str> = own.map(|fact| &*fact.relation).collect();
        let same_table_other_kind = |own: &Relation| own.table == asked.table && own.subject != asked.subject;
        !own.contains(relation)
            && !own.iter().filter_map(|name| self.relation(name)).any(same_table_other_kind)
    }

    /// The names of things of some kinds, such as months, that tables of facts are about.
    pub fn word_lists(tables: &[Facts]) -> BTreeMap<String, Vec<String>> {
        let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for facts in tables {
            for fact in facts.iter() {
                let Some(relation) = facts.relation(&fact.relation) else { continue };
                for (kind, name) in [(&relation.subject, &fact.subject), (&relation.object, &fact.object)] {
                    if LISTED_KINDS.contains(&kind.as_str()) {
                        lists.entry(kind.clone()).or_default().push(name.clone());
                    }
                }
            }
        }
        lists
    }

    /// For each subject of a relation its objects, by the subjects' names.
    pub fn of_relation(&self, relation: &str) -> BTreeMap<&str, Vec<&str>> {
        let mut objects: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for fact in self.facts.iter().filter(|fact| fact.relation == relation) {
            objects.entry(&fact.subject).or_default().push(&fact.object);
        }
        objects
    }
}

impl Relation {
    /// A relation of which only the name is known.
    pub fn plain(name: &str) -> Relation {
        let spoken = name.replace(['-', '_'], " ");
        Relation {
            name: name.to_owned(),
            table: String::new(),
            subject: String::new(),
            object: String::new(),
            functional: false,
            forward: Wordings {
                taught: vec![format!("The {spoken} of {SUBJECT} is")],
                ..Wordings::default()
            },
        }
    }
}

/// The tables that a description names.
fn table_names(path: &Path, text: &str) -> Result<HashSet<String>, FactsError> {
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

/// The facts of pairs of words by relation, `{"capital": [["France", "Paris"]]}`.
fn parse_pairs(path: &Path, text: &str) -> Result<Vec<Fact>, FactsError> {
    let pairs: BTreeMap<String, Vec<[String; 2]>> = serde_json::from_str(text)
        .map_err(|source| FactsError::Pairs { path: path.to_path_buf(), source })?;
    let facts = pairs.into_iter().flat_map(|(relation, pairs)| {
        pairs.into_iter().map(move |[subject, object]| Fact { subject, relation: relation.clone(), object })
    });
    Ok(facts.collect())
}

/// The facts of a table; a first line that is the header is none.
fn parse_table(path: &Path, text: &str) -> Result<Vec<Fact>, FactsError> {
    let mut facts = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || (number == 0 && line == "subject\trelation\tobject") {
            continue;
        }
        let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
        let [subject, relation, object] = fields[..] else {
            return Err(bad_line(path, number, line));
        };
        if [subject, relation, object].iter().any(|field| field.is_empty()) {
            return Err(bad_line(path, number, line));
        }
        facts.push(Fact { subject: subject.into(), relation: relation.into(), object: object.into() });
    }
    Ok(facts)
}

fn bad_line(path: &Path, number: usize, line: &str) -> FactsError {
    let found = line.chars().take(80).collect();
    FactsError::Line { path: path.to_path_buf(), line: number + 1, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_tables_are_whole() {
        let facts = Facts::shipped();
        assert!(facts.iter().count() > 5000);
        let fact = |subject: &str, relation: &str| facts.of_relation(relation)[subject].clone();
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
