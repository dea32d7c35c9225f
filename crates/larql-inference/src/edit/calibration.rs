//! Ordinary text: what a written feature must not fire for.

use larql_models::Tokenizer;

use crate::InferenceError;

/// Paragraphs about many things, and statements of the kind that facts are asked with.
const TEXTS: [&str; 2] = [
    include_str!("../../../../data/calibration/ordinary.txt"),
    include_str!("../../../../data/calibration/statements.txt"),
];

/// The calibration text that ships with the program, as tokens: some 2,000 words in 60 pieces.
///
/// # Errors
/// If the tokenizer cannot encode it.
pub fn calibration_texts(tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>, InferenceError> {
    let pieces =
        TEXTS.iter().flat_map(|text| text.split("\n\n")).map(str::trim).filter(|piece| !piece.is_empty());
    pieces.map(|piece| Ok(tokenizer.encode(piece, true)?)).collect()
}
