//! Functions that the model may call.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::grammar::Grammar;
use crate::models::ServedModel;

/// A function that the model may call.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Tool {
    /// Always `function`.
    #[serde(rename = "type", default)]
    kind: Option<String>,
    function: Function,
}

#[derive(Clone, Debug, Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
}

/// Choice of the function: `none`, `auto`, `required`, or a function by name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(untagged)]
pub(crate) enum ToolChoice {
    /// The default: the model chooses.
    #[default]
    Absent,
    /// A word.
    Word(String),
    /// A function.
    Named {
        /// The function, by name.
        function: NamedFunction,
    },
}

/// A function by name.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct NamedFunction {
    name: String,
}

/// Form of a chat's answer.
#[derive(Debug)]
pub(crate) enum Calls {
    /// Text alone.
    None,
    /// Text, or a call.
    Possible,
    /// A call of one of these functions.
    Required(Vec<Tool>),
}

/// A call that a text makes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// Arguments, as a text that is a JSON object.
    pub(crate) arguments: String,
}

impl Tool {
    /// Returns functions as templates take them.
    pub(crate) fn descriptions(tools: &[Tool]) -> Value {
        let describe = |Tool { kind, function: Function { name, description, parameters } }: &Tool| {
            json!({
                "type": kind.as_deref().unwrap_or("function"),
                "function": {
                    "name": name,
                    "description": description.as_deref().unwrap_or_default(),
                    "parameters": parameters.clone().map_or_else(|| json!({"type": "object", "properties": {}}), Value::Object),
                },
            })
        };
        tools.iter().map(describe).collect()
    }

    /// The schema of a call.
    fn schema(&self) -> Value {
        let parameters = self.function.parameters.clone();
        let parameters = parameters.map_or_else(|| json!({"type": "object"}), Value::Object);
        json!({
            "type": "object",
            "properties": {"name": {"const": self.function.name}, "arguments": parameters},
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    }
}

impl ToolChoice {
    /// Returns what the text may be.
    ///
    /// # Errors
    /// If the choice names a function that there is not.
    pub(crate) fn calls(&self, tools: &[Tool]) -> Result<Calls, ApiError> {
        let field = |message: String| ApiError::field("tool_choice", message);
        match self {
            ToolChoice::Word(word) if word == "none" => Ok(Calls::None),
            ToolChoice::Absent => Ok(if tools.is_empty() { Calls::None } else { Calls::Possible }),
            ToolChoice::Word(word) if word == "auto" => ToolChoice::Absent.calls(tools),
            ToolChoice::Word(word) if word == "required" => match tools {
                [] => Err(field("tool_choice is required, but tools is empty".into())),
                tools => Ok(Calls::Required(tools.to_vec())),
            },
            ToolChoice::Word(word) => {
                Err(field(format!("tool_choice is {word:?}; expected none, auto, required or a function")))
            }
            ToolChoice::Named { function: NamedFunction { name } } => {
                let tool = tools.iter().find(|tool| tool.function.name == *name);
                let tool =
                    tool.ok_or_else(|| field(format!("tool_choice names {name:?}, which is not in tools")))?;
                Ok(Calls::Required(vec![tool.clone()]))
            }
        }
    }
}

impl Calls {
    /// Returns the grammar of texts that are calls; none where text may be free.
    ///
    /// # Errors
    /// If a function's parameters are no schema that can be used.
    pub(crate) fn grammar(&self, model: &ServedModel) -> Result<Option<Grammar>, ApiError> {
        let Calls::Required(tools) = self else { return Ok(None) };
        let mut schemas: Vec<Value> = tools.iter().map(Tool::schema).collect();
        // Definitions that parameters refer to are looked up at the root.
        let mut root = Map::new();
        for schema in &mut schemas {
            for name in ["$defs", "definitions"] {
                let parameters = schema.pointer_mut("/properties/arguments").and_then(Value::as_object_mut);
                if let Some(Value::Object(definitions)) =
                    parameters.and_then(|parameters| parameters.remove(name))
                {
                    let all = root.entry(name).or_insert_with(|| Value::Object(Map::new()));
                    all.as_object_mut().into_iter().for_each(|all| all.extend(definitions.clone()));
                }
            }
        }
        match schemas.len() {
            1 => root.extend(schemas.remove(0).as_object().cloned().unwrap_or_default()),
            _ => drop(root.insert("anyOf".into(), Value::Array(schemas))),
        }
        model.vocabulary()?.json_schema(&Value::Object(root), "tools").map(Some)
    }
}

/// Returns true if a text may be the begin of a call.
pub(crate) fn may_be_call(text: &str) -> bool {
    const OPENING: &str = "<tool_call>";
    let text = text.trim_start();
    text.is_empty() || text.starts_with('{') || text.starts_with(OPENING) || OPENING.starts_with(text)
}

/// Returns the calls that a whole text makes: JSON objects with `name` and `arguments`, as they are or each between
/// `<tool_call>` and `</tool_call>`; none if the text is no call.
pub(crate) fn calls_in(text: &str) -> Vec<Call> {
    let text = text.trim();
    if !text.contains("<tool_call>") {
        return call(text).into_iter().collect();
    }
    let parts = text.split("<tool_call>").skip(1);
    parts.filter_map(|part| call(part.split("</tool_call>").next().unwrap_or_default())).collect()
}

fn call(text: &str) -> Option<Call> {
    let value: Value = serde_json::from_str(text.trim()).ok()?;
    let name = value["name"].as_str()?.to_owned();
    let arguments = ["arguments", "parameters"].iter().find_map(|field| value.get(field))?;
    Some(Call { name, arguments: arguments.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_bare_and_in_tags() {
        let call = |name: &str, arguments: &str| Call { name: name.into(), arguments: arguments.into() };
        assert_eq!(calls_in(r#" {"name": "f", "arguments": {"x": 1}} "#), [call("f", r#"{"x":1}"#)]);
        let tagged = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>{\"name\": \"g\", \"parameters\": {\"a\": \"b\"}}</tool_call>";
        assert_eq!(calls_in(tagged), [call("f", "{}"), call("g", r#"{"a":"b"}"#)]);
        for text in ["Paris", "{\"name\": \"f\"}", "{", "<tool_call>no</tool_call>"] {
            assert_eq!(calls_in(text), []);
        }
        assert!(may_be_call("<tool") && may_be_call(" {\"a") && !may_be_call("The"));
    }

    #[test]
    fn choices_of_functions_are_checked() {
        let tool: Tool =
            serde_json::from_value(json!({"type": "function", "function": {"name": "f"}})).unwrap();
        let choice = |value: Value| serde_json::from_value::<ToolChoice>(value).unwrap();
        let named = |name: &str| choice(json!({"type": "function", "function": {"name": name}}));
        assert!(
            matches!(named("f").calls(std::slice::from_ref(&tool)), Ok(Calls::Required(tools)) if tools.len() == 1)
        );
        assert_eq!(
            named("g").calls(&[tool]).unwrap_err().message,
            "tool_choice names \"g\", which is not in tools"
        );
        assert!(matches!(choice(json!("auto")).calls(&[]), Ok(Calls::None)));
        assert!(choice(json!("required")).calls(&[]).is_err() && choice(json!("maybe")).calls(&[]).is_err());
    }
}
