//! Edges that the conditions of DELETE and UPDATE mean: those that patches state, or else what the model itself knows.

use larql_core::Triple;
use larql_core::facts::Facts;
use larql_edit::Wording;
use larql_inference::{KeyValueCache, predictions};
use larql_knowledge::{Prompt, continuations, phrase, phrase_matches};
use larql_lql::ast::{Comparison, Condition, Field, Test, Value};
use larql_lql::output::{Record, UncertainAnswer};

use crate::common::condition::passes;
use crate::common::edges::{EdgeOptions, edges_with_features};
use crate::common::entries::{EntryKey, entry_key, is_same};
use crate::common::stated::{self, carried_edges, confidence_of};
use crate::common::wire;
use crate::{ChangeError, ExecuteError, Session, View};

/// Edges of an entity that conditions choose among.
const EDGES: usize = 1000;

/// Edge that a patch states.
pub(crate) struct StatedByPatch {
    pub(crate) edge: Triple,
    pub(crate) confidence: f64,
    pub(crate) carrier: Carrier,
}

/// Carrier of an edge that a patch states.
pub(crate) enum Carrier {
    /// Features of its own, by layer and number.
    Features(Vec<(usize, usize)>),
    /// Features that keep its words alone: it was solved for together with others.
    Solved(Vec<(usize, usize)>),
    /// An entry of the edge memory.
    Entry(EntryKey),
}

/// Edges that conditions mean. Where patches state some of them, the model's own are not looked for.
#[derive(Default)]
pub(crate) struct Meant {
    pub(crate) stated: Vec<StatedByPatch>,
    /// Edges that the model knows by itself.
    pub(crate) known: Vec<Triple>,
    /// Answers of the model that are too uncertain to count as knowledge.
    pub(crate) uncertain: Vec<UncertainAnswer>,
}

impl Meant {
    /// Finds the edges for a `statement`, DELETE or UPDATE.
    ///
    /// # Errors
    /// If the conditions name single features, or no entity where no patch states a matching edge.
    pub(crate) fn of(
        session: &Session,
        view: &View,
        statement: &'static str,
        conditions: &[Condition],
    ) -> Result<Meant, ExecuteError> {
        if let Some(condition) = conditions.iter().find(|condition| condition.field.value == Field::Feature) {
            return Err(ChangeError::FeatureCondition { statement, at: condition.field.span }.into());
        }
        let stated = stated_by_patches(view, conditions)?;
        if !stated.is_empty() {
            return Ok(Meant { stated, ..Meant::default() });
        }
        let Some(entities) = pinned_texts(conditions, Field::Entity) else {
            let at = conditions.first().map(|condition| condition.field.span).unwrap_or_default();
            return Err(ChangeError::NoEntity { statement, at }.into());
        };
        let mut meant = Meant::default();
        for entity in entities {
            session.check_cancelled()?;
            let asked = pinned_texts(conditions, Field::Relation).filter(|_| only_triples(conditions));
            let known = known_by_model(session, view, entity, conditions)?;
            match asked {
                Some(relations) => {
                    for relation in relations {
                        meant.ask(session, view, entity, relation, conditions, &known)?;
                    }
                }
                None => meant.known.extend(known),
            }
        }
        Ok(meant)
    }

    /// Adds what the model answers for an entity and a relation.
    fn ask(
        &mut self,
        session: &Session,
        view: &View,
        entity: &str,
        relation: &str,
        conditions: &[Condition],
        known: &[Triple],
    ) -> Result<(), ExecuteError> {
        if let Some(targets) = pinned_texts(conditions, Field::Target) {
            self.known.extend(targets.into_iter().map(|target| Triple::new(entity, relation, target)));
            return Ok(());
        }
        let mut of_relation = known.iter().filter(|edge| is_same(&edge.relation, relation)).peekable();
        if of_relation.peek().is_some() {
            self.known.extend(of_relation.cloned());
            return Ok(());
        }
        let Some(answer) = UsualAnswer::of(session, view, entity, relation)? else { return Ok(()) };
        let edge = Triple::new(entity, relation, &answer.text);
        let targets = Facts::shipped().targets_of(&relation.to_lowercase());
        let mut targets = targets.get(entity).into_iter().flatten();
        match answer.probability >= CERTAIN || targets.any(|target| phrase_matches(&answer.text, target)) {
            true => self.known.push(edge),
            false => self.uncertain.push(UncertainAnswer {
                entity: entity.to_owned(),
                relation: relation.to_owned(),
                says: answer.text,
                probability: answer.probability,
            }),
        }
        Ok(())
    }
}

/// Probability from which on an answer of which nothing else is known counts as knowledge.
const CERTAIN: f32 = 0.5;

