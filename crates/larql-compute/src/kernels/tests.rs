//! Every instruction set of this machine against plain decoding and sums in f64.

use super::{
    ACTIVATIONS_AT_ONCE, AttentionTile, CodeActivations, CodeTile, GroupProducts, Groups, Isa,
    KEYS_SIDE_BY_SIDE, PANEL_ROWS, QuantisedRow, Query, RunningSoftmax, Scores, Tile, has_kernels,
};
use crate::Format;
use crate::MatRef;

/// Rounding errors that a sum of products may have, as a fraction of the sum of their magnitudes.
const ROUNDING: f64 = 1e-6;

/// Random numbers that are the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    fn below(&mut self, end: i32) -> i32 {
        (self.next() % end as u32) as i32
    }

    /// From -1 to 1.
    fn float(&mut self) -> f32 {
        self.next() as f32 / (1u32 << 30) as f32 - 1.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    /// Blocks of any codes whose scales and minima are what `scale` returns.
    fn blocks(&mut self, format: Format, count: usize, scale: impl Fn(&mut Random) -> f32) -> Vec<u8> {
        let mut bytes = Vec::new();
        if format.is_float() {
            format.encode(&self.floats(count), &mut bytes).unwrap();
            return bytes;
        }
        for _ in 0..count {
            let mut block: Vec<u8> = (0..format.block_bytes()).map(|_| self.next() as u8).collect();
            for at in scales_at(format) {
                block[*at..at + 2].copy_from_slice(&half::f16::from_f32(scale(self)).to_le_bytes());
            }
            if format == Format::MXFP4 {
                block[0] = 127 + self.below(4) as u8;
            }
            if format == Format::IQ1_M {
                let bits = half::f16::from_f32(scale(self)).to_bits();
                for part in 0..4 {
                    let byte = &mut block[49 + 2 * part];
                    *byte = *byte & 15 | ((bits >> (4 * part)) as u8 & 15) << 4;
                }
            }
            if format == Format::AFFINE8 {
                block[..4].copy_from_slice(&scale(self).to_le_bytes());
                block[4..8].copy_from_slice(&scale(self).to_le_bytes());
            }
            bytes.extend(block);
        }
        bytes
    }
}

fn formats() -> impl Iterator<Item = Format> {
    Format::all().filter(|format| *format != Format::Q8_K)
}

/// Formats whose codes are multiplied without decoding.
fn block_formats() -> impl Iterator<Item = Format> {
    formats().filter(|format| !format.is_float() && has_kernels(*format))
}

/// The product of `a` and `b` with the sum of its terms' magnitudes.
fn product(a: &[f32], b: &[f32]) -> (f64, f64) {
    let terms = || a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    (terms().sum(), terms().map(f64::abs).sum())
}

/// Positions of half-precision scales and minima in a block.
fn scales_at(format: Format) -> &'static [usize] {
    match format {
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
        Format::TQ1_0 => &[52],
        Format::TQ2_0 => &[64],
        Format::MXFP4 | Format::AFFINE8 | Format::IQ1_M | Format::F32 | Format::F16 | Format::BF16 => &[],
        _ => &[0],
    }
}

/// A budgeted comparison of a product with its definition.
fn assert_product(found: f32, a: &[f32], b: &[f32], what: &dyn std::fmt::Debug) {
    let (expected, magnitude) = product(a, b);
    let error = (f64::from(found) - expected).abs();
    assert!(error <= ROUNDING * magnitude, "{what:?}: {found} for {expected}, error {error}");
}

#[test]
fn decoding_is_the_codecs() {
    let mut random = Random(1);
    for format in formats() {
        let count = if format.is_float() { 203 } else { 13 };
        let blocks = random.blocks(format, count, Random::float);
        let mut expected = vec![0.0; count * format.block_len()];
        format.decode(&blocks, &mut expected);
        let x = random.floats(expected.len());
        for isa in Isa::available() {
            let mut decoded = vec![f32::NAN; expected.len()];
            isa.decode(format, &blocks, &mut decoded);
            assert_eq!(decoded, expected, "{format} {isa:?}");
            assert_product(isa.dot_decoded(format, &blocks, &x), &expected, &x, &(format, isa));
        }
    }
}

