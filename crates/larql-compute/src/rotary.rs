//! Rotary position embedding (arXiv 2104.09864), in all the variants that published models use.
//!
//! A model says how a layer rotates in a [`RotarySpec`]. [`Rotary`] validates it and holds the frequencies, once
//! for a layer; a [`Rotation`] holds the cosines and sines of the positions of one forward step.
//!
//! ```
//! use larql_compute::rotary::{Pairing, Rotary, RotarySpec, Scaling};
//!
//! let spec = RotarySpec { base: 10_000.0, dims: 2, pairing: Pairing::Halves, scaling: Scaling::None };
//! let rotary = Rotary::new(&spec)?;
//! let mut head = [1.0, 0.0];
//! rotary.rotation([3], 4).rotate(0, &mut head);
//! assert_eq!(head, [3f32.cos(), 3f32.sin()]);
//! # Ok::<(), larql_compute::ComputeError>(())
//! ```

use std::borrow::Cow;
use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use crate::ComputeError;

/// The rotation that one attention layer applies to its queries and keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RotarySpec {
    /// Base of the geometric series of wavelengths (`rope_theta`).
    pub base: f64,
    /// Number of leading dimensions of a head that are rotated; less than the head size for partial rotary.
    pub dims: usize,
    /// Dimensions that form a pair.
    pub pairing: Pairing,
    /// Change of the frequencies for contexts longer than the model was first trained on.
    pub scaling: Scaling,
}

/// Dimensions that are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pairing {
    /// Dimension `j` with `j + dims / 2` (the layout of Hugging Face checkpoints).
    Halves,
    /// Dimension `2 j` with `2 j + 1` (the layout of GGUF files of the Llama architecture).
    Interleaved,
}

/// Changes of frequency for long contexts. The frequency of pair `j` is `base^(-2 j / dims)` radians a token
/// before them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Scaling {
    /// Frequencies as they are.
    None,
    /// Position interpolation (arXiv 2306.15595): all frequencies divided by one number.
    Linear {
        /// Divisor of the frequencies.
        factor: f64,
    },
    /// The base grows with the sequence once it is longer than the original context (NTK-aware scaling;
    /// appendix of arXiv 2309.00071).
    Dynamic {
        /// Slope of the base's growth.
        factor: f64,
        /// Tokens the model was first trained on.
        original_context: usize,
    },
    /// Long wavelengths divided by `factor`, short ones kept, a blend between (Llama 3.1, arXiv 2407.21783).
    Llama3 {
        /// Divisor of the frequencies of long wavelengths.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are long.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are short.
        high_freq_factor: f64,
        /// Tokens the model was first trained on.
        original_context: usize,
    },
    /// Interpolation by frequency band (YaRN, arXiv 2309.00071).
    Yarn {
        /// Divisor of the frequencies of slow pairs.
        factor: f64,
        /// Tokens the model was first trained on.
        original_context: usize,
        /// Pairs that turn more often than this in the original context keep their frequency.
        beta_fast: f64,
        /// Pairs that turn less often than this in the original context are divided by `factor`.
        beta_slow: f64,
        /// Cosine and sine are multiplied by it.
        attention_factor: f64,
        /// True if the band's borders are rounded outwards to whole pairs.
        truncate: bool,
    },
    /// A divisor for each frequency (arXiv 2402.13753): one list for sequences up to the original context,
    /// another, for all positions alike, once the sequence is longer.
    LongRope {
        /// Divisors, `[dims / 2]`, up to the original context.
        short_factor: Vec<f64>,
        /// Divisors, `[dims / 2]`, beyond it.
        long_factor: Vec<f64>,
        /// Tokens the model was first trained on.
        original_context: usize,
        /// Cosine and sine are multiplied by it.
        attention_factor: f64,
    },
    /// Only the first of the head's `dims / 2` frequencies turn; the exponent is over all `dims` and the pairs
    /// stay where they are (Gemma 4).
    Proportional {
        /// Number of pairs that turn.
        rotated_pairs: usize,
        /// Divisor of their frequencies.
        factor: f64,
    },
}

