//! The edges of an entity, as patches state them and as the model gives them.

use std::ops::Range;

use larql_compute::Pool;
use larql_knowledge::{EntityResidual, Reader, Way, entity_tokens};
use larql_vindex::search::{
    DescribeOptions, Edge, EdgeOfFeatures, Firing, Via, Words, describe_with_features,
};
use larql_vindex_spec::ExtractLevel;

use crate::common::stated;
use crate::target::OpenVindex;
use crate::{ExecuteError, Session};

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
    let mut edges = stated::edges(open, entity, layers.clone());
    let mut found = if options.in_words && open.vindex.level() >= ExtractLevel::Inference {
        asked(session, open, entity, layers, options)?
    } else {
        let fired = Fired::of(session, open, entity, layers)?;
        fired.map_or_else(Vec::new, |fired| fired.edges(&session.pool, open, &fired.firings, options))
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
    pub(crate) fn edges(
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
