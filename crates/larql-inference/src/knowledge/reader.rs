//! DESCRIBE's retrieval: the edges of an entity, found in one way or in the best that there is.

use std::ops::Range;

use larql_models::Tokenizer;
use larql_vindex::FeatureStore;
use larql_vindex::search::{DescribeOptions, Edge, Firing, Via, describe};

use super::batch::Beginnings;
use super::relations::AskableRelations;
use super::residual::{EntityResidual, ResidualRates, entity_tokens};
use crate::{InferenceError, Model};

/// A way to ask a model about an entity by running it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What the features write that fire at the entity's last token.
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
    /// How often features fire for anything.
    pub rates: &'a ResidualRates,
    /// What the model remembers of how questions begin.
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
    ) -> Result<Vec<Edge>, InferenceError> {
        let entity = entity.trim();
        let tokens = entity_tokens(self.tokenizer, entity)?;
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let residual = EntityResidual::of(self.model, self.tokenizer, &tokens)?;
        let firings = |way| -> Result<Vec<Edge>, InferenceError> {
            let (firings, via) = match way {
                Way::Attribution => {
                    (residual.attributions(self.model, self.store, self.rates, layers.clone())?, Via::Attribution)
                }
                _ => (residual.firings(self.model, self.store, self.rates, layers.clone())?, Via::Residual),
            };
            Ok(self.firing_edges(entity, &firings, via, limit))
        };
        let contextual = || match self.relations {
            Some(relations) => {
                let input = &residual.inputs[relations.kinds.layer];
                relations.edges(self.model, self.tokenizer, self.beginnings, entity, input, layers.clone())
            }
            None => Ok(Vec::new()),
        };
        let mut edges = match way {
            Way::Residual | Way::Attribution => firings(way)?,
            Way::Contextual => contextual()?,
            Way::Best => {
                let mut edges = contextual()?;
                let evoked = firings(Way::Residual)?.into_iter();
                let evoked: Vec<Edge> = evoked
                    .filter(|edge| !edges.iter().any(|known| known.target.eq_ignore_ascii_case(&edge.target)))
                    .collect();
                edges.extend(evoked);
                edges
            }
        };
        edges.truncate(limit);
        Ok(edges)
    }

    fn firing_edges(&self, entity: &str, firings: &[Firing], via: Via, limit: usize) -> Vec<Edge> {
        let options = DescribeOptions { limit: limit + 1, relations_only: false, via };
        let mut edges = describe(self.store, self.tokenizer, firings, options);
        edges.retain(|edge| !edge.target.eq_ignore_ascii_case(entity));
        edges
    }
}
