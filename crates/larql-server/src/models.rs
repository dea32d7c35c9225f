//! The models that a server serves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use larql_core::SharedLazy;
use larql_knowledge::LanguageModel;
use larql_models::{ModelSpec, WeightSource};
use larql_session::{Catalog, Database, ExecuteError, View};
use larql_vindex::Vindex;

use crate::error::ApiError;
use crate::grammar::Vocabulary;

/// Models by name.
pub(crate) struct Models {
    models: Vec<Arc<ServedModel>>,
}

/// A vindex or a checkpoint that is served.
pub(crate) struct ServedModel {
    /// Its name.
    pub(crate) name: String,
    /// Seconds since 1970 at which it was opened.
    pub(crate) opened: u64,
    /// Its place among the models, which is the number of its weights without edits.
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    source: Source,
    vocabulary: SharedLazy<Arc<Vocabulary>>,
    /// Spellings of special tokens.
    special: OnceLock<Vec<String>>,
}

enum Source {
    Vindex { database: Arc<Database>, view: Arc<View> },
    Checkpoint(Arc<LanguageModel>),
}

impl Models {
    /// Opens models.
    ///
    /// # Errors
    /// If one cannot be opened.
    pub(crate) fn open(catalog: &Catalog, models: &[(String, PathBuf)]) -> Result<Models, ExecuteError> {
        let opened = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let open = |(number, (name, path)): (usize, &(String, PathBuf))| {
            let source = Source::open(catalog, path)?;
            let (name, path, number) = (name.clone(), path.clone(), number as u64);
            let (vocabulary, special) = (SharedLazy::new(), OnceLock::new());
            Ok(Arc::new(ServedModel { name, opened, number, path, source, vocabulary, special }))
        };
        let models = models.iter().enumerate().map(open).collect::<Result<_, ExecuteError>>()?;
        Ok(Models { models })
    }

    /// Iterates over the models.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<ServedModel>> {
        self.models.iter()
    }

    /// Returns the model of a name, with or without a tag as in `atlas:latest`; the first one if no name is given.
    ///
    /// # Errors
    /// 404 if there is none, with the names that there are.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<&Arc<ServedModel>, ApiError> {
        let found = match name.filter(|name| !name.is_empty()) {
            None => self.models.first(),
            Some(name) => {
                let untagged = name.strip_suffix(":latest").unwrap_or(name);
                self.models.iter().find(|model| model.name == name || model.name == untagged)
            }
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = self.models.iter().map(|model| &*model.name).collect();
            let message = match name {
                Some(name) => {
                    format!("there is no model named {name:?} here; this server has {}", names.join(", "))
                }
                None => "this server has no model".to_owned(),
            };
            ApiError {
                param: Some("model".into()),
                ..ApiError::not_found(message).with_code("model_not_found")
            }
        })
    }
}

impl Source {
    fn open(catalog: &Catalog, path: &Path) -> Result<Source, ExecuteError> {
        if !Vindex::is_at(path) {
            return Ok(Source::Checkpoint(catalog.checkpoint(path)?));
        }
        let database = catalog.database(path)?;
        let view = database.view()?;
        Ok(Source::Vindex { database, view })
    }
}

impl ServedModel {
    /// Returns the vindex without edits; none if it is a checkpoint.
    pub(crate) fn view(&self) -> Option<&Arc<View>> {
        match &self.source {
            Source::Vindex { view, .. } => Some(view),
            Source::Checkpoint(_) => None,
        }
    }

    /// Returns the vindex as it is on disk; none if it is a checkpoint.
    pub(crate) fn base(&self) -> Option<&Arc<Vindex>> {
        match &self.source {
            Source::Vindex { database, .. } => Some(database.base()),
            Source::Checkpoint(_) => None,
        }
    }

    /// Returns the model without edits.
    ///
    /// # Errors
    /// If a vindex does not hold all weights of a forward pass.
    pub(crate) fn language(&self) -> Result<&LanguageModel, ExecuteError> {
        match &self.source {
            Source::Vindex { database, .. } => database.language(),
            Source::Checkpoint(language) => Ok(language),
        }
    }

    /// Returns the tokenizer.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub(crate) fn tokenizer(&self) -> Result<&Arc<larql_models::Tokenizer>, ExecuteError> {
        match &self.source {
            Source::Vindex { database, .. } => database.tokenizer(),
            Source::Checkpoint(language) => Ok(language.tokenizer()),
        }
    }

    /// Returns the specification of the model.
    pub(crate) fn spec(&self) -> &ModelSpec {
        match &self.source {
            Source::Vindex { database, .. } => database.base().spec(),
            Source::Checkpoint(language) => language.model().spec(),
        }
    }

    /// Returns the vocabulary as grammars see it, which is made at the first call.
    ///
    /// # Errors
    /// If there is no tokenizer.
    pub(crate) fn vocabulary(&self) -> Result<&Arc<Vocabulary>, ApiError> {
        self.vocabulary.get_or_try_init(|| {
            let language = self.language()?;
            Vocabulary::new(language.tokenizer(), language.stop_tokens(), self.spec().vocab_size)
                .map(Arc::new)
        })
    }

    /// Returns the spellings of special tokens, longest first.
    ///
    /// # Errors
    /// If there is no tokenizer.
    pub(crate) fn special_spellings(&self) -> Result<&[String], ApiError> {
        let tokenizer = self.tokenizer()?;
        Ok(self.special.get_or_init(|| {
            let ids = (0..tokenizer.vocab_size() as u32).filter(|id| tokenizer.is_special(*id));
            let mut spellings: Vec<String> = ids.filter_map(|id| tokenizer.token_text(id)).collect();
            spellings.retain(|text| text.chars().count() > 1);
            spellings.sort_by_key(|text| std::cmp::Reverse(text.len()));
            spellings
        }))
    }

    /// Returns the size of the files in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        fn size(path: &Path) -> u64 {
            let Ok(metadata) = std::fs::metadata(path) else { return 0 };
            if !metadata.is_dir() {
                return metadata.len();
            }
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| size(&entry.path())).sum()
        }
        size(&self.path)
    }
}
