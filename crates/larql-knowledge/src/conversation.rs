//! Conversations with a language model.

use std::ops::ControlFlow;
use std::sync::Arc;

use larql_inference::KeyValueCache;
use larql_models::{ChatTemplate, Message};

use crate::KnowledgeError;
use crate::language_model::{Generation, GenerationOptions, LanguageModel};

/// Conversation: the messages so far, and the cache of their tokens.
#[derive(Clone, Debug)]
pub struct Conversation {
    language: LanguageModel,
    template: Arc<ChatTemplate>,
    messages: Vec<Message>,
    cache: KeyValueCache,
    /// Tokens of the cache.
    seen: Vec<u32>,
}

impl LanguageModel {
    /// Begins a conversation without messages.
    ///
    /// # Errors
    /// [`KnowledgeError::NoChatTemplate`] if the model was not made for conversations.
    pub fn conversation(&self) -> Result<Conversation, KnowledgeError> {
        let template = self.template().cloned().ok_or(KnowledgeError::NoChatTemplate)?;
        let cache = KeyValueCache::new(self.model().spec());
        Ok(Conversation { language: self.clone(), template, messages: Vec::new(), cache, seen: Vec::new() })
    }
}

impl Conversation {
    /// Messages so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Adds a message without generating an answer, for instance that of the system.
    pub fn add(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Adds the user's message and generates the answer, which becomes part of the conversation. `on_text` receives the
    /// answer in whole characters as it comes, and may end it. Only what is new is run: the cache keeps the longest common
    /// prefix.
    ///
    /// # Errors
    /// If the template does not render the conversation, or as [`LanguageModel::complete`]; the conversation is as before
    /// then.
    pub fn say(
        &mut self,
        text: &str,
        options: &GenerationOptions,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, KnowledgeError> {
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
    ) -> Result<Generation, KnowledgeError> {
        let prompt = self.template.render(&self.messages, &self.language.chat_options())?;
        let tokens = self.language.encode(&prompt, false)?;
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
