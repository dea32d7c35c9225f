//! Keys and values in memory, as f32, f16 or in 8 bits.

use std::ops::Range;

use half::f16;

use super::{KEYS_SIDE_BY_SIDE, KeyValueView};
use crate::kernels::{Isa, KEY_GROUP, KeyGroup};
use crate::{Format, Precision};

/// Storage of keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyValueFormat {
    /// f32 where they come from an exact pass, else f16.
    #[default]
    Float,
    /// 8 bits, each 32 numbers of a head with an f16 scale (as blocks of Q8_0): about half the memory of f16.
    Q8_0,
}

/// Keys and values of one sequence in one layer.
///
/// Unless 8 bits were chosen, the first tokens decide how numbers are held from then on: as f32 where they come from an exact
/// pass, else as f16, which is half as much to read for every token to come.
#[derive(Clone, Debug, Default)]
pub struct KeyValues {
    /// Set with the first tokens, if not before.
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

    /// Returns the same room, empty, with keys and values in `format`.
    pub fn with_format(self, format: KeyValueFormat) -> KeyValues {
        let format = match format {
            KeyValueFormat::Float => None,
            KeyValueFormat::Q8_0 => Some(Format::Q8_0),
        };
        KeyValues { format, ..KeyValues::new(self.keys.len(), self.head_dim, self.value_dim) }
    }

    /// Bytes that a position of a layer takes, in a pass that is not exact.
    pub fn position_bytes(
        format: KeyValueFormat,
        kv_heads: usize,
        head_dim: usize,
        value_dim: usize,
    ) -> usize {
        let format = match format {
            KeyValueFormat::Float => Format::F16,
            KeyValueFormat::Q8_0 => Format::Q8_0,
        };
        kv_heads * (panel_bytes(format, head_dim) / KEYS_SIDE_BY_SIDE + value_bytes(format, value_dim))
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
        let panel_bytes = panel_bytes(format, self.head_dim);
        for (token, token_keys) in keys.chunks_exact(heads * self.head_dim).enumerate() {
            let position = self.positions + token;
            for (head, key) in self.keys.iter_mut().zip(token_keys.chunks_exact(self.head_dim)) {
                head.resize((position / KEYS_SIDE_BY_SIDE + 1) * panel_bytes, 0);
                put_key(format, head, position, key);
            }
        }
        let mut encoded = Vec::new();
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
        let format = self.format.unwrap_or(Format::F32);
        let key_bytes = self.positions.div_ceil(KEYS_SIDE_BY_SIDE) * panel_bytes(format, self.head_dim);
        self.keys.iter_mut().for_each(|head| head.truncate(key_bytes));
        let value_bytes = self.positions * value_bytes(format, self.value_dim);
        self.values.iter_mut().for_each(|head| head.truncate(value_bytes));
    }

    /// Replaces the keys and values at `positions` by those that `donor` has at the same positions.
    ///
    /// # Panics
    /// If the two differ in heads or widths, or one of them does not hold the positions.
    pub fn copy_positions(&mut self, donor: &KeyValues, positions: Range<usize>) {
        assert!(self.shape() == donor.shape());
        assert!(positions.end <= self.positions.min(donor.positions));
        let Some(format) = self.format.filter(|_| !positions.is_empty()) else { return };
        let panels = positions.start / KEYS_SIDE_BY_SIDE..positions.end.div_ceil(KEYS_SIDE_BY_SIDE);
        let mut keys = vec![0.0; panels.len() * self.head_dim * KEYS_SIDE_BY_SIDE];
        let mut values = vec![0.0; positions.len() * self.value_dim];
        let mut encoded = Vec::new();
        for head in 0..self.keys.len() {
            donor.decode_keys(head, panels.clone(), &mut keys);
            let lanes = keys.chunks_exact(KEYS_SIDE_BY_SIDE);
            for position in positions.clone() {
                let (panel, lane) =
                    (position / KEYS_SIDE_BY_SIDE - panels.start, position % KEYS_SIDE_BY_SIDE);
                let key = lanes.clone().skip(panel * self.head_dim).take(self.head_dim);
                let key: Vec<f32> = key.map(|lanes| lanes[lane]).collect();
                put_key(format, &mut self.keys[head], position, &key);
            }
            donor.decode_values(head, positions.clone(), &mut values);
            let own = &mut self.values[head][positions.start * value_bytes(format, self.value_dim)..];
            let own = own.chunks_exact_mut(value_bytes(format, self.value_dim));
            for (own, value) in own.zip(values.chunks_exact(self.value_dim)) {
                encode(format, value, &mut encoded);
                own.copy_from_slice(&encoded);
            }
        }
    }
}

