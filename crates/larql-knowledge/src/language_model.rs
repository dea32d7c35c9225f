//! A model with all it takes to talk to it: weights, tokenizer, chat template and the tokens that end a text.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use larql_compute::Pool;
use larql_models::{ChatOptions, ChatTemplate, Checkpoint, Message, Tokenizer};
use larql_vindex::{FeatureEdits, KnnStore, Vindex};

use larql_inference::{Cache, InferenceError, Model};

use crate::{EdgeMemory, Generation, GenerationOptions, Generator, KeySpace, calibration_texts};

/// A model that takes and gives text.
#[derive(Clone, Debug)]
pub struct LanguageModel {
    model: Model,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    stop_tokens: Vec<u32>,
    unedited: Arc<Unedited>,
    /// What is remembered beside the weights.
    entries: Arc<KnnStore>,
    /// The same, ready to answer, from when it is first asked.
    memory: Arc<OnceLock<EdgeMemory>>,
}

/// A model without edits, and what is measured on it when it is first asked for.
#[derive(Debug)]
struct Unedited {
    model: Model,
    /// Of each layer.
    key_spaces: Vec<OnceLock<Arc<KeySpace>>>,
}

impl LanguageModel {
    /// Opens a vindex, a GGUF file or a checkpoint directory.
    ///
    /// # Errors
    /// If it cannot be opened, has no tokenizer, or has one of another model.
    pub fn open(path: &Path, pool: Arc<Pool>) -> Result<LanguageModel, InferenceError> {
        if Vindex::is_at(path) {
            LanguageModel::of_vindex(&Vindex::open(path)?, pool)
        } else {
            LanguageModel::of_checkpoint(&Checkpoint::open(path)?, pool)
        }
    }

    /// The model of a checkpoint.
    ///
    /// # Errors
    /// As [`LanguageModel::open`].
    pub fn of_checkpoint(checkpoint: &Checkpoint, pool: Arc<Pool>) -> Result<LanguageModel, InferenceError> {
        let tokenizer = checkpoint.text().tokenizer()?;
        let mut stop_tokens = checkpoint.special_tokens().eos.clone();
        stop_tokens.extend(tokenizer.iter().flat_map(|tokenizer| tokenizer.eos()));
        let model = Model::load(checkpoint, pool)?;
        LanguageModel::assemble(
            model,
            tokenizer,
            checkpoint.text().chat_template()?,
            stop_tokens,
            checkpoint.path(),
        )
    }

    /// The model in a vindex; it has to be of level inference at least.
    ///
    /// # Errors
    /// As [`LanguageModel::open`].
    pub fn of_vindex(vindex: &Vindex, pool: Arc<Pool>) -> Result<LanguageModel, InferenceError> {
        let tokenizer = vindex.text().tokenizer()?;
        let stop_tokens = tokenizer.iter().flat_map(|tokenizer| tokenizer.eos()).copied().collect();
        let model = Model::load(vindex, pool)?;
        let template = vindex.text().chat_template()?;
        let language = LanguageModel::assemble(model, tokenizer, template, stop_tokens, vindex.path())?;
        Ok(language.with_entries(vindex.knn_store()?))
    }

    fn assemble(
        model: Model,
        tokenizer: Option<Arc<Tokenizer>>,
        template: Option<ChatTemplate>,
        stop_tokens: Vec<u32>,
        path: &Path,
    ) -> Result<LanguageModel, InferenceError> {
        let Some(tokenizer) = tokenizer else {
            return Err(InferenceError::NoTokenizer { path: path.into() });
        };
        let vocab_size = model.spec().vocab_size;
        if tokenizer.vocab_size() > vocab_size {
            let tokens = tokenizer.vocab_size();
            return Err(InferenceError::WrongTokenizer { path: path.into(), tokens, vocab_size });
        }
        let key_spaces = vec![OnceLock::new(); model.spec().layers.len()];
        let unedited = Unedited { model: model.clone(), key_spaces };
        Ok(LanguageModel {
            unedited: Arc::new(unedited),
            model,
            tokenizer,
            template,
            stop_tokens,
            entries: Arc::default(),
            memory: Arc::default(),
        })
    }

    /// The same with other features, as [`Model::edited`].
    ///
    /// # Errors
    /// If an edit does not fit the model.
    pub fn edited(&self, edits: &FeatureEdits) -> Result<LanguageModel, InferenceError> {
        Ok(LanguageModel { model: self.model.edited(edits)?, ..self.clone() })
    }

    /// The same with other edges beside the weights.
    pub fn with_entries(&self, entries: KnnStore) -> LanguageModel {
        LanguageModel { entries: Arc::new(entries), memory: Arc::default(), ..self.clone() }
    }

    /// The edges beside the weights, ready to answer; none if there are none.
    ///
    /// # Errors
    /// If the coordinates in which keys are compared cannot be measured, or a target has no tokens.
    pub fn edge_memory(&self) -> Result<Option<&EdgeMemory>, InferenceError> {
        if self.entries.is_empty() {
            return Ok(None);
        }
        if let Some(memory) = self.memory.get() {
            return Ok(Some(memory));
        }
        let space = |layer| self.key_space(layer).cloned();
        let memory = EdgeMemory::new(&self.entries, &self.tokenizer, self.model.pool(), space)?;
        Ok(Some(self.memory.get_or_init(|| memory)))
    }

