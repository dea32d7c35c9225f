//! Every codec against ggml's reference: golden vectors that `data/make_codecs.py` wrote.

use std::path::PathBuf;

use larql_compute::Format;

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/codecs").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

#[test]
fn decoding_gives_the_very_bits_of_the_reference() {
    for format in Format::all().filter(|f| !matches!(f, Format::F32 | Format::F16 | Format::Q8_K)) {
        let blocks = golden(&format!("{format}.blocks"));
        let expected = floats(&golden(&format!("{format}.values")));
        let mut decoded = vec![0.0; expected.len()];
        format.decode(&blocks, &mut decoded);
        for (i, (decoded, expected)) in decoded.iter().zip(&expected).enumerate() {
            let same = decoded.to_bits() == expected.to_bits() || decoded.is_nan() && expected.is_nan();
            assert!(same, "{format}, value {i}: {decoded} instead of {expected}");
        }
    }
}
