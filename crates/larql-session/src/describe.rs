//! DESCRIBE: what an entity evokes, band by band.

use std::ops::Range;

use larql_compute::Pool;
use larql_inference::{EntityResidual, Reader, Way, entity_tokens};
use larql_lql::ast::{Describe, Detail, Scope, Subject};
use larql_lql::output::{BandEdges, Described, Output};
use larql_vindex::search::{
    DescribeOptions, Edge, EdgeOfFeatures, Firing, Via, Words, describe_with_features,
};
use larql_vindex_spec::ExtractLevel;

use crate::target::OpenVindex;
use crate::{ExecuteError, Session, patched};

const LIMIT: usize = 20;

pub(crate) fn run(session: &Session, statement: &Describe) -> Result<Output, ExecuteError> {
    let question = Question::of(session, statement)?;
    let mut bands = Vec::new();
    for (band, layers) in question.bands.iter().cloned() {
        // What a model says when it is asked is knowledge, whatever layers carry it.
        let in_words = matches!(band, Scope::Knowledge | Scope::All) && statement.detail != Some(Detail::Raw);
        let options = EdgeOptions { in_words, ..question.options };
        let edges = edges_of(session, question.open, question.entity, layers.clone(), options)?;
        bands.push(BandEdges { band, layer: layers.start, layer_max: layers.end - 1, edges });
    }
    Ok(answer(statement, &question, bands))
}

/// Hands on the edges of each layer that has some as an answer of their own, in the order of the layers; one answer
/// without edges if no layer has any.
pub(crate) fn stream(
    session: &Session,
    statement: &Describe,
    emit: &mut dyn FnMut(Output),
) -> Result<(), ExecuteError> {
    let question = Question::of(session, statement)?;
    let mut found = false;
    for (band, layers) in question.bands.iter().cloned() {
        let Some(fired) = Fired::of(session, question.open, question.entity, layers)? else { continue };
        for firing in &fired.firings {
            session.go_on()?;
            let edges =
                fired.edges(&session.pool, question.open, std::slice::from_ref(firing), question.options);
            let edges: Vec<Edge> = edges.into_iter().map(|(edge, _)| edge).collect();
            if !edges.is_empty() {
                found = true;
                let layer = BandEdges { band, layer: firing.layer, layer_max: firing.layer, edges };
                emit(answer(statement, &question, vec![layer]));
            }
        }
    }
    if !found {
        emit(answer(statement, &question, Vec::new()));
    }
    Ok(())
}

fn answer(statement: &Describe, question: &Question<'_>, bands: Vec<BandEdges>) -> Output {
    let asks_gates = |band: &&BandEdges| band.edges.first().is_some_and(|edge| edge.via == Via::Embedding);
    let gates = |band: &BandEdges| question.open.approximate_gates(band.layer..band.layer_max + 1);
    Output::Describe(Described {
        entity: question.entity.to_owned(),
        detail: statement.detail.unwrap_or(Detail::Verbose),
        approximate_in: bands.iter().filter(asks_gates).find_map(gates),
        bands,
    })
}

/// What a statement asks, where.
struct Question<'a> {
    open: &'a OpenVindex,
    entity: &'a str,
    /// None of them empty.
    bands: Vec<(Scope, Range<usize>)>,
    options: EdgeOptions,
}

impl<'a> Question<'a> {
    fn of(session: &'a Session, statement: &'a Describe) -> Result<Question<'a>, ExecuteError> {
        let open = session.vindex("DESCRIBE")?;
        let Subject::Text(entity) = &statement.entity else { return Err(ExecuteError::NothingPiped) };
        let mut bands = bands_of(open, statement)?;
        bands.retain(|(_, layers)| !layers.is_empty());
        let options = EdgeOptions {
            limit: statement.limit.map_or(LIMIT, |limit| limit.value),
            relations_only: statement.relations_only,
            in_words: false,
        };
        Ok(Question { open, entity: &entity.value, bands, options })
    }
}

/// The bands to show, in order.
fn bands_of(open: &OpenVindex, statement: &Describe) -> Result<Vec<(Scope, Range<usize>)>, ExecuteError> {
    if let Some(layer) = statement.layer {
        let layer = open.layer(layer)?;
        return Ok(vec![(open.band(layer).unwrap_or(Scope::All), layer..layer + 1)]);
    }
    let [syntax, knowledge, output] = open.bands();
    Ok(match statement.scope {
        None => vec![knowledge, output],
        Some(Scope::Syntax) => vec![syntax],
        Some(Scope::Knowledge) => vec![knowledge],
        Some(Scope::Output) => vec![output],
        Some(Scope::All) => vec![syntax, knowledge, output],
    })
}

