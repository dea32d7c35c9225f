//! Conversations with a language model.

use std::ops::ControlFlow;
use std::sync::Arc;

use larql_inference::{Executor, KeyValueCache};
use larql_models::{ChatTemplate, Message};

use crate::KnowledgeError;
use crate::{Generation, GenerationOptions, LanguageModel};

/// Conversation: the messages so far, and the cache of their tokens.
#[derive(Clone, Debug)]
pub struct Conversation {
    language: LanguageModel,
    template: Arc<ChatTemplate>,
    messages: Vec<Message>,
    /// Number of the oldest messages, without those of the system, that the context has no room for.
    forgotten: usize,
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
        let (language, messages, seen) = (self.clone(), Vec::new(), Vec::new());
        Ok(Conversation { language, template, messages, forgotten: 0, cache, seen })
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

    /// Removes all messages but those of the system.
    pub fn clear(&mut self) {
        self.messages.retain(is_of_system);
        self.forgotten = 0;
    }

    /// Replaces all messages.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        self.messages = messages;
        self.forgotten = 0;
    }

    /// Number of the oldest messages that the model does not see any more, as the context has no room for them.
    pub fn forgotten(&self) -> usize {
        self.forgotten
    }

    /// Adds the user's message and generates the answer, which becomes part of the conversation. `on_text` receives the
    /// answer in whole characters as it comes, and may end it. Only what is new is run: the cache keeps the longest common
    /// prefix. Where the context has no room for all messages and an answer, the oldest turns are left out; messages of
    /// the system stay.
    ///
    /// # Errors
    /// If the template does not render the conversation, the message alone does not fit into the context, or as
    /// [`LanguageModel::complete`]; the conversation is as before then.
    pub fn say(
        &mut self,
        text: &str,
        options: &GenerationOptions,
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, KnowledgeError> {
        let executor = self.language.executor(options);
        self.say_by(&executor, text, options, on_text)
    }

    /// As [`Conversation::say`], with passes that `executor` runs, in its own precision.
    ///
    /// # Errors
    /// As [`Conversation::say`], and those of the executor.
    pub fn say_by(
        &mut self,
        executor: &dyn Executor,
        text: &str,
        options: &GenerationOptions,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, KnowledgeError> {
        let before = (self.messages.len(), self.forgotten);
        self.messages.push(Message::new("user", text));
        let mut answer = String::new();
        let result = self.answer(executor, options, |part| {
            answer.push_str(part);
            on_text(part)
        });
        match result {
            Ok(_) => self.messages.push(Message::new("assistant", answer)),
            Err(_) => {
                self.messages.truncate(before.0);
                self.forgotten = before.1;
            }
        }
        result
    }

    fn answer(
        &mut self,
        executor: &dyn Executor,
        options: &GenerationOptions,
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, KnowledgeError> {
        let tokens = self.prompt(options)?;
        if self.cache.is_empty() {
            self.cache = KeyValueCache::new(self.language.model().spec()).with_format(options.key_values);
        }
        let common = tokens.iter().zip(&self.seen).take_while(|(a, b)| a == b).count();
        // At least one token must run to give the next one's logits.
        let kept = common.min(tokens.len().saturating_sub(1));
        self.cache.truncate(kept);
        self.seen.truncate(kept);
        let generation = self.language.stream(executor, &mut self.cache, &tokens, options, on_text);
        let new = generation.as_ref().map_or(&[][..], |generation| &generation.tokens);
        self.seen.extend(tokens[kept..].iter().chain(new));
        self.seen.truncate(self.cache.len());
        generation
    }

    /// Tokens of the conversation, without the oldest turns if there is no room for them and an answer.
    fn prompt(&mut self, options: &GenerationOptions) -> Result<Vec<u32>, KnowledgeError> {
        let context = self.language.context(options);
        // Once turns have to go, half of the context becomes free: each time, the rest of the conversation runs anew.
        let mut room = context - options.decode.max_tokens.min(context / 4);
        loop {
            let tokens = self.rendered()?;
            if tokens.len() <= room || !self.forget_turn() {
                return Ok(tokens);
            }
            room = room.min(context / 2);
        }
    }

    fn rendered(&self) -> Result<Vec<u32>, KnowledgeError> {
        let mut left_out = 0..self.forgotten;
        let shown = |message: &&Message| is_of_system(message) || left_out.next().is_none();
        let messages: Vec<Message> = self.messages.iter().filter(shown).cloned().collect();
        let prompt = self.template.render(&messages, &self.language.chat_options())?;
        self.language.encode(&prompt, false)
    }

    /// Leaves out the oldest turn: a message with all that follow it up to the user's next. False if none is left but the
    /// last message.
    fn forget_turn(&mut self) -> bool {
        let mut turns =
            self.messages.iter().filter(|message| !is_of_system(message)).skip(self.forgotten + 1);
        let Some(further) = turns.position(|message| message.role == "user") else { return false };
        self.forgotten += further + 1;
        true
    }
}

fn is_of_system(message: &Message) -> bool {
    message.role == "system"
}
