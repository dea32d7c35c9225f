//! Every codec against ggml's reference, by golden vectors that `data/make_codecs.py` wrote, and against what any
//! codec must keep to.

use std::f32::consts::TAU;
use std::path::PathBuf;

use larql_compute::{Activations, ComputeError, Format, MatRef, Pool, Precision, matmul};
use proptest::collection::vec;
use proptest::prelude::*;

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/codecs").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

fn encode(format: Format, values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    format.encode(values, &mut bytes).unwrap_or_else(|error| panic!("{error}"));
    bytes
}

fn decode(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / format.block_bytes() * format.block_len()];
    format.decode(bytes, &mut values);
    values
}

/// The formats that can be written, floats first.
fn encodable() -> impl Iterator<Item = Format> {
    Format::all().filter(|format| format.can_encode())
}

/// Normally distributed numbers, always the same ones (Box-Muller over a linear congruential generator).
fn gaussian(count: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) + 1) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| (-2.0 * uniform().ln()).sqrt() * (TAU * uniform()).cos()).collect()
}

fn root_mean_square_error(a: &[f32], b: &[f32]) -> f32 {
    (a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / a.len() as f32).sqrt()
}

#[test]
fn decoding_gives_the_very_bits_of_the_reference() {
    for format in Format::all()
        .filter(|f| f.ggml_type().is_some() && !matches!(f, Format::F32 | Format::F16 | Format::Q8_K))
    {
        let decoded = decode(format, &golden(&format!("{format}.blocks")));
        let expected = floats(&golden(&format!("{format}.values")));
        assert_eq!(decoded.len(), expected.len(), "{format}");
        for (i, (decoded, expected)) in decoded.iter().zip(&expected).enumerate() {
            let same = decoded.to_bits() == expected.to_bits() || decoded.is_nan() && expected.is_nan();
            assert!(same, "{format}, value {i}: {decoded} instead of {expected}");
        }
    }
}

/// Rows of 256 values in a format, from its golden blocks, as far as their scales are numbers of usual size.
fn usual_rows(format: Format) -> Vec<u8> {
    let row = format.row_bytes(256).unwrap_or_else(|error| panic!("{error}"));
    let blocks = golden(&format!("{format}.blocks"));
    let is_usual = |bytes: &&[u8]| decode(format, bytes).iter().all(|value| value.abs() < 1e4);
    let rows: Vec<&[u8]> = blocks[..blocks.len() / 2].chunks_exact(row).filter(is_usual).collect();
    rows.iter().cycle().take(37).flat_map(|row| row.iter().copied()).collect()
}

#[test]
fn products_of_blocks_are_those_of_their_values() {
    let pool = Pool::new(1);
    for format in Format::all().filter(|format| format.block_len() == 256 && *format != Format::Q8_K) {
        let bytes = usual_rows(format);
        if bytes.is_empty() {
            continue;
        }
        let values = decode(format, &bytes);
        let rows = values.len() / 256;
        let weights = MatRef::new(format, rows, 256, &bytes).unwrap();
        // Every way to multiply, which the number of activation rows decides.
        for batch in [1, 2, 3, 5, 11, 20, 101] {
            let x = gaussian(batch * 256);
            for (precision, budget) in [(Precision::Exact, 2e-6), (Precision::Fast, 1e-2)] {
                let mut found = vec![0.0; batch * rows];
                matmul(&pool, weights, &Activations::new(&x, 256), precision, &mut found);
                for (index, found) in found.iter().enumerate() {
                    let (x, row) = (&x[index / rows * 256..][..256], &values[index % rows * 256..][..256]);
                    let terms = x.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b));
                    let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
                    let error = (f64::from(*found) - sum).abs();
                    assert!(
                        error <= budget * size,
                        "{format}, {batch} rows, {precision:?}: {found}, not {sum}"
                    );
                }
            }
        }
    }
}

#[test]
fn codes_of_8_bits_are_scaled_and_moved() {
    let mut block = [2.0f32.to_le_bytes(), (-1.5f32).to_le_bytes()].concat();
    block.extend(0..16u8);
    block.extend(240..=255u8);
    let expected: Vec<f32> = (0..16).chain(240..=255).map(|code| 2.0 * code as f32 - 1.5).collect();
    assert_eq!(decode(Format::AFFINE8, &block), expected);
}