#[test]
fn groups_stay_in_budget() {
    let mut random = Random(8);
    for format in formats() {
        // In floats not a multiple of anything. The longest has more columns than are multiplied at a time.
        for width in if format.is_float() { [111, 64, 1056] } else { [256, 512, 1280] } {
            for (rows, batch) in
                [(1, 2), (2, 3), (5, 4), (3, 5), (4, 6), (9, 7), (4, 8), (4, 13), (4, 17), (3, 29)]
            {
                let bytes = random.blocks(format, rows * width / format.block_len(), Random::float);
                let weights = MatRef::new(format, rows, width, &bytes).unwrap();
                let (decoded, x) = (weights.to_f32(), random.floats(batch * width));
                for isa in Isa::available().filter(|isa| isa.has_groups()) {
                    let mut seen = Vec::new();
                    let decode = Groups::decode_first(isa, format, width, batch);
                    let groups = Groups::new(isa, format, &x, width, decode);
                    GroupProducts::default().multiply(isa, weights, &groups, |b, products| {
                        seen.push(b);
                        for (row, found) in decoded.chunks_exact(width).zip(products) {
                            assert_product(
                                *found,
                                row,
                                &x[b * width..][..width],
                                &(format, width, rows, batch),
                            );
                        }
                    });
                    assert!(seen.into_iter().eq(0..batch), "{format}");
                }
            }
        }
    }
}

#[test]
fn tiles_stay_in_budget() {
    let mut random = Random(7);
    for format in formats() {
        // More columns than a panel has; in floats not a multiple of anything.
        let width = if format.is_float() { 1111 } else { 1280 };
        for (rows, batch) in [(32, 8), (5, 6), (31, 1)] {
            let bytes = random.blocks(format, rows * width / format.block_len(), Random::float);
            let weights = MatRef::new(format, rows, width, &bytes).unwrap();
            let (decoded, x) = (weights.to_f32(), random.floats(batch * width));
            for isa in Isa::available() {
                let mut seen = 0;
                Tile::default().multiply(isa, weights, &x, |b, products| {
                    for (row, found) in decoded.chunks_exact(width).zip(products) {
                        assert_product(*found, row, &x[b * width..][..width], &(format, isa));
                    }
                    seen += products.len();
                });
                assert_eq!(seen, rows * batch);
            }
        }
    }
}

#[test]
fn code_tiles_stay_in_budget() {
    let mut random = Random(8);
    for format in block_formats() {
        let width = 1280;
        for (rows, batch) in [(32, 8), (5, 6), (31, 1)] {
            let bytes = random.blocks(format, rows * width / format.block_len(), Random::float);
            let weights = MatRef::new(format, rows, width, &bytes).unwrap();
            assert_code_tile(weights, &random.floats(batch * width));
        }
    }
}

/// Products of bytes are added up in 16 bits for as long as they fit: here all are as large as they can be.
#[test]
fn code_tiles_hold_the_largest_products() {
    let mut random = Random(9);
    for format in block_formats() {
        let (rows, width) = (9, 512);
        for largest in [0xff, 0x80, 0x7f, 0x77, 0x00] {
            let mut bytes = random.blocks(format, rows * width / format.block_len(), |_| 0.5);
            for block in bytes.chunks_mut(format.block_bytes()) {
                let is_scale =
                    |at: usize| scales_at(format).iter().any(|scale| (*scale..scale + 2).contains(&at));
                let first = usize::from(format == Format::MXFP4);
                (first..block.len()).filter(|at| !is_scale(*at)).for_each(|at| block[at] = largest);
                if format == Format::IQ1_M {
                    // Its scale, 0.5 in half precision here, lies in four upper nibbles.
                    for (at, nibble) in [(49, 0x00), (51, 0x00), (53, 0x80), (55, 0x30)] {
                        block[at] = block[at] & 0x0f | nibble;
                    }
                }
            }
            let weights = MatRef::new(format, rows, width, &bytes).unwrap();
            for sign in [1.0, -1.0] {
                assert_code_tile(weights, &vec![sign; 4 * width]);
            }
        }
    }
}

