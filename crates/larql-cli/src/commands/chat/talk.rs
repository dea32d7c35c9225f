//! The conversation: messages and commands, and their answers.

use larql_core::progress::CancelToken;
use larql_knowledge::{Conversation, GenerationOptions, LanguageModel};
use larql_models::Message;
use serde::{Deserialize, Serialize};

use super::command::{self, Command};
use super::{BLOCK, settings};
use crate::commands::report;
use crate::generation::{Generation, Stats, tell_end};
use crate::output::{Stream, out, outln, tell_recalled};

/// A conversation with a model.
pub(super) struct Talk {
    language: LanguageModel,
    conversation: Conversation,
    options: GenerationOptions,
    limited: bool,
    stats: bool,
    token: CancelToken,
}

/// Continuation of the conversation after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The next line.
    GoOn,
    /// The next line, after a line that could not be obeyed.
    Failed,
    /// The end of the chat.
    End,
}

/// A conversation in a file.
#[derive(Serialize, Deserialize)]
struct Saved {
    messages: Vec<Message>,
}

impl Talk {
    pub(super) fn new(
        language: LanguageModel,
        conversation: Conversation,
        options: GenerationOptions,
        generation: &Generation,
        token: CancelToken,
    ) -> Talk {
        let (limited, stats) = (generation.is_limited(), generation.stats);
        Talk { language, conversation, options, limited, stats, token }
    }

    /// Answers a message, or obeys a command.
    pub(super) fn submit(&mut self, text: &str) -> miette::Result<Flow> {
        let text = text.trim();
        let result = match Command::parse(text) {
            Some(Ok(Command::Bye)) => return Ok(Flow::End),
            Some(Ok(command)) => self.obey(command),
            Some(Err(message)) => Err(miette::Report::msg(message)),
            None => {
                let message = text.replace(BLOCK, "");
                return if message.trim().is_empty() { Ok(Flow::GoOn) } else { self.say(message.trim()) };
            }
        };
        match result {
            Ok(()) => Ok(Flow::GoOn),
            Err(error) => {
                eprintln!("{error}");
                Ok(Flow::Failed)
            }
        }
    }

    /// Answers a message. A message that the model cannot take is told, and the conversation goes on without it.
    pub(super) fn say(&mut self, message: &str) -> miette::Result<Flow> {
        self.token.reset();
        let forgotten = self.conversation.forgotten();
        let mut stream = Stream::new(&self.token);
        let said = self.conversation.say(message, &self.options, |part| stream.print(part));
        let generation = match said {
            Ok(generation) => generation,
            Err(error) => {
                eprintln!("{}", report(error));
                return Ok(Flow::Failed);
            }
        };
        stream.finish()?;
        let left_out = self.conversation.forgotten() - forgotten;
        if left_out > 0 {
            let context = self.language.context(&self.options);
            eprintln!(
                "(the context holds {context} tokens: the oldest {left_out} messages are left out from now on)"
            );
        }
        if self.stats {
            Stats::of(&generation).tell();
        }
        tell_recalled(&generation);
        tell_end(&generation, &self.language, &self.options, self.limited);
        Ok(Flow::GoOn)
    }

    fn obey(&mut self, command: Command) -> miette::Result<()> {
        match command {
            Command::Help => out!("{}", command::help()),
            Command::Clear => {
                self.conversation.clear();
                Ok(())
            }
            Command::System(None) => {
                let system = self.conversation.messages().iter().find(|message| message.role == "system");
                match system {
                    Some(message) => outln!("{}", message.content),
                    None => outln!("(no system message)"),
                }
            }
            Command::System(Some(text)) => {
                let others = self.conversation.messages().iter().filter(|message| message.role != "system");
                let system = Message::new("system", text.replace(BLOCK, "").trim());
                self.conversation.set_messages(std::iter::once(system).chain(others.cloned()).collect());
                Ok(())
            }
            Command::Set(None) => out!("{}", settings::list(&self.options)),
            Command::Set(Some((name, value))) => {
                settings::set(&mut self.options, &name, &value).map_err(miette::Report::msg)?;
                self.limited |= name == "max_tokens";
                Ok(())
            }
            Command::Save(file) => {
                let messages = self.conversation.messages().to_vec();
                let text = serde_json::to_string_pretty(&Saved { messages });
                let text = text.map_err(|error| miette::miette!("{file}: {error}"))?;
                std::fs::write(&file, text + "\n").map_err(|error| miette::miette!("{file}: {error}"))?;
                eprintln!("saved {} messages in {file}", self.conversation.messages().len());
                Ok(())
            }
            Command::Load(file) => {
                let text =
                    std::fs::read_to_string(&file).map_err(|error| miette::miette!("{file}: {error}"))?;
                let Saved { messages } = serde_json::from_str(&text)
                    .map_err(|error| miette::miette!("{file} is no saved conversation: {error}"))?;
                eprintln!("read {} messages from {file}", messages.len());
                self.conversation.set_messages(messages);
                Ok(())
            }
            Command::Bye => Ok(()),
        }
    }
}
