//! A session: what is open, and the way from a statement to the function that carries it out.

use std::sync::Arc;

use larql_compute::Pool;
use larql_core::progress::{CancelToken, NoProgress, Progress};
use larql_hub::Library;
use larql_lql::ast::{Pipe, Statement};
use larql_lql::output::Output;
use larql_lql::{Engine, Failure};

use crate::target::Opened;
use crate::{
    ExecuteError, compact, compile, describe, diff, edit, extract, infer, insert, merge, patch, pipe, select,
    show, stats, upkeep, walk,
};

/// A conversation in LQL with one vindex or checkpoint at a time.
pub struct Session {
    pub(crate) pool: Arc<Pool>,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) library: Library,
    pub(crate) walk_k: Option<usize>,
    pub(crate) opened: Option<Opened>,
    /// Cancelled when the statement that runs is to stop.
    pub(crate) cancel: CancelToken,
}

impl Session {
    /// A session with nothing open, on the threads of `pool`.
    pub fn new(pool: Arc<Pool>) -> Session {
        Session {
            pool,
            progress: Arc::new(NoProgress),
            library: Library::default(),
            walk_k: None,
            opened: None,
            cancel: CancelToken::never(),
        }
    }

    /// Has long work report to `progress`. Work ends as the token of [`Session::with_cancel`] says.
    pub fn with_progress(mut self, progress: Arc<dyn Progress>) -> Session {
        self.progress = progress;
        self
    }

    /// Looks models up in `library`.
    pub fn with_library(mut self, library: Library) -> Session {
        self.library = library;
        self
    }

    /// How many features a layer INFER walks; all of them if `None`.
    pub fn set_walk_k(&mut self, k: Option<usize>) {
        self.walk_k = k;
    }

    /// Carries out the statements of a pipe from left to right. A statement without a subject of its own is carried
    /// out once for each row of the one before; otherwise each is carried out and the last one's answer counts.
    /// That is handed to `emit`: once, or, after DESCRIBE … STREAM, layer by layer.
    ///
    /// # Errors
    /// That of the first statement that fails.
    pub fn execute_pipe(&mut self, pipe: &Pipe, emit: &mut dyn FnMut(Output)) -> Result<(), ExecuteError> {
        pipe::run(self, pipe, emit)
    }

    /// Carries out one statement, and answers at once even where it says STREAM.
    ///
    /// # Errors
    /// Why it cannot be carried out; nothing is changed then.
    pub fn execute(&mut self, statement: &Statement) -> Result<Output, ExecuteError> {
        match statement {
            Statement::Use(statement) => self.open(statement),
            Statement::Extract(statement) => extract::run(self, statement),
            Statement::Stats(statement) => stats::run(self, statement),
            Statement::Describe(statement) => describe::run(self, statement),
            Statement::Walk(statement) => walk::run(self, statement),
            Statement::ExplainWalk(statement) => walk::explain(self, statement),
            Statement::Select(statement) => select::run(self, statement),
            Statement::Infer(statement) => infer::run(self, statement),
            Statement::ExplainInfer(statement) => infer::explain(self, statement),
            Statement::ShowRelations(statement) => show::relations(self, statement),
            Statement::ShowLayers(statement) => show::layers(self, statement),
            Statement::ShowFeatures(statement) => show::features(self, statement),
            Statement::ShowEntities(statement) => show::entities(self, statement),
            Statement::ShowModels => show::models(self),
            Statement::BeginPatch(statement) => patch::begin(self, statement),
            Statement::SavePatch(statement) => patch::save(self, statement),
            Statement::ApplyPatch(statement) => patch::apply(self, statement),
            Statement::RemovePatch(statement) => patch::remove(self, statement),
            Statement::ShowPatches => patch::show(self),
            Statement::Insert(statement) => insert::run(self, statement),
            Statement::Delete(statement) => edit::delete(self, statement),
            Statement::Update(statement) => edit::update(self, statement),
            Statement::Merge(statement) => merge::run(self, statement),
            Statement::Diff(statement) => diff::run(self, statement),
            Statement::Rebalance(statement) => upkeep::rebalance(self, statement),
            Statement::Compact(statement) => compact::run(self, statement),
            Statement::ShowCompactStatus => compact::status(self),
            Statement::CompileVindex(statement) => compile::vindex(self, statement),
            Statement::CompileModel(statement) => compile::model(self, statement),
            other => Err(ExecuteError::NotAvailable { statement: first_words(other) }),
        }
    }
}

impl Engine for Session {
    fn execute(&mut self, pipe: &Pipe, emit: &mut dyn FnMut(Output)) -> Result<(), Failure> {
        Ok(self.execute_pipe(pipe, emit)?)
    }

    fn set_walk_k(&mut self, k: Option<usize>) {
        Self::set_walk_k(self, k);
    }
}

/// The keywords that a statement begins with.
fn first_words(statement: &Statement) -> String {
    let text = statement.to_string();
    let keyword = |word: &&str| word.chars().all(|c| c.is_ascii_uppercase());
    text.split(' ').take_while(keyword).take(2).collect::<Vec<_>>().join(" ")
}