/// Compares the products of all instruction sets, with activations in 8 bits, with their definition.
fn assert_code_tile(weights: MatRef<'_>, x: &[f32]) {
    let (format, width) = (weights.format(), weights.cols());
    let decoded = weights.to_f32();
    let panels = |isa: &Isa, planes| isa.code_panel_batch(planes).is_some();
    let isas =
        Isa::available().flat_map(|isa| [(isa, 1), (isa, 2)]).filter(|(isa, planes)| panels(isa, *planes));
    for (isa, planes) in isas {
        let x = x.chunks_exact(width).map(|x| Isa::Scalar.quantise(x, format.block_len(), planes));
        let x: Vec<_> = x.collect();
        let rows: Vec<&[QuantisedRow]> = x.iter().map(Vec::as_slice).collect();
        let mut seen = 0;
        CodeTile::default().multiply(isa, weights, &CodeActivations::new(&rows, format), |b, products| {
            let x = QuantisedRow::sum_to_f32(&x[b]);
            for (row, found) in decoded.chunks_exact(width).zip(products) {
                assert_product(*found, row, &x, &(format, isa, planes));
            }
            seen += products.len();
        });
        assert_eq!(seen, weights.rows() * x.len());
    }
}

#[test]
fn integer_products_are_exact_where_scales_are_powers_of_two() {
    let mut random = Random(2);
    for format in block_formats() {
        for (rows, width) in [(1, 256), (4, 512), (7, 768)] {
            let weights = random.blocks(format, rows * width / format.block_len(), |random| {
                [0.5, 1.0, -1.0, 0.25][random.below(4) as usize]
            });
            let mut x: Vec<f32> = (0..width).map(|_| (random.below(15) - 7) as f32).collect();
            // A largest value of 127 makes the scale 1.
            x.iter_mut().step_by(32).for_each(|x| *x = 127.0);
            let mut decoded = vec![0.0; rows * width];
            format.decode(&weights, &mut decoded);
            let expected: Vec<f32> =
                decoded.chunks_exact(width).map(|row| product(row, &x).0 as f32).collect();
            for isa in Isa::available() {
                let quantised = isa.quantise(&x, format.block_len(), 1);
                let mut out = vec![f32::NAN; rows];
                isa.dot_rows(format, &weights, &[&quantised], &mut [&mut out]);
                assert_eq!(out, expected, "{format} {isa:?} {rows} x {width}");
            }
        }
    }
}

#[test]
fn products_with_quantised_activations_stay_in_budget() {
    let mut random = Random(3);
    for format in block_formats() {
        let (rows, width) = (9, 1024);
        let weights = random.blocks(format, rows * width / format.block_len(), Random::float);
        let mut decoded = vec![0.0; rows * width];
        format.decode(&weights, &mut decoded);
        for (isa, planes) in Isa::available().flat_map(|isa| (1..=3).map(move |planes| (isa, planes))) {
            let quantised = isa.quantise(&random.floats(width), format.block_len(), planes);
            let x = QuantisedRow::sum_to_f32(&quantised);
            let mut out = vec![f32::NAN; rows];
            isa.dot_rows(format, &weights, &[&quantised], &mut [&mut out]);
            for (row, found) in decoded.chunks_exact(width).zip(out) {
                assert_product(found, row, &x, &(format, isa, planes));
            }
        }
    }
}