/// Answer of the model after the usual wording.
struct UsualAnswer {
    text: String,
    /// Probability of the first token.
    probability: f32,
}

impl UsualAnswer {
    /// None if the answer is no phrase.
    fn of(
        session: &Session,
        view: &View,
        entity: &str,
        relation: &str,
    ) -> Result<Option<UsualAnswer>, ExecuteError> {
        let language = view.language()?.with_cancel(session.cancel_token());
        let wording = Wording::of(entity, relation);
        let Some(template) = wording.templates.first() else { return Ok(None) };
        let tokenizer = language.tokenizer();
        let tokens = tokenizer.encode(&wording.fill(template, entity), true)?;
        let mut state = KeyValueCache::new(language.model().spec());
        let logits = language.model().pass().last_logits(&mut state, &tokens)?;
        let probability = predictions(&logits, 1).first().map_or(0.0, |prediction| prediction.probability);
        let prompt = Prompt::new(tokenizer, &wording.names, template, entity)?;
        let prefixes = &view.reading(session.cancel_token())?.prefixes;
        let said = continuations(language.model(), tokenizer, prefixes, &[prompt])?;
        let text = said.first().and_then(|text| phrase(text)).map(str::to_owned);
        Ok(text.map(|text| UsualAnswer { text, probability }))
    }
}

/// The edges that patches state and that pass the conditions.
fn stated_by_patches(view: &View, conditions: &[Condition]) -> Result<Vec<StatedByPatch>, ExecuteError> {
    let overlay = view.overlay();
    let [own, solved] = carried_edges(overlay.edits());
    let by_features = |carrier: fn(Vec<(usize, usize)>) -> Carrier| {
        move |(edge, features): (Triple, Vec<(usize, usize)>)| {
            let confidence = confidence_of(overlay.edits(), &features).unwrap_or(1.0);
            StatedByPatch { edge, confidence, carrier: carrier(features) }
        }
    };
    let by_entries = overlay.knn().iter().map(|entry| StatedByPatch {
        edge: entry.triple.clone(),
        confidence: entry.confidence,
        carrier: Carrier::Entry(entry_key(entry)),
    });
    let own = own.into_iter().map(by_features(Carrier::Features));
    let solved = solved.into_iter().map(by_features(Carrier::Solved));
    let mut passing = Vec::new();
    for stated in own.chain(solved).chain(by_entries) {
        if passes(&stated.record(), conditions)? {
            passing.push(stated);
        }
    }
    Ok(passing)
}

impl StatedByPatch {
    /// The edge as SELECT shows it.
    fn record(&self) -> Record {
        let Triple { entity, relation, target } = &self.edge;
        let (layer, feature) = match &self.carrier {
            Carrier::Features(features) | Carrier::Solved(features) => {
                features.first().copied().unwrap_or_default()
            }
            Carrier::Entry((layer, ..)) => (*layer, 0),
        };
        let edge = stated::edge(Some(relation.clone()), target, layer, feature, self.confidence);
        Record::of_edge(entity, &wire::edge(edge))
    }
}

/// The edges with a relation that the model gives for an entity and that pass the conditions.
fn known_by_model(
    session: &Session,
    view: &View,
    entity: &str,
    conditions: &[Condition],
) -> Result<Vec<Triple>, ExecuteError> {
    let options = EdgeOptions { limit: EDGES, relations_only: true, in_words: true };
    let mut known = Vec::new();
    for (edge, _) in edges_with_features(session, view, entity, 0..view.layers(), options)? {
        let edge = wire::edge(edge);
        if let Some(relation) = &edge.relation
            && passes(&Record::of_edge(entity, &edge), conditions)?
        {
            known.push(Triple::new(entity, relation, &edge.target));
        }
    }
    Ok(known)
}

/// Returns true if the conditions ask for entity, relation and target alone.
fn only_triples(conditions: &[Condition]) -> bool {
    let fields = [Field::Entity, Field::Relation, Field::Target];
    conditions.iter().all(|condition| fields.contains(&condition.field.value))
}

/// The texts that a field must equal, by `=` or `IN`; none if no condition says so.
fn pinned_texts(conditions: &[Condition], field: Field) -> Option<Vec<&str>> {
    let of_field = conditions.iter().filter(|condition| condition.field.value == field);
    of_field.into_iter().find_map(|condition| match &condition.test {
        Test::Compare(Comparison::Equal, value) => text_of(&value.value).map(|text| vec![text]),
        Test::In(values) => values.iter().map(|value| text_of(&value.value)).collect(),
        Test::Compare(..) => None,
    })
}

fn text_of(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Integer(_) | Value::Number(_) => None,
    }
}
