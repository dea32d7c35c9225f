//! Ordinary text: what a written feature must not fire for.

use larql_models::Tokenizer;

use larql_inference::InferenceError;

/// Paragraphs about many things, statements of the kind that facts are asked with, and facts.
const TEXTS: [&str; 3] = [
    include_str!("../../../data/calibration/ordinary.txt"),
    include_str!("../../../data/calibration/statements.txt"),
    include_str!("../../../data/calibration/facts.txt"),
];

/// Text of the same kind as the first, which nothing is calibrated with.
pub fn held_out_text() -> &'static str {
    include_str!("../../../data/calibration/held-out.txt")
}

/// The calibration text that ships with the program, as tokens: some 3,500 words in 300 pieces.
///
/// # Errors
/// If the tokenizer cannot encode it.
pub fn calibration_texts(tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>, InferenceError> {
    let pieces =
        TEXTS.iter().flat_map(|text| text.split("\n\n")).map(str::trim).filter(|piece| !piece.is_empty());
    pieces.map(|piece| Ok(tokenizer.encode(piece, true)?)).collect()
}
