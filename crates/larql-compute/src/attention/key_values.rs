//! Keys and values in memory, as f32 or f16.

use std::ops::Range;

use super::{KEYS_SIDE_BY_SIDE, KeyValueView};
use crate::kernels::Isa;
use crate::{Format, Precision};

/// Keys and values of one sequence in one layer.
///
/// The first tokens decide how numbers are held from then on: as f32 where they come from an exact pass, else as
/// f16, which is half as much to read for every token to come.
#[derive(Clone, Debug, Default)]
pub struct KeyValues {
    /// Set with the first tokens.
    format: Option<Format>,
    positions: usize,
    /// For each key head the encoded numbers of `[positions / 16, head_dim, 16]`: those of 16 positions lie side by
    /// side, so that one instruction multiplies a query with all of them. The last ones may be unused.
    keys: Vec<Vec<u8>>,
    /// For each value head the encoded numbers of `[positions, value_dim]`.
    values: Vec<Vec<u8>>,
    head_dim: usize,
    value_dim: usize,
}

impl KeyValues {
    /// Room for any number of positions of `kv_heads` heads, with keys of width `head_dim` and values of width
    /// `value_dim`.
    pub fn new(kv_heads: usize, head_dim: usize, value_dim: usize) -> KeyValues {
        let (keys, values) = (vec![Vec::new(); kv_heads], vec![Vec::new(); kv_heads]);
        KeyValues { keys, values, head_dim, value_dim, ..KeyValues::default() }
    }

    /// Appends tokens; `keys` are `[tokens, kv_heads * head_dim]` and `values` `[tokens, kv_heads * value_dim]`.
    /// `precision` is that of the pass they come from.
    ///
    /// # Panics
    /// If the two are not of as many whole tokens.
    pub fn append(&mut self, keys: &[f32], values: &[f32], precision: Precision) {
        let heads = self.keys.len();
        assert!(keys.len().is_multiple_of(heads * self.head_dim));
        assert!(keys.len() / self.head_dim * self.value_dim == values.len());
        let format = *self.format.get_or_insert(match precision {
            Precision::Exact => Format::F32,
            Precision::Fast => Format::F16,
        });
        let number = format.block_bytes();
        let mut encoded = Vec::new();
        for (token, token_keys) in keys.chunks_exact(heads * self.head_dim).enumerate() {
            let position = self.positions + token;
            let (panel, lane) = (position / KEYS_SIDE_BY_SIDE, position % KEYS_SIDE_BY_SIDE);
            let panel_bytes = self.head_dim * KEYS_SIDE_BY_SIDE * number;
            for (head, key) in self.keys.iter_mut().zip(token_keys.chunks_exact(self.head_dim)) {
                head.resize((panel + 1) * panel_bytes, 0);
                encode(format, key, &mut encoded);
                let lanes = head[panel * panel_bytes..].chunks_exact_mut(KEYS_SIDE_BY_SIDE * number);
                for (lanes, number_bytes) in lanes.zip(encoded.chunks_exact(number)) {
                    lanes[lane * number..][..number].copy_from_slice(number_bytes);
                }
            }
        }
        for token_values in values.chunks_exact(heads * self.value_dim) {
            for (head, value) in self.values.iter_mut().zip(token_values.chunks_exact(self.value_dim)) {
                encode(format, value, &mut encoded);
                head.extend_from_slice(&encoded);
            }
        }
        self.positions += keys.len() / (heads * self.head_dim);
    }

    /// Forgets every position from `positions` on.
    pub fn truncate(&mut self, positions: usize) {
        self.positions = self.positions.min(positions);
        let number = self.format.map_or(0, Format::block_bytes);
        let panels = self.positions.div_ceil(KEYS_SIDE_BY_SIDE);
        let key_bytes = panels * self.head_dim * KEYS_SIDE_BY_SIDE * number;
        self.keys.iter_mut().for_each(|head| head.truncate(key_bytes));
        self.values.iter_mut().for_each(|head| head.truncate(self.positions * self.value_dim * number));
    }

    /// Replaces the keys and values at `positions` by those that `donor` has at the same positions.
    ///
    /// # Panics
    /// If the two differ in heads or widths, or one of them does not hold the positions.
    pub fn copy_positions(&mut self, donor: &KeyValues, positions: Range<usize>) {
        assert!(self.shape() == donor.shape());
        assert!(positions.end <= self.positions.min(donor.positions));
        let Some(format) = self.format.filter(|_| !positions.is_empty()) else { return };
        let number = format.block_bytes();
        let panels = positions.start / KEYS_SIDE_BY_SIDE..positions.end.div_ceil(KEYS_SIDE_BY_SIDE);
        let (mut decoded, mut encoded) = (Vec::new(), Vec::new());
        for head in 0..self.keys.len() {
            donor.decode_keys(head, panels.clone(), &mut decoded);
            encode(format, &decoded, &mut encoded);
            let panel_bytes = self.head_dim * KEYS_SIDE_BY_SIDE * number;
            let own = &mut self.keys[head][panels.start * panel_bytes..];
            for position in positions.clone() {
                let (panel, lane) = (position / KEYS_SIDE_BY_SIDE, position % KEYS_SIDE_BY_SIDE);
                for dim in 0..self.head_dim {
                    let lanes = ((panel - panels.start) * self.head_dim + dim) * KEYS_SIDE_BY_SIDE;
                    let place = (lanes + lane) * number..(lanes + lane + 1) * number;
                    own[place.clone()].copy_from_slice(&encoded[place]);
                }
            }
            donor.decode_values(head, positions.clone(), &mut decoded);
            encode(format, &decoded, &mut encoded);
            let start = positions.start * self.value_dim * number;
            self.values[head][start..][..encoded.len()].copy_from_slice(&encoded);
        }
    }

