//! Evaluation of reading: DESCRIBE, labels and SELECT against fact tables, on subjects and wordings that the probe never
//! saw.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::time::Instant;

use larql_compute::Pool;
use larql_core::facts::{Facts, Relation};
use larql_core::progress::{Meter, Progress, Stage};
use larql_inference::Model;
use larql_knowledge::{PrefixCache, Prompt, continuations, entity_tokens, phrase_matches};
use larql_models::Tokenizer;
use larql_vindex::search::{Edge, TokenTexts, Via, gate_knn_in_layers};
use larql_vindex::{FeatureStore, Vindex};
use serde::{Deserialize, Serialize};

use crate::error::EvalError;
use crate::share::Share;

/// The scores of one relation, or of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KnowledgeScore {
    /// The relation.
    pub relation: String,
    /// Facts whose object the model says first after at least one wording that only evaluations use.
    pub known: Share,
    /// Known objects among the ten strongest edges, for the default and for each way of asking alone, by name.
    pub recall: BTreeMap<String, Share>,
    /// Known facts found by default whose edge carries the right relation.
    pub relation_accuracy: Share,
    /// Labelled edges that are true.
    pub label_precision: Share,
    /// Edges of `SELECT entity, target FROM EDGES WHERE relation = …` about the subjects that are true.
    pub select_precision: Share,
    /// Known facts among those edges.
    pub select_recall: Share,
    /// Known facts for which any feature of the layers writes the object first.
    pub ceiling: Share,
}

/// Asks about one entity in one way: a name for the way, and the function that does it.
pub type NamedWay<'a> = (&'a str, &'a dyn Fn(&str) -> Result<Vec<Edge>, EvalError>);

/// Edges that count.
pub const STRONGEST: usize = 10;
/// Tokens that go through the model together.
const TOKENS: usize = 512;

/// For each relation and subject the objects that the model knows.
pub type Known = BTreeMap<(String, String), Vec<String>>;

/// Finds the facts that a model knows: the object comes first after at least one of the wordings that only evaluations use.
///
/// # Errors
/// If a sentence cannot be encoded, or the evaluation is cancelled.
pub fn known_facts(
    model: &Model,
    tokenizer: &Tokenizer,
    facts: &Facts,
    progress: &dyn Progress,
) -> Result<Known, EvalError> {
    let model = &model.with_cancel(progress.cancel_token());
    let mut questions: Vec<(&Relation, &str, Vec<&str>)> = Vec::new();
    for relation in facts.relations() {
        let objects = facts.targets_of(&relation.name);
        questions.extend(objects.into_iter().map(|(subject, objects)| (relation, subject, objects)));
    }
    let mut known = Known::new();
    let prefixes = PrefixCache::default();
    let (mut prompts, mut asked) = (Vec::new(), Vec::new());
    let mut meter = Meter::new(progress, Stage::Asking, questions.len() as u64);
    for (done, question) in questions.iter().enumerate() {
        meter.set_done(done as u64)?;
        for wording in &question.0.forward.held_out {
            prompts.push(Prompt::new(tokenizer, facts.names(), wording, question.1)?);
            asked.push(question);
        }
        if prompts.iter().map(|prompt| prompt.own_tokens()).sum::<usize>() >= TOKENS
            || done + 1 == questions.len()
        {
            let (prompts, asked) = (std::mem::take(&mut prompts), std::mem::take(&mut asked));
            for ((relation, subject, objects), text) in
                asked.into_iter().zip(continuations(model, tokenizer, &prefixes, &prompts)?)
            {
                for object in objects.iter().filter(|object| phrase_matches(without_article(&text), object)) {
                    let known = known.entry((relation.name.clone(), (*subject).to_owned())).or_default();
                    if !known.iter().any(|known| known == object) {
                        known.push((*object).to_owned());
                    }
                }
            }
        }
    }
    Ok(known)
}

fn without_article(text: &str) -> &str {
    let text = text.trim_start();
    text.strip_prefix("the ").unwrap_or(text)
}

