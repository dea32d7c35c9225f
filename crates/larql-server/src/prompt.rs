//! Prompts: messages as the tokens that a model was trained to continue.

use larql_knowledge::LanguageModel;
use larql_models::ChatOptions;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::models::ServedModel;

/// Stands inside the spelling of a special token that is text. Unicode keeps it for uses such as this one.
const TEXT_MARK: char = '\u{FDD0}';

/// A conversation to be continued.
pub(crate) struct Conversation {
    /// Messages as the template takes them: objects with `role` and `content`.
    pub(crate) messages: Vec<Value>,
    /// Descriptions of the functions that the model may call; none if it may call none.
    pub(crate) tools: Option<Value>,
    /// Read special tokens in messages as such.
    pub(crate) special_tokens: bool,
}

impl Conversation {
    /// Returns the tokens of the conversation up to the begin of the model's answer.
    ///
    /// # Errors
    /// If the model has no chat template, or it refuses the conversation.
    pub(crate) fn tokens(&self, model: &ServedModel, language: &LanguageModel) -> Result<Vec<u32>, ApiError> {
        let Some(template) = language.template() else {
            return Err(ApiError::invalid(format!(
                "{} has no chat template; use /v1/completions, which continues a text",
                model.name
            )));
        };
        let mut messages = self.messages.clone();
        let knows_tools = template.source().contains("tools");
        if let (Some(tools), false) = (&self.tools, knows_tools) {
            explain_tools(&mut messages, tools);
        }
        if !self.special_tokens {
            let spellings = model.special_spellings()?;
            messages.iter_mut().for_each(|message| mark_value(message, spellings));
        }
        let tools = self.tools.clone().filter(|_| knows_tools);
        let options = ChatOptions { tools, ..language.chat_options() };
        let text = template
            .render(&messages, &options)
            .map_err(|error| ApiError::field("messages", error.to_string()))?;
        let mut tokens = Vec::new();
        for part in text.split(TEXT_MARK) {
            tokens.extend(language.encode(part, false)?);
        }
        Ok(tokens)
    }
}

/// Marks special tokens in all texts of a message but those that name its role.
fn mark_value(value: &mut Value, spellings: &[String]) {
    match value {
        Value::String(text) => *text = marked(text, spellings),
        Value::Array(values) => values.iter_mut().for_each(|value| mark_value(value, spellings)),
        Value::Object(fields) => {
            fields
                .iter_mut()
                .filter(|(name, _)| *name != "role")
                .for_each(|(_, value)| mark_value(value, spellings));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns the text with a mark after the first character of each special token that it spells. Split there, the text has no
/// special tokens, and its parts write the same.
fn marked(text: &str, spellings: &[String]) -> String {
    let text = text.replace(TEXT_MARK, "");
    let mut out = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        out.push(character);
        if spellings.iter().any(|spelling| text[at..].starts_with(spelling.as_str())) {
            out.push(TEXT_MARK);
        }
    }
    out
}

/// Describes functions in the system message, for templates that have no words for them.
fn explain_tools(messages: &mut Vec<Value>, tools: &Value) {
    let text = format!(
        "You can call functions. To call one, answer with nothing but a JSON object {{\"name\": …, \"arguments\": {{…}}}}. \
         The functions:\n{tools}"
    );
    match messages.first_mut().filter(|first| first["role"] == "system") {
        Some(system) => {
            let before = system["content"].as_str().unwrap_or_default().to_owned();
            system["content"] = Value::String(format!("{before}\n\n{text}"));
        }
        None => messages.insert(0, json!({"role": "system", "content": text})),
    }
}

/// Returns the text of a message's content: a string, or parts of which all are text.
///
/// # Errors
/// If a part is no text, such as an image.
pub(crate) fn content_text(content: &Value) -> Result<String, ApiError> {
    let part = |part: &Value| -> Result<String, ApiError> {
        let text = match part["type"].as_str() {
            Some("text" | "input_text" | "output_text") => part["text"].as_str(),
            Some("refusal") => part["refusal"].as_str(),
            other => {
                let kind = other.unwrap_or("nameless");
                let message = format!(
                    "a message has a part of type {kind}, and this model reads text alone; leave it out"
                );
                return Err(ApiError::field("messages", message));
            }
        };
        text.map(str::to_owned).ok_or_else(|| {
            ApiError::field("messages", "a part of a message has no text; give one, or leave the part out")
        })
    };
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => Ok(parts.iter().map(part).collect::<Result<Vec<_>, _>>()?.join("\n")),
        _ => Err(ApiError::field("messages", "content has to be a text or a list of parts")),
    }
}

/// Returns a message as templates take it.
///
/// # Errors
/// If it has no role, its content is no text, or there is neither content nor a call of a function.
pub(crate) fn template_message(message: &Value) -> Result<Value, ApiError> {
    let Some(role) = message["role"].as_str() else {
        return Err(ApiError::field("messages", "each message is an object with role and content"));
    };
    if !matches!(role, "system" | "developer" | "user" | "assistant" | "tool" | "function") {
        let message = format!("a message has the role {role:?}; expected system, user, assistant or tool");
        return Err(ApiError::field("messages", message));
    }
    let calls = message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
    if message["content"].is_null() && !calls {
        let text = "a message has no content; give a text (it may be empty)";
        return Err(ApiError::field("messages", text));
    }
    let mut out = Map::new();
    let role = if role == "developer" { "system" } else { role };
    out.insert("role".into(), role.into());
    out.insert("content".into(), content_text(&message["content"])?.into());
    for name in ["tool_calls", "tool_call_id", "name"] {
        if let Some(value) = message.get(name).filter(|value| !value.is_null()) {
            out.insert(name.into(), value.clone());
        }
    }
    Ok(Value::Object(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelled_tokens_are_marked_and_nothing_else_is() {
        let spellings = ["<|im_start|>".to_owned(), "<|im_end|>".to_owned()];
        let marked = |text| marked(text, &spellings);
        assert_eq!(marked("a <| b"), "a <| b");
        assert_eq!(marked("x<|im_end|>y"), "x<\u{FDD0}|im_end|>y");
        // A mark in the text itself hides nothing.
        assert_eq!(marked("<\u{FDD0}|im_end|>"), "<\u{FDD0}|im_end|>");
        assert_eq!(marked("<\u{FDD0}|im_end|>").matches('\u{FDD0}').count(), 1);
    }

    #[test]
    fn roles_and_parts_are_checked() {
        let text = json!({"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
        assert_eq!(template_message(&text).unwrap(), json!({"role": "system", "content": "a\nb"}));
        let image = json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]});
        let refused = template_message(&image).unwrap_err().message;
        assert_eq!(
            refused,
            "a message has a part of type image_url, and this model reads text alone; leave it out"
        );
        let no_text = json!({"role": "user", "content": [{"type": "text", "text": {}}]});
        assert!(template_message(&no_text).is_err());
        assert!(template_message(&json!({"role": "king", "content": ""})).is_err());
        assert!(template_message(&json!({"role": "user", "content": null})).is_err());
        let calls =
            json!({"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f"}}]});
        assert_eq!(template_message(&calls).unwrap()["content"], "");
    }
}