#[test]
fn activations_give_the_same_bits_alone_and_beside_others() {
    let mut random = Random(11);
    for format in block_formats() {
        let (rows, width) = (9, 512);
        let weights = random.blocks(format, rows * width / format.block_len(), Random::float);
        for (isa, planes) in Isa::available().flat_map(|isa| (1..=3).map(move |planes| (isa, planes))) {
            let x: Vec<_> = (0..ACTIVATIONS_AT_ONCE)
                .map(|_| isa.quantise(&random.floats(width), format.block_len(), planes))
                .collect();
            let x: Vec<&[QuantisedRow]> = x.iter().map(Vec::as_slice).collect();
            let mut alone = vec![0.0; x.len() * rows];
            for (x, out) in x.chunks(1).zip(alone.chunks_mut(rows)) {
                isa.dot_rows(format, &weights, x, &mut [out]);
            }
            for count in 2..=x.len() {
                let mut together = vec![f32::NAN; count * rows];
                let mut out: Vec<&mut [f32]> = together.chunks_mut(rows).collect();
                isa.dot_rows(format, &weights, &x[..count], &mut out);
                assert_eq!(together, alone[..count * rows], "{count} activations, {format} {isa:?} {planes}");
            }
        }
    }
}

#[test]
fn panels_and_rows_give_the_same_bits_where_sums_have_one_order() {
    let mut random = Random(12);
    for isa in Isa::available().filter(|isa| isa.adds_up_codes_in_one_order()) {
        for (format, planes) in block_formats().flat_map(|format| [(format, 1), (format, 2)]) {
            // In blocks of 32 not a multiple of what is added up at a time.
            for width in if format.block_len() == 32 { [32, 224, 576, 1120] } else { [256, 512, 768, 1280] } {
                for (rows, batch) in [(35, 1), (7, 3), (32, 6), (33, 21)] {
                    let bytes = random.blocks(format, rows * width / format.block_len(), Random::float);
                    let weights = MatRef::new(format, rows, width, &bytes).unwrap();
                    assert_same_bits(isa, weights, planes, &random.floats(batch * width));
                }
            }
            // Sums that are as large as they can be.
            let largest = vec![0x7f; 256 / format.block_len() * format.block_bytes()];
            let weights = MatRef::new(format, 1, 256, &largest).unwrap();
            assert_same_bits(isa, weights, planes, &[1.0; 256]);
        }
    }
}

