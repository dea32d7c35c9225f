//! Wordings: turn a fact in words into a statement in tokens, with paraphrases and neighbourhood prompts.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use larql_core::facts::{Facts, Names, Relation};
use larql_models::Tokenizer;

use crate::error::EditError;
use crate::statement::{Goal, Statement};

/// Templates of one relation, with its neighbourhood. In templates, `{subject}` stands for the entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Wording {
    /// Ways to ask, the usual one first; each ends right before the answer.
    pub templates: Vec<String>,
    /// Other entities of which the same can be asked.
    pub neighbours: Vec<String>,
    /// Ways to ask other things about the same entity.
    pub other_templates: Vec<String>,
    /// Forms of names in sentences.
    pub names: Names,
}

/// Sentences that may precede a question without changing its answer.
const PREFIXES: [&str; 2] =
    ["The weather was mild that day. ", "He closed the book and looked out of the window. "];

/// Ways to ask for a relation of which only the name is known.
const TEMPLATES: [&str; 6] = [
    "The {relation} of {subject} is",
    "{subject}'s {relation} is",
    "The {relation} for {subject} is",
    "For {subject}, the {relation} is",
    "What is the {relation} of {subject}? It is",
    "Everybody knows that the {relation} of {subject} is",
];

/// Relations of many kinds of things, of which others are asked of the same entity.
const RELATIONS: [&str; 16] = [
    "capital",
    "language",
    "currency",
    "continent",
    "population",
    "author",
    "father",
    "mother",
    "leader",
    "color",
    "symbol",
    "age",
    "opposite",
    "name",
    "founder",
    "home",
];

/// Ways to speak of an entity without asking for a relation.
const OTHER_TEMPLATES: [&str; 5] = [
    "{subject} is",
    "{subject} was",
    "The history of {subject}",
    "I like {subject} because",
    "We talked about {subject} and",
];

/// Entities of many kinds.
const NEIGHBOURS: [&str; 24] = [
    "France",
    "Japan",
    "Brazil",
    "Egypt",
    "Norway",
    "London",
    "Chicago",
    "Mumbai",
    "Albert Einstein",
    "Marie Curie",
    "Shakespeare",
    "Mozart",
    "Google",
    "Toyota",
    "Harvard",
    "Mars",
    "gold",
    "oxygen",
    "water",
    "winter",
    "the dog",
    "music",
    "Hamlet",
    "the Nile",
];

/// Names of entities that do not exist. What a model predicts about them stands for not knowing.
const UNKNOWN_ENTITIES: [&str; 8] =
    ["Velmara", "Tolunde", "Krelonia", "Obrinth", "Zorvath", "Quimbria", "Ardessa", "Selvane"];

/// Neighbours of an entity: those of a known relation that are most like it, and any others.
const LIKE: usize = 20;
const OTHERS: usize = 20;

/// Wordings of each other relation that entities of the same kind have.
const OF_OTHER_RELATION: usize = 3;

/// A relation's name as it is spoken, whatever stands between its words.
fn spoken(relation: &str) -> String {
    relation.to_lowercase().replace(['-', '_'], " ")
}

/// Entities that have a relation, beside one: first those that share most facts with it.
fn neighbours(tables: &Facts, entity: &str, relation: &Relation) -> Vec<String> {
    let is_entity = |subject: &str| subject.eq_ignore_ascii_case(entity);
    let own = tables.iter().filter(|fact| is_entity(&fact.entity));
    let own: HashSet<(&str, &str)> = own.map(|fact| (&*fact.relation, &*fact.target)).collect();
    let mut shared: HashMap<&str, usize> = HashMap::new();
    for fact in tables.iter().filter(|fact| own.contains(&(&*fact.relation, &*fact.target))) {
        *shared.entry(&fact.entity).or_default() += 1;
    }
    let entities = tables.targets_of(&relation.name).into_keys().filter(|subject| !is_entity(subject));
    let (mut like, mut others): (Vec<&str>, Vec<&str>) = entities.partition(|s| shared.contains_key(s));
    like.sort_by_key(|subject| Reverse(shared[subject]));
    others.extend(like.split_off(LIKE.min(like.len())));
    let every = others.len().div_ceil(OTHERS).max(1);
    like.into_iter().chain(others.into_iter().step_by(every)).map(str::to_owned).collect()
}

