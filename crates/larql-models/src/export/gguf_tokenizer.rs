//! Description of a tokenizer in a GGUF file.

use std::path::Path;

use crate::gguf::{GgufArray, GgufValue};
use crate::special_tokens::{END_KEYS, STOP_IDS_KEY};
use crate::tokenizer::GgufEntries;
use crate::{ModelError, TextFiles};

/// The `tokenizer.*` entries for a model with this number of tokens; `path` is the file for messages. What came in a GGUF file
/// goes over as it was there.
pub(super) fn tokenizer_metadata(
    text: &TextFiles,
    vocab_size: usize,
    path: &Path,
) -> Result<Vec<(String, GgufValue)>, ModelError> {
    if let Some(file) = text.gguf()? {
        let entries = file.metadata().filter(|(key, _)| key.starts_with("tokenizer."));
        return Ok(entries.map(|(key, value)| (key.to_owned(), value.clone())).collect());
    }
    let Some(tokenizer) = text.tokenizer()? else {
        // llama.cpp takes token ids only then.
        return Ok(vec![entry("model", GgufValue::String("no_vocab".into()))]);
    };
    let converted = tokenizer.to_gguf(vocab_size);
    let mut entries = converted.map_err(|source| ModelError::Tokenizer { path: path.into(), source })?;
    let is_there = |id: &u32| (*id as usize) < vocab_size;
    let mut stops = text.stop_tokens()?;
    stops.retain(is_there);
    entries.eos = entries.eos.or(stops.first().copied());
    // Programs know some ends of a turn by their text, so those that they cannot know come first.
    stops.sort_by_key(|id| (entries.eos != Some(*id), tokenizer.eos().contains(id)));
    let padding = text.padding_token()?.and_then(|token| tokenizer.token_id(&token)).filter(is_there);
    let mut metadata = described(entries, padding);
    metadata.extend(END_KEYS.iter().zip(&stops).skip(1).map(|(key, id)| entry(key, GgufValue::U32(*id))));
    if stops.len() > END_KEYS.len() {
        metadata.push((STOP_IDS_KEY.into(), GgufValue::Array(GgufArray::of_u32s(stops))));
    }
    metadata.extend(text.templates()?.to_gguf());
    Ok(metadata)
}

fn entry(name: &str, value: GgufValue) -> (String, GgufValue) {
    (format!("tokenizer.ggml.{name}"), value)
}

fn described(entries: GgufEntries, padding: Option<u32>) -> Vec<(String, GgufValue)> {
    let list = |name, list: GgufArray| entry(name, GgufValue::Array(list));
    let mut metadata = vec![entry("model", GgufValue::String(entries.model.into()))];
    metadata.extend(entries.pre.map(|pre| entry("pre", GgufValue::String(pre.into()))));
    metadata.push(list("tokens", GgufArray::of_strings(&entries.tokens)));
    if !entries.scores.is_empty() {
        metadata.push(list("scores", GgufArray::of_f32s(entries.scores)));
    }
    metadata.push(list("token_type", GgufArray::of_i32s(entries.token_types)));
    if !entries.merges.is_empty() {
        metadata.push(list("merges", GgufArray::of_strings(&entries.merges)));
    }
    let ids = [
        ("bos_token_id", entries.bos),
        ("eos_token_id", entries.eos),
        ("unknown_token_id", entries.unknown),
        ("padding_token_id", padding),
    ];
    metadata.extend(ids.into_iter().filter_map(|(name, id)| Some(entry(name, GgufValue::U32(id?)))));
    let flags = [
        ("add_bos_token", entries.add_bos),
        ("add_eos_token", entries.add_eos),
        ("add_space_prefix", entries.add_space_prefix),
    ];
    metadata.extend(flags.map(|(name, flag)| entry(name, GgufValue::Bool(flag))));
    metadata
}
