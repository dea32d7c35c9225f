//! Sessions: statements on a model of this machine, or on a server.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use larql_core::progress::CancelToken;
use larql_lql::ast::{Pipe, Statement};
use larql_lql::output::{Opened, OpenedAs, Output};
use larql_lql::{Engine as _, UnsavedPatch};
use larql_remote::Remote;
use larql_session::{ExecuteError, Session};
use larql_vindex::EditedFeature;
use pyo3::prelude::*;

use crate::answer::Answer;
use crate::arrays;
use crate::error::Problem;
use crate::features::Features;
use crate::interrupt;
use crate::model::Model;
use crate::process;

/// Session on one model. Threads may share it: statements that only read run side by side.
#[pyclass(frozen, module = "larql._larql")]
pub(crate) struct Engine {
    opened: Opened,
    place: Place,
    cancel: CancelToken,
}

/// Place where statements are carried out; none after the session was closed.
enum Place {
    Here(SharedSession),
    Server(Arc<Mutex<Option<Remote>>>),
}

#[pymethods]
impl Engine {
    /// Opens a vindex, a GGUF file or a checkpoint directory, by path or by name, or a model of the hub.
    #[staticmethod]
    fn open(py: Python<'_>, model: PathBuf) -> PyResult<Engine> {
        let cancel = CancelToken::new();
        let progress = cancel.clone();
        let catalog = Arc::clone(process::catalog(py)?);
        let (session, opened) = interrupt::run(py, process::downloads(), || {
            let mut session = Session::new(catalog).with_progress(Arc::new(progress));
            let opened = open(&mut session, &model)?;
            Ok((session, opened))
        })?;
        Ok(Engine { opened, place: Place::Here(RwLock::new(Some(session))), cancel })
    }

    /// Begins a session on a server that `larql serve` started.
    #[staticmethod]
    fn connect(py: Python<'_>, address: &str) -> PyResult<Engine> {
        let address = address.to_owned();
        let remote = interrupt::run_or_leave(py, move || Ok(Remote::connect(&address)?))?;
        let opened = remote.opened().clone();
        let place = Place::Server(Arc::new(Mutex::new(Some(remote))));
        Ok(Engine { opened, place, cancel: CancelToken::new() })
    }

    /// Carries out statements of LQL, and returns their results in order.
    fn execute(&self, py: Python<'_>, text: &str) -> PyResult<Vec<Answer>> {
        let pipes = larql_lql::parse(text).map_err(Problem::from)?;
        let mut outputs = Vec::new();
        let outputs = match &self.place {
            Place::Here(session) => interrupt::run(py, &self.cancel, || {
                for pipe in &pipes {
                    carry_out(session, pipe, &mut |output| outputs.push(output))?;
                }
                Ok(outputs)
            }),
            Place::Server(remote) => {
                let remote = Arc::clone(remote);
                interrupt::run_or_leave(py, move || {
                    let remote = remote.lock().unwrap_or_else(PoisonError::into_inner);
                    let remote = remote.as_ref().ok_or_else(Problem::closed)?;
                    for pipe in &pipes {
                        remote.execute(pipe, &mut |output| outputs.push(output))?;
                    }
                    Ok(outputs)
                })
            }
        };
        Ok(outputs?.into_iter().map(|output| Answer { output }).collect())
    }

    /// The vindex as it is now, as arrays and tables.
    fn features(&self, py: Python<'_>) -> PyResult<Features> {
        Ok(py.detach(|| {
            self.with_session(|session| match session.view() {
                Some(view) => Ok(Features::new(Arc::clone(view))),
                None => {
                    Err(ExecuteError::NeedsVindex { statement: "this call", path: self.opened.path.clone() }
                        .into())
                }
            })
        })?)
    }

    /// The model as it is now, with its edits.
    #[pyo3(signature = (top_k = None))]
    fn model(&self, py: Python<'_>, top_k: Option<usize>) -> PyResult<Model> {
        Ok(py.detach(|| {
            self.with_session(|session| {
                let identity = session.view().and_then(|view| view.base().weights_identity());
                Ok(Model::new(session.language()?.clone(), top_k, identity))
            })
        })?)
    }

