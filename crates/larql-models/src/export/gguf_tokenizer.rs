//! What a GGUF file says of a tokenizer.

use std::path::Path;

use crate::gguf::GgufValue;
use crate::{ModelError, TextFiles};

/// The `tokenizer.*` entries for a model of so many tokens; `path` is the file for messages.
pub(super) fn tokenizer_metadata(
    _text: &TextFiles,
    _vocab_size: usize,
    _path: &Path,
) -> Result<Vec<(String, GgufValue)>, ModelError> {
    Ok(vec![("tokenizer.ggml.model".into(), GgufValue::String("no_vocab".into()))])
}