/// A validated [`RotarySpec`] with its frequencies, made once for a layer.
#[derive(Clone, Debug)]
pub struct Rotary {
    spec: RotarySpec,
    /// `[dims / 2]`, radians a token, for sequences up to the original context.
    frequencies: Vec<f32>,
    /// The frequencies of [`Scaling::LongRope`] beyond the original context.
    long_frequencies: Vec<f32>,
    attention_factor: f32,
}

impl Rotary {
    /// Frequencies are computed in single precision in the order of Hugging Face's `modeling_rope_utils`, so
    /// that the angles of far positions round alike.
    ///
    /// # Errors
    /// [`ComputeError::InvalidRotary`] if a number of `spec` makes no sense.
    pub fn new(spec: &RotarySpec) -> Result<Rotary, ComputeError> {
        spec.check()?;
        let plain = spec.geometric(spec.base);
        let mut long_frequencies = Vec::new();
        let mut factor_of_attention = 1.0;
        let frequencies = match &spec.scaling {
            Scaling::None | Scaling::Dynamic { .. } => plain,
            Scaling::Linear { factor } => plain.iter().map(|f| f / *factor as f32).collect(),
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => plain
                .iter()
                .map(|frequency| {
                    let turns = *original_context as f64 * f64::from(*frequency) / TAU;
                    let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    blend(*frequency, *factor, kept)
                })
                .collect(),
            Scaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, truncate } => {
                factor_of_attention = *attention_factor;
                let (first, last) = spec.yarn_band(*original_context, *beta_fast, *beta_slow, *truncate);
                let ramp = |j: usize| 1.0 - (j as f64 - first) / (last - first);
                plain.iter().enumerate().map(|(j, frequency)| blend(*frequency, *factor, ramp(j))).collect()
            }
            Scaling::LongRope { short_factor, long_factor, attention_factor, .. } => {
                factor_of_attention = *attention_factor;
                let divided = |divisors: &[f64]| {
                    plain.iter().zip(divisors).map(|(f, divisor)| f / *divisor as f32).collect()
                };
                long_frequencies = divided(long_factor);
                divided(short_factor)
            }
            Scaling::Proportional { rotated_pairs, factor } => {
                let turning = |j| if j < *rotated_pairs { plain[j] / *factor as f32 } else { 0.0 };
                (0..plain.len()).map(turning).collect()
            }
        };
        Ok(Rotary {
            spec: spec.clone(),
            frequencies,
            long_frequencies,
            attention_factor: factor_of_attention as f32,
        })
    }

    /// The rotation of each of `positions`, in a sequence that is `length` tokens long by now (which matters
    /// to [`Scaling::Dynamic`] and [`Scaling::LongRope`] only).
    pub fn rotation(&self, positions: impl IntoIterator<Item = usize>, length: usize) -> Rotation {
        self.rotation_in(positions.into_iter().map(|position| (position, length)))
    }

    /// The rotation of each of `positions`, each as the last one of its sequence.
    pub fn rotation_of_last(&self, positions: impl IntoIterator<Item = usize>) -> Rotation {
        self.rotation_in(positions.into_iter().map(|position| (position, position + 1)))
    }

    /// The rotation of positions in sequences of the given lengths.
    fn rotation_in(&self, positions: impl Iterator<Item = (usize, usize)>) -> Rotation {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for (position, length) in positions {
            for frequency in self.frequencies_at(length).iter() {
                let angle = position as f32 * frequency;
                cos.push(angle.cos() * self.attention_factor);
                sin.push(angle.sin() * self.attention_factor);
            }
        }
        Rotation { pairs: self.frequencies.len(), pairing: self.spec.pairing, cos, sin }
    }

    /// True if both turn by the same angles in a sequence of `length` tokens, within rounding; a full turn in 10^12
    /// tokens is none.
    pub fn turns_like(&self, other: &Rotary, length: usize) -> bool {
        let close = |a: f32, b: f32| (a - b).abs() <= 1e-5 * a.abs().max(b.abs()) + 1e-12;
        let (a, b) = (self.frequencies_at(length), other.frequencies_at(length));
        close(self.attention_factor, other.attention_factor)
            && a.len() == b.len()
            && a.iter().zip(b.iter()).all(|(a, b)| close(*a, *b))
    }

    fn frequencies_at(&self, length: usize) -> Cow<'_, [f32]> {
        match &self.spec.scaling {
            Scaling::Dynamic { factor, original_context } if length > *original_context => {
                let stretch = factor * length as f64 / *original_context as f64 - (factor - 1.0);
                let dims = self.spec.dims as f64;
                Cow::Owned(self.spec.geometric(self.spec.base * stretch.powf(dims / (dims - 2.0))))
            }
            Scaling::LongRope { original_context, .. } if length > *original_context => {
                Cow::Borrowed(&self.long_frequencies)
            }
            _ => Cow::Borrowed(&self.frequencies),
        }
    }
}

