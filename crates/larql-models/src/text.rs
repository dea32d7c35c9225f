//! A model's tokenizer and chat template, wherever a checkpoint or a vindex keeps them.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::gguf::{GgufFile, GgufValue};
use crate::{ChatTemplate, GgufVocabulary, ModelError, Tokenizer};

/// The file in which a vindex keeps the tokenizer that came in a GGUF file: a GGUF file without tensors.
const TOKENIZER_GGUF: &str = "tokenizer.gguf";

/// Where a model's words are defined. Nothing is read before it is asked for, and a tokenizer is built once.
#[derive(Debug)]
pub struct TextFiles {
    source: Source,
    tokenizer: OnceLock<Option<Arc<Tokenizer>>>,
}

#[derive(Debug)]
enum Source {
    Directory(PathBuf),
    Gguf(GgufFile),
}

impl TextFiles {
    /// The files of a directory: `tokenizer.json` with `tokenizer_config.json`, or `tokenizer.gguf`.
    pub fn in_directory(path: impl Into<PathBuf>) -> TextFiles {
        TextFiles { source: Source::Directory(path.into()), tokenizer: OnceLock::new() }
    }

    /// The metadata of a GGUF file.
    pub fn in_gguf(file: GgufFile) -> TextFiles {
        TextFiles { source: Source::Gguf(file), tokenizer: OnceLock::new() }
    }

    /// The tokenizer, built when first asked for; `None` where there is none, and the model takes token ids only.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn tokenizer(&self) -> Result<Option<Arc<Tokenizer>>, ModelError> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer.clone());
        }
        let tokenizer = self.read_tokenizer()?.map(Arc::new);
        Ok(self.tokenizer.get_or_init(|| tokenizer).clone())
    }

    /// The chat template, or `None` for a model that was not made for conversations.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, ModelError> {
        match &self.source {
            Source::Gguf(file) => chat_template_of(file),
            Source::Directory(path) => match ChatTemplate::from_directory(path)? {
                Some(template) => Ok(Some(template)),
                None => self.tokenizer_gguf()?.map_or(Ok(None), |file| chat_template_of(&file)),
            },
        }
    }

    fn read_tokenizer(&self) -> Result<Option<Tokenizer>, ModelError> {
        match &self.source {
            Source::Gguf(file) => tokenizer_of(file),
            Source::Directory(path) => {
                let json = path.join("tokenizer.json");
                if json.is_file() {
                    return Ok(Some(Tokenizer::from_file(json)?));
                }
                self.tokenizer_gguf()?.map_or(Ok(None), |file| tokenizer_of(&file))
            }
        }
    }

    fn tokenizer_gguf(&self) -> Result<Option<GgufFile>, ModelError> {
        let Source::Directory(path) = &self.source else { return Ok(None) };
        let path = path.join(TOKENIZER_GGUF);
        if path.is_file() { GgufFile::open(&path).map(Some) } else { Ok(None) }
    }
}

fn chat_template_of(file: &GgufFile) -> Result<Option<ChatTemplate>, ModelError> {
    let template = file.get("tokenizer.chat_template").and_then(GgufValue::as_str);
    Ok(template.map(ChatTemplate::new).transpose()?)
}

fn tokenizer_of(file: &GgufFile) -> Result<Option<Tokenizer>, ModelError> {
    let get = |key: &str| file.get(&format!("tokenizer.ggml.{key}"));
    let Some(model) = get("model").and_then(GgufValue::as_str) else { return Ok(None) };
    let array = |key: &str| get(key).and_then(GgufValue::as_array);
    let strings = |key: &str| -> Vec<&str> {
        array(key).and_then(|array| array.strings()).map_or_else(Vec::new, Iterator::collect)
    };
    let id = |key: &str| get(key).and_then(GgufValue::as_u64).and_then(|id| u32::try_from(id).ok());
    let flag = |key: &str| get(key).and_then(GgufValue::as_bool);
    let scores = array("scores").into_iter().flat_map(|array| array.iter());
    let types = array("token_type").into_iter().flat_map(|array| array.iter());
    let vocabulary = GgufVocabulary {
        model,
        pre: get("pre").and_then(GgufValue::as_str),
        tokens: strings("tokens"),
        scores: scores.map(|score| score.as_f64().unwrap_or_default() as f32).collect(),
        token_types: types
            .map(|kind| kind.as_u64().and_then(|k| k.try_into().ok()).unwrap_or_default())
            .collect(),
        merges: strings("merges"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        unknown: id("unknown_token_id"),
        padding: id("padding_token_id"),
        add_bos: flag("add_bos_token"),
        add_eos: flag("add_eos_token"),
        add_space_prefix: flag("add_space_prefix"),
    };
    Ok(Some(Tokenizer::from_gguf(&vocabulary)?))
}
