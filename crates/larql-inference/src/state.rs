//! State of a sequence between passes: keys and values of its tokens, held in memory or elsewhere.

use std::error::Error;
use std::ops::Range;

use larql_compute::Precision;
use larql_compute::attention::{KeyValueFormat, KeyValueView, KeyValues};
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

/// Failure to copy keys and values from one cache to another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The caches are not of one model.
    #[error(
        "the caches are of models with different heads or layers; a cache takes keys and values of its own model only"
    )]
    OtherModel,
    /// There is no layer of that number.
    #[error("layer {layer} does not exist; there are {layers}, numbered from 0")]
    NoSuchLayer {
        /// The layer.
        layer: usize,
        /// Number of layers.
        layers: usize,
    },
    /// The layer reads the keys and values of another one.
    #[error(
        "layer {layer} has no keys and values of its own; it reads those of layer {lender}, which can be copied"
    )]
    Borrowed {
        /// The layer.
        layer: usize,
        /// The layer whose keys and values it reads.
        lender: usize,
    },
    /// One of the caches is shorter.
    #[error("positions up to {end} are asked for; the cache holds {own} tokens and the donor {donor}")]
    Short {
        /// End of the positions.
        end: usize,
        /// Tokens of the cache.
        own: usize,
        /// Tokens of the donor.
        donor: usize,
    },
}

/// Keys and values of every token of a sequence, in memory, for every layer that has its own.
#[derive(Clone, Debug)]
pub struct KeyValueCache {
    layers: Vec<KeyValues>,
    /// For each layer the one whose keys and values it reads, if they are not its own.
    lenders: Vec<Option<usize>>,
    length: usize,
}

impl KeyValueCache {
    /// An empty cache for a model.
    pub fn new(spec: &ModelSpec) -> KeyValueCache {
        let layers = spec.layers.iter().map(|layer| match &layer.attention {
            attention if attention.lender().is_some() => KeyValues::default(),
            attention => KeyValues::new(attention.kv_heads, attention.head_dim, attention.value_dim),
        });
        let lenders = spec.layers.iter().map(|layer| layer.attention.lender());
        KeyValueCache { layers: layers.collect(), lenders: lenders.collect(), length: 0 }
    }

    /// Returns an empty cache for the same model, with keys and values in `format`.
    pub fn with_format(self, format: KeyValueFormat) -> KeyValueCache {
        let layers = self.layers.into_iter().map(|layer| layer.with_format(format)).collect();
        KeyValueCache { layers, length: 0, ..self }
    }

    /// Returns true if the cache is of a model with the same heads in the same layers, so that a pass of it can go on with the
    /// cache.
    pub fn fits(&self, spec: &ModelSpec) -> bool {
        self.is_like(&KeyValueCache::new(spec))
    }

    fn is_like(&self, other: &KeyValueCache) -> bool {
        let shapes = |cache: &KeyValueCache| cache.layers.iter().map(KeyValueView::shape).collect::<Vec<_>>();
        self.lenders == other.lenders && shapes(self) == shapes(other)
    }

    /// Replaces the keys and values of a layer at `positions` by those that `donor` has at the same positions. Keys are rotated
    /// by their positions, so they have a meaning at no others.
    ///
    /// # Errors
    /// If the caches are of different models, the layer has no keys of its own, or one of the caches is shorter. Nothing is
    /// copied then.
    pub fn copy_layer(
        &mut self,
        donor: &KeyValueCache,
        layer: usize,
        positions: Range<usize>,
    ) -> Result<(), CopyError> {
        if !self.is_like(donor) {
            return Err(CopyError::OtherModel);
        }
        let (own, end) = (self.length, positions.end);
        match self.lenders.get(layer) {
            None => return Err(CopyError::NoSuchLayer { layer, layers: self.layers.len() }),
            Some(Some(lender)) => return Err(CopyError::Borrowed { layer, lender: *lender }),
            Some(None) => {}
        }
        if end > own.min(donor.length) {
            return Err(CopyError::Short { end, own, donor: donor.length });
        }
        self.layers[layer].copy_positions(&donor.layers[layer], positions);
        Ok(())
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
