//! Chat templates: a conversation as the text that a model was trained to continue.
//!
//! Templates are Jinja programs that come with the model. They are rendered as `transformers` does it, so that the
//! same template gives the same text; what they may do is bounded, since they come from whoever made the model.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::parse_strftime_borrowed;

/// A turn of a conversation. Any type that serialises to a map will do in its place, say one with tool calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant` for most templates.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// What a template is given besides the conversation.
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
    /// What templates that write a date take for today, in UTC.
    pub now: SystemTime,
}

impl Default for ChatOptions {
    /// With a generation prompt, the current date and nothing else.
    fn default() -> Self {
        Self {
            add_generation_prompt: true,
            bos_token: None,
            eos_token: None,
            tools: None,
            variables: serde_json::Map::new(),
            now: SystemTime::now(),
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

/// What can go wrong with a chat template.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `tokenizer_config.json` holds something else than a template under `chat_template`.
    #[error("{}: {message}; expected a template or a list of named ones", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
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

/// What a template may spend; a long conversation takes some ten thousand steps.
const STEPS: u64 = 10_000_000;

/// What a template sees. Tokens that there are not are absent, tools and documents are none.
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

/// What `raise_exception` was called with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

impl ChatTemplate {
    /// A template from its source, such as `tokenizer.chat_template` of a GGUF file.
    pub fn new(source: impl Into<String>) -> Result<Self, ChatError> {
        let source = plain_generation_blocks(&source.into());
        environment(SystemTime::UNIX_EPOCH).template_from_str(&source).map_err(ChatError::Syntax)?;
        Ok(Self { source })
    }

    /// The template of a checkpoint: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json`; the
    /// one named `default` if that one has several. None if there is neither.
    pub fn from_directory(directory: impl AsRef<Path>) -> Result<Option<Self>, ChatError> {
        let read = |name: &str| {
            let path = directory.as_ref().join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Some((path, text))),
                Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(ChatError::Io { path, source }),
            }
        };
        if let Some((_, source)) = read("chat_template.jinja")? {
            return Self::new(source).map(Some);
        }
        let Some((path, config)) = read("tokenizer_config.json")? else { return Ok(None) };
        match configured_template(&config) {
            Ok(None) => Ok(None),
            Ok(Some(source)) => Self::new(source).map(Some),
            Err(message) => Err(ChatError::Config { path, message }),
        }
    }

    /// The template itself.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation.
    pub fn render<M: Serialize>(&self, messages: &[M], options: &ChatOptions) -> Result<String, ChatError> {
        let environment = environment(options.now);
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

/// The template in a `tokenizer_config.json`, or what is wrong with it.
fn configured_template(config: &str) -> Result<Option<String>, String> {
    let config: serde_json::Value = serde_json::from_str(config).map_err(|error| error.to_string())?;
    match config.get("chat_template") {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(source)) => Ok(Some(source.clone())),
        Some(serde_json::Value::Array(named)) => {
            let text = |template: &serde_json::Value, key| Some(template.get(key)?.as_str()?.to_owned());
            let default = named.iter().find(|template| text(template, "name").as_deref() == Some("default"));
            let source = default.or(named.first()).and_then(|template| text(template, "template"));
            source.map(Some).ok_or_else(|| "no template in the list under `chat_template`".to_owned())
        }
        Some(_) => Err("`chat_template` is neither text nor a list".to_owned()),
    }
}

/// `{% generation %}` blocks mark the model's words for training; here they are blocks that do nothing.
fn plain_generation_blocks(source: &str) -> String {
    let mut plain = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        plain.push_str(before);
        let word = tag.trim_start_matches("{%").trim_end_matches("%}").trim_matches(['-', '+']).trim();
        match word {
            "generation" => plain.push_str(&tag.replace(word, "if true")),
            "endgeneration" => plain.push_str(&tag.replace(word, "endif")),
            _ => plain.push_str(tag),
        }
        rest = after;
    }
    plain + rest
}

/// Jinja as `transformers` sets it up.
fn environment<'source>(now: SystemTime) -> Environment<'source> {
    let mut environment = Environment::new();
    // Only delimiters can make this fail, and these are Jinja's own.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(STEPS));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
        ValueKind::None => Ok(out.write_str("None")?),
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |reason: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "refused").with_source(Refusal(reason)))
    });
    environment.add_function("strftime_now", move |format: String| -> Result<String, Error> {
        let invalid = |reason: String| Error::new(ErrorKind::InvalidOperation, reason);
        let format = parse_strftime_borrowed(&format).map_err(|error| invalid(error.to_string()))?;
        OffsetDateTime::from(now).format(&format).map_err(|error| invalid(error.to_string()))
    });
    environment
}

/// Why a template called `raise_exception`, if that is what stopped it.
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

/// `json.dumps` of Python, where Jinja's own filter would escape HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let (sort_keys, ensure_ascii): (Option<bool>, Option<bool>) =
        (options.get("sort_keys")?, options.get("ensure_ascii")?);
    options.assert_all_used()?;

    let invalid = |error: serde_json::Error| {
        Error::new(ErrorKind::BadSerialization, "cannot write as JSON").with_source(error)
    };
    let mut json = serde_json::to_value(value).map_err(invalid)?;
    if sort_keys == Some(true) {
        json.sort_all_objects();
    }
    let (item, key) = match separators.as_deref() {
        None if indent.is_some() => (",", ": "),
        None => (", ", ": "),
        Some([item, key]) => (item.as_str(), key.as_str()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators are two strings")),
    };
    let mut out = Vec::new();
    let format = PythonJson { item, key, indent, depth: 0, is_empty: false };
    json.serialize(&mut serde_json::Serializer::with_formatter(&mut out, format)).map_err(invalid)?;
    let text = String::from_utf8_lossy(&out);
    Ok(if ensure_ascii == Some(true) { escape_non_ascii(&text) } else { text.into_owned() })
}