/// Compares the products of panels with those of rows, one activation and several at a time.
fn assert_same_bits(isa: Isa, weights: MatRef<'_>, planes: usize, x: &[f32]) {
    let (format, width, rows) = (weights.format(), weights.cols(), weights.rows());
    let x: Vec<_> = x.chunks_exact(width).map(|x| isa.quantise(x, format.block_len(), planes)).collect();
    let x: Vec<&[QuantisedRow]> = x.iter().map(Vec::as_slice).collect();
    let by_row = |at_once: usize| {
        let mut products = vec![f32::NAN; x.len() * rows];
        for (x, out) in x.chunks(at_once).zip(products.chunks_mut(at_once * rows)) {
            isa.dot_rows(format, weights.bytes(), x, &mut out.chunks_mut(rows).collect::<Vec<_>>());
        }
        products.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let mut in_panels = vec![0; x.len() * rows];
    for first in (0..rows).step_by(PANEL_ROWS) {
        let part = first..(first + PANEL_ROWS).min(rows);
        let weights = weights.slice_rows(part.clone());
        CodeTile::default().multiply(isa, weights, &CodeActivations::new(&x, format), |b, products| {
            let out = &mut in_panels[b * rows..][part.clone()];
            out.iter_mut().zip(products).for_each(|(out, product)| *out = product.to_bits());
        });
    }
    for at_once in [1, ACTIVATIONS_AT_ONCE] {
        assert_eq!(in_panels, by_row(at_once), "{format} {isa:?} {rows} x {width}, {planes} planes");
    }
}

#[test]
fn quantising_is_the_same_on_all_and_keeps_each_value_within_half_a_step() {
    let mut random = Random(4);
    for block_len in [32, 256] {
        let mut values = random.floats(1024);
        values[256..512].fill(0.0);
        values[600] = 1e6;
        let plain = Isa::Scalar.quantise(&values, block_len, 1);
        for isa in Isa::available() {
            assert_eq!(isa.quantise(&values, block_len, 1), plain);
        }
        for (found, values) in
            QuantisedRow::sum_to_f32(&plain).chunks(block_len).zip(values.chunks(block_len))
        {
            let largest = values.iter().fold(0.0, |a: f32, b| a.max(b.abs()));
            for (found, value) in found.iter().zip(values) {
                assert!((found - value).abs() <= largest / 254.0 * 1.0001, "{found} for {value}");
            }
        }
    }
}

#[test]
fn each_plane_takes_up_what_is_left_to_within_half_a_step() {
    let mut random = Random(10);
    let mut values = random.floats(1024);
    values.iter_mut().step_by(100).for_each(|value| *value *= 1000.0);
    for (isa, block_len) in Isa::available().flat_map(|isa| [(isa, 32), (isa, 256)]) {
        let planes = isa.quantise(&values, block_len, 3);
        assert_eq!(planes, Isa::Scalar.quantise(&values, block_len, 3));
        for (count, steps) in [(1, 254.0), (2, 254.0 * 254.0), (3, 254.0 * 254.0 * 254.0)] {
            let found = QuantisedRow::sum_to_f32(&planes[..count]);
            for (found, values) in found.chunks(block_len).zip(values.chunks(block_len)) {
                let largest = values.iter().fold(0.0, |a: f32, b| a.max(b.abs()));
                for (found, value) in found.iter().zip(values) {
                    // Adding up the planes in f32 rounds too.
                    let budget = largest / steps * 1.0001 + value.abs() * f32::EPSILON;
                    assert!((found - value).abs() <= budget, "{count} planes: {found} for {value}");
                }
            }
        }
    }
}

#[test]
fn nan_stays_nan() {
    for bad in [f32::NAN, f32::INFINITY] {
        for isa in Isa::available() {
            for format in [Format::Q4_0, Format::Q6_K] {
                let mut x = vec![1.0; 256];
                x[5] = bad;
                let weights = Random(5).blocks(format, 256 / format.block_len(), |_| 1.0);
                let mut out = [0.0];
                let quantised = isa.quantise(&x, format.block_len(), 1);
                isa.dot_rows(format, &weights, &[&quantised], &mut [&mut out]);
                assert!(out[0].is_nan(), "{format} {isa:?}");
            }
        }
    }
}

#[test]
fn dot_products_of_floats_stay_in_budget() {
    let mut random = Random(6);
    for len in [0, 1, 31, 64, 100, 1000] {
        let (a, b) = (random.floats(len), random.floats(len));
        for isa in Isa::available() {
            assert_product(isa.dot(&a, &b), &a, &b, &isa);
        }
    }
}

#[test]
fn attention_is_the_same_with_all_instruction_sets() {
    let mut random = Random(9);
    for (head_dim, value_dim, positions, count) in [(64, 64, 64, 4), (7, 37, 33, 3), (40, 80, 5, 1)] {
        let panels = usize::div_ceil(positions, KEYS_SIDE_BY_SIDE);
        let keys = random.floats(panels * head_dim * KEYS_SIDE_BY_SIDE);
        let (values, queries) = (random.floats(positions * value_dim), random.floats(count * head_dim));
        let keys = keys.as_chunks().0;
        let tile = AttentionTile { start: 32, keys, values: &values, scale: 0.3, soft_cap: Some(5.0) };
        let seen = |isa: Isa| {
            let mut seen = vec![RunningSoftmax::new(value_dim); count];
            let query = |(i, mixed): (usize, _)| {
                let visible = 32 + i..32 + positions - i;
                Query { query: &queries[i * head_dim..][..head_dim], visible, mixed }
            };
            let mut rows: Vec<Query<'_>> = seen.iter_mut().enumerate().map(query).collect();
            isa.attend(&tile, &mut rows, &mut Scores::default());
            seen
        };
        let expected = seen(Isa::Scalar);
        for isa in Isa::available() {
            for (found, expected) in seen(isa).iter().zip(&expected) {
                assert!((found.largest - expected.largest).abs() < 1e-4, "{isa:?}");
                assert!((found.sum() / expected.sum() - 1.0).abs() < 1e-4, "{isa:?}");
                for (found, expected) in found.values.iter().zip(&expected.values) {
                    assert!((found - expected).abs() < 1e-3, "{isa:?}: {found} for {expected}");
                }
            }
        }
    }
}

#[test]
fn products_of_bytes_are_those_of_plain_code() {
    use super::byte_panel::{self, COLUMNS, LANES, Limit, RowFigures, VECTORS};
    let mut random = Random(11);
    for isa in Isa::available() {
        for (steps, vectors) in [(1, 1), (2, 9), (3, VECTORS), (5, VECTORS - 1)] {
            let quads = steps * COLUMNS / 4;
            let panel: Vec<[[u8; 4]; LANES]> = (0..quads)
                .map(|_| std::array::from_fn(|_| std::array::from_fn(|_| random.next() as u8)))
                .collect();
            let largest = i32::from(isa.largest_byte());
            let codes = 0..vectors * 4 * quads;
            let codes: Vec<i8> = codes.map(|_| (random.below(2 * largest + 1) - largest) as i8).collect();
            let start: [i32; LANES] = std::array::from_fn(|_| random.below(1000));
            let (mut expected, mut found) = (vec![start; vectors], vec![start; vectors]);
            match isa.byte_zero() {
                0 => {
                    let biased: Vec<_> =
                        panel.iter().map(|quad| quad.map(|codes| codes.map(|code| code ^ 128))).collect();
                    byte_panel::add_products(&biased, &codes, &mut expected);
                    let sums = codes
                        .chunks_exact(4 * quads)
                        .map(|codes| codes.iter().map(|c| i32::from(*c)).sum::<i32>());
                    expected
                        .iter_mut()
                        .zip(sums)
                        .for_each(|(p, sum)| p.iter_mut().for_each(|p| *p -= 128 * sum));
                }
                _ => byte_panel::add_products(&panel, &codes, &mut expected),
            }
            let beside = isa.vectors_beside();
            if vectors.is_multiple_of(beside) {
                // As many vectors as lie beside one another, 64 columns of each at a time.
                let order = codes.chunks_exact(beside * 4 * quads).flat_map(|codes| {
                    let part = move |step| codes.chunks_exact(COLUMNS).skip(step).step_by(steps);
                    (0..steps).flat_map(part).flatten().copied()
                });
                isa.add_byte_products(&panel, &order.collect::<Vec<_>>(), &mut found);
                assert_eq!(found, expected, "{isa:?} {steps} {vectors}");
            }
            #[cfg(target_arch = "x86_64")]
            if isa == Isa::Avx512 {
                // What machines without AMX run.
                let mut found = vec![start; vectors];
                // SAFETY: the instruction set is available.
                unsafe { super::avx512_byte_panel::add_products(&panel, &codes, &mut found) };
                assert_eq!(found, expected, "without AMX");
            }
            let [scales, losses, norms] = [(); 3].map(|()| std::array::from_fn(|_| random.float()));
            let rows = RowFigures { scales, losses, norms };
            for (products, to_beat) in expected.iter().zip([0.0, -1e4, 1e4].into_iter().cycle()) {
                let limit = Limit { to_beat, norm: 100.0, loss: 10.0 };
                assert_eq!(
                    isa.bytes_above(products, &rows, limit),
                    byte_panel::above(products, &rows, limit)
                );
            }
            let values = random.floats(130);
            let [mut a, mut b] = [[0; 130]; 2];
            let (found, plain) =
                (isa.round_to_bytes(&values, 127, &mut a), byte_panel::round(&values, 127, &mut b));
            assert_eq!((a, found.scale, found.sum), (b, plain.scale, plain.sum));
            assert!(
                (found.loss / plain.loss - 1.0).abs() < 1e-4 && (found.norm / plain.norm - 1.0).abs() < 1e-5
            );
        }
    }
}
