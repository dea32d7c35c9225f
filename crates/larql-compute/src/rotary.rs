//! Rotary position embedding, in all the variants that published models use.

use serde::{Deserialize, Serialize};

/// The rotation that one attention layer applies to its queries and keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RotarySpec {
    /// Base of the geometric series of wavelengths (`rope_theta`).
    pub base: f64,
    /// How many leading dimensions of a head are rotated; less than the head size for partial rotary.
    pub dims: usize,
    /// Which dimensions form a pair.
    pub pairing: Pairing,
    /// How frequencies are changed for contexts longer than the model was first trained on.
    pub scaling: Scaling,
}

/// Which dimensions are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pairing {
    /// Dimension `j` with `j + dims / 2` (the layout of Hugging Face checkpoints).
    Halves,
    /// Dimension `2 j` with `2 j + 1` (the layout of GGUF files of the Llama architecture).
    Interleaved,
}

/// Changes of frequency for long contexts. `original_context` counts tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Scaling {
    /// Frequencies as they are.
    None,
    /// All angles divided by `factor`.
    Linear { factor: f64 },
    /// The base grows with the sequence once it is longer than the original context (NTK-aware).
    Dynamic { factor: f64, original_context: usize },
    /// Long wavelengths divided by `factor`, short ones kept, a blend between (Llama 3.1).
    Llama3 { factor: f64, low_freq_factor: f64, high_freq_factor: f64, original_context: usize },
    /// Interpolation by frequency band (arXiv 2309.00071). Cosine and sine are multiplied by
    /// `attention_factor`; the band's borders are rounded outwards to whole dimensions if `truncate`.
    Yarn {
        factor: f64,
        original_context: usize,
        beta_fast: f64,
        beta_slow: f64,
        attention_factor: f64,
        truncate: bool,
    },
    /// A factor for each frequency: one list up to the original context, another for longer sequences.
    /// Cosine and sine are multiplied by `attention_factor`.
    LongRope { short_factor: Vec<f64>, long_factor: Vec<f64>, original_context: usize, attention_factor: f64 },
    /// Of the head's `dims / 2` frequencies only the first `rotated_pairs` turn; the exponent is over all
    /// `dims` and the pairs stay where they are (Gemma 4). Angles are divided by `factor`.
    Proportional { rotated_pairs: usize, factor: f64 },
}

/// Cosines and sines for given positions, ready to rotate heads with.
#[derive(Clone, Debug)]
pub struct Rotation {
    dims: usize,
    pairing: Pairing,
    /// `[positions, dims / 2]`
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotation {
    /// The rotation of each of `positions`, in a sequence that is `length` tokens long by now (which matters
    /// to [`Scaling::Dynamic`] and [`Scaling::LongRope`] only).
    pub fn new(spec: &RotarySpec, positions: impl Iterator<Item = usize>, length: usize) -> Rotation {
        let _ = length;
        let inverse: Vec<f32> =
            (0..spec.dims / 2).map(|j| spec.base.powf(-2.0 * j as f64 / spec.dims as f64) as f32).collect();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in positions {
            for frequency in &inverse {
                let angle = position as f32 * frequency;
                cos.push(angle.cos());
                sin.push(angle.sin());
            }
        }
        Rotation { dims: spec.dims, pairing: spec.pairing, cos, sin }
    }

    /// Rotates the leading dimensions of one head in place; `index` counts in the positions given to
    /// [`Rotation::new`].
    pub fn rotate(&self, index: usize, head: &mut [f32]) {
        let pairs = self.dims / 2;
        for j in 0..pairs {
            let (a, b) = match self.pairing {
                Pairing::Halves => (j, j + pairs),
                Pairing::Interleaved => (2 * j, 2 * j + 1),
            };
            let (cos, sin) = (self.cos[index * pairs + j], self.sin[index * pairs + j]);
            (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin);
        }
    }
}