fn escape_non_ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            out.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

/// JSON with the spaces that Python's `json` puts.
struct PythonJson<'a> {
    /// Between items.
    item: &'a str,
    /// Between a key and its value.
    key: &'a str,
    /// Spaces for each level, with an item on a line.
    indent: Option<usize>,
    depth: usize,
    /// Whether nothing was written since the last opening bracket.
    is_empty: bool,
}

impl PythonJson<'_> {
    fn open<W: ?Sized + std::io::Write>(&mut self, out: &mut W, bracket: &str) -> std::io::Result<()> {
        self.depth += 1;
        self.is_empty = true;
        out.write_all(bracket.as_bytes())
    }

    fn close<W: ?Sized + std::io::Write>(&mut self, out: &mut W, bracket: &str) -> std::io::Result<()> {
        self.depth -= 1;
        if !self.is_empty {
            self.start_line(out)?;
        }
        self.is_empty = false;
        out.write_all(bracket.as_bytes())
    }

    fn next<W: ?Sized + std::io::Write>(&mut self, out: &mut W, is_first: bool) -> std::io::Result<()> {
        if !is_first {
            out.write_all(self.item.as_bytes())?;
        }
        self.start_line(out)
    }

    fn start_line<W: ?Sized + std::io::Write>(&self, out: &mut W) -> std::io::Result<()> {
        match self.indent {
            Some(indent) => write!(out, "\n{:width$}", "", width = indent * self.depth),
            None => Ok(()),
        }
    }
}

impl serde_json::ser::Formatter for PythonJson<'_> {
    fn begin_array<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.open(out, "[")
    }

    fn end_array<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.close(out, "]")
    }

    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.next(out, first)
    }

    fn end_array_value<W: ?Sized + std::io::Write>(&mut self, _out: &mut W) -> std::io::Result<()> {
        self.is_empty = false;
        Ok(())
    }

    fn begin_object<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.open(out, "{")
    }

    fn end_object<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.close(out, "}")
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.next(out, first)
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(self.key.as_bytes())
    }

    fn end_object_value<W: ?Sized + std::io::Write>(&mut self, _out: &mut W) -> std::io::Result<()> {
        self.is_empty = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, ChatError> {
        let options = ChatOptions { bos_token: Some("<s>".into()), ..ChatOptions::default() };
        ChatTemplate::new(source)?.render(&[Message::new("user", "Hi")], &options)
    }

    #[test]
    fn what_goes_wrong_is_said() {
        let errors = [
            "{% for m in messages %}",
            "{{ raise_exception('no ' ~ messages[0].role) }}",
            "{{ messages[0].content.name.first }}",
            "{{ messages | tojson(colour=1) }}",
            "{{ strftime_now('%Q') }}",
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        ];
        let messages: Vec<_> = errors.iter().map(|source| render(source).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(messages.join("\n"), @"
        the chat template is not valid: syntax error: unexpected end of input, expected end of block (in <string>:1)
        the model's chat template refuses this conversation: no user
        cannot render the chat template: undefined value: `messages[0].content.name` is undefined (in <string>:1)
        cannot render the chat template: too many arguments: unknown keyword argument 'colour' (in <string>:1)
        cannot render the chat template: invalid operation: invalid component name `Q` at byte index 1 (in <string>:1)
        cannot render the chat template: engine ran out of fuel (in <string>:1)
        ");
    }

    #[test]
    fn generation_marks_do_nothing() {
        let source =
            "{%- generation -%} a {%+ endgeneration %}{% generation %}b{% endgeneration %}{{ '{%' }}{% ";
        assert_eq!(
            plain_generation_blocks(source),
            "{%- if true -%} a {%+ endif %}{% if true %}b{% endif %}{{ '{%' }}{% "
        );
    }

    #[test]
    fn a_checkpoint_names_its_template() {
        let directory = tempfile::tempdir().unwrap();
        let template = |file: &str, text: &str| {
            std::fs::write(directory.path().join(file), text).unwrap();
            ChatTemplate::from_directory(directory.path()).map(|found| found.map(|template| template.source))
        };
        assert!(ChatTemplate::from_directory(directory.path()).unwrap().is_none());
        assert_eq!(template("tokenizer_config.json", "{}").unwrap(), None);
        assert_eq!(
            template("tokenizer_config.json", r#"{"chat_template": "a"}"#).unwrap().as_deref(),
            Some("a")
        );
        let named =
            r#"{"chat_template": [{"name": "rag", "template": "b"}, {"name": "default", "template": "c"}]}"#;
        assert_eq!(template("tokenizer_config.json", named).unwrap().as_deref(), Some("c"));
        let wrong = template("tokenizer_config.json", r#"{"chat_template": [1]}"#).unwrap_err();
        assert!(matches!(wrong, ChatError::Config { .. }), "{wrong}");
        assert_eq!(template("chat_template.jinja", "d").unwrap().as_deref(), Some("d"));
    }
}