/// Which edges are wanted.
#[derive(Clone, Copy)]
pub(crate) struct EdgeOptions {
    pub(crate) limit: usize,
    pub(crate) relations_only: bool,
    /// Whether the model is asked in words, where it was probed.
    pub(crate) in_words: bool,
}

/// The edges of an entity in some layers, strongest first.
pub(crate) fn edges_of(
    session: &Session,
    open: &OpenVindex,
    entity: &str,
    layers: Range<usize>,
    options: EdgeOptions,
) -> Result<Vec<Edge>, ExecuteError> {
    let edges = edges_with_features(session, open, entity, layers, options)?;
    Ok(edges.into_iter().map(|(edge, _)| edge).collect())
}

/// As [`edges_of`], with the features of each edge. What patches say of the entity comes first.
pub(crate) fn edges_with_features(
    session: &Session,
    open: &OpenVindex,
    entity: &str,
    layers: Range<usize>,
    options: EdgeOptions,
) -> Result<Vec<EdgeOfFeatures>, ExecuteError> {
    let mut edges = patched::edges(open, entity, layers.clone());
    let mut found = if options.in_words && open.vindex.level() >= ExtractLevel::Inference {
        asked(session, open, entity, layers, options)?
    } else {
        let fired = Fired::of(session, open, entity, layers)?;
        fired.map_or_else(Vec::new, |fired| fired.edges(&session.pool, open, &fired.firings, options))
    };
    found.retain(|edge| !edges.iter().any(|stated| patched::says_the_same(stated, edge)));
    edges.append(&mut found);
    edges.truncate(options.limit);
    Ok(edges)
}

/// More edges than any entity has relations.
const EVERY: usize = 1000;

/// The edges that the model gives when it is asked in words, and then what fires that no relation names.
fn asked(
    session: &Session,
    open: &OpenVindex,
    entity: &str,
    layers: Range<usize>,
    options: EdgeOptions,
) -> Result<Vec<EdgeOfFeatures>, ExecuteError> {
    let language = session.language_of(open)?;
    let asking = session.asking_of(open, language)?;
    let reader = Reader {
        model: language.model(),
        store: &open.vindex,
        tokenizer: language.tokenizer(),
        words: open.words()?,
        rates: &asking.rates,
        beginnings: &asking.beginnings,
        relations: asking.relations.as_ref(),
    };
    let limit = if options.relations_only { EVERY } else { options.limit };
    let mut edges = reader.edges_with_features(entity, layers, Way::Best, limit)?;
    edges.retain(|(edge, _)| !options.relations_only || edge.relation.is_some());
    Ok(edges)
}

/// What fires for an entity.
struct Fired<'a> {
    entity: &'a str,
    words: &'a Words,
    via: Via,
    firings: Vec<Firing>,
}

impl<'a> Fired<'a> {
    /// Asks by running the model where its weights are held, else by the entity's embedding. Nothing, if the entity is no token at all.
    fn of(
        session: &Session,
        open: &'a OpenVindex,
        entity: &'a str,
        layers: Range<usize>,
    ) -> Result<Option<Fired<'a>>, ExecuteError> {
        let tokenizer = open.tokenizer()?;
        let tokens = entity_tokens(&tokenizer, entity)?;
        if tokens.is_empty() {
            return Ok(None);
        }
        let (via, firings) = if open.vindex.level() >= ExtractLevel::Inference {
            let via = Via::Residual;
            let language = session.language_of(open)?;
            let rates = &session.asking_of(open, language)?.rates;
            let residual = EntityResidual::of(language.model(), &tokenizer, &tokens)?;
            (via, residual.firings(language.model(), &open.vindex, rates, layers, via)?)
        } else {
            (Via::Embedding, open.vindex.embedding_firings(&session.pool, &tokens, layers)?)
        };
        Ok(Some(Fired { entity, words: open.words()?, via, firings }))
    }

    /// The edges that some of the firings amount to.
    fn edges(
        &self,
        pool: &Pool,
        open: &OpenVindex,
        firings: &[Firing],
        options: EdgeOptions,
    ) -> Vec<EdgeOfFeatures> {
        let EdgeOptions { limit, relations_only, .. } = options;
        let options = DescribeOptions { limit: limit + 1, relations_only, via: self.via };
        let mut edges = describe_with_features(pool, &open.vindex, self.words, firings, options);
        // That an entity evokes itself says nothing about it.
        edges.retain(|(edge, _)| !edge.target.eq_ignore_ascii_case(self.entity.trim()));
        edges.truncate(limit);
        edges
    }
}