    fn decode(&self, bytes: &[u8], rows: Range<usize>, width: usize, out: &mut Vec<f32>) {
        let format = self.format.unwrap_or(Format::F32);
        out.resize(rows.len() * width, 0.0);
        let row_bytes = width * format.block_bytes();
        Isa::best().decode(format, &bytes[rows.start * row_bytes..rows.end * row_bytes], out);
    }
}

impl KeyValueView for KeyValues {
    fn len(&self) -> usize {
        self.positions
    }

    fn shape(&self) -> [usize; 3] {
        [self.keys.len(), self.head_dim, self.value_dim]
    }

    fn decode_keys(&self, head: usize, panels: Range<usize>, out: &mut Vec<f32>) {
        self.decode(&self.keys[head], panels, self.head_dim * KEYS_SIDE_BY_SIDE, out);
    }

    fn decode_values(&self, head: usize, positions: Range<usize>, out: &mut Vec<f32>) {
        self.decode(&self.values[head], positions, self.value_dim, out);
    }
}

fn encode(format: Format, values: &[f32], out: &mut Vec<u8>) {
    out.clear();
    format.encode(values, out).expect("floats come in blocks of one");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_is_truncated() {
        let mut cache = KeyValues::new(1, 2, 2);
        cache.append(&[1.0; 6], &[2.0; 6], Precision::Exact);
        cache.truncate(1);
        assert_eq!((cache.len(), cache.is_empty()), (1, false));
    }

    #[test]
    fn copied_positions_are_the_donors_and_no_others() {
        let filled = |first: f32, precision| {
            let mut cache = KeyValues::new(2, 3, 2);
            let numbers = |width: usize| (0..40 * 2 * width).map(|i| first + i as f32).collect::<Vec<_>>();
            cache.append(&numbers(3), &numbers(2), precision);
            cache
        };
        let decoded = |cache: &KeyValues| {
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            cache.decode_keys(1, 0..2, &mut keys);
            cache.decode_values(1, 0..40, &mut values);
            (keys, values)
        };
        let (own, donor) = (filled(0.0, Precision::Exact), filled(1000.0, Precision::Fast));
        let mut mixed = own.clone();
        mixed.copy_positions(&donor, 14..19);
        let ((own_keys, own_values), (donor_keys, donor_values)) = (decoded(&own), decoded(&donor));
        let (keys, values) = decoded(&mixed);
        for position in 0..32 {
            let from = if (14..19).contains(&position) {
                (&donor_keys, &donor_values)
            } else {
                (&own_keys, &own_values)
            };
            for dim in 0..3 {
                let place = (position / 16 * 3 + dim) * 16 + position % 16;
                assert_eq!(keys[place], from.0[place], "key {dim} at {position}");
            }
            assert_eq!(values[position * 2..][..2], from.1[position * 2..][..2], "values at {position}");
        }
        mixed.copy_positions(&donor, 20..20);
        assert_eq!(decoded(&mixed), (keys, values));
    }

    #[test]
    fn gives_back_what_was_appended_before_and_after_a_truncation() {
        for precision in [Precision::Exact, Precision::Fast] {
            let (head_dim, value_dim) = (3, 2);
            let mut cache = KeyValues::new(2, head_dim, value_dim);
            // Whole numbers, which f16 holds exactly.
            let row = |position: usize, width: usize| (0..2 * width).map(move |i| (position * 10 + i) as f32);
            for position in 0..40 {
                if position == 20 {
                    cache.append(&[0.0; 24], &[0.0; 16], precision);
                    cache.truncate(20);
                }
                let (keys, values): (Vec<f32>, Vec<f32>) =
                    (row(position, head_dim).collect(), row(position, value_dim).collect());
                cache.append(&keys, &values, precision);
            }
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            cache.decode_keys(1, 1..3, &mut keys);
            cache.decode_values(1, 16..40, &mut values);
            for position in 16..40 {
                let (panel, lane) = (position / 16 - 1, position % 16);
                for dim in 0..head_dim {
                    assert_eq!(
                        keys[(panel * head_dim + dim) * 16 + lane],
                        (position * 10 + head_dim + dim) as f32
                    );
                }
                let expected: Vec<f32> = row(position, value_dim).skip(value_dim).collect();
                assert_eq!(values[(position - 16) * value_dim..][..value_dim], expected);
            }
        }
    }
}
