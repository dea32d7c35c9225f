//! The tokens that start and end a text, from wherever a checkpoint names them.

use std::path::Path;

use crate::gguf::{GgufFile, GgufValue};
use crate::{Config, ModelError};

/// Ids of the tokens that start and end a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// What a text starts with, if anything.
    pub bos: Option<u32>,
    /// Any of these ends a text or a turn.
    pub eos: Vec<u32>,
    /// Whether a tokenizer puts `bos` before a text by itself, where the checkpoint says so.
    pub add_bos: Option<bool>,
}

impl SpecialTokens {
    /// From `generation_config.json`, else `config.json` or its `text_config`; and `tokenizer_config.json`.
    pub(crate) fn of_directory(directory: &Path, config: &Config) -> Result<SpecialTokens, ModelError> {
        let optional = |name: &str| -> Result<Option<Config>, ModelError> {
            let path = directory.join(name);
            if path.is_file() { Config::read(&path).map(Some) } else { Ok(None) }
        };
        let generation = optional("generation_config.json")?;
        let text = config.section("text_config")?;
        let sources: Vec<&Config> = generation.iter().chain([config]).chain(&text).collect();
        let ids = |key: &str| -> Result<Vec<u32>, ModelError> {
            for source in &sources {
                if let Some(ids) = source.token_ids(key)? {
                    return Ok(ids);
                }
            }
            Ok(Vec::new())
        };
        let add_bos = match optional("tokenizer_config.json")? {
            Some(tokenizer) if tokenizer.gives("add_bos_token") => Some(tokenizer.flag("add_bos_token")?),
            _ => None,
        };
        Ok(SpecialTokens { bos: ids("bos_token_id")?.first().copied(), eos: ids("eos_token_id")?, add_bos })
    }

    /// From the metadata of a GGUF file: besides the end of a text, the end of a turn.
    pub(crate) fn of_gguf(gguf: &GgufFile) -> SpecialTokens {
        let id = |name: &str| {
            let value = gguf.get(&format!("tokenizer.ggml.{name}"))?;
            u32::try_from(value.as_u64()?).ok()
        };
        let mut eos: Vec<u32> =
            ["eos_token_id", "eot_token_id", "eom_token_id"].into_iter().filter_map(id).collect();
        eos.dedup();
        let add_bos = gguf.get("tokenizer.ggml.add_bos_token").and_then(GgufValue::as_bool);
        SpecialTokens { bos: id("bos_token_id"), eos, add_bos }
    }
}
