//! An open vindex with all that is computed from it, shared by the sessions that use it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use larql_compute::Pool;
use larql_core::SharedLazy;
use larql_knowledge::{AskableRelations, LanguageModel};
use larql_models::{Tokenizer, WeightSource};
use larql_vindex::search::Words;
use larql_vindex::{Holdings, PatchStack, Vindex};

use crate::measured::Measured;
use crate::view::View;
use crate::{ExecuteError, QueryError};

/// An open vindex. Its model, its tokenizer and everything else that does not depend on patches is loaded or measured at
/// the first use, once for all sessions.
pub struct Database {
    base: Arc<Vindex>,
    pool: Arc<Pool>,
    tokenizer: SharedLazy<Arc<Tokenizer>>,
    language: SharedLazy<LanguageModel>,
    words: SharedLazy<Words>,
    relations: SharedLazy<Option<AskableRelations>>,
    measured: Measured,
    /// The view without patches, while a session has it.
    unpatched: Mutex<Weak<View>>,
}

impl Database {
    /// Opens the vindex at `path`. What is measured of its model is cached in the folder `measurements`.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(
        path: &Path,
        pool: Arc<Pool>,
        measurements: Option<PathBuf>,
    ) -> Result<Database, ExecuteError> {
        let base = Arc::new(Vindex::open(path)?);
        Ok(Database {
            measured: Measured::new(&base, measurements),
            base,
            pool,
            tokenizer: SharedLazy::new(),
            language: SharedLazy::new(),
            words: SharedLazy::new(),
            relations: SharedLazy::new(),
            unpatched: Mutex::default(),
        })
    }

    /// Returns the vindex.
    pub fn base(&self) -> &Arc<Vindex> {
        &self.base
    }

    /// Returns the threads that its model computes on.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Returns the view of the vindex without patches, which is the same for all who ask while one of them has it.
    ///
    /// # Errors
    /// If the edges that the vindex carries are damaged.
    pub fn view(self: &Arc<Self>) -> Result<Arc<View>, ExecuteError> {
        let mut unpatched = self.unpatched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = unpatched.upgrade() {
            return Ok(view);
        }
        let view = Arc::new(View::unpatched(Arc::clone(self), PatchStack::new(Arc::clone(&self.base))?));
        *unpatched = Arc::downgrade(&view);
        Ok(view)
    }

    /// Returns the tokenizer.
    ///
    /// # Errors
    /// If it is damaged, or there is none.
    pub fn tokenizer(&self) -> Result<&Arc<Tokenizer>, ExecuteError> {
        self.tokenizer.get_or_try_init(|| {
            let tokenizer = self.base.text().tokenizer()?;
            let missing = || QueryError::NoTokenizer { path: self.base.path().display().to_string() };
            Ok(tokenizer.ok_or_else(missing)?)
        })
    }

    /// Returns the model without patches.
    ///
    /// # Errors
    /// If the vindex does not hold all of it.
    pub fn language(&self) -> Result<&LanguageModel, ExecuteError> {
        self.language.get_or_try_init(|| {
            self.base.require(&Holdings::PREDICTING, "predicting")?;
            Ok(LanguageModel::of_vindex(&self.base, Arc::clone(&self.pool))?)
        })
    }

    /// Returns the words that features write.
    pub(crate) fn words(&self) -> Result<&Words, ExecuteError> {
        self.words.get_or_try_init(|| {
            Ok(Words::new(Arc::clone(self.tokenizer()?) as Arc<_>, self.base.spec().vocab_size))
        })
    }

    /// Returns the relations that the model was probed for; none if it was not probed.
    pub(crate) fn relations(&self) -> Result<Option<&AskableRelations>, ExecuteError> {
        let relations = self.relations.get_or_try_init(|| {
            Ok::<_, ExecuteError>(AskableRelations::read(self.base.path(), self.base.spec())?)
        });
        Ok(relations?.as_ref())
    }

    /// Returns what writing edges takes.
    pub(crate) fn measured(&self) -> &Measured {
        &self.measured
    }
}
