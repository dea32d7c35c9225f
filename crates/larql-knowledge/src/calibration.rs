//! Calibration text: background that a written feature must not activate for.

use larql_assets::CALIBRATION_TEXTS;
use larql_models::Tokenizer;

use crate::KnowledgeError;

/// Text of the same kind as the first calibration text, which is not used for calibration.
pub fn held_out_text() -> &'static str {
    larql_assets::HELD_OUT_TEXT
}

/// Encodes the calibration text that ships with the program: some 3,500 words in 300 pieces.
///
/// # Errors
/// If the tokenizer cannot encode it.
pub fn calibration_texts(tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>, KnowledgeError> {
    let pieces = CALIBRATION_TEXTS.iter().flat_map(|text| text.split("\n\n")).map(str::trim);
    let pieces = pieces.filter(|piece| !piece.is_empty());
    pieces.map(|piece| Ok(tokenizer.encode(piece, true)?)).collect()
}
