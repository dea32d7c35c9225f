//! A model's tokenizer and chat template, wherever a checkpoint or a vindex keeps them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::gguf::{GgufFile, GgufValue};
use crate::{ChatTemplate, Config, ModelError, Tokenizer, TokenizerError};

/// The file in which a vindex keeps the tokenizer that came in a GGUF file: a GGUF file without tensors.
const TOKENIZER_GGUF: &str = "tokenizer.gguf";

/// What says how text becomes tokens and how a conversation is laid out. Nothing is read before it is asked for,
/// and a tokenizer is built once.
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

    /// The metadata of a GGUF file; where its vocabulary is of an unknown kind, a `tokenizer.json` beside it.
    pub fn in_gguf(file: GgufFile) -> TextFiles {
        TextFiles { source: Source::Gguf(file), tokenizer: OnceLock::new() }
    }

    /// The tokenizer, built at the first call; none where there is none, so that the model takes token ids only.
    ///
    /// # Errors
    /// If there is one that is damaged or of an unknown kind.
    pub fn tokenizer(&self) -> Result<Option<Arc<Tokenizer>>, ModelError> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer.clone());
        }
        let tokenizer = match &self.source {
            Source::Gguf(file) => gguf_tokenizer(file)?,
            Source::Directory(path) => match hub_tokenizer(path)? {
                Some(tokenizer) => Some(tokenizer),
                None => tokenizer_gguf(path)?.map_or(Ok(None), |file| gguf_tokenizer(&file))?,
            },
        };
        Ok(self.tokenizer.get_or_init(|| tokenizer.map(Arc::new)).clone())
    }

    /// The GGUF file that the tokenizer comes from, if it comes from one.
    pub(crate) fn gguf(&self) -> Result<Option<GgufFile>, ModelError> {
        match &self.source {
            Source::Gguf(file) => Ok(Some(file.clone())),
            Source::Directory(path) if path.join("tokenizer.json").is_file() => Ok(None),
            Source::Directory(path) => tokenizer_gguf(path),
        }
    }

    /// The text of the token that `tokenizer_config.json` fills batches with, if there is one.
    pub(crate) fn padding_token(&self) -> Result<Option<String>, ModelError> {
        let Source::Directory(path) = &self.source else { return Ok(None) };
        let path = path.join("tokenizer_config.json");
        if !path.is_file() {
            return Ok(None);
        }
        let config = Config::read(&path)?;
        match config.section("pad_token") {
            Ok(Some(token)) => token.optional_text("content").map(|text| text.map(str::to_owned)),
            _ => Ok(config.optional_text("pad_token")?.map(str::to_owned)),
        }
    }

    /// How a conversation is put to the model; none if nothing says so.
    ///
    /// # Errors
    /// If there is a template that cannot be read.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, ModelError> {
        match &self.source {
            Source::Gguf(file) => gguf_template(file),
            Source::Directory(path) => {
                let template = ChatTemplate::from_directory(path)
                    .map_err(|source| ModelError::ChatTemplate { path: path.clone(), source })?;
                match template {
                    Some(template) => Ok(Some(template)),
                    None => tokenizer_gguf(path)?.map_or(Ok(None), |file| gguf_template(&file)),
                }
            }
        }
    }
}

fn tokenizer_gguf(directory: &Path) -> Result<Option<GgufFile>, ModelError> {
    let path = directory.join(TOKENIZER_GGUF);
    if path.is_file() { GgufFile::open(&path).map(Some) } else { Ok(None) }
}

fn hub_tokenizer(directory: &Path) -> Result<Option<Tokenizer>, ModelError> {
    let path = directory.join("tokenizer.json");
    if !path.is_file() {
        return Ok(None);
    }
    Tokenizer::from_file(&path).map(Some).map_err(|source| ModelError::Tokenizer { path, source })
}

fn gguf_tokenizer(file: &GgufFile) -> Result<Option<Tokenizer>, ModelError> {
    use TokenizerError::{UnknownModel, UnknownSplit};
    let Some(vocabulary) = file.vocabulary()? else { return Ok(None) };
    let source = match Tokenizer::from_gguf(&vocabulary) {
        Ok(tokenizer) => return Ok(Some(tokenizer)),
        Err(source) => source,
    };
    if matches!(source, UnknownModel { .. } | UnknownSplit { .. })
        && let Some(directory) = file.path().parent()
        && let Some(tokenizer) = hub_tokenizer(directory)?
    {
        return Ok(Some(tokenizer));
    }
    Err(ModelError::Tokenizer { path: file.path().into(), source })
}

fn gguf_template(file: &GgufFile) -> Result<Option<ChatTemplate>, ModelError> {
    let source = file.get("tokenizer.chat_template").and_then(GgufValue::as_str);
    let template = source.map(ChatTemplate::new).transpose();
    template.map_err(|source| ModelError::ChatTemplate { path: file.path().into(), source })
}