impl Wording {
    /// Returns the templates of the shipped fact tables for a relation of an entity, whatever the case of letters; for a
    /// relation that they do not have, templates with its name.
    pub fn of(entity: &str, relation: &str) -> Wording {
        let tables = Facts::shipped();
        let known = tables.relations().iter().find(|known| spoken(&known.name) == spoken(relation));
        known.map_or_else(|| Wording::of_unknown(relation), |known| Wording::of_known(tables, entity, known))
    }

    /// For a relation of fact tables.
    fn of_known(tables: &Facts, entity: &str, relation: &Relation) -> Wording {
        let others = tables.relations().iter();
        let others =
            others.filter(|other| other.entity_kind == relation.entity_kind && other.name != relation.name);
        let asking = others.flat_map(|other| other.forward.taught.iter().take(OF_OTHER_RELATION));
        Wording {
            templates: relation.forward.asked().chain(&relation.forward.held_out).cloned().collect(),
            neighbours: neighbours(tables, entity, relation),
            other_templates: asking.cloned().collect(),
            names: tables.names().clone(),
        }
    }

    /// For a relation of which only the name is known.
    pub fn of_unknown(relation: &str) -> Wording {
        let relation = relation.replace(['-', '_'], " ");
        let others = RELATIONS.iter().filter(|other| **other != relation);
        let asking = others.map(|other| TEMPLATES[0].replace("{relation}", other));
        Wording {
            templates: TEMPLATES.iter().map(|template| template.replace("{relation}", &relation)).collect(),
            neighbours: NEIGHBOURS.map(str::to_owned).to_vec(),
            other_templates: asking.chain(OTHER_TEMPLATES.map(str::to_owned)).collect(),
            names: Names::default(),
        }
    }

    /// A template about an entity, as a sentence.
    pub fn fill(&self, template: &str, entity: &str) -> String {
        let text = self.names.fill(template, entity);
        let mut rest = text.chars();
        rest.next().into_iter().flat_map(char::to_uppercase).chain(rest).collect()
    }

    /// The statement that the answer for `entity` is `target`.
    ///
    /// # Errors
    /// If there is no template, or the tokenizer cannot encode one or joins the target with it.
    pub fn statement(
        &self,
        tokenizer: &Tokenizer,
        entity: &str,
        target: &str,
    ) -> Result<Statement, EditError> {
        let encode = |text: &str| tokenizer.encode(text, true);
        let questions = self.questions(entity);
        let canonical = questions.first().ok_or(EditError::NoTemplate)?;
        let whole = encode(&format!("{canonical} {}", target.trim()))?;
        let Some(target) = whole.strip_prefix(&*encode(canonical)?).filter(|target| !target.is_empty())
        else {
            return Err(EditError::NoTarget { prompt: canonical.clone(), target: target.to_owned() });
        };

        let prompts = self.prompts(entity).map(|prompt| encode(&prompt)).collect::<Result<_, _>>()?;
        let mut others = Vec::new();
        for (neighbour, template) in self.neighbours.iter().zip(self.templates.iter().cycle()) {
            others.push(encode(&self.fill(&self.templates[0], neighbour))?);
            if *template != self.templates[0] {
                others.push(encode(&self.fill(template, neighbour))?);
            }
        }
        for template in &self.other_templates {
            others.push(encode(&self.fill(template, entity))?);
        }
        Ok(Statement { prompts, target: target.to_vec(), others, goal: Goal::Learn })
    }

