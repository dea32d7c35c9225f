//! The edges of an entity, as patches state them and as the model gives them.

use std::ops::Range;

use larql_compute::Pool;
use larql_knowledge::{EntityResidual, KnowledgeReader, RetrievalMethod, entity_tokens};
use larql_lql::output::Edge;
use larql_vindex::Holdings;
use larql_vindex::search::{DescribeOptions, EdgeOfFeatures, Firing, Via, Words, describe_with_features};

use crate::View;
use crate::common::{stated, wire};
use crate::{ExecuteError, Session};

/// Selection of edges.
#[derive(Clone, Copy)]
pub(crate) struct EdgeOptions {
    pub(crate) limit: usize,
    pub(crate) relations_only: bool,
    /// True if the model is asked in words, where it was probed.
    pub(crate) in_words: bool,
}

/// Returns the edges of an entity in some layers, strongest first, to be shown.
pub(crate) fn edges_of(
    session: &Session,
    view: &View,
    entity: &str,
    layers: Range<usize>,
    options: EdgeOptions,
) -> Result<Vec<Edge>, ExecuteError> {
    let edges = edges_with_features(session, view, entity, layers, options)?;
    Ok(edges.into_iter().map(|(edge, _)| wire::edge(edge)).collect())
}

/// Returns the edges of an entity with the features of each, strongest first. What patches say of the entity comes first.
pub(crate) fn edges_with_features(
    session: &Session,
    view: &View,
    entity: &str,
    layers: Range<usize>,
    options: EdgeOptions,
) -> Result<Vec<EdgeOfFeatures>, ExecuteError> {
    let mut edges = stated::edges(view, entity, layers.clone());
    let mut found = if options.in_words && view.base().holdings().contains_all(&Holdings::PREDICTING) {
        asked(session, view, entity, layers, options)?
    } else {
        let fired = Fired::of(session, view, entity, layers)?;
        fired.map_or_else(Vec::new, |fired| fired.edges(session.pool(), view, &fired.firings, options))
    };
    found.retain(|edge| !edges.iter().any(|stated| stated::says_the_same(stated, edge)));
    edges.append(&mut found);
    edges.truncate(options.limit);
    Ok(edges)
}

/// More edges than any entity has relations.
const EVERY: usize = 1000;

/// The edges that the model gives when it is asked in words, and then what fires that no relation names.
fn asked(
    session: &Session,
    view: &View,
    entity: &str,
    layers: Range<usize>,
    options: EdgeOptions,
) -> Result<Vec<EdgeOfFeatures>, ExecuteError> {
    let language = &view.language()?.with_cancel(session.cancel_token());
    let reading = view.reading(session.cancel_token())?;
    let reader = KnowledgeReader {
        model: language.model(),
        store: view.overlay(),
        tokenizer: language.tokenizer(),
        words: view.words()?,
        rates: &reading.rates,
        prefixes: &reading.prefixes,
        relations: Some(view.askable(session.progress())?),
    };
    let limit = if options.relations_only { EVERY } else { options.limit };
    let mut edges = reader.edges_with_features(entity, layers, RetrievalMethod::Best, limit)?;
    edges.retain(|(edge, _)| !options.relations_only || edge.relation.is_some());
    Ok(edges)
}

/// The features that activate for an entity.
pub(crate) struct Fired<'a> {
    entity: &'a str,
    words: &'a Words,
    via: Via,
    pub(crate) firings: Vec<Firing>,
}

impl<'a> Fired<'a> {
    /// Asks by running the model where its weights are held, else by the entity's embedding. Nothing, if the entity is no token at all.
    pub(crate) fn of(
        session: &Session,
        view: &'a View,
        entity: &'a str,
        layers: Range<usize>,
    ) -> Result<Option<Fired<'a>>, ExecuteError> {
        let tokenizer = view.tokenizer()?;
        let tokens = entity_tokens(tokenizer, entity)?;
        if tokens.is_empty() {
            return Ok(None);
        }
        let (via, firings) = if view.base().holdings().contains_all(&Holdings::PREDICTING) {
            let via = Via::Residual;
            let language = &view.language()?.with_cancel(session.cancel_token());
            let rates = &view.reading(session.cancel_token())?.rates;
            let residual = EntityResidual::of(language.model(), tokenizer, &tokens)?;
            (via, residual.firings(language.model(), view.overlay(), rates, layers, via)?)
        } else {
            (Via::Embedding, view.overlay().embedding_firings(session.pool(), &tokens, layers)?)
        };
        Ok(Some(Fired { entity, words: view.words()?, via, firings }))
    }

    /// The edges that some of the firings show.
    pub(crate) fn edges(
        &self,
        pool: &Pool,
        view: &View,
        firings: &[Firing],
        options: EdgeOptions,
    ) -> Vec<EdgeOfFeatures> {
        let EdgeOptions { limit, relations_only, .. } = options;
        let options = DescribeOptions { limit: limit + 1, relations_only, via: self.via };
        let mut edges = describe_with_features(pool, view.overlay(), self.words, firings, options);
        // That an entity evokes itself says nothing about it.
        edges.retain(|(edge, _)| !edge.target.eq_ignore_ascii_case(self.entity.trim()));
        edges.truncate(limit);
        edges
    }
}