    /// The coordinates in which residuals of a layer are compared, measured on the shipped text and the model without
    /// edits.
    ///
    /// # Errors
    /// If the text cannot be encoded or is too little for the model.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn key_space(&self, layer: usize) -> Result<&Arc<KeySpace>, InferenceError> {
        let kept = &self.unedited.key_spaces[layer];
        if let Some(space) = kept.get() {
            return Ok(space);
        }
        let texts = calibration_texts(&self.tokenizer)?;
        let space = Arc::new(KeySpace::measure(&self.unedited.model, layer, &texts)?);
        Ok(kept.get_or_init(|| space))
    }

    /// The weights without edits.
    pub fn unedited(&self) -> &Model {
        &self.unedited.model
    }

    /// The weights.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// How a conversation is laid out, if the model was made for conversations.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// Tokens that end a text or a turn.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// Goes on with `prompt`. `on_text` sees the new text in whole characters as it comes and may break off.
    ///
    /// # Errors
    /// If the prompt cannot be encoded, or as [`Generator::generate`].
    pub fn complete(
        &self,
        prompt: &str,
        options: &GenerationOptions,
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, InferenceError> {
        let tokens = self.tokenizer.encode(prompt, true)?;
        self.stream(&mut Cache::new(self.model.spec()), &tokens, options, on_text)
    }

    /// What the template is told beside the messages.
    fn chat_options(&self) -> ChatOptions {
        let text = |id: u32| self.tokenizer.token_text(id);
        ChatOptions {
            bos_token: self.tokenizer.bos().and_then(text),
            eos_token: self.tokenizer.eos().first().copied().and_then(text),
            ..ChatOptions::default()
        }
    }

    /// An empty conversation.
    ///
    /// # Errors
    /// [`InferenceError::NoChatTemplate`] if the model was not made for conversations.
    pub fn conversation(&self) -> Result<Conversation<'_>, InferenceError> {
        let template = self.template.as_ref().ok_or(InferenceError::NoChatTemplate)?;
        let cache = Cache::new(self.model.spec());
        Ok(Conversation { language: self, template, messages: Vec::new(), cache, seen: Vec::new() })
    }

    fn stream(
        &self,
        cache: &mut Cache,
        tokens: &[u32],
        options: &GenerationOptions,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, InferenceError> {
        let mut stream = self.tokenizer.decode_stream(true);
        let ffn = self.model.dense_ffn();
        let generator = Generator { model: &self.model, feed_forward: &ffn, memory: self.edge_memory()? };
        let generation = generator.generate(cache, tokens, options, |token| {
            stream.push(token).map_or(ControlFlow::Continue(()), |text| on_text(&text))
        })?;
        if let Some(rest) = stream.finish() {
            // Nothing is left to break off.
            let _ = on_text(&rest);
        }
        Ok(generation)
    }
}

/// A chat: messages so far, and what the model remembers of them.
#[derive(Debug)]
pub struct Conversation<'a> {
    language: &'a LanguageModel,
    template: &'a ChatTemplate,
    messages: Vec<Message>,
    cache: Cache,
    /// The tokens that the cache holds.
    seen: Vec<u32>,
}

impl Conversation<'_> {
    /// The messages so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Adds a message without asking for an answer, for instance the system's.
    pub fn add(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Says something and streams the answer, which becomes part of the conversation. Only what is new is run:
    /// the cache keeps the longest common beginning.
    ///
    /// # Errors
    /// If the template does not render the conversation, or as [`Generator::generate`]; the conversation is as before then.
    pub fn say(
        &mut self,
        text: &str,
        options: &GenerationOptions,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, InferenceError> {
        let before = self.messages.len();
        self.messages.push(Message::new("user", text));
        let mut answer = String::new();
        let result = self.answer(options, |part| {
            answer.push_str(part);
            on_text(part)
        });
        match result {
            Ok(_) => self.messages.push(Message::new("assistant", answer)),
            Err(_) => self.messages.truncate(before),
        }
        result
    }

    fn answer(
        &mut self,
        options: &GenerationOptions,
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, InferenceError> {
        let prompt = self.template.render(&self.messages, &self.language.chat_options())?;
        let tokens = self.language.tokenizer.encode(&prompt, false)?;
        let common = tokens.iter().zip(&self.seen).take_while(|(a, b)| a == b).count();
        // At least one token must run to give the next one's logits.
        let kept = common.min(tokens.len().saturating_sub(1));
        self.cache.truncate(kept);
        self.seen.truncate(kept);
        let generation = self.language.stream(&mut self.cache, &tokens[kept..], options, on_text);
        let new = generation.as_ref().map_or(&[][..], |generation| &generation.tokens);
        self.seen.extend(tokens[kept..].iter().chain(new));
        self.seen.truncate(self.cache.len());
        generation
    }
}