impl KeyValueView for KeyValues {
    fn len(&self) -> usize {
        self.positions
    }

    fn shape(&self) -> [usize; 3] {
        [self.keys.len(), self.head_dim, self.value_dim]
    }

    fn decode_keys(&self, head: usize, panels: Range<usize>, out: &mut [f32]) {
        let format = self.format.unwrap_or(Format::F32);
        let panel_bytes = panel_bytes(format, self.head_dim);
        let encoded = &self.keys[head][panels.start * panel_bytes..panels.end * panel_bytes];
        if format.is_float() {
            return Isa::best().decode(format, encoded, out);
        }
        let out = out.as_chunks_mut().0.chunks_mut(self.head_dim);
        for (panel, out) in encoded.chunks_exact(panel_bytes).zip(out) {
            Isa::best().decode_keys(bytemuck::cast_slice(panel), out);
        }
    }

    fn decode_values(&self, head: usize, positions: Range<usize>, out: &mut [f32]) {
        let format = self.format.unwrap_or(Format::F32);
        let (width, bytes) = (self.value_dim, value_bytes(format, self.value_dim));
        let encoded = &self.values[head][positions.start * bytes..positions.end * bytes];
        if width.is_multiple_of(format.block_len()) {
            return Isa::best().decode(format, encoded, out);
        }
        let mut row = vec![0.0; width.next_multiple_of(format.block_len())];
        for (encoded, out) in encoded.chunks_exact(bytes).zip(out.chunks_exact_mut(width)) {
            Isa::best().decode(format, encoded, &mut row);
            out.copy_from_slice(&row[..width]);
        }
    }
}

/// Bytes of the keys of 16 positions of a head.
fn panel_bytes(format: Format, head_dim: usize) -> usize {
    match format.is_float() {
        true => head_dim * KEYS_SIDE_BY_SIDE * format.block_bytes(),
        false => head_dim.div_ceil(KEY_GROUP) * size_of::<KeyGroup>(),
    }
}

/// Bytes of one value of a head.
fn value_bytes(format: Format, value_dim: usize) -> usize {
    value_dim.div_ceil(format.block_len()) * format.block_bytes()
}

/// Writes the key of a position into the panels of a head.
fn put_key(format: Format, head: &mut [u8], position: usize, key: &[f32]) {
    let panel_bytes = panel_bytes(format, key.len());
    let lane = position % KEYS_SIDE_BY_SIDE;
    let panel = &mut head[position / KEYS_SIDE_BY_SIDE * panel_bytes..][..panel_bytes];
    if format.is_float() {
        let mut encoded = Vec::new();
        encode(format, key, &mut encoded);
        let number = format.block_bytes();
        let lanes = panel.chunks_exact_mut(KEYS_SIDE_BY_SIDE * number);
        for (lanes, number_bytes) in lanes.zip(encoded.chunks_exact(number)) {
            lanes[lane * number..][..number].copy_from_slice(number_bytes);
        }
        return;
    }
    let groups: &mut [KeyGroup] = bytemuck::cast_slice_mut(panel);
    for (group, values) in groups.iter_mut().zip(key.chunks(KEY_GROUP)) {
        // Of floats without their sign the bits sort as the numbers do, with NaN on top, which makes the scale NaN.
        let largest = values.iter().map(|value| value.abs().to_bits()).max().unwrap_or(0);
        let scale = f16::from_f32(f32::from_bits(largest) / 127.0);
        let inverse = if scale == f16::ZERO { 0.0 } else { scale.to_f32().recip() };
        group.scales[lane] = scale.to_le_bytes();
        for (codes, value) in group.codes.iter_mut().zip(values) {
            // `as` keeps what rounding of the scale lets exceed 127 at 127.
            codes[lane] = (value * inverse).round() as i8;
        }
    }
}