#[test]
fn encoding_gives_the_very_bytes_of_the_reference() {
    let values = floats(&golden("to_encode.values"));
    for format in [Format::BF16, Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1, Format::Q8_0] {
        let expected = golden(&format!("{format}.encoded"));
        let encoded = encode(format, &values);
        let blocks = encoded.chunks(format.block_bytes()).zip(expected.chunks(format.block_bytes()));
        for (i, (encoded, expected)) in blocks.enumerate() {
            assert_eq!(encoded, expected, "{format}, block {i}");
        }
    }
}

#[test]
fn every_half_is_decoded_at_any_address() {
    let halves: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).collect();
    let mut bytes = vec![0];
    bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
    for (decoded, half) in decode(Format::F16, &bytes[1..]).iter().zip(&halves) {
        assert!(*decoded == half.to_f32() || decoded.is_nan() && half.is_nan(), "{decoded}, not {half}");
    }
}

/// ggml gives 0.297, 0.1507, 0.0716, 0.0361 and 0.0177 for the K formats on such data, 0.0760 and 0.0766 for those of a table, and
/// 0.1156 for MXFP4.
#[test]
fn errors_on_gaussian_values_are_no_worse_than_the_reference() {
    let values = gaussian(1 << 16);
    let budgets = [
        (Format::Q4_0, 0.0865),
        (Format::Q4_1, 0.0785),
        (Format::Q5_0, 0.0430),
        (Format::Q5_1, 0.0382),
        (Format::Q8_0, 0.0054),
        (Format::Q2_K, 0.277),
        (Format::Q3_K, 0.154),
        (Format::IQ4_NL, 0.0772),
        (Format::IQ4_XS, 0.0776),
        (Format::MXFP4, 0.113),
        (Format::Q4_K, 0.0720),
        (Format::Q5_K, 0.0362),
        (Format::Q6_K, 0.0178),
        (Format::Q8_K, 0.0071),
    ];
    for (format, budget) in budgets {
        let error = root_mean_square_error(&values, &decode(format, &encode(format, &values)));
        assert!(error < budget, "{format}: {error}");
    }
}

/// Importance makes errors smaller where they count, and formats without a choice ignore it.
#[test]
fn important_values_have_smaller_errors() {
    let values = gaussian(1 << 14);
    let importance: Vec<f32> = (0..values.len()).map(|i| if i % 5 == 0 { 100.0 } else { 0.1 }).collect();
    let weighted_error = |format: Format, bytes: &[u8]| {
        let decoded = decode(format, bytes);
        let squares = values.iter().zip(&decoded).zip(&importance).map(|((a, b), w)| w * (a - b).powi(2));
        f64::from(squares.sum::<f32>())
    };
    for format in encodable() {
        let plain = encode(format, &values);
        let mut weighted = Vec::new();
        format.encode_weighted(&values, &importance, &mut weighted).unwrap();
        let ignores = format.is_float() || matches!(format, Format::Q8_0 | Format::Q8_K);
        assert_eq!(plain == weighted, ignores, "{format}");
        let (plain, weighted) = (weighted_error(format, &plain), weighted_error(format, &weighted));
        // MXFP4 has the choice between two scales.
        let share = if format == Format::MXFP4 { 1.0 } else { 0.9 };
        assert!(ignores || weighted < share * plain, "{format}: {weighted} with importance, {plain} without");
    }
}

#[test]
fn zeros_stay_zeros() {
    for format in encodable() {
        let zeros = vec![0.0; 2 * format.block_len()];
        assert_eq!(decode(format, &encode(format, &zeros)), zeros, "{format}");
    }
}

/// Least squares cannot separate slope and offset of equal codes.
#[test]
fn constant_stretches_do_not_spoil_their_block() {
    for constant in [0.1, -0.1, 0.3, 1.7, -2.3, 1e-3, 3.0] {
        let mut values = gaussian(256);
        values[32..96].fill(constant);
        values[40] *= 1.0001;
        for (format, budget) in [(Format::Q4_K, 0.09), (Format::Q5_K, 0.045), (Format::Q6_K, 0.025)] {
            let error = root_mean_square_error(&values, &decode(format, &encode(format, &values)));
            assert!(error < budget, "{format} with {constant}: {error}");
        }
    }
}

#[test]
fn the_largest_and_the_smallest_values_decode_to_finite_ones() {
    let smallest = f32::from_bits(1);
    for format in encodable() {
        for extreme in [65504.0, -65504.0, smallest, 1e-39, 1e-30, 1e-8] {
            let mut values = vec![extreme; format.block_len()];
            for (i, value) in values.iter_mut().enumerate() {
                *value *= [1.0, -1.0, 0.0, 0.5][i % 4];
            }
            for decoded in decode(format, &encode(format, &values)) {
                assert!(decoded.abs() <= 1.1 * extreme.abs() + f32::EPSILON, "{format}: {extreme} {decoded}");
            }
        }
    }
}