/// `frequency` where `kept` is 1 or more, `frequency / factor` where it is 0 or less.
fn blend(frequency: f32, factor: f64, kept: f64) -> f32 {
    let kept = kept.clamp(0.0, 1.0) as f32;
    frequency / factor as f32 * (1.0 - kept) + frequency * kept
}

impl RotarySpec {
    /// Tokens of a sequence up to which angles do not depend on its length; `None` if they never do.
    pub fn fixed_length(&self) -> Option<usize> {
        match &self.scaling {
            Scaling::Dynamic { original_context, .. } | Scaling::LongRope { original_context, .. } => {
                Some(*original_context)
            }
            _ => None,
        }
    }

    /// `base^(-2 j / dims)` for each pair `j`.
    fn geometric(&self, base: f64) -> Vec<f32> {
        let wavelength = |j: usize| base.powf(f64::from(2.0 * j as f32 / self.dims as f32)) as f32;
        (0..self.dims / 2).map(|j| 1.0 / wavelength(j)).collect()
    }

    /// The pairs between which [`Scaling::Yarn`] blends, as fractions of a pair. Pair `j` turns
    /// `context / (2 pi base^(2 j / dims))` times in the original context; this is solved for `j`.
    fn yarn_band(&self, context: usize, beta_fast: f64, beta_slow: f64, truncate: bool) -> (f64, f64) {
        let pair_that_turns =
            |times: f64| self.dims as f64 * (context as f64 / (times * TAU)).ln() / (2.0 * self.base.ln());
        let (mut first, mut last) = (pair_that_turns(beta_fast), pair_that_turns(beta_slow));
        if truncate {
            (first, last) = (first.floor(), last.ceil());
        }
        (first, last) = (first.max(0.0), last.min(self.dims as f64 - 1.0));
        if first == last {
            last += 0.001;
        }
        (first, last)
    }

    fn check(&self) -> Result<(), ComputeError> {
        /// More than any model's head has; bounds what an untrusted configuration can make us allocate.
        const MOST_DIMS: usize = 1 << 16;

        let pairs = self.dims / 2;
        check("base", self.base, self.base > 1.0 && self.base.is_finite(), "a number above 1")?;
        let dims_are_good = self.dims.is_multiple_of(2) && self.dims <= MOST_DIMS;
        check("dims", self.dims, dims_are_good, "an even number of at most 65536")?;
        match &self.scaling {
            Scaling::None => Ok(()),
            Scaling::Linear { factor } => check_positive("factor", *factor),
            Scaling::Dynamic { factor, original_context } => {
                check("dims", self.dims, self.dims > 2, "above 2 for dynamic scaling")?;
                // Below 1 the base could shrink to nothing.
                check("factor", *factor, *factor >= 1.0 && factor.is_finite(), "a number of at least 1")?;
                check_context(*original_context)
            }
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                check_positive("factor", *factor)?;
                check_positive("low_freq_factor", *low_freq_factor)?;
                check_positive("high_freq_factor", *high_freq_factor)?;
                let in_order = high_freq_factor > low_freq_factor;
                check("high_freq_factor", *high_freq_factor, in_order, "above low_freq_factor")?;
                check_context(*original_context)
            }
            Scaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, .. } => {
                check_positive("factor", *factor)?;
                check_positive("beta_fast", *beta_fast)?;
                check_positive("beta_slow", *beta_slow)?;
                check_positive("attention_factor", *attention_factor)?;
                check_context(*original_context)
            }
            Scaling::LongRope { short_factor, long_factor, original_context, attention_factor } => {
                for (field, factors) in [("short_factor", short_factor), ("long_factor", long_factor)] {
                    let found = format!("a list of {}", factors.len());
                    let expected = format!("a list of {pairs} numbers, one for each pair of dimensions");
                    check(field, found, factors.len() == pairs, &expected)?;
                    factors.iter().try_for_each(|factor| check_positive(field, *factor))?;
                }
                check_positive("attention_factor", *attention_factor)?;
                check_context(*original_context)
            }
            Scaling::Proportional { rotated_pairs, factor } => {
                let expected = format!("at most {pairs}, the pairs of the head");
                check("rotated_pairs", *rotated_pairs, *rotated_pairs <= pairs, &expected)?;
                check_positive("factor", *factor)
            }
        }
    }
}

