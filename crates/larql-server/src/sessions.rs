//! Sessions: edits that lie over a model for those who name the session, or for all who name none.
//!
//! Nothing of a session is written to disk. It ends after an hour without requests.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use larql_knowledge::LanguageModel;
use larql_session::{Catalog, Session, View};

use crate::error::ApiError;
use crate::models::ServedModel;

/// Number of weights of the first edited model; those without edits have the numbers below.
const FIRST_EDITED: u64 = 1 << 32;

/// Bytes of a session's name.
const NAME_BYTES: usize = 128;

/// Sessions with edits, by model and name.
pub(crate) struct Sessions {
    catalog: Arc<Catalog>,
    sessions: Mutex<HashMap<Key, Arc<OpenSession>>>,
    next_weights: AtomicU64,
    idle: Duration,
    most: usize,
}

/// Model and name of a session; no name for the one that all share.
type Key = (String, Option<String>);

/// A session with edits.
pub(crate) struct OpenSession {
    /// Taken while a statement changes it.
    pub(crate) session: RwLock<Session>,
    seen: Mutex<Seen>,
}

/// Description of a session for readers.
struct Seen {
    view: Option<Arc<View>>,
    weights: u64,
    used: Instant,
}

/// A model as one request sees it.
#[derive(Clone)]
pub(crate) struct Target {
    /// The model.
    pub(crate) model: Arc<ServedModel>,
    /// The vindex with the edits of the session; none if the model is a checkpoint.
    pub(crate) view: Option<Arc<View>>,
    /// Number of the weights with these edits.
    pub(crate) weights: u64,
}

impl Target {
    /// Returns the model with edits.
    ///
    /// # Errors
    /// If a vindex does not hold all weights of a forward pass.
    pub(crate) fn language(&self) -> Result<&LanguageModel, ApiError> {
        let language = match &self.view {
            Some(view) => view.language(),
            None => self.model.language(),
        };
        language.map_err(|error| self.without_path(error.into()))
    }

    /// Returns an error that names the model where it named its path, which is nobody's business.
    pub(crate) fn without_path(&self, error: ApiError) -> ApiError {
        let path = self.model.path.display().to_string();
        ApiError { message: error.message.replace(&path, &self.model.name), ..error }
    }
}

impl Sessions {
    /// Returns no sessions. They end after `idle`, and there are at most `most`.
    pub(crate) fn new(catalog: Arc<Catalog>, idle: Duration, most: usize) -> Sessions {
        let (sessions, next_weights) = (Mutex::default(), AtomicU64::new(FIRST_EDITED));
        Sessions { catalog, sessions, next_weights, idle, most }
    }

    /// Returns the catalog of models.
    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Returns a model as the session shows it.
    pub(crate) fn target(&self, model: &Arc<ServedModel>, name: Option<&str>) -> Target {
        match self.find(model, name) {
            Some(open) => {
                let mut seen = lock(&open.seen);
                seen.used = Instant::now();
                Target { model: Arc::clone(model), view: seen.view.clone(), weights: seen.weights }
            }
            None => Target { model: Arc::clone(model), view: model.view().cloned(), weights: model.number },
        }
    }

    /// Returns the session of a name, if it has edits.
    pub(crate) fn find(&self, model: &ServedModel, name: Option<&str>) -> Option<Arc<OpenSession>> {
        let mut sessions = lock(&self.sessions);
        let idle = self.idle;
        sessions.retain(|_, session| lock(&session.seen).used.elapsed() < idle);
        sessions.get(&key(model, name)).cloned()
    }

    /// Returns the session of a name, which is begun unless it is there.
    ///
    /// # Errors
    /// If the name is too long, there are too many sessions, or the model cannot be opened.
    pub(crate) fn open(&self, model: &ServedModel, name: Option<&str>) -> Result<Arc<OpenSession>, ApiError> {
        if name.is_some_and(|name| name.len() > NAME_BYTES) {
            return Err(ApiError::invalid(format!("X-Session-Id may have {NAME_BYTES} bytes at most")));
        }
        if let Some(open) = self.find(model, name) {
            return Ok(open);
        }
        let mut session = Session::new(Arc::clone(&self.catalog));
        session.open_path(Path::new(&model.path))?;
        let view = session.view().cloned();
        let seen = Mutex::new(Seen { view, weights: model.number, used: Instant::now() });
        let open = Arc::new(OpenSession { session: RwLock::new(session), seen });
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= self.most {
            let message = format!(
                "{} sessions have edits already; end one by removing its patches, or try later",
                self.most
            );
            return Err(ApiError::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, message));
        }
        Ok(Arc::clone(sessions.entry(key(model, name)).or_insert(open)))
    }

    /// Shows readers what a statement made of the session. A session without edits ends.
    pub(crate) fn publish(
        &self,
        model: &ServedModel,
        name: Option<&str>,
        open: &OpenSession,
        session: &Session,
    ) {
        let Some(view) = session.view() else { return };
        let patches = view.patches().patches().iter();
        if patches.map(|applied| applied.patch.operations().len()).sum::<usize>() == 0 {
            lock(&self.sessions).remove(&key(model, name));
            return;
        }
        let mut seen = lock(&open.seen);
        if !seen.view.as_ref().is_some_and(|before| Arc::ptr_eq(before, view)) {
            seen.view = Some(Arc::clone(view));
            seen.weights = self.next_weights.fetch_add(1, Ordering::Relaxed);
        }
        seen.used = Instant::now();
    }

    /// Returns the names of a model's sessions with the number of their patches and the seconds since they were used; no name
    /// for the one that all share.
    pub(crate) fn list(&self, model: &ServedModel) -> Vec<(Option<String>, usize, u64)> {
        let sessions = lock(&self.sessions);
        let own = sessions.iter().filter(|((of, _), _)| *of == model.name);
        let row = |((_, name), open): (&Key, &Arc<OpenSession>)| {
            let seen = lock(&open.seen);
            let patches = seen.view.as_ref().map_or(0, |view| view.patches().patches().len());
            (name.clone(), patches, seen.used.elapsed().as_secs())
        };
        let mut rows: Vec<_> = own.map(row).collect();
        rows.sort();
        rows
    }

    /// Number of sessions.
    pub(crate) fn len(&self) -> usize {
        lock(&self.sessions).len()
    }
}

fn key(model: &ServedModel, name: Option<&str>) -> Key {
    (model.name.clone(), name.map(str::to_owned))
}

/// A lock whose holder panicked is as good as any other: each change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
