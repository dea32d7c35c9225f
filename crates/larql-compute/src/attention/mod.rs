//! Softmax attention of new tokens over the keys and values of a sequence.
//!
//! [`attend`] is the fast way: it never holds all weights at once. [`attention_pattern`] and [`mix_values`] compute the same in
//! two steps, for those who want to see or change the weights in between.

mod attend;
mod gradient;
mod key_values;
mod pattern;

use std::ops::Range;

pub use attend::{AttentionJob, attend};
pub use gradient::{AttentionGradient, attend_gradient};
pub use key_values::{KeyValueFormat, KeyValues};
pub use pattern::{attention_pattern, mix_values};

/// Positions whose keys lie side by side in what [`KeyValueView::decode_keys`] writes.
pub const KEYS_SIDE_BY_SIDE: usize = crate::kernels::KEYS_SIDE_BY_SIDE;

/// Geometry and scoring of the heads of one attention layer.
#[derive(Clone, Debug)]
pub struct AttentionShape {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads. Query head `h` reads key head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head's queries and keys.
    pub head_dim: usize,
    /// Width of a head's values.
    pub value_dim: usize,
    /// A token sees itself and at most `window - 1` tokens before it.
    pub window: Option<usize>,
    /// Factor of the scores.
    pub scale: f32,
    /// Scores `s` become `cap * tanh(s / cap)`.
    pub soft_cap: Option<f32>,
    /// For each query head a score that joins the softmax and is dropped after it, so that a head may look at
    /// nothing (attention sinks, arXiv 2309.17453, as GPT-OSS learns them); empty for none.
    pub sinks: Vec<f32>,
}

impl AttentionShape {
    /// The positions that the token at `position` sees: itself and those before it, as far as the window reaches.
    pub fn visible(&self, position: usize) -> Range<usize> {
        let end = position + 1;
        self.window.map_or(0, |window| end.saturating_sub(window))..end
    }
}

/// Keys and values of one sequence in one layer, however they are stored.
pub trait KeyValueView: Sync {
    /// Number of positions held.
    fn len(&self) -> usize;

    /// True if no position is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of key and value heads, width of keys, and width of values.
    fn shape(&self) -> [usize; 3];

    /// Writes the keys of a head to `out`, `[panels, head_dim, 16]`: panel `p` holds positions `16 * p` to `16 * p + 15`.
    /// Positions that are not held may hold any number.
    fn decode_keys(&self, head: usize, panels: Range<usize>, out: &mut [f32]);

    /// Writes the values of a head to `out`, `[positions, value_dim]`.
    fn decode_values(&self, head: usize, positions: Range<usize>, out: &mut [f32]);
}