    /// Replaces parts of a feature in the open patch: gate row, up row, down vector, each `[hidden]`, or the word that it is
    /// listed to write, with a score.
    #[pyo3(signature = (layer, feature, *, gate = None, up = None, down = None, word = None))]
    #[allow(clippy::too_many_arguments, reason = "they are keyword arguments in Python")]
    fn edit_feature(
        &self,
        py: Python<'_>,
        layer: i64,
        feature: i64,
        gate: Option<Bound<'_, PyAny>>,
        up: Option<Bound<'_, PyAny>>,
        down: Option<Bound<'_, PyAny>>,
        word: Option<(String, f32)>,
    ) -> PyResult<Answer> {
        if let Some((_, score)) = word.as_ref().filter(|(_, score)| !score.is_finite()) {
            return Err(Problem::argument(format!("the score is {score}; expected a finite number")).into());
        }
        let (layer, feature, hidden) = self.features(py)?.size_at(layer, feature)?;
        let vector = |given: Option<Bound<'_, PyAny>>| {
            let values = given.map(|given| arrays::vector_of(&given, "vector", hidden)).transpose()?;
            Ok::<_, PyErr>(values.map(Into::into))
        };
        let edited = EditedFeature {
            gate: vector(gate)?,
            up: vector(up)?,
            down: vector(down)?,
            ..EditedFeature::default()
        };
        let output = py.detach(|| {
            let word = word.as_ref().map(|(text, score)| (text.as_str(), *score));
            self.with_session_mut(|session| Ok(session.edit_feature((layer, feature), edited, word)?))
        })?;
        Ok(Answer { output })
    }

    /// The feature of a layer that INSERT would write over next.
    fn free_feature(&self, py: Python<'_>, layer: i64) -> PyResult<usize> {
        let layer = arrays::index(layer, self.features(py)?.layers(), "layer")?;
        interrupt::run(py, &self.cancel, || self.with_session(|session| Ok(session.free_feature(layer)?)))
    }

    /// Sets the number of features of each layer that INFER walks; all of them if none is given.
    #[pyo3(signature = (top_k = None))]
    fn set_walk_k(&self, py: Python<'_>, top_k: Option<usize>) -> PyResult<()> {
        Ok(py.detach(|| {
            self.with_session_mut(|session| {
                session.set_walk_k(top_k);
                Ok(())
            })
        })?)
    }

    /// Names and numbers of edits of the patches with edits that no file has.
    fn unsaved(&self, py: Python<'_>) -> PyResult<Vec<(String, usize)>> {
        let unsaved = py.detach(|| match &self.place {
            Place::Here(_) => self.with_session(|session| Ok(session.unsaved())),
            Place::Server(remote) => {
                let remote = remote.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(remote.as_ref().ok_or_else(Problem::closed)?.unsaved())
            }
        })?;
        Ok(unsaved.into_iter().map(|UnsavedPatch { name, edits, .. }| (name, edits)).collect())
    }

    /// Path of the model, or address of the server.
    #[getter]
    fn path(&self) -> &str {
        &self.opened.path
    }

    /// Kind of what is open: `vindex`, `model` or `remote`.
    #[getter]
    fn kind(&self) -> &'static str {
        match self.opened.opened_as {
            OpenedAs::Vindex => "vindex",
            OpenedAs::Model => "model",
            OpenedAs::Remote => "remote",
        }
    }

    /// True once the session was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        py.detach(|| match &self.place {
            Place::Here(session) => session.read().unwrap_or_else(PoisonError::into_inner).is_none(),
            Place::Server(remote) => remote.lock().unwrap_or_else(PoisonError::into_inner).is_none(),
        })
    }

    /// Ends the session. The model's files are let go once no array shows them.
    fn close(&self, py: Python<'_>) {
        py.detach(|| match &self.place {
            Place::Here(session) => {
                session.write().unwrap_or_else(PoisonError::into_inner).take();
            }
            Place::Server(remote) => {
                remote.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        });
    }
}

impl Engine {
    fn with_session<T>(&self, read: impl FnOnce(&Session) -> Result<T, Problem>) -> Result<T, Problem> {
        match &self.place {
            Place::Here(session) => read_session(session, read),
            Place::Server(_) => Err(on_a_server()),
        }
    }
}

impl Engine {
    fn with_session_mut<T>(
        &self,
        change: impl FnOnce(&mut Session) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        match &self.place {
            Place::Here(session) => {
                let mut session = session.write().unwrap_or_else(PoisonError::into_inner);
                change(session.as_mut().ok_or_else(Problem::closed)?)
            }
            Place::Server(_) => Err(on_a_server()),
        }
    }
}

/// Session that was perhaps closed.
type SharedSession = RwLock<Option<Session>>;

fn read_session<T>(
    session: &SharedSession,
    read: impl FnOnce(&Session) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let session = session.read().unwrap_or_else(PoisonError::into_inner);
    read(session.as_ref().ok_or_else(Problem::closed)?)
}

/// Carries out a pipe. A single statement that only reads shares the session with others.
fn carry_out(session: &SharedSession, pipe: &Pipe, emit: &mut dyn FnMut(Output)) -> Result<(), Problem> {
    if let [statement] = &pipe.stages[..] {
        if let Statement::Use(_) = statement.value {
            return Err(Problem::argument(
                "USE opens another model; open it by larql.load(…), which gives a session of its own",
            ));
        }
        match read_session(session, |session| Ok(session.query(&statement.value)))? {
            Err(ExecuteError::ChangesSession { .. }) => {}
            result => {
                emit(result?);
                return Ok(());
            }
        }
    }
    let mut session = session.write().unwrap_or_else(PoisonError::into_inner);
    Ok(session.as_mut().ok_or_else(Problem::closed)?.execute_pipe(pipe, emit)?)
}

/// Opens whatever the path or name of a model refers to.
fn open(session: &mut Session, model: &Path) -> Result<Opened, Problem> {
    let path = session.catalog().models().find(model);
    let path = path.map_err(|problem| Problem::of_diagnostic("ModelNotFoundError", &problem))?;
    match session.open_path(&path)? {
        Output::Use(opened) => Ok(opened),
        _ => Err(Problem::new("InternalError", "a model was opened with another answer than that of USE")),
    }
}

fn on_a_server() -> Problem {
    Problem::new(
        "RemoteError",
        "the model is on a server, which sends no weights; open the model itself by larql.load(…)",
    )
}

/// A text as LQL writes it: in double quotes, with escapes.
#[pyfunction]
pub(crate) fn quoted(text: &str) -> String {
    larql_lql::quoted(text)
}

/// Carries out a statement that needs no open model: EXTRACT, SHOW MODELS or DIFF.
#[pyfunction]
pub(crate) fn execute_alone(py: Python<'_>, text: &str) -> PyResult<Answer> {
    let statement = larql_lql::parse_statement(text).map_err(Problem::from)?;
    let cancel = CancelToken::new();
    let progress = Arc::new(cancel.clone());
    let session = Session::new(Arc::clone(process::catalog(py)?)).with_progress(progress);
    let output = interrupt::run(py, &cancel, || Ok(session.query(&statement)?))?;
    Ok(Answer { output })
}