#[test]
fn values_out_of_range_are_refused_and_nothing_is_written() {
    for format in encodable().filter(|format| !format.is_float()) {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 65505.0, f32::MAX] {
            let mut values = vec![1.0; format.block_len()];
            values[7] = value;
            let mut out = vec![1, 2, 3];
            let error = format.encode(&values, &mut out).unwrap_err();
            assert_eq!(error, ComputeError::OutOfRange { format, index: 7, value: value.to_string() });
            assert_eq!(out, [1, 2, 3]);
        }
    }
    let error = Format::Q4_K.encode(&[0.0; 32], &mut Vec::new()).unwrap_err();
    assert_eq!(error, ComputeError::PartialBlock { format: Format::Q4_K, cols: 32 });
    for format in Format::all().filter(|format| !format.can_encode()) {
        let error = format.encode(&[0.0; 256], &mut Vec::new()).unwrap_err();
        assert_eq!(error, ComputeError::NoEncoder { format });
    }
}

#[test]
fn the_sums_of_q8_k_are_those_of_its_codes() {
    let block = encode(Format::Q8_K, &gaussian(256));
    for (codes, sum) in block[4..260].chunks(16).zip(block[260..].as_chunks().0) {
        let expected: i16 = codes.iter().map(|code| i16::from(*code as i8)).sum();
        assert_eq!(i16::from_le_bytes(*sum), expected);
    }
}

/// Blocks of values with one magnitude for all and another for each.
fn values() -> impl Strategy<Value = Vec<f32>> {
    (vec((-1f32..1.0, -3i32..3), 256), -20i32..12, -1f32..1.0).prop_map(|(values, exponent, offset)| {
        values.iter().map(|(v, e)| (v * 2f32.powi(*e) + offset) * 2f32.powi(exponent)).collect()
    })
}

proptest! {
    #[test]
    fn any_bytes_decode(bytes in vec(any::<u8>(), 2 * 292)) {
        for format in Format::all() {
            let bytes = &bytes[..bytes.len() / format.block_bytes() * format.block_bytes()];
            prop_assert_eq!(decode(format, bytes).len() % format.block_len(), 0);
        }
    }

    /// Errors are at most a step of the codes, which is a fraction of the largest magnitude.
    #[test]
    fn errors_are_bounded(values in values()) {
        let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        // The largest multiple of a block's scale comes last: half-precision scales are coarse near zero.
        let bounds = [
            (Format::F32, 0.0, 1),
            (Format::F16, 1.0 / 2048.0, 1),
            (Format::BF16, 1.0 / 256.0, 1),
            (Format::Q4_0, 1.0 / 8.0, 8),
            (Format::Q4_1, 1.0 / 15.0, 15),
            (Format::Q5_0, 1.0 / 16.0, 16),
            (Format::Q5_1, 1.0 / 31.0, 31),
            (Format::Q8_0, 0.5 / 127.0, 127),
            (Format::Q2_K, 2.0 / 3.0, 15 * 3),
            (Format::Q3_K, 1.0 / 3.0, 32 * 4),
            (Format::IQ4_NL, 0.25, 127),
            (Format::IQ4_XS, 0.25, 32 * 127),
            (Format::MXFP4, 0.34, 1),
            (Format::Q4_K, 2.0 / 15.0, 63 * 15),
            (Format::Q5_K, 2.0 / 31.0, 63 * 31),
            (Format::Q6_K, 1.0 / 31.0, 128 * 32),
            (Format::Q8_K, 0.5 / 127.0, 127),
        ];
        for (format, bound, multiple) in bounds {
            let half_a_step_of_scales = 2f32.powi(-25);
            let allowed = largest * (bound + 1.0 / 1024.0) + multiple as f32 * half_a_step_of_scales;
            for (value, decoded) in values.iter().zip(decode(format, &encode(format, &values))) {
                prop_assert!((value - decoded).abs() <= allowed, "{format}: {value} became {decoded}");
            }
        }
    }

    #[test]
    fn decoded_values_are_encoded_without_loss(values in values()) {
        for format in [Format::F16, Format::BF16, Format::Q4_0, Format::Q5_0, Format::Q8_0] {
            let once = decode(format, &encode(format, &values));
            prop_assert!(decode(format, &encode(format, &once)) == once, "{format}");
        }
    }
}
