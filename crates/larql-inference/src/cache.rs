//! The continuation state of a sequence: what attention remembers of its tokens.

use larql_compute::attention::KeyValues;
use larql_models::ModelSpec;

/// Keys and values of one sequence, for every layer that has its own.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(crate) layers: Vec<KeyValues>,
    pub(crate) length: usize,
}

impl Cache {
    /// An empty cache for a model.
    pub fn new(spec: &ModelSpec) -> Cache {
        let layers = spec.layers.iter().map(|layer| match &layer.attention {
            attention if attention.lender().is_some() => KeyValues::default(),
            attention => KeyValues::new(attention.kv_heads, attention.head_dim, attention.value_dim),
        });
        Cache { layers: layers.collect(), length: 0 }
    }

    /// Number of tokens seen.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no token was seen.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets every token from position `length` on.
    pub fn truncate(&mut self, length: usize) {
        for layer in &mut self.layers {
            layer.truncate(length);
        }
        self.length = self.length.min(length);
    }
}