/// Encodes one value; in blocks it is filled up with zeros.
fn encode(format: Format, values: &[f32], out: &mut Vec<u8>) {
    out.clear();
    let whole = values.len().next_multiple_of(format.block_len());
    if whole == values.len() {
        format.encode(values, out)
    } else {
        let mut filled = values.to_vec();
        filled.resize(whole, 0.0);
        format.encode(&filled, out)
    }
    .expect("the format can be encoded, and the values are whole blocks");
}

#[cfg(test)]
mod tests {
    use larql_testing::noise;

    use super::*;

    #[test]
    fn forgets_what_is_truncated() {
        let mut cache = KeyValues::new(1, 2, 2);
        cache.append(&[1.0; 6], &[2.0; 6], Precision::Exact);
        cache.truncate(1);
        assert_eq!((cache.len(), cache.is_empty()), (1, false));
    }

    #[test]
    fn eight_bits_are_near_and_stay_what_they_are_when_copied() {
        for (head_dim, value_dim) in [(64, 64), (40, 48)] {
            let (keys, values) = (noise(40 * 2 * head_dim, 1), noise(40 * 2 * value_dim, 2));
            let mut cache = KeyValues::new(2, head_dim, value_dim).with_format(KeyValueFormat::Q8_0);
            cache.append(&keys[..23 * 2 * head_dim], &values[..23 * 2 * value_dim], Precision::Fast);
            cache.append(&keys[23 * 2 * head_dim..], &values[23 * 2 * value_dim..], Precision::Exact);
            let mut decoded_keys = vec![0.0; 3 * head_dim * KEYS_SIDE_BY_SIDE];
            let mut decoded_values = vec![0.0; 40 * value_dim];
            cache.decode_keys(1, 0..3, &mut decoded_keys);
            cache.decode_values(1, 0..40, &mut decoded_values);
            for position in 0..40 {
                let key = &keys[(position * 2 + 1) * head_dim..][..head_dim];
                for (dim, key) in key.iter().enumerate() {
                    let found = decoded_keys[(position / 16 * head_dim + dim) * 16 + position % 16];
                    assert!((found - key).abs() < 0.6 / 127.0, "{found} for {key}");
                }
                let value = &values[(position * 2 + 1) * value_dim..][..value_dim];
                let found = &decoded_values[position * value_dim..][..value_dim];
                assert!(found.iter().zip(value).all(|(found, value)| (found - value).abs() < 0.6 / 127.0));
            }
            let mut copy = KeyValues::new(2, head_dim, value_dim).with_format(KeyValueFormat::Q8_0);
            copy.append(&vec![0.0; keys.len()], &vec![0.0; values.len()], Precision::Fast);
            copy.copy_positions(&cache, 0..40);
            assert_eq!((copy.keys, copy.values), (cache.keys, cache.values));
        }
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
            let (mut keys, mut values) = (vec![0.0; 2 * 3 * KEYS_SIDE_BY_SIDE], vec![0.0; 40 * 2]);
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
            let mut keys = vec![0.0; 2 * head_dim * KEYS_SIDE_BY_SIDE];
            let mut values = vec![0.0; 24 * value_dim];
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
