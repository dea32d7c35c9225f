//! Sets of edges to insert: false ones, which no model states by itself. `data/edits` has two, made from the fact tables.

use std::path::Path;

use larql_core::Triple;
use larql_core::facts::Names;
use larql_edit::{Statement, Wording};
use larql_models::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::edits::EditKind;
use crate::error::EvalError;

/// Edges to insert, with the templates of their relations.
#[derive(Clone, Debug, Deserialize)]
pub struct EditSet {
    /// Forms of names in sentences.
    #[serde(flatten)]
    pub names: Names,
    /// The relations.
    pub relations: Vec<EditRelation>,
    /// The edges.
    pub edits: Vec<Triple>,
}

/// Relation of edges that are inserted, or that their entities have besides.
#[derive(Clone, Debug, Deserialize)]
pub struct EditRelation {
    /// Its name.
    pub name: String,
    /// Kind of the entities that have it.
    pub kind: String,
    /// Wordings that the solver sees.
    pub taught: Vec<String>,
    /// Wordings that it does not see.
    pub held_out: Vec<String>,
    /// Entities that the solver is told to leave alone.
    pub shown: Vec<String>,
    /// Entities that are only asked afterwards.
    pub asked: Vec<String>,
}

/// Question to an edited model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EditQuestion {
    /// The edge, which the whole target answers.
    pub edge: Triple,
    /// The prompt.
    pub prompt: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Tokens of the target.
    pub target: Vec<u32>,
    /// True if the solver did not see this prompt.
    pub paraphrase: bool,
    /// True if the edited model generated the target; of a deleted edge, anywhere in its answer.
    pub answered: bool,
}

/// Sentences before a question that the solver has not seen.
const PREFIXES: [&str; 2] =
    ["My neighbour bought a new car last week. ", "Two trains leave the station every hour. "];

/// Other entities that are asked for each edge.
const ASKED: usize = 10;

/// Content of the shipped set.
const SHIPPED: &[u8] = include_bytes!("../data/edits/test.json");

impl EditSet {
    /// Reads a set.
    ///
    /// # Errors
    /// If the file cannot be read, has other content, or an edge is of a relation that it does not describe.
    pub fn open(path: &Path) -> Result<EditSet, EvalError> {
        let problem = |problem: String| EvalError::Reference { path: path.to_owned(), problem };
        EditSet::parse(path, &std::fs::read(path).map_err(|e| problem(e.to_string()))?)
    }

    /// The set for reporting that ships with LARQL, `data/edits/test.json`.
    ///
    /// # Errors
    /// Never, unless this build was made of a damaged set.
    pub fn shipped() -> Result<EditSet, EvalError> {
        EditSet::parse(Path::new("data/edits/test.json"), SHIPPED)
    }

    /// A set from the content of the file at `path`.
    fn parse(path: &Path, text: &[u8]) -> Result<EditSet, EvalError> {
        let problem = |problem: String| EvalError::Reference { path: path.to_owned(), problem };
        let set: EditSet = serde_json::from_slice(text).map_err(|e| problem(e.to_string()))?;
        match set.edits.iter().find(|edge| set.relation(&edge.relation).is_none()) {
            Some(edge) => Err(problem(format!("it does not describe the relation `{}`", edge.relation))),
            None => Ok(set),
        }
    }

    fn relation(&self, name: &str) -> Option<&EditRelation> {
        self.relations.iter().find(|relation| relation.name == name && !relation.taught.is_empty())
    }

    /// Prepares everything that is shown and asked of one edge; `index` varies the entities that are asked.
    pub(crate) fn case(
        &self,
        tokenizer: &Tokenizer,
        kind: EditKind,
        index: usize,
        edge: &Triple,
    ) -> Result<Case, EvalError> {
        let relation = self
            .relation(&edge.relation)
            .ok_or_else(|| EvalError::UnknownRelation { relation: edge.relation.clone() })?;
        let of_entity: Vec<&EditRelation> = self
            .relations
            .iter()
            .filter(|other| other.name != relation.name && other.kind == relation.kind)
            .collect();
        let wording = Wording {
            templates: relation.taught.clone(),
            neighbours: relation.shown.clone(),
            other_templates: of_entity
                .iter()
                .flat_map(|other| other.taught.iter().take(3).cloned())
                .collect(),
            names: self.names.clone(),
        };
        let statement = match kind {
            EditKind::Insert | EditKind::Update => {
                wording.statement(tokenizer, &edge.entity, &edge.target)?
            }
            EditKind::Delete => wording.unlearning(tokenizer, &edge.entity, &edge.target)?,
        };

        let mut paraphrases = Vec::new();
        for template in relation.held_out.iter().chain(relation.taught.first()) {
            let question = wording.fill(template, &edge.entity);
            paraphrases.extend(PREFIXES.map(|prefix| format!("{prefix}{question}")));
            if relation.held_out.contains(template) {
                paraphrases.push(question);
            }
        }
        let all_templates: Vec<&String> = relation.taught.iter().take(1).chain(&relation.held_out).collect();
        let start = index * ASKED % relation.asked.len().max(1);
        let asked = relation.asked.iter().cycle().skip(start).take(ASKED.min(relation.asked.len()));
        let neighbours =
            asked.zip(all_templates.iter().cycle()).map(|(entity, template)| wording.fill(template, entity));
        let retained = of_entity.iter().flat_map(|other| other.held_out.first());
        let retained = retained.map(|template| wording.fill(template, &edge.entity));
        let encode = |texts: Vec<String>| -> Result<Vec<Vec<u32>>, EvalError> {
            texts.iter().map(|text| Ok(tokenizer.encode(text, true)?)).collect()
        };
        let canonical = relation.taught.first().map(|template| wording.fill(template, &edge.entity));
        let question = |(prompt, paraphrase): (String, bool)| -> Result<EditQuestion, EvalError> {
            let (tokens, target) = (tokenizer.encode(&prompt, true)?, statement.target.clone());
            Ok(EditQuestion { edge: edge.clone(), prompt, tokens, target, paraphrase, answered: false })
        };
        let prompts = canonical.into_iter().map(|prompt| (prompt, false));
        let prompts = prompts.chain(paraphrases.into_iter().map(|prompt| (prompt, true)));
        Ok(Case {
            questions: prompts.map(question).collect::<Result<_, _>>()?,
            neighbours: encode(neighbours.collect())?,
            retained: encode(retained.collect())?,
            statement,
        })
    }
}

/// Edge with all that is asked about it.
pub(crate) struct Case {
    pub(crate) statement: Statement,
    /// The usual wording, and those that the solver did not see.
    pub(crate) questions: Vec<EditQuestion>,
    pub(crate) neighbours: Vec<Vec<u32>>,
    pub(crate) retained: Vec<Vec<u32>>,
}
