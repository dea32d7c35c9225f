//! What a checkpoint says of text: its tokenizer, chat template and special tokens.

use std::path::PathBuf;
use std::sync::Arc;

use super::Checkpoint;
use crate::gguf::{GgufFile, GgufValue};
use crate::{ChatTemplate, ModelError, SpecialTokens, Tokenizer, TokenizerError};

/// Files beside the weights that say how text becomes tokens and how the model is meant to be used.
const TOKENIZER_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "generation_config.json",
    "config.json",
];

impl Checkpoint {
    /// The tokenizer, built at the first call; none if the checkpoint has none, so that it takes token ids only.
    ///
    /// # Errors
    /// If there is one that is damaged or of an unknown kind.
    pub fn tokenizer(&self) -> Result<Option<Arc<Tokenizer>>, ModelError> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer.clone());
        }
        let tokenizer = match &self.gguf {
            Some(gguf) => self.gguf_tokenizer(gguf)?,
            None => self.hub_tokenizer(self.path.join("tokenizer.json"))?,
        };
        Ok(self.tokenizer.get_or_init(|| tokenizer.map(Arc::new)).clone())
    }

    fn hub_tokenizer(&self, file: PathBuf) -> Result<Option<Tokenizer>, ModelError> {
        if !file.is_file() {
            return Ok(None);
        }
        let tokenizer = Tokenizer::from_file(file);
        tokenizer.map(Some).map_err(|source| ModelError::Tokenizer { path: self.path.clone(), source })
    }

    /// The vocabulary in the file or, if it is of an unknown kind, a `tokenizer.json` beside the file.
    fn gguf_tokenizer(&self, gguf: &GgufFile) -> Result<Option<Tokenizer>, ModelError> {
        let Some(vocabulary) = gguf.vocabulary()? else { return Ok(None) };
        match Tokenizer::from_gguf(&vocabulary) {
            Ok(tokenizer) => Ok(Some(tokenizer)),
            Err(source) => {
                use TokenizerError::{UnknownModel, UnknownSplit};
                let beside = gguf.path().with_file_name("tokenizer.json");
                match source {
                    UnknownModel { .. } | UnknownSplit { .. } if beside.is_file() => {
                        self.hub_tokenizer(beside)
                    }
                    _ => Err(ModelError::Tokenizer { path: self.path.clone(), source }),
                }
            }
        }
    }

    /// How a conversation is put to the model; none if the checkpoint does not say.
    ///
    /// # Errors
    /// If there is a template that cannot be read.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, ModelError> {
        let template = match &self.gguf {
            Some(gguf) => {
                let source = gguf.get("tokenizer.chat_template").and_then(GgufValue::as_str);
                source.map(ChatTemplate::new).transpose()
            }
            None => ChatTemplate::from_directory(&self.path),
        };
        template.map_err(|source| ModelError::ChatTemplate { path: self.path.clone(), source })
    }

    /// The tokens that start and end a text, as the configuration names them.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.special_tokens
    }

    /// Which of the files about text and use there are in the directory that was opened. A GGUF file carries
    /// what they say itself; see [`Checkpoint::gguf`].
    pub fn tokenizer_files(&self) -> Vec<PathBuf> {
        TOKENIZER_FILES.iter().map(|name| self.path.join(name)).filter(|path| path.is_file()).collect()
    }
}
