//! The vocabulary that a GGUF file carries.

use super::{GgufFile, GgufValue};
use crate::{GgufVocabulary, ModelError};

impl GgufFile {
    /// What the file says of its tokenizer; none if it has no vocabulary.
    ///
    /// # Errors
    /// [`ModelError::Malformed`] if an entry is of the wrong type.
    pub fn vocabulary(&self) -> Result<Option<GgufVocabulary<'_>>, ModelError> {
        let Some(model) = self.entry("model", "a string", GgufValue::as_str)? else { return Ok(None) };
        let strings = |name| -> Result<Vec<&str>, ModelError> {
            let list = self.entry(name, "a list of strings", |value| value.as_array()?.strings())?;
            Ok(list.map(Iterator::collect).unwrap_or_default())
        };
        let id = |name| self.entry(name, "a token id", |value| value.as_u64()?.try_into().ok());
        let flag = |name| self.entry(name, "true or false", GgufValue::as_bool);
        let scores = self.entry("scores", "a list of f32", |value| value.as_array()?.f32s())?;
        let types = self.entry("token_type", "a list of i32", |value| value.as_array()?.i32s())?;
        let tokens = strings("tokens")?;
        if tokens.is_empty() {
            return Ok(None);
        }
        Ok(Some(GgufVocabulary {
            model,
            pre: self.entry("pre", "a string", GgufValue::as_str)?,
            tokens,
            scores: scores.map(Iterator::collect).unwrap_or_default(),
            token_types: types.map(Iterator::collect).unwrap_or_default(),
            merges: strings("merges")?,
            bos: id("bos_token_id")?,
            eos: id("eos_token_id")?,
            unknown: id("unknown_token_id")?,
            padding: id("padding_token_id")?,
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            add_space_prefix: flag("add_space_prefix")?,
        }))
    }

    /// `tokenizer.ggml.NAME` as `convert` reads it, if it is there.
    fn entry<'a, T>(
        &'a self,
        name: &str,
        expected: &str,
        convert: impl Fn(&'a GgufValue) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let key = format!("tokenizer.ggml.{name}");
        let Some(value) = self.get(&key) else { return Ok(None) };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(ModelError::malformed(&self.path, format!("`{key}`"), expected, value.to_string())),
        }
    }
}
