//! Language models: weights with tokenizer, chat template, stop tokens and edge memory.

use std::path::Path;
use std::sync::Arc;

use larql_compute::Pool;
use larql_core::SharedLazy;
use larql_core::progress::CancelToken;
use larql_inference::Model;
use larql_models::{ChatOptions, ChatTemplate, Checkpoint, TextFiles, Tokenizer};
use larql_vindex::{FeatureEdits, KnnStore, Vindex};

use crate::{EdgeMemory, KeySpace, KnowledgeError, calibration_texts};

/// Model that takes and gives text. Clones share everything, and cost little.
#[derive(Clone, Debug)]
pub struct LanguageModel {
    model: Model,
    tokenizer: Arc<Tokenizer>,
    template: Option<Arc<ChatTemplate>>,
    stop_tokens: Vec<u32>,
    /// Weights without edits.
    unedited: Model,
    /// Coordinates of keys by layer, measured on the model without edits.
    key_spaces: Arc<[SharedLazy<Arc<KeySpace>>]>,
    /// Entries of the edge memory.
    entries: Arc<KnnStore>,
    /// Index of the entries.
    memory: Arc<SharedLazy<Arc<EdgeMemory>>>,
}

impl LanguageModel {
    /// Opens a vindex, a GGUF file or a checkpoint directory.
    ///
    /// # Errors
    /// If it cannot be opened or has no tokenizer.
    pub fn open(path: &Path, pool: Arc<Pool>) -> Result<LanguageModel, KnowledgeError> {
        if Vindex::is_at(path) {
            LanguageModel::of_vindex(&Vindex::open(path)?, pool)
        } else {
            LanguageModel::of_checkpoint(&Checkpoint::open(path)?, pool)
        }
    }

    /// Opens the model of a checkpoint.
    ///
    /// # Errors
    /// As [`LanguageModel::open`].
    pub fn of_checkpoint(checkpoint: &Checkpoint, pool: Arc<Pool>) -> Result<LanguageModel, KnowledgeError> {
        LanguageModel::assemble(Model::load(checkpoint, pool)?, checkpoint.text(), checkpoint.path())
    }

    /// Opens the model in a vindex, which has to hold all weights of a forward pass.
    ///
    /// # Errors
    /// As [`LanguageModel::open`].
    pub fn of_vindex(vindex: &Vindex, pool: Arc<Pool>) -> Result<LanguageModel, KnowledgeError> {
        let language = LanguageModel::assemble(Model::load(vindex, pool)?, vindex.text(), vindex.path())?;
        Ok(language.with_entries(vindex.knn_store()?))
    }

    fn assemble(model: Model, text: &TextFiles, path: &Path) -> Result<LanguageModel, KnowledgeError> {
        let Some(tokenizer) = text.tokenizer()? else {
            return Err(KnowledgeError::NoTokenizer { path: path.into() });
        };
        let key_spaces = model.spec().layers.iter().map(|_| SharedLazy::new()).collect();
        Ok(LanguageModel {
            unedited: model.clone(),
            key_spaces,
            model,
            tokenizer,
            template: text.chat_template()?.map(Arc::new),
            stop_tokens: text.stop_tokens()?,
            entries: Arc::default(),
            memory: Arc::default(),
        })
    }

    /// Returns this model with other features, as [`Model::edited`].
    ///
    /// # Errors
    /// If an edit does not fit the model.
    pub fn edited(&self, edits: &FeatureEdits) -> Result<LanguageModel, KnowledgeError> {
        Ok(LanguageModel { model: self.model.edited(edits)?, ..self.clone() })
    }

    /// Returns this model with passes that `cancel` ends between layers.
    #[must_use]
    pub fn with_cancel(&self, cancel: &CancelToken) -> LanguageModel {
        let (model, unedited) = (self.model.with_cancel(cancel), self.unedited.with_cancel(cancel));
        LanguageModel { model, unedited, ..self.clone() }
    }

    /// Returns this model with other entries in its edge memory.
    pub fn with_entries(&self, entries: KnnStore) -> LanguageModel {
        LanguageModel { entries: Arc::new(entries), memory: Arc::default(), ..self.clone() }
    }

    /// Returns the edge memory, which is indexed at the first call; none without entries.
    ///
    /// # Errors
    /// If the coordinates of keys cannot be measured, or a target has no tokens.
    pub fn edge_memory(&self) -> Result<Option<&Arc<EdgeMemory>>, KnowledgeError> {
        if self.entries.is_empty() {
            return Ok(None);
        }
        let memory = self.memory.get_or_try_init(|| {
            let space = |layer| self.key_space(layer).cloned();
            EdgeMemory::new(&self.entries, &self.tokenizer, self.model.pool(), space).map(Arc::new)
        });
        memory.map(Some)
    }

    /// Returns the coordinates of keys of a layer, which are measured at the first call on the calibration text and the model
    /// without edits.
    ///
    /// # Errors
    /// If the text cannot be encoded or is too little for the model.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn key_space(&self, layer: usize) -> Result<&Arc<KeySpace>, KnowledgeError> {
        self.key_spaces[layer].get_or_try_init(|| {
            let texts = calibration_texts(&self.tokenizer)?;
            KeySpace::measure(&self.unedited, layer, &texts).map(Arc::new)
        })
    }

    /// Weights without edits.
    pub fn unedited(&self) -> &Model {
        &self.unedited
    }

    /// Weights.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Chat template, if the model was made for conversations.
    pub fn template(&self) -> Option<&Arc<ChatTemplate>> {
        self.template.as_ref()
    }

    /// Tokens that end a text or a turn.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// Encodes a text that the model is to run; `add_special` adds what the model expects around a whole text.
    ///
    /// # Errors
    /// [`KnowledgeError::NoEmbedding`] with the first token for which the model has no embedding.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, KnowledgeError> {
        let tokens = self.tokenizer.encode(text, add_special)?;
        let rows = self.model.spec().vocab_size;
        match tokens.iter().find(|token| **token as usize >= rows) {
            None => Ok(tokens),
            Some(&token) => {
                let text = self.tokenizer.token_text(token).unwrap_or_default();
                Err(KnowledgeError::NoEmbedding { text, token, rows })
            }
        }
    }

    /// Tokens of an answer after a prompt whose tokens are `encoded`: with a blank before it, where tokens begin with one.
    /// There are none where the answer is empty.
    ///
    /// # Errors
    /// As [`LanguageModel::encode`].
    pub fn encode_answer(
        &self,
        prompt: &str,
        encoded: &[u32],
        answer: &str,
    ) -> Result<Vec<u32>, KnowledgeError> {
        if answer.trim().is_empty() {
            return Ok(Vec::new());
        }
        let blank = if prompt.ends_with(char::is_whitespace) || answer.starts_with(' ') { "" } else { " " };
        let whole = self.encode(&format!("{prompt}{blank}{answer}"), true)?;
        match whole.strip_prefix(encoded) {
            Some(rest) => Ok(rest.to_vec()),
            None => Ok(self.tokenizer.encode(&format!("{blank}{answer}"), false)?),
        }
    }

    /// Options of rendering a conversation.
    pub fn chat_options(&self) -> ChatOptions {
        let text = |id: u32| self.tokenizer.token_text(id);
        ChatOptions {
            bos_token: self.tokenizer.bos().and_then(text),
            eos_token: self.tokenizer.eos().first().copied().and_then(text),
            ..ChatOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn language_models_conversations_and_memories_are_shared_between_threads() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<LanguageModel>();
        shared::<crate::Conversation>();
        shared::<EdgeMemory>();
        shared::<crate::MemoryProbe>();
    }
}
