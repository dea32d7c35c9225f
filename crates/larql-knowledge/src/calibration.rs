//! Calibration text: background that a written feature must not activate for.

use larql_assets::CALIBRATION_TEXTS;
use larql_models::Tokenizer;

use crate::KnowledgeError;

/// Text of the same kind as the first calibration text, which is not used for calibration.
pub fn held_out_text() -> &'static str {
    larql_assets::HELD_OUT_TEXT
}

/// Encodes a text passage by passage; an empty line ends one.
///
/// # Errors
/// If the tokenizer cannot encode it.
pub fn passages(tokenizer: &Tokenizer, text: &str) -> Result<Vec<Vec<u32>>, KnowledgeError> {
    let passages = text.split("\n\n").map(str::trim).filter(|passage| !passage.is_empty());
    passages.map(|passage| Ok(tokenizer.encode(passage, true)?)).collect()
}

/// Encodes the calibration text that ships with the program: some 3,500 words in 300 pieces.
///
/// # Errors
/// If the tokenizer cannot encode it.
pub fn calibration_texts(tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>, KnowledgeError> {
    let texts = CALIBRATION_TEXTS.iter().map(|text| passages(tokenizer, text));
    Ok(texts.collect::<Result<Vec<_>, _>>()?.concat())
}
