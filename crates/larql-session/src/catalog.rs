//! Vindexes and checkpoints that are open for all sessions of a program.

use std::path::Path;
use std::sync::Arc;

use larql_compute::Pool;
use larql_hub::ModelResolver;
use larql_knowledge::LanguageModel;

use crate::open_once::OpenOnce;
use crate::{Database, ExecuteError};

/// Vindexes and checkpoints that are open, each once however many sessions use it.
///
/// A catalog keeps nothing open by itself: what no session uses any more is closed, unless the caller keeps the
/// [`Database`].
pub struct Catalog {
    pool: Arc<Pool>,
    models: Box<dyn ModelResolver>,
    databases: OpenOnce<Database>,
    checkpoints: OpenOnce<LanguageModel>,
}

impl Catalog {
    /// Returns a catalog with nothing open. Its sessions compute on the threads of `pool` and look names up in `models`.
    pub fn new(pool: Arc<Pool>, models: impl ModelResolver + 'static) -> Catalog {
        Catalog {
            pool,
            models: Box::new(models),
            databases: OpenOnce::default(),
            checkpoints: OpenOnce::default(),
        }
    }

    /// Returns the threads that sessions compute on.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Returns what knows the names of models.
    pub fn models(&self) -> &dyn ModelResolver {
        &*self.models
    }

    /// Returns the vindex at `path`, opened unless it is open already.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn database(&self, path: &Path) -> Result<Arc<Database>, ExecuteError> {
        let measurements = self.models.measurements();
        self.databases.get_or_open(path, || Database::open(path, Arc::clone(&self.pool), measurements))
    }

    /// Returns the model of the checkpoint at `path`, loaded unless it is loaded already.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub fn checkpoint(&self, path: &Path) -> Result<Arc<LanguageModel>, ExecuteError> {
        let open = || Ok(LanguageModel::open(path, Arc::clone(&self.pool))?);
        self.checkpoints.get_or_open(path, open)
    }
}
