//! The vocabulary that a GGUF file carries.

use super::{GgufArray, GgufFile, GgufValue};
use crate::{GgufVocabulary, ModelError};

impl GgufFile {
    /// The file's description of its tokenizer; none if it has no vocabulary.
    ///
    /// # Errors
    /// [`ModelError::Malformed`] if an entry is of the wrong type.
    pub fn vocabulary(&self) -> Result<Option<GgufVocabulary<'_>>, ModelError> {
        let Some(model) = self.entry("model", "a string", GgufValue::as_str)? else { return Ok(None) };
        let strings = |name| -> Result<Vec<&str>, ModelError> {
            let list = self.entry(name, "a list of strings", |value| value.as_array()?.strings())?;
            Ok(list.unwrap_or_default())
        };
        let flag = |name| self.entry(name, "true or false", GgufValue::as_bool);
        let scores = self.entry("scores", "a list of numbers", |value| value.as_array()?.f32s())?;
        let types = self.entry("token_type", "a list of whole numbers", |value| value.as_array()?.i32s())?;
        let tokens = strings("tokens")?;
        // An id that is no token stands for none; see `notes`.
        let id = |name| -> Result<Option<u32>, ModelError> {
            let id = self.entry(name, "a token id", whole_number)?;
            Ok(id.and_then(|id| u32::try_from(id).ok()).filter(|id| (*id as usize) < tokens.len()))
        };
        if tokens.is_empty() {
            return Ok(None);
        }
        Ok(Some(GgufVocabulary {
            model,
            pre: self.entry("pre", "a string", GgufValue::as_str)?,
            scores: scores.unwrap_or_default(),
            token_types: types.unwrap_or_default(),
            merges: strings("merges")?,
            bos: id("bos_token_id")?,
            eos: id("eos_token_id")?,
            unknown: id("unknown_token_id")?,
            padding: id("padding_token_id")?,
            tokens,
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            add_space_prefix: flag("add_space_prefix")?,
            strips_after_special: model == "llama" && self.is_phi3(),
        }))
    }

    /// Returns true if the architecture or the name of the file is that of Phi 3.
    fn is_phi3(&self) -> bool {
        let text = |key| self.get(key).and_then(GgufValue::as_str).unwrap_or_default();
        let name: String = text("general.name").chars().filter(char::is_ascii_alphanumeric).collect();
        text("general.architecture") == "phi3" || name.to_ascii_lowercase().contains("phi3")
    }

    /// Notes on entries that were read as if they were not there.
    pub(crate) fn notes(&self) -> Vec<String> {
        let entry = |name: &str| self.get(&format!("tokenizer.ggml.{name}"));
        let Some(count) = entry("tokens").and_then(GgufValue::as_array).map(GgufArray::len) else {
            return Vec::new();
        };
        let eos = entry("eos_token_id").and_then(whole_number);
        let Some(eos) = eos.filter(|eos| !(0..count as i128).contains(eos)) else { return Vec::new() };
        vec![format!(
            "{}: `tokenizer.ggml.eos_token_id` is {eos}, but there are {count} tokens; the model is read without it, so \
             its texts may not end by themselves",
            self.path.display()
        )]
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

/// A whole number of whatever width, which may be negative.
fn whole_number(value: &GgufValue) -> Option<i128> {
    let negative = match value {
        GgufValue::F32(_) | GgufValue::F64(_) => None,
        value => value.as_f64().filter(|number| *number < 0.0).map(|number| number as i128),
    };
    value.as_u64().map(i128::from).or(negative)
}