/// Scores ways of asking by the facts that the model knows; the first way is the default. The last of the scores is that of
/// all relations together.
///
/// # Errors
/// That of the first way that fails; [`EvalError::Cancelled`] if the evaluation is cancelled.
pub fn score(
    facts: &Facts,
    known: &Known,
    ways: &[NamedWay<'_>],
    written: &HashSet<String>,
    progress: &dyn Progress,
) -> Result<Vec<KnowledgeScore>, EvalError> {
    let mut scores: BTreeMap<&str, KnowledgeScore> = BTreeMap::new();
    let mut true_edges: HashSet<(&str, &str, String)> = HashSet::new();
    for fact in facts.iter() {
        true_edges.insert((&fact.entity, &fact.relation, fact.target.to_lowercase()));
        let objects = known.get(&(fact.relation.clone(), fact.entity.clone()));
        let score = scores.entry(&fact.relation).or_default();
        score.known.add(objects.is_some_and(|objects| objects.contains(&fact.target)));
    }
    let subjects: BTreeSet<&str> = facts.iter().map(|fact| &*fact.entity).collect();
    let mut meter = Meter::new(progress, Stage::Describing, subjects.len() as u64);
    for (done, subject) in subjects.iter().enumerate() {
        meter.set_done(done as u64)?;
        for (index, (name, way)) in ways.iter().enumerate() {
            let edges = way(subject)?;
            let strongest = &edges[..edges.len().min(STRONGEST)];
            for (relation, object) in known_of(known, subject) {
                let Some(score) = scores.get_mut(relation) else { continue };
                let matching: Vec<&Edge> =
                    strongest.iter().filter(|edge| phrase_matches(&edge.target, object)).collect();
                score.recall.entry((*name).to_owned()).or_default().add(!matching.is_empty());
                if index == 0 {
                    let says = |edge: &Edge| {
                        edge.relation.as_deref() == Some(relation) && phrase_matches(&edge.target, object)
                    };
                    score.select_recall.add(edges.iter().any(says));
                    score.ceiling.add(written.contains(&object.to_lowercase()));
                    if !matching.is_empty() {
                        let right = |edge: &&Edge| edge.relation.as_deref() == Some(relation);
                        score.relation_accuracy.add(matching.iter().any(right));
                    }
                }
            }
            if index == 0 {
                for edge in &edges {
                    let Some(relation) = edge.relation.as_deref() else { continue };
                    let Some(score) = scores.get_mut(relation) else { continue };
                    let is_true = true_edges
                        .iter()
                        .any(|(s, r, o)| s == subject && *r == relation && phrase_matches(&edge.target, o));
                    // Whether "table" has an opposite, no table says.
                    if is_true || facts.denies(subject, relation) || lists(facts, subject, relation) {
                        score.label_precision.add(is_true);
                    }
                    // SELECT is asked about the subjects that have the relation.
                    if lists(facts, subject, relation) {
                        score.select_precision.add(is_true);
                    }
                }
            }
        }
    }
    let mut total = KnowledgeScore { relation: "all".into(), ..Default::default() };
    let mut all = Vec::new();
    for (relation, mut score) in scores {
        score.relation = relation.to_owned();
        total.include(&score);
        all.push(score);
    }
    all.push(total);
    Ok(all)
}

/// Reports that the facts name an object of the relation for the subject.
fn lists(facts: &Facts, subject: &str, relation: &str) -> bool {
    facts.iter().any(|fact| fact.entity == subject && fact.relation == relation)
}

/// Known facts of a subject, as relation and object.
fn known_of<'a>(known: &'a Known, subject: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let own = known.iter().filter(move |((_, of), _)| of == subject);
    own.flat_map(|((relation, _), objects)| objects.iter().map(move |object| (&**relation, &**object)))
}

impl KnowledgeScore {
    fn include(&mut self, other: &KnowledgeScore) {
        let add = |to: &mut Share, from: &Share| {
            to.hits += from.hits;
            to.of += from.of;
        };
        add(&mut self.known, &other.known);
        add(&mut self.relation_accuracy, &other.relation_accuracy);
        add(&mut self.label_precision, &other.label_precision);
        add(&mut self.ceiling, &other.ceiling);
        add(&mut self.select_precision, &other.select_precision);
        add(&mut self.select_recall, &other.select_recall);
        for (way, recall) in &other.recall {
            add(self.recall.entry(way.clone()).or_default(), recall);
        }
    }
}

/// The words, in lower case, that features of some layers write first.
pub fn written_words(
    store: &dyn FeatureStore,
    tokenizer: &Tokenizer,
    layers: Range<usize>,
) -> HashSet<String> {
    let features = layers.flat_map(|layer| (0..store.features(layer)).map(move |feature| (layer, feature)));
    features
        .filter_map(|(layer, feature)| {
            let mut tokens = store.top_tokens(layer, feature);
            tokens.find_map(|token| tokenizer.word(token.token)).map(|word| word.trim().to_lowercase())
        })
        .collect()
}

/// Baseline without norms, noise rules and relations: the gate rows that match the entity's plain average embedding best,
/// and the token that each writes most.
///
/// # Errors
/// If the entity cannot be encoded.
pub fn raw_embedding_edges(
    vindex: &Vindex,
    pool: &Pool,
    tokenizer: &Tokenizer,
    entity: &str,
    layers: Range<usize>,
) -> Result<Vec<Edge>, EvalError> {
    let query = vindex.embedding_query(&entity_tokens(tokenizer, entity)?)?;
    let mut edges: Vec<Edge> = Vec::new();
    for hit in gate_knn_in_layers(vindex, pool, layers, &query, STRONGEST) {
        let Some(token) = vindex.top_tokens(hit.layer, hit.feature).next().map(|top| top.token) else {
            continue;
        };
        let target = tokenizer.token_text(token).unwrap_or_default().trim().to_owned();
        if edges.iter().any(|edge| edge.target == target && edge.gate >= hit.gate.abs()) {
            continue;
        }
        edges.retain(|edge| edge.target != target);
        edges.push(Edge {
            relation: None,
            target,
            gate: hit.gate.abs(),
            layer: hit.layer,
            layer_max: hit.layer,
            feature: hit.feature,
            count: 1,
            source: None,
            via: Via::Embedding,
            confidence: None,
            also: Vec::new(),
        });
    }
    edges.sort_by(|a, b| b.gate.total_cmp(&a.gate));
    Ok(edges)
}

/// The median of the seconds that something takes for each of some subjects, after one round that does not count.
///
/// # Errors
/// That of the first call that fails.
pub fn median_seconds(
    subjects: &[&str],
    mut of: impl FnMut(&str) -> Result<(), EvalError>,
) -> Result<f64, EvalError> {
    let mut seconds = Vec::new();
    for round in 0..2 {
        for subject in subjects {
            let started = Instant::now();
            of(subject)?;
            if round > 0 {
                seconds.push(started.elapsed().as_secs_f64());
            }
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds.get(seconds.len() / 2).copied().unwrap_or(0.0))
}
