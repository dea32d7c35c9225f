//! The tokens that start and end a text, from wherever a model's files name them.

use std::path::Path;

use crate::gguf::{GgufArray, GgufFile, GgufValue};
use crate::{Config, ModelError};

/// Ids of the tokens that start and end a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Tokens at the beginning of a text.
    pub bos: Option<u32>,
    /// Any of these ends a text or a turn.
    pub eos: Vec<u32>,
    /// True if a tokenizer puts `bos` before a text by itself, where the files say so.
    pub add_bos: Option<bool>,
}

/// GGUF keys of ids that end a text: a text's end, a turn's end and a message's end.
pub(crate) const END_KEYS: [&str; 3] = ["eos_token_id", "eot_token_id", "eom_token_id"];
/// GGUF key of a list of all ids that end a text, for models that have more of them than [`END_KEYS`] can say.
pub(crate) const STOP_IDS_KEY: &str = "tokenizer.stop_token_ids";

impl SpecialTokens {
    /// From `generation_config.json`, `config.json` and its `text_config`, whose ends of a text all count, and
    /// `tokenizer_config.json`; nothing where there is none of these files.
    pub(crate) fn of_directory(directory: &Path) -> Result<SpecialTokens, ModelError> {
        let optional = |name: &str| -> Result<Option<Config>, ModelError> {
            let path = directory.join(name);
            if path.is_file() { Config::read(&path).map(Some) } else { Ok(None) }
        };
        let (generation, config) = (optional("generation_config.json")?, optional("config.json")?);
        let text = config.as_ref().map(|config| config.section("text_config")).transpose()?.flatten();
        let sources: Vec<&Config> = generation.iter().chain(&config).chain(&text).collect();
        let mut special = SpecialTokens::default();
        for source in sources {
            let bos = source.token_ids("bos_token_id")?.into_iter().next();
            special.bos = special.bos.or(bos);
            special.add_ends(source.token_ids("eos_token_id")?);
        }
        special.add_bos = match optional("tokenizer_config.json")? {
            Some(tokenizer) if tokenizer.gives("add_bos_token") => Some(tokenizer.flag("add_bos_token")?),
            _ => None,
        };
        Ok(special)
    }

    /// From the metadata of a GGUF file: besides the end of a text, the end of a turn.
    pub(crate) fn of_gguf(gguf: &GgufFile) -> SpecialTokens {
        let as_id = |value: &GgufValue| u32::try_from(value.as_u64()?).ok();
        let tokens =
            gguf.get("tokenizer.ggml.tokens").and_then(GgufValue::as_array).map_or(0, GgufArray::len);
        let is_token = |id: &u32| (*id as usize) < tokens;
        let id = |name: &str| as_id(gguf.get(&format!("tokenizer.ggml.{name}"))?).filter(is_token);
        let mut special = SpecialTokens {
            bos: id("bos_token_id"),
            eos: Vec::new(),
            add_bos: gguf.get("tokenizer.ggml.add_bos_token").and_then(GgufValue::as_bool),
        };
        special.add_ends(END_KEYS.into_iter().filter_map(id));
        if let Some(list) = gguf.get(STOP_IDS_KEY).and_then(GgufValue::as_array) {
            special.add_ends(list.iter().filter_map(|value| as_id(&value)));
        }
        special
    }

    /// Adds ids that end a text, each once.
    fn add_ends(&mut self, ids: impl IntoIterator<Item = u32>) {
        for id in ids {
            if !self.eos.contains(&id) {
                self.eos.push(id);
            }
        }
    }
}
