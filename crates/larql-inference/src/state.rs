//! State of a sequence between passes: keys and values of its tokens, held in memory or elsewhere.

use std::error::Error;

use larql_compute::Precision;
use larql_compute::attention::{KeyValueView, KeyValues};
use larql_models::ModelSpec;

/// Error of a sequence state's own.
pub type StateError = Box<dyn Error + Send + Sync>;

/// State of one sequence, which a pass reads and grows.
///
/// A pass appends the keys and values of its tokens layer by layer. They are visible at once, but count only when the pass
/// commits them; a pass that fails rolls them back.
pub trait SequenceState: Send {
    /// Number of committed tokens.
    fn len(&self) -> usize;

    /// Returns true if no token is committed.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the keys and values of new tokens to a layer, without committing them. `precision` is that of the pass.
    ///
    /// # Errors
    /// If they cannot be stored.
    fn append(
        &mut self,
        layer: usize,
        new: NewKeysAndValues<'_>,
        precision: Precision,
    ) -> Result<(), StateError>;

    /// The keys and values of a layer, those that are not yet committed included.
    fn view(&self, layer: usize) -> &dyn KeyValueView;

    /// Commits the `tokens` that were appended to the layers since the last commit.
    fn commit(&mut self, tokens: usize);

    /// Forgets everything appended since the last commit.
    fn rollback(&mut self);

    /// Forgets every token from position `length` on, and whatever is not committed.
    ///
    /// # Errors
    /// If this state cannot go back so far.
    fn truncate(&mut self, length: usize) -> Result<(), StateError>;
}

/// Keys and values of new tokens in one layer, rotated.
#[derive(Clone, Copy, Debug)]
pub struct NewKeysAndValues<'a> {
    /// `[tokens, kv_heads * head_dim]`
    pub keys: &'a [f32],
    /// `[tokens, kv_heads * value_dim]`
    pub values: &'a [f32],
}

/// Keys and values of every token of a sequence, in memory, for every layer that has its own.
#[derive(Clone, Debug)]
pub struct KeyValueCache {
    layers: Vec<KeyValues>,
    length: usize,
}

impl KeyValueCache {
    /// An empty cache for a model.
    pub fn new(spec: &ModelSpec) -> KeyValueCache {
        let layers = spec.layers.iter().map(|layer| match &layer.attention {
            attention if attention.lender().is_some() => KeyValues::default(),
            attention => KeyValues::new(attention.kv_heads, attention.head_dim, attention.value_dim),
        });
        KeyValueCache { layers: layers.collect(), length: 0 }
    }

    /// Number of committed tokens.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns true if no token is committed.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets every token from position `length` on, and whatever is not committed.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
        for layer in &mut self.layers {
            layer.truncate(self.length);
        }
    }
}

impl SequenceState for KeyValueCache {
    fn len(&self) -> usize {
        self.length
    }

    fn append(
        &mut self,
        layer: usize,
        new: NewKeysAndValues<'_>,
        precision: Precision,
    ) -> Result<(), StateError> {
        self.layers[layer].append(new.keys, new.values, precision);
        Ok(())
    }

    fn view(&self, layer: usize) -> &dyn KeyValueView {
        &self.layers[layer]
    }

    fn commit(&mut self, tokens: usize) {
        self.length += tokens;
    }

    fn rollback(&mut self) {
        self.truncate(self.length);
    }

    fn truncate(&mut self, length: usize) -> Result<(), StateError> {
        KeyValueCache::truncate(self, length);
        Ok(())
    }
}
