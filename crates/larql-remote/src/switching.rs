//! An engine that is local until USE REMOTE, and again after USE.

use larql_lql::ast::{ExampleModel, Pipe, Statement, Use};
use larql_lql::output::Output;
use larql_lql::{Engine, Failure, UnsavedPatch};

use crate::{Remote, RemoteError};

/// An engine of this machine, beside which a server can be used.
pub struct Switching<E> {
    local: E,
    /// The server in use, if one is.
    remote: Option<Remote>,
    most_rows: Option<usize>,
}

impl<E: Engine> Switching<E> {
    /// Returns the engine, with no server in use.
    pub fn new(local: E) -> Switching<E> {
        Switching { local, remote: None, most_rows: None }
    }
}

/// Place at which a pipe is carried out.
enum Place<'a> {
    Connect(&'a str),
    Local,
    Remote(&'a Remote),
}

impl<E> Switching<E> {
    fn place<'a>(&'a self, pipe: &'a Pipe) -> Result<Place<'a>, RemoteError> {
        let statements = || pipe.stages.iter().map(|stage| &stage.value);
        if let [Statement::Use(Use::Remote(address))] = statements().collect::<Vec<_>>()[..] {
            return Ok(Place::Connect(address));
        }
        let Some(remote) = &self.remote else { return Ok(Place::Local) };
        // These work on files of this machine.
        let is_local = |statement: &Statement| {
            matches!(statement, Statement::Use(_) | Statement::Extract(_) | Statement::ShowModels)
        };
        if statements().any(is_local) {
            return Ok(Place::Local);
        }
        let needs_vindex = statements().find(|statement| {
            matches!(
                statement,
                Statement::CompileVindex(_)
                    | Statement::CompileModel(_)
                    | Statement::Diff(_)
                    | Statement::Merge(_)
                    | Statement::BeginPatch(_)
            )
        });
        match needs_vindex {
            Some(statement) => Err(RemoteError::Local { statement: statement.name() }),
            None => Ok(Place::Remote(remote)),
        }
    }
}

impl<E: Engine> Engine for Switching<E> {
    fn execute(&mut self, pipe: &Pipe, emit: &mut dyn FnMut(Output)) -> Result<(), Failure> {
        match self.place(pipe)? {
            Place::Connect(address) => {
                let mut remote = Remote::connect(address)?;
                remote.set_most_rows(self.most_rows);
                emit(Output::Use(remote.opened().clone()));
                self.remote = Some(remote);
                Ok(())
            }
            Place::Remote(remote) => Ok(remote.execute(pipe, emit)?),
            Place::Local => {
                let opens = pipe.stages.iter().any(|stage| matches!(stage.value, Statement::Use(_)));
                self.local.execute(pipe, emit)?;
                if opens {
                    self.remote = None;
                }
                Ok(())
            }
        }
    }

    fn set_most_rows(&mut self, rows: Option<usize>) {
        self.most_rows = rows;
        self.local.set_most_rows(rows);
        if let Some(remote) = &mut self.remote {
            remote.set_most_rows(rows);
        }
    }

    fn example_model(&self) -> ExampleModel {
        match &self.remote {
            Some(remote) => {
                ExampleModel { path: remote.opened().path.clone(), layers: remote.opened().layers }
            }
            None => self.local.example_model(),
        }
    }

    fn relations(&self) -> Vec<String> {
        if self.remote.is_some() { Vec::new() } else { self.local.relations() }
    }

    fn set_walk_k(&mut self, k: Option<usize>) {
        self.local.set_walk_k(k);
    }

    fn open(&mut self, model: &str) -> Result<Output, Failure> {
        let output = self.local.open(model)?;
        self.remote = None;
        Ok(output)
    }

    fn unsaved(&self) -> Vec<UnsavedPatch> {
        self.remote.as_ref().map_or_else(|| self.local.unsaved(), Remote::unsaved)
    }
}
