//! Entity retrieval for DESCRIBE: combines feature activations with prompted questions.

use std::ops::Range;

use larql_inference::Model;
use larql_models::Tokenizer;
use larql_vindex::search::{
    DescribeOptions, Edge, EdgeOfFeatures, Firing, Via, Words, describe_with_features,
};
use larql_vindex::{FeatureStore, LabelSource};

use super::batch::PrefixCache;
use super::relations::AskableRelations;
use super::residual::{EntityResidual, ResidualRates, entity_tokens};
use crate::KnowledgeError;

/// Method of retrieving the edges of an entity by running the model.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetrievalMethod {
    /// Tokens written by the features that activate at the entity's last token.
    Residual,
    /// The same, by contribution.
    Attribution,
    /// Answers to prompted questions, for the relations that are predicted for the entity; nothing without known relations.
    Contextual,
    /// Answers to prompted questions, followed by tokens of features that no relation names.
    Best,
}

/// Entity retrieval from a model and its features.
#[derive(Clone, Copy)]
pub struct KnowledgeReader<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its features.
    pub store: &'a dyn FeatureStore,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Words that features write.
    pub words: &'a Words,
    /// Rates with which features activate on anything.
    pub rates: &'a ResidualRates,
    /// Cached prefixes of questions.
    pub prefixes: &'a PrefixCache,
    /// Relations that it can be asked about, from a probe or by what ships; none to ask nothing.
    pub relations: Option<&'a AskableRelations>,
}

impl KnowledgeReader<'_> {
    /// Returns the edges of an entity in some layers, strongest first, at most `limit`, without those to the entity itself.
    ///
    /// # Errors
    /// If the entity cannot be encoded, the model cannot be run, or the store does not hold activations.
    pub fn edges(
        &self,
        entity: &str,
        layers: Range<usize>,
        method: RetrievalMethod,
        limit: usize,
    ) -> Result<Vec<Edge>, KnowledgeError> {
        let edges = self.edges_with_features(entity, layers, method, limit)?;
        Ok(edges.into_iter().map(|(edge, _)| edge).collect())
    }

    /// As [`KnowledgeReader::edges`], with the features of each edge.
    ///
    /// # Errors
    /// As [`KnowledgeReader::edges`].
    pub fn edges_with_features(
        &self,
        entity: &str,
        layers: Range<usize>,
        method: RetrievalMethod,
        limit: usize,
    ) -> Result<Vec<EdgeOfFeatures>, KnowledgeError> {
        let entity = entity.trim();
        let tokens = entity_tokens(self.tokenizer, entity)?;
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let residual = EntityResidual::of(self.model, self.tokenizer, &tokens)?;
        let firing = |via: Via| -> Result<Vec<EdgeOfFeatures>, KnowledgeError> {
            let firings = residual.firings(self.model, self.store, self.rates, layers.clone(), via)?;
            Ok(self.firing_edges(entity, &firings, via, limit))
        };
        let mut edges = match (method, self.relations) {
            (RetrievalMethod::Attribution, _) => firing(Via::Attribution)?,
            (RetrievalMethod::Residual, _) | (RetrievalMethod::Best, None) => firing(Via::Residual)?,
            (RetrievalMethod::Contextual, None) => Vec::new(),
            (RetrievalMethod::Contextual | RetrievalMethod::Best, Some(relations)) => {
                let (model, tokenizer) = (self.model, self.tokenizer);
                relations.edges(model, tokenizer, self.prefixes, entity, &residual, layers.clone())?
            }
        };
        if method == RetrievalMethod::Best && self.relations.is_some() && edges.len() < limit {
            let mut evoked = firing(Via::Residual)?;
            evoked
                .retain(|(edge, _)| !edges.iter().any(|(e, _)| e.target.eq_ignore_ascii_case(&edge.target)));
            // Relations were asked about: what a feature carries for other entities says nothing about this one.
            if self.relations.is_some_and(|relations| relations.source == LabelSource::Probe) {
                evoked.iter_mut().for_each(|(edge, _)| (edge.relation, edge.source) = (None, None));
            }
            edges.append(&mut evoked);
        }
        edges.truncate(limit);
        Ok(edges)
    }

    fn firing_edges(&self, entity: &str, firings: &[Firing], via: Via, limit: usize) -> Vec<EdgeOfFeatures> {
        let options = DescribeOptions { limit: limit + 1, relations_only: false, via };
        let mut edges = describe_with_features(self.model.pool(), self.store, self.words, firings, options);
        edges.retain(|(edge, _)| !edge.target.eq_ignore_ascii_case(entity));
        edges
    }
}