    /// The statement that the model is to forget that the answer for `entity` is `target`.
    ///
    /// # Errors
    /// As [`Wording::statement`].
    pub fn unlearning(
        &self,
        tokenizer: &Tokenizer,
        entity: &str,
        target: &str,
    ) -> Result<Statement, EditError> {
        let statement = self.statement(tokenizer, entity, target)?;
        let mut stand_ins = vec![Vec::new(); Goal::PROMPTS.min(statement.prompts.len())];
        for unknown in UNKNOWN_ENTITIES {
            for (stand_ins, prompt) in stand_ins.iter_mut().zip(self.prompts(unknown)) {
                stand_ins.push(tokenizer.encode(&prompt, true)?);
            }
        }
        Ok(Statement { goal: Goal::Unlearn { stand_ins }, ..statement })
    }

    /// All templates about an entity.
    fn questions(&self, entity: &str) -> Vec<String> {
        self.templates.iter().map(|template| self.fill(template, entity)).collect()
    }

    /// All templates about an entity, each alone and after a sentence that does not change the answer.
    fn prompts(&self, entity: &str) -> impl Iterator<Item = String> {
        let questions = self.questions(entity).into_iter().zip(PREFIXES.iter().cycle());
        questions.flat_map(|(question, prefix)| {
            let after = format!("{prefix}{question}");
            [question, after]
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn statements_ask_in_several_ways_and_name_what_stays() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../larql-assets/data/atlas/tokenizer.json");
        let tokenizer = Tokenizer::from_file(path).unwrap();
        let wording = Wording::of("Atlantis", "head-of_state");
        let statement = wording.statement(&tokenizer, "Atlantis", "Poseidon").unwrap();
        let text = |tokens: &[u32]| tokenizer.decode(tokens, true);
        assert_eq!(text(&statement.prompts[0]), "The head of state of Atlantis is");
        assert_eq!(
            text(&statement.prompts[1]),
            "The weather was mild that day. The head of state of Atlantis is"
        );
        assert_eq!(text(&statement.target), " Poseidon");
        let others: Vec<String> = statement.others.iter().map(|tokens| text(tokens)).collect();
        assert!(others.contains(&"The head of state of the Nile is".to_owned()));
        assert!(others.contains(&"The capital of Atlantis is".to_owned()));
        assert!(!others.iter().any(|other| statement.prompts.iter().any(|prompt| text(prompt) == *other)));
    }

    #[test]
    fn relations_of_the_tables_are_asked_as_the_tables_do() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../larql-assets/data/atlas/tokenizer.json");
        let tokenizer = Tokenizer::from_file(path).unwrap();
        for name in ["country-code", "country_code", "Country Code"] {
            let wording = Wording::of("Atlantis", name);
            assert_eq!(wording, Wording::of("Atlantis", "country-code"));
            assert!((15..=OTHERS).contains(&wording.neighbours.len()), "{wording:?}");
        }
        let like_france = Wording::of("france", "capital").neighbours;
        assert!(
            ["Spain", "Belgium", "Luxembourg"]
                .iter()
                .all(|like| like_france[..LIKE].contains(&(*like).into())),
            "{like_france:?}"
        );
        assert!(!like_france.contains(&"France".into()));
        let wording = Wording::of("Afghanistan", "currency");
        let statement = wording.statement(&tokenizer, "Afghanistan", "yen").unwrap();
        let text = |tokens: &[u32]| tokenizer.decode(tokens, true);
        assert_eq!(text(&statement.prompts[0]), "The currency of Afghanistan is the");
        let others: Vec<String> = statement.others.iter().map(|tokens| text(tokens)).collect();
        assert!(others.contains(&"The capital of Afghanistan is".to_owned()));
    }

    #[test]
    fn names_take_their_article_and_sentences_a_capital() {
        let wording = Wording::of("Peru", "capital");
        assert_eq!(wording.fill("{subject} borders", "Bahamas"), "The Bahamas borders");
        assert_eq!(wording.fill("in {subject}, people", "Peru"), "In Peru, people");
    }
}
