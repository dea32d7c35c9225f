//! A model's tokenizer, the tokens that end a text and the chat templates, wherever a checkpoint or a vindex keeps them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::chat::{TEMPLATE_FOLDERS, template_files};
use crate::checkpoint::refuse_placeholder;
use crate::gguf::GgufFile;
use crate::special_tokens::SpecialTokens;
use crate::{ChatTemplate, Config, ModelError, TemplateSources, Tokenizer, TokenizerError};

/// The file in which a vindex keeps the tokenizer that came in a GGUF file: a GGUF file without tensors.
const TOKENIZER_GGUF: &str = "tokenizer.gguf";

/// Tokenizer, chat template and special tokens of a model. Nothing is read before it is asked for,
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
    /// The files of a directory: `tokenizer.json`, `tokenizer.model` or `vocab.json` and `merges.txt`, with
    /// `tokenizer_config.json`; or `tokenizer.gguf`.
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
            Source::Directory(path) if Tokenizer::file_in(path).is_some() => Ok(None),
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

    /// The tokens that start and end a text, as configurations and metadata name them.
    ///
    /// # Errors
    /// If a configuration is damaged.
    pub fn special_tokens(&self) -> Result<SpecialTokens, ModelError> {
        match &self.source {
            Source::Gguf(file) => Ok(SpecialTokens::of_gguf(file)),
            Source::Directory(path) => match self.gguf()? {
                Some(file) => Ok(SpecialTokens::of_gguf(&file)),
                None => SpecialTokens::of_directory(path),
            },
        }
    }

    /// Every token that ends a text or a turn: those that the files name, and those that the vocabulary is known to
    /// have for it.
    ///
    /// # Errors
    /// If the tokenizer or a configuration is damaged.
    pub fn stop_tokens(&self) -> Result<Vec<u32>, ModelError> {
        let mut stops = self.special_tokens()?.eos;
        for id in self.tokenizer()?.iter().flat_map(|tokenizer| tokenizer.eos()) {
            if !stops.contains(id) {
                stops.push(*id);
            }
        }
        Ok(stops)
    }

    /// The sources of all chat templates.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn templates(&self) -> Result<TemplateSources, ModelError> {
        let Source::Directory(path) = &self.source else {
            return Ok(self.gguf()?.map(|file| TemplateSources::in_gguf(&file)).unwrap_or_default());
        };
        let sources = TemplateSources::in_directory(path)
            .map_err(|source| ModelError::ChatTemplate { path: path.clone(), source })?;
        match (sources.usual(), tokenizer_gguf(path)?) {
            (None, Some(file)) => Ok(TemplateSources::in_gguf(&file)),
            _ => Ok(sources),
        }
    }

    /// Chat template of the model; none if it has none.
    ///
    /// # Errors
    /// If there is a template that cannot be read.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, ModelError> {
        let template = self.templates()?.usual().map(ChatTemplate::new).transpose();
        let path = match &self.source {
            Source::Directory(path) => path.as_path(),
            Source::Gguf(file) => file.path(),
        };
        template.map_err(|source| ModelError::ChatTemplate { path: path.into(), source })
    }
}

fn tokenizer_gguf(directory: &Path) -> Result<Option<GgufFile>, ModelError> {
    let path = directory.join(TOKENIZER_GGUF);
    if path.is_file() { GgufFile::open(&path).map(Some) } else { Ok(None) }
}

fn hub_tokenizer(directory: &Path) -> Result<Option<Tokenizer>, ModelError> {
    let Some(path) = Tokenizer::file_in(directory) else { return Ok(None) };
    refuse_placeholder(&path)?;
    Tokenizer::from_any_file(&path).map(Some).map_err(|source| ModelError::Tokenizer { path, source })
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

/// Files that describe the tokenizer and the intended use of a model.
const SIDE_FILES: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "generation_config.json",
    "config.json",
];

/// Files that tokenizers without a `tokenizer.json` are in.
const OLDER_FILES: [&str; 4] = ["tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json"];

/// Lists the files of a directory, with their paths from there.
pub(crate) fn side_files(directory: &Path) -> Result<Vec<(String, PathBuf)>, ModelError> {
    let older = OLDER_FILES.iter().filter(|_| !directory.join("tokenizer.json").is_file());
    let plain = SIDE_FILES.iter().chain(older).map(|name| ((*name).to_owned(), directory.join(name)));
    let mut files: Vec<_> = plain.filter(|(_, path)| path.is_file()).collect();
    for folder in TEMPLATE_FOLDERS {
        let templates = template_files(&directory.join(folder))
            .map_err(|source| ModelError::ChatTemplate { path: directory.into(), source })?;
        for path in templates {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((format!("{folder}/{name}"), path));
        }
    }
    Ok(files)
}