fn check(
    field: &'static str,
    found: impl ToString,
    is_good: bool,
    expected: &str,
) -> Result<(), ComputeError> {
    if is_good {
        return Ok(());
    }
    Err(ComputeError::InvalidRotary { field, expected: expected.to_string(), found: found.to_string() })
}

fn check_positive(field: &'static str, found: f64) -> Result<(), ComputeError> {
    check(field, found, found > 0.0 && found.is_finite(), "a positive number")
}

fn check_context(tokens: usize) -> Result<(), ComputeError> {
    check("original_context", tokens, tokens > 0, "at least 1")
}

/// Cosines and sines for given positions, ready to rotate heads with. Made by [`Rotary::rotation`].
#[derive(Clone, Debug)]
pub struct Rotation {
    pairs: usize,
    pairing: Pairing,
    /// `[positions, pairs]`
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotation {
    /// Rotates the leading dimensions of one head in place; `index` counts in the positions given to
    /// [`Rotary::rotation`].
    ///
    /// # Panics
    /// If `index` is out of range or the head is smaller than the dimensions to rotate.
    pub fn rotate(&self, index: usize, head: &mut [f32]) {
        self.turn(index, head, 1.0);
    }

    /// Gradient of [`Rotation::rotate`]: turns the gradient of its result into that of its input. Without an
    /// attention factor this undoes the rotation.
    ///
    /// # Panics
    /// As [`Rotation::rotate`].
    pub fn rotate_gradient(&self, index: usize, head: &mut [f32]) {
        self.turn(index, head, -1.0);
    }

    #[inline(always)]
    fn turn(&self, index: usize, head: &mut [f32], direction: f32) {
        let cos = &self.cos[index * self.pairs..][..self.pairs];
        let sin = &self.sin[index * self.pairs..][..self.pairs];
        let turns = cos.iter().zip(sin).map(|(cos, sin)| (cos, direction * sin));
        let head = &mut head[..2 * self.pairs];
        match self.pairing {
            Pairing::Halves => {
                let (first, second) = head.split_at_mut(self.pairs);
                for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(turns) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
            Pairing::Interleaved => {
                for ([a, b], (cos, sin)) in head.as_chunks_mut().0.iter_mut().zip(turns) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_gradient_of_a_rotation_is_its_inverse() {
        for pairing in [Pairing::Halves, Pairing::Interleaved] {
            let rotation = Rotary::new(&RotarySpec { pairing, ..PLAIN }).unwrap().rotation([5, 9], 10);
            let mut head = [1.0, -2.0, 3.0, 0.5];
            rotation.rotate(1, &mut head);
            assert_ne!(head, [1.0, -2.0, 3.0, 0.5]);
            rotation.rotate_gradient(1, &mut head);
            for (found, expected) in head.iter().zip([1.0, -2.0, 3.0, 0.5]) {
                assert!((found - expected).abs() < 1e-6, "{head:?}");
            }
        }
    }

    const PLAIN: RotarySpec =
        RotarySpec { base: 10_000.0, dims: 4, pairing: Pairing::Halves, scaling: Scaling::None };

    #[derive(Deserialize)]
    struct Case {
        spec: RotarySpec,
        length: usize,
        positions: Vec<usize>,
        cos: Vec<Vec<f32>>,
        sin: Vec<Vec<f32>>,
    }

    /// Rotating the first unit vector of a pair shows the pair's cosine and sine.
    fn cos_and_sin(spec: &RotarySpec, rotation: &Rotation, index: usize, pair: usize) -> (f32, f32) {
        let (a, b) = match spec.pairing {
            Pairing::Halves => (pair, pair + spec.dims / 2),
            Pairing::Interleaved => (2 * pair, 2 * pair + 1),
        };
        let mut head = vec![0.0; spec.dims];
        head[a] = 1.0;
        rotation.rotate(index, &mut head);
        (head[a], head[b])
    }

    #[test]
    fn angles_are_those_of_the_papers() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../tests/data/rotary.json")).unwrap();
        for case in &cases {
            let rotary = Rotary::new(&case.spec).unwrap();
            let rotation = rotary.rotation(case.positions.iter().copied(), case.length);
            for (index, position) in case.positions.iter().enumerate() {
                // Frequencies and angles are rounded to single precision.
                let tolerance = 1e-6 + 4.0 * f32::EPSILON * *position as f32;
                for pair in 0..case.spec.dims / 2 {
                    let (cos, sin) = cos_and_sin(&case.spec, &rotation, index, pair);
                    let (expected_cos, expected_sin) = (case.cos[index][pair], case.sin[index][pair]);
                    assert!(
                        (cos - expected_cos).abs() < tolerance && (sin - expected_sin).abs() < tolerance,
                        "{:?}, position {position}, pair {pair}: ({cos}, {sin}), expected ({expected_cos}, \
                         {expected_sin})",
                        case.spec,
                    );
                }
            }
        }
    }

    #[test]
    fn dimensions_beyond_the_rotated_ones_stay() {
        let rotation = Rotary::new(&PLAIN).unwrap().rotation([0, 9], 10);
        let mut head = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        rotation.rotate(0, &mut head);
        assert_eq!(head, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        rotation.rotate(1, &mut head);
        assert_ne!(head[..4], [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(head[4..], [5.0, 6.0]);
    }

    #[test]
    fn invalid_specifications_are_refused_by_field() {
        let with = |scaling| RotarySpec { scaling, ..PLAIN };
        let long = |short_factor: Vec<f64>| {
            let long_factor = vec![1.0; 2];
            with(Scaling::LongRope { short_factor, long_factor, original_context: 8, attention_factor: 1.0 })
        };
        let refused = [
            (RotarySpec { base: f64::NAN, ..PLAIN }, "base"),
            (RotarySpec { dims: 5, ..PLAIN }, "dims"),
            (RotarySpec { dims: usize::MAX - 1, ..PLAIN }, "dims"),
            (with(Scaling::Linear { factor: 0.0 }), "factor"),
            (with(Scaling::Dynamic { factor: 2.0, original_context: 0 }), "original_context"),
            (with(Scaling::Proportional { rotated_pairs: 3, factor: 1.0 }), "rotated_pairs"),
            (long(vec![1.0; 3]), "short_factor"),
            (long(vec![1.0, -1.0]), "short_factor"),
        ];
        for (spec, at_fault) in refused {
            match Rotary::new(&spec) {
                Err(ComputeError::InvalidRotary { field, .. }) => assert_eq!(field, at_fault),
                other => panic!("{spec:?} gave {other:?}"),
            }
        }
        assert_eq!(
            Rotary::new(&long(vec![1.0; 3])).unwrap_err().to_string(),
            "`short_factor` of the rotary embedding must be a list of 2 numbers, one for each pair of dimensions, \
             but is a list of 3: check the model's configuration"
        );
    }

    proptest! {
        /// Scores depend on the distance of two positions only, which makes the embedding useful.
        #[test]
        fn products_depend_on_distance(
            query in prop::array::uniform8(-1f32..1.0),
            key in prop::array::uniform8(-1f32..1.0),
            shift in 0usize..500,
        ) {
            for pairing in [Pairing::Halves, Pairing::Interleaved] {
                let rotary = Rotary::new(&RotarySpec { dims: 8, pairing, ..PLAIN }).unwrap();
                let score = |first: usize| {
                    let rotation = rotary.rotation([first, first + 3], first + 4);
                    let (mut query, mut key) = (query, key);
                    rotation.rotate(0, &mut key);
                    rotation.rotate(1, &mut query);
                    query.iter().zip(&key).map(|(q, k)| q * k).sum::<f32>()
                };
                prop_assert!((score(0) - score(shift)).abs() < 1e-3);
            }
        }
    }
}
