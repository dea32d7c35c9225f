//! Entity retrieval for DESCRIBE: combines feature activations with prompted questions.

use std::ops::Range;

use larql_inference::Model;
use larql_models::Tokenizer;
use larql_vindex::FeatureStore;
use larql_vindex::search::{
    DescribeOptions, Edge, EdgeOfFeatures, Firing, Via, Words, describe_with_features,
};

use super::batch::Beginnings;
use super::relations::AskableRelations;
use super::residual::{EntityResidual, ResidualRates, entity_tokens};
use crate::KnowledgeError;

/// A way to ask a model about an entity by running it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Tokens written by the features that activate at the entity's last token.
    Residual,
    /// The same, by what they contribute.
    Attribution,
    /// In words, for the relations that the entity seems to have; nothing where no relations are known.
    Contextual,
    /// In words, and then what fires that no relation names.
    Best,
}

/// Reads what a model knows.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its features.
    pub store: &'a dyn FeatureStore,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The words that features write.
    pub words: &'a Words,
    /// Rates with which features activate on anything.
    pub rates: &'a ResidualRates,
    /// Cached prefixes of questions.
    pub beginnings: &'a Beginnings,
    /// The relations that it can be asked about, if it was probed.
    pub relations: Option<&'a AskableRelations>,
}

impl Reader<'_> {
    /// The edges of an entity in some layers, strongest first, at most `limit`. That an entity evokes itself is left out.
    ///
    /// # Errors
    /// If the entity cannot be encoded, or what the way takes is not held.
    pub fn edges(
        &self,
        entity: &str,
        layers: Range<usize>,
        way: Way,
        limit: usize,
    ) -> Result<Vec<Edge>, KnowledgeError> {
        let edges = self.edges_with_features(entity, layers, way, limit)?;
        Ok(edges.into_iter().map(|(edge, _)| edge).collect())
    }

    /// As [`Reader::edges`], with the features of each edge.
    ///
    /// # Errors
    /// As [`Reader::edges`].
    pub fn edges_with_features(
        &self,
        entity: &str,
        layers: Range<usize>,
        way: Way,
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
        let mut edges = match (way, self.relations) {
            (Way::Attribution, _) => firing(Via::Attribution)?,
            (Way::Residual, _) | (Way::Best, None) => firing(Via::Residual)?,
            (Way::Contextual, None) => Vec::new(),
            (Way::Contextual | Way::Best, Some(relations)) => {
                let (model, tokenizer) = (self.model, self.tokenizer);
                relations.edges(model, tokenizer, self.beginnings, entity, &residual, layers.clone())?
            }
        };
        if way == Way::Best && self.relations.is_some() && edges.len() < limit {
            let mut evoked = firing(Via::Residual)?;
            evoked
                .retain(|(edge, _)| !edges.iter().any(|(e, _)| e.target.eq_ignore_ascii_case(&edge.target)));
            // Relations were asked about: what a feature carries for other entities says nothing about this one.
            evoked.iter_mut().for_each(|(edge, _)| (edge.relation, edge.source) = (None, None));
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
