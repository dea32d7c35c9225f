//! The chat templates that a model comes with: the usual one, and others by name.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::ChatError;
use crate::gguf::{GgufArray, GgufFile, GgufValue};
use crate::python_json;

/// Name under which lists of templates have the usual one.
const DEFAULT: &str = "default";
/// Key of the usual template in a GGUF file. Others have their name after it and a dot.
const KEY: &str = "tokenizer.chat_template";
/// Key of the names of all others.
const NAMES_KEY: &str = "tokenizer.chat_templates";
/// Folders of named templates, a file each.
pub(crate) const TEMPLATE_FOLDERS: [&str; 2] = ["additional_chat_templates", "chat_templates"];
/// Ending of template files.
pub(crate) const TEMPLATE_ENDING: &str = ".jinja";

/// The sources of a model's chat templates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateSources {
    /// The usual one.
    pub default: Option<String>,
    /// Others, such as `tool_use` or `rag`, by name.
    pub named: Vec<(String, String)>,
}

impl TemplateSources {
    /// The template for conversations: the usual one, else the first of the named ones.
    pub fn usual(&self) -> Option<&str> {
        self.default.as_deref().or(self.named.first().map(|(_, source)| source.as_str()))
    }

    /// Reads the templates of a directory: `chat_template.jinja`, else `chat_template.json`, else
    /// `tokenizer_config.json`; and the files in a folder of named ones.
    pub(crate) fn in_directory(directory: &Path) -> Result<TemplateSources, ChatError> {
        let mut sources = TemplateSources::default();
        for name in ["tokenizer_config.json", "chat_template.json"] {
            let Some((path, json)) = read(directory.join(name))? else { continue };
            match configured(&json) {
                Ok(configured) if configured == TemplateSources::default() => {}
                Ok(configured) => sources = configured,
                Err(message) => return Err(ChatError::Config { path, message }),
            }
        }
        for folder in TEMPLATE_FOLDERS {
            for path in template_files(&directory.join(folder))? {
                if let (Some(name), Some((_, source))) = (path.file_stem(), read(path.clone())?) {
                    sources.put(name.to_string_lossy().into_owned(), source);
                }
            }
        }
        if let Some((_, source)) = read(directory.join("chat_template.jinja"))? {
            sources.default = Some(source);
        }
        Ok(sources)
    }

    /// Reads the templates of a GGUF file.
    pub(crate) fn in_gguf(file: &GgufFile) -> TemplateSources {
        let default = file.get(KEY).and_then(GgufValue::as_str).map(str::to_owned);
        let mut sources = TemplateSources { default, named: Vec::new() };
        for (key, value) in file.metadata() {
            let name = key.strip_prefix(KEY).and_then(|rest| rest.strip_prefix('.'));
            if let (Some(name), Some(source)) = (name, value.as_str()) {
                sources.put(name.to_owned(), source.to_owned());
            }
        }
        sources
    }

    /// As the metadata of a GGUF file.
    pub(crate) fn to_gguf(&self) -> Vec<(String, GgufValue)> {
        let text = |key: String, source: &String| (key, GgufValue::String(source.clone()));
        let mut metadata: Vec<_> = self.default.iter().map(|source| text(KEY.into(), source)).collect();
        if !self.named.is_empty() {
            let names = GgufArray::of_strings(self.named.iter().map(|(name, _)| name));
            metadata.push((NAMES_KEY.into(), GgufValue::Array(names)));
        }
        metadata.extend(self.named.iter().map(|(name, source)| text(format!("{KEY}.{name}"), source)));
        metadata
    }

    /// As `chat_template` in a `tokenizer_config.json`: a text, or a list where some have names.
    pub(crate) fn to_config(&self) -> Option<Value> {
        if self.named.is_empty() {
            return self.default.clone().map(Value::String);
        }
        let default = self.default.iter().map(|source| (DEFAULT, source));
        let named = self.named.iter().map(|(name, source)| (name.as_str(), source));
        let entry = |(name, source): (&str, &String)| json!({"name": name, "template": source});
        Some(default.chain(named).map(entry).collect())
    }

