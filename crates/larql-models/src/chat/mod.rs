//! Chat templates: a conversation as the text that a model was trained to continue.
//!
//! Templates are Jinja programs that come with the model. They are rendered as `transformers` does it, so that the
//! same template gives the same text; what they may do is bounded, since they come from the model's author.

mod json;
mod python;
mod rewrite;
mod sources;

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};
use serde::{Deserialize, Serialize};

use json::to_json;
pub use sources::TemplateSources;
pub(crate) use sources::{TEMPLATE_FOLDERS, template_files};

/// A turn of a conversation. Any type that serialises to a map can replace it, for instance one with tool calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Role of the speaker: `system`, `user` or `assistant` for most templates.
    pub role: String,
    /// Text of the turn.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// Variables of a template besides the conversation.
#[derive(Clone, Debug)]
pub struct ChatOptions {
    /// End with the words that open the model's turn.
    pub add_generation_prompt: bool,
    /// Text of the begin-of-text token.
    pub bos_token: Option<String>,
    /// Text of the end-of-text token.
    pub eos_token: Option<String>,
    /// Descriptions of the tools that the model may call.
    pub tools: Option<serde_json::Value>,
    /// Further variables by name, such as `enable_thinking`.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// Current time, for templates that write a date.
    pub now: SystemTime,
    /// Seconds by which the clock of such a date is ahead of UTC.
    pub utc_offset: i32,
}

impl Default for ChatOptions {
    /// With a generation prompt, the current date in the time zone of this machine, and nothing else.
    fn default() -> Self {
        Self {
            add_generation_prompt: true,
            bos_token: None,
            eos_token: None,
            tools: None,
            variables: serde_json::Map::new(),
            now: SystemTime::now(),
            utc_offset: jiff::Zoned::now().offset().seconds(),
        }
    }
}

/// A model's chat template.
///
/// ```
/// use larql_models::{ChatOptions, ChatTemplate, Message};
///
/// let template = ChatTemplate::new("{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}")?;
/// let text = template.render(&[Message::new("user", "Hello")], &ChatOptions::default())?;
/// assert_eq!(text, "<user>Hello\n");
/// # Ok::<_, larql_models::ChatError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
}

/// Failure of a chat template.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// `tokenizer_config.json` holds something else than a template under `chat_template`.
    #[error("{}: {message}; expected a template or a list of named ones", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The problem.
        message: String,
    },
    /// The template is not valid Jinja.
    #[error("the chat template is not valid: {0}")]
    Syntax(Error),
    /// The template refuses the conversation, in its own words.
    #[error("the model's chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template failed, or did not come to an end.
    #[error("cannot render the chat template: {0}")]
    Render(Error),
}

/// Bound of the steps of a template; a long conversation takes some ten thousand steps.
const STEPS: u64 = 10_000_000;

/// Context of a template. Missing tokens are undefined, missing tools and documents are none.
#[derive(Serialize)]
struct Variables<'a, M> {
    #[serde(flatten)]
    variables: &'a serde_json::Map<String, serde_json::Value>,
    messages: &'a [M],
    tools: Option<&'a serde_json::Value>,
    documents: (),
    add_generation_prompt: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bos_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eos_token: Option<&'a str>,
}

/// Message that `raise_exception` was called with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

impl ChatTemplate {
    /// A template from its source, such as `tokenizer.chat_template` of a GGUF file.
    pub fn new(source: impl Into<String>) -> Result<Self, ChatError> {
        let source = rewrite::for_this_engine(&source.into());
        environment(SystemTime::UNIX_EPOCH, 0).template_from_str(&source).map_err(ChatError::Syntax)?;
        Ok(Self { source })
    }

    /// The template for conversations with the model in a directory; none if no file there has one.
    pub fn from_directory(directory: impl AsRef<Path>) -> Result<Option<Self>, ChatError> {
        let sources = TemplateSources::in_directory(directory.as_ref())?;
        sources.usual().map(Self::new).transpose()
    }

    /// The template itself.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation.
    pub fn render<M: Serialize>(&self, messages: &[M], options: &ChatOptions) -> Result<String, ChatError> {
        let environment = environment(options.now, options.utc_offset);
        let template = environment.template_from_str(&self.source).map_err(ChatError::Syntax)?;
        let variables = Variables {
            variables: &options.variables,
            messages,
            tools: options.tools.as_ref(),
            documents: (),
            add_generation_prompt: options.add_generation_prompt,
            bos_token: options.bos_token.as_deref(),
            eos_token: options.eos_token.as_deref(),
        };
        template.render(Serde(variables)).map_err(|error| match refusal(&error) {
            Some(reason) => ChatError::Refused(reason),
            None => ChatError::Render(error),
        })
    }
}

/// Jinja as `transformers` sets it up.
fn environment<'source>(now: SystemTime, utc_offset: i32) -> Environment<'source> {
    let mut environment = Environment::new();
    // Only delimiters can make this fail, and these are Jinja's own.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(STEPS));
    python::add_to(&mut environment);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
        ValueKind::None => Ok(out.write_str("None")?),
        ValueKind::Number if !value.is_integer() => {
            Ok(out.write_str(&f64::try_from(value.clone()).map(json::float).unwrap_or_default())?)
        }
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |reason: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "refused").with_source(Refusal(reason)))
    });
    environment.add_function("strftime_now", move |format: String| -> Result<String, Error> {
        let invalid = |error: jiff::Error| Error::new(ErrorKind::InvalidOperation, error.to_string());
        let offset = jiff::tz::Offset::from_seconds(utc_offset).map_err(invalid)?;
        let now = jiff::Timestamp::try_from(now).map_err(invalid)?.to_zoned(offset.to_time_zone());
        jiff::fmt::strtime::format(&format, &now).map_err(invalid)
    });
    environment
}

/// Message of `raise_exception`, if the template called it.
fn refusal(error: &Error) -> Option<String> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(Refusal(reason)) = error.downcast_ref() {
            return Some(reason.clone());
        }
        source = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, ChatError> {
        let options = ChatOptions { bos_token: Some("<s>".into()), ..ChatOptions::default() };
        ChatTemplate::new(source)?.render(&[Message::new("user", "Hi")], &options)
    }

    #[test]
    fn errors_name_file_and_reason() {
        let errors = [
            "{% for m in messages %}",
            "{{ raise_exception('no ' ~ messages[0].role) }}",
            "{{ messages[0].content.name.first }}",
            "{{ messages | tojson(colour=1) }}",
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        ];
        assert!(render("{{ strftime_now('%') }}").is_err());
        let messages: Vec<_> = errors.iter().map(|source| render(source).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(messages.join("\n"), @"
        the chat template is not valid: syntax error: unexpected end of input, expected end of block (in <string>:1)
        the model's chat template refuses this conversation: no user
        cannot render the chat template: undefined value: `messages[0].content.name` is undefined (in <string>:1)
        cannot render the chat template: too many arguments: unknown keyword argument 'colour' (in <string>:1)
        cannot render the chat template: engine ran out of fuel (in <string>:1)
        ");
    }
}
