//! Ordinary text: what a written feature must not fire for.

use larql_assets::CALIBRATION_TEXTS;
use larql_models::Tokenizer;

use crate::InferenceError;

/// Text of the same kind as the first calibration text, which nothing is calibrated with.
pub fn held_out_text() -> &'static str {
    larql_assets::HELD_OUT_TEXT
}

/// The calibration text that ships with the program, as tokens: some 3,500 words in 300 pieces.
///
/// # Errors
/// If the tokenizer cannot encode it.
pub fn calibration_texts(tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>, InferenceError> {
    let pieces = CALIBRATION_TEXTS
        .iter()
        .flat_map(|text| text.split("\n\n"))
        .map(str::trim)
        .filter(|piece| !piece.is_empty());
    pieces.map(|piece| Ok(tokenizer.encode(piece, true)?)).collect()
}