    /// Adds one by its name, in place of an earlier one of the same name.
    fn put(&mut self, name: String, source: String) {
        if name == DEFAULT {
            self.default = Some(source);
            return;
        }
        self.named.retain(|(other, _)| *other != name);
        self.named.push((name, source));
    }
}

/// The templates in a configuration, or what is wrong with it.
fn configured(config: &str) -> Result<TemplateSources, String> {
    let config: Value = python_json::parse(config.as_bytes()).map_err(|error| error.to_string())?;
    let mut sources = TemplateSources::default();
    match config.get("chat_template") {
        None | Some(Value::Null) => {}
        Some(Value::String(source)) => sources.default = Some(source.clone()),
        Some(Value::Array(list)) => {
            for template in list {
                let text = |key| template.get(key).and_then(Value::as_str).map(str::to_owned);
                let (Some(name), Some(source)) = (text("name"), text("template")) else {
                    return Err("an entry under `chat_template` without a name or a template".into());
                };
                sources.put(name, source);
            }
        }
        Some(_) => return Err("`chat_template` is neither text nor a list".into()),
    }
    Ok(sources)
}

/// The files of a folder of templates, in order of name; none where there is no such folder.
pub(crate) fn template_files(folder: &Path) -> Result<Vec<PathBuf>, ChatError> {
    let io = |source| ChatError::Io { path: folder.into(), source };
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        files.push(entry.map_err(io)?.path());
    }
    files.retain(|path| path.extension().is_some_and(|ending| *ending == TEMPLATE_ENDING[1..]));
    files.sort();
    Ok(files)
}

fn read(path: PathBuf) -> Result<Option<(PathBuf, String)>, ChatError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ChatError::Io { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_that_names_templates_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            TemplateSources::in_directory(directory.path())
        };
        assert_eq!(write("tokenizer_config.json", "{}").unwrap().usual(), None);
        assert_eq!(write("tokenizer_config.json", r#"{"chat_template": "a"}"#).unwrap().usual(), Some("a"));
        let named =
            r#"{"chat_template": [{"name": "rag", "template": "b"}, {"name": "default", "template": "c"}]}"#;
        let sources = write("tokenizer_config.json", named).unwrap();
        assert_eq!((sources.usual(), &sources.named[..]), (Some("c"), &[("rag".into(), "b".into())][..]));
        let only = r#"{"chat_template": [{"name": "rag", "template": "b"}]}"#;
        assert_eq!(write("tokenizer_config.json", only).unwrap().usual(), Some("b"));
        let wrong = write("tokenizer_config.json", r#"{"chat_template": [1]}"#).unwrap_err();
        assert!(matches!(wrong, ChatError::Config { .. }), "{wrong}");
        write("tokenizer_config.json", named).unwrap();
        assert_eq!(write("chat_template.json", r#"{"chat_template": "e"}"#).unwrap().usual(), Some("e"));
        assert_eq!(write("chat_template.jinja", "d").unwrap().usual(), Some("d"));
        let sources = write("additional_chat_templates/tool_use.jinja", "f").unwrap();
        assert_eq!(sources.named, [("tool_use".into(), "f".into())]);
    }

    #[test]
    fn templates_go_through_a_gguf_file() {
        let sources = TemplateSources {
            default: Some("a".into()),
            named: vec![("rag".into(), "b".into()), ("tool_use".into(), "c".into())],
        };
        let file = GgufFile::described("x.gguf".as_ref(), sources.to_gguf(), Vec::new());
        assert_eq!(TemplateSources::in_gguf(&file), sources);
        let config = json!({"chat_template": sources.to_config()});
        assert_eq!(configured(&config.to_string()).unwrap(), sources);
    }
}
