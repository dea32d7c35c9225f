//! Typed access to a model's configuration, with errors that name file, key, expectation and finding.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::checkpoint::placeholder;
use crate::spec::LARGEST_SIZE;
use crate::{ModelError, python_json};

/// Keys that published files spell differently: the name used here, then the others in order of preference.
const SPELLINGS: &[(&str, &[&str])] = &[
    ("hidden_size", &["n_embd"]),
    ("num_hidden_layers", &["n_layer"]),
    ("num_attention_heads", &["n_head"]),
    ("max_position_embeddings", &["n_positions"]),
    ("intermediate_size", &["n_inner"]),
    ("layer_norm_epsilon", &["layer_norm_eps", "norm_epsilon", "norm_eps"]),
    ("hidden_activation", &["hidden_act", "activation_function"]),
    ("sliding_window_pattern", &["_sliding_window_pattern"]),
    ("rope_type", &["type"]),
    ("num_local_experts", &["num_experts", "n_routed_experts", "moe_num_experts"]),
    ("num_experts_per_tok", &["top_k_experts", "moe_k"]),
    ("n_shared_experts", &["moe_num_shared_experts"]),
    ("first_k_dense_replace", &["moe_layer_start_index"]),
];

/// A model's configuration: `config.json`, or what stands for it in the metadata of a GGUF file.
///
/// Keys are those of Hugging Face, in the spelling of any version. A key that is absent has its family's
/// default, one that is `null` has no value.
#[derive(Clone, Debug)]
pub struct Config {
    path: PathBuf,
    values: Map<String, Value>,
    defaults: Map<String, Value>,
    /// Stands before keys in messages: `text_config.` inside that section.
    section: String,
    /// Architecture of the GGUF file that the values come from.
    gguf_architecture: Option<String>,
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// If the file cannot be read or is not a JSON object.
    pub fn read(path: &Path) -> Result<Config, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Io { path: path.into(), source })?;
        match placeholder(path, &bytes) {
            Some(error) => Err(error),
            None => Config::parse(&bytes, path),
        }
    }

    /// Parses the bytes of a `config.json`; `path` is its name in messages.
    ///
    /// # Errors
    /// If they are not a JSON object.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Config, ModelError> {
        let values = python_json::parse(bytes).map_err(|error| {
            ModelError::malformed(path, "content", "a JSON object", python_json::problem(&error))
        })?;
        Ok(Config::from_values(values, path))
    }

    /// A configuration of given values, for instance those of a vindex's manifest; `path` is the file that
    /// messages name.
    pub fn from_values(values: Map<String, Value>, path: &Path) -> Config {
        Config {
            path: path.into(),
            values,
            defaults: Map::new(),
            section: String::new(),
            gguf_architecture: None,
        }
    }

    pub(crate) fn from_gguf(values: Map<String, Value>, path: &Path, architecture: &str) -> Config {
        Config { gguf_architecture: Some(architecture.into()), ..Config::from_values(values, path) }
    }

    /// The file that the values come from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if the values come from the metadata of a GGUF file. Such files store some weights differently.
    pub(crate) fn is_gguf(&self) -> bool {
        self.gguf_architecture.is_some()
    }

    /// `general.architecture` of the GGUF file that the values come from.
    pub(crate) fn gguf_architecture(&self) -> Option<&str> {
        self.gguf_architecture.as_deref()
    }

    /// The same values, where absent keys mean those of `defaults`.
    pub(crate) fn with_defaults(mut self, defaults: Value) -> Config {
        if let Value::Object(defaults) = defaults {
            self.defaults = defaults;
        }
        self
    }

    /// The same values, where a key that is not given has the value that `other` gives it.
    pub(crate) fn or_given_by(mut self, other: &Config, key: &str) -> Config {
        if !self.gives(key)
            && let Some((name, value)) = other.given(key)
        {
            self.values.insert(name.to_owned(), value.clone());
        }
        self
    }

    /// An object inside this configuration, as a configuration of its own without defaults.
    pub(crate) fn section(&self, key: &str) -> Result<Option<Config>, ModelError> {
        match self.value(key) {
            None => Ok(None),
            Some((_, Value::Object(values))) => Ok(Some(Config {
                values: values.clone(),
                defaults: Map::new(),
                section: format!("{}{key}.", self.section),
                ..self.clone()
            })),
            Some((name, other)) => Err(self.wrong(name, "an object", other)),
        }
    }

    /// True if the file itself gives a value that is not `null`.
    pub(crate) fn gives(&self, key: &str) -> bool {
        self.given(key).is_some_and(|(_, value)| !value.is_null())
    }

    /// A positive number of things.
    pub(crate) fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.optional_size(key)?.ok_or_else(|| self.missing(key, "a positive integer"))
    }

    /// A positive number of things, or none.
    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.integer_from(1, key, "a positive integer up to 2^31")
    }

    /// A positive number of things in one layer, or none: what `per_layer_config` says of the layer, its place in a
    /// list of all layers, or what holds for all of them.
    pub(crate) fn layer_size(&self, key: &str, layer: usize) -> Result<Option<usize>, ModelError> {
        let own = match self.section("per_layer_config")? {
            Some(layers) => layers.section(&layer.to_string())?,
            None => None,
        };
        if let Some(own) = own
            && own.gives(key)
        {
            return own.optional_size(key);
        }
        let Some((name, Value::Array(list))) = self.value(key) else { return self.optional_size(key) };
        let size = list.get(layer).and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
        match size {
            Some(size) if (1..=LARGEST_SIZE).contains(&size) => Ok(Some(size)),
            _ => {
                let expected = format!("a list with a positive integer up to 2^31 for layer {layer}");
                Err(self.wrong(name, expected, &Value::from(list.as_slice())))
            }
        }
    }

    /// A number of things that may be 0.
    pub(crate) fn count(&self, key: &str) -> Result<usize, ModelError> {
        let expected = "an integer from 0 to 2^31";
        self.integer_from(0, key, expected)?.ok_or_else(|| self.missing(key, expected))
    }

    fn integer_from(&self, least: usize, key: &str, expected: &str) -> Result<Option<usize>, ModelError> {
        let Some((name, value)) = self.value(key) else { return Ok(None) };
        match value.as_u64().map(usize::try_from) {
            Some(Ok(size)) if (least..=LARGEST_SIZE).contains(&size) => Ok(Some(size)),
            _ => Err(self.wrong(name, expected, value)),
        }
    }

    /// A finite number.
    pub(crate) fn number(&self, key: &str) -> Result<f64, ModelError> {
        self.optional_number(key)?.ok_or_else(|| self.missing(key, "a number"))
    }

    /// A finite number, or none.
    pub(crate) fn optional_number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let Some((name, value)) = self.value(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(self.wrong(name, "a finite number", value)),
        }
    }

    /// Yes or no.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, ModelError> {
        let (name, value) = self.value(key).ok_or_else(|| self.missing(key, "true or false"))?;
        value.as_bool().ok_or_else(|| self.wrong(name, "true or false", value))
    }

    /// Yes or no, or neither.
    pub(crate) fn optional_flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.value(key).map(|_| self.flag(key)).transpose()
    }

    /// Its keys, as the file has them.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// A word.
    pub(crate) fn text(&self, key: &str) -> Result<&str, ModelError> {
        self.optional_text(key)?.ok_or_else(|| self.missing(key, "a string"))
    }

    /// A word, or none.
    pub(crate) fn optional_text(&self, key: &str) -> Result<Option<&str>, ModelError> {
        let Some((name, value)) = self.value(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(name, "a string", value))
    }

    /// A list, or none.
    pub(crate) fn optional_list(&self, key: &str) -> Result<Option<&[Value]>, ModelError> {
        let Some((name, value)) = self.value(key) else { return Ok(None) };
        match value {
            Value::Array(list) => Ok(Some(list)),
            other => Err(self.wrong(name, "a list", other)),
        }
    }

    /// A list of `count` finite numbers.
    pub(crate) fn numbers(&self, key: &str, count: usize) -> Result<Vec<f64>, ModelError> {
        let list = self.optional_list(key)?.ok_or_else(|| self.missing(key, "a list of numbers"))?;
        if list.len() != count {
            let found = format!("{} values", list.len());
            return Err(self.wrong(key, format!("{count} numbers"), &found.into()));
        }
        list.iter()
            .map(|value| value.as_f64().ok_or_else(|| self.wrong(key, "a list of numbers", value)))
            .collect()
    }

    /// Token ids: one, or a list. Negative numbers, by which some files say that there is none, are left out.
    pub(crate) fn token_ids(&self, key: &str) -> Result<Vec<u32>, ModelError> {
        let Some((name, value)) = self.value(key) else { return Ok(Vec::new()) };
        let ids = match value {
            Value::Array(list) => list.as_slice(),
            single => std::slice::from_ref(single),
        };
        let is_none = |id: &&Value| id.as_i64().is_some_and(|id| id < 0);
        ids.iter()
            .filter(|id| !is_none(id))
            .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
            .collect::<Option<Vec<u32>>>()
            .ok_or_else(|| self.wrong(name, "a token id or a list of them", value))
    }

    /// The error for a value of the right type that is out of range.
    pub(crate) fn wrong(&self, key: &str, expected: impl Into<String>, found: &Value) -> ModelError {
        ModelError::WrongValue {
            path: self.path.clone(),
            key: self.full_name(key),
            expected: expected.into(),
            found: shorten(&found.to_string()),
        }
    }

    /// The error for values that contradict each other.
    pub(crate) fn contradiction(&self, problem: impl Into<String>) -> ModelError {
        ModelError::Contradiction { path: self.path.clone(), problem: problem.into() }
    }

    pub(crate) fn missing(&self, key: &str, expected: &'static str) -> ModelError {
        ModelError::MissingKey { path: self.path.clone(), key: self.full_name(key), expected }
    }

    /// The key as the file spells it.
    fn full_name(&self, key: &str) -> String {
        let spelling = self.given(key).map_or(key, |(name, _)| name);
        let name = format!("{}{spelling}", self.section);
        match &self.gguf_architecture {
            Some(architecture) => crate::gguf::metadata_key(architecture, &name),
            None => name,
        }
    }

    /// A value that is there and not `null`, else the default, with the name it has in the file.
    fn value(&self, key: &str) -> Option<(&str, &Value)> {
        self.given(key)
            .or_else(|| self.defaults.get_key_value(key).map(|(name, value)| (name.as_str(), value)))
            .filter(|(_, value)| !value.is_null())
    }

    /// The file's value of `key` under any of its spellings; a value that is not `null` comes first.
    fn given(&self, key: &str) -> Option<(&str, &Value)> {
        let others = SPELLINGS.iter().find(|(name, _)| *name == key).map_or(&[][..], |(_, others)| others);
        let spellings = || std::iter::once(&key).chain(others);
        let mut found = spellings().filter_map(|name| self.values.get_key_value(*name));
        let first = found.next()?;
        let said = if first.1.is_null() { found.find(|(_, value)| !value.is_null()) } else { None };
        let (name, value) = said.unwrap_or(first);
        Some((name.as_str(), value))
    }
}

/// The start of a text that may be long, for a message.
pub(crate) fn shorten(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}
