//! The way from a statement to the function that executes it.

use std::sync::Arc;

use larql_lql::ast::{ExampleModel, Pipe, Statement};
use larql_lql::output::Output;
use larql_lql::{Engine, Failure, UnsavedPatch};

use crate::open_vindex::OpenVindex;

use crate::{
    ExecuteError, Session, View, compact, compile, describe, diff, edit, extract, infer, insert, merge,
    patch, pipe, select, show, stats, trace, upkeep, use_, walk,
};

impl Session {
    /// Executes the statements of a pipe from left to right. A statement without a subject of its own is executed
    /// once for each row of the one before; SELECT answers with the rows that agree with one of them.
    /// The answer is handed to `emit`: once, or, after DESCRIBE … STREAM, layer by layer.
    ///
    /// # Errors
    /// That of the first statement that fails.
    pub fn execute_pipe(&mut self, pipe: &Pipe, emit: &mut dyn FnMut(Output)) -> Result<(), ExecuteError> {
        pipe::run(self, pipe, emit)
    }

    /// Executes one statement, and answers at once even where it says STREAM.
    ///
    /// # Errors
    /// Why it cannot be executed; nothing is changed then.
    pub fn execute(&mut self, statement: &Statement) -> Result<Output, ExecuteError> {
        match statement {
            Statement::Use(statement) => use_::run(self, statement),
            Statement::BeginPatch(statement) => patch::begin(self, statement),
            Statement::SavePatch(statement) => patch::save(self, statement),
            Statement::ApplyPatch(statement) => patch::apply(self, statement),
            Statement::RemovePatch(statement) => patch::remove(self, statement),
            Statement::Undo => patch::undo(self),
            Statement::Insert(statement) => insert::run(self, statement),
            Statement::Delete(statement) => edit::delete(self, statement),
            Statement::Update(statement) => edit::update(self, statement),
            Statement::Merge(statement) => merge::run(self, statement),
            Statement::Rebalance(statement) => upkeep::rebalance(self, statement),
            Statement::Compact(statement) => compact::run(self, statement),
            reading => self.query(reading),
        }
    }

    /// Executes a statement that leaves the session as it is, so that threads can share the session. EXTRACT, COMPILE and
    /// DIFF are such statements too: what they write are other files.
    ///
    /// # Errors
    /// [`ExecuteError::ChangesSession`] for a statement that takes [`execute`](Self::execute); otherwise why it cannot be
    /// executed.
    pub fn query(&self, statement: &Statement) -> Result<Output, ExecuteError> {
        match statement {
            Statement::Extract(statement) => extract::run(self, statement),
            Statement::Stats(statement) => stats::run(self, statement),
            Statement::Describe(statement) => describe::run(self, statement),
            Statement::Walk(statement) => walk::run(self, statement),
            Statement::ExplainWalk(statement) => walk::explain(self, statement),
            Statement::Select(statement) => select::run(self, statement, None),
            Statement::Infer(statement) => infer::run(self, statement),
            Statement::ExplainInfer(statement) => infer::explain(self, statement),
            Statement::ShowRelations(statement) => show::relations(self, statement),
            Statement::ShowLayers(statement) => show::layers(self, statement),
            Statement::ShowFeatures(statement) => show::features(self, statement),
            Statement::ShowEntities(statement) => show::entities(self, statement),
            Statement::ShowModels => show::models(self),
            Statement::ShowPatches => patch::show(self),
            Statement::Diff(statement) => diff::run(self, statement),
            Statement::ShowCompactStatus => compact::status(self),
            Statement::CompileVindex(statement) => compile::vindex(self, statement),
            Statement::CompileModel(statement) => compile::model(self, statement),
            Statement::Trace(statement) => trace::run(self, statement),
            Statement::Use(_)
            | Statement::BeginPatch(_)
            | Statement::SavePatch(_)
            | Statement::ApplyPatch(_)
            | Statement::RemovePatch(_)
            | Statement::Undo
            | Statement::Insert(_)
            | Statement::Delete(_)
            | Statement::Update(_)
            | Statement::Merge(_)
            | Statement::Rebalance(_)
            | Statement::Compact(_) => Err(ExecuteError::ChangesSession { statement: statement.name() }),
        }
    }
}

impl Engine for Session {
    fn execute(&mut self, pipe: &Pipe, emit: &mut dyn FnMut(Output)) -> Result<(), Failure> {
        Ok(self.execute_pipe(pipe, emit)?)
    }

    fn set_most_rows(&mut self, rows: Option<usize>) {
        Self::set_most_rows(self, rows);
    }

    fn example_model(&self) -> ExampleModel {
        let example = |view: &Arc<View>| ExampleModel {
            path: view.base().path().display().to_string(),
            layers: view.layers(),
        };
        self.view().map_or_else(ExampleModel::default, example)
    }

    fn relations(&self) -> Vec<String> {
        self.view().map_or_else(Vec::new, |view| show::relation_names(view))
    }

    fn set_walk_k(&mut self, k: Option<usize>) {
        Self::set_walk_k(self, k);
    }

    fn open(&mut self, model: &str) -> Result<Output, Failure> {
        let path = self.find(&model.to_owned().into())?;
        Ok(self.open_path(&path)?)
    }

    fn unsaved(&self) -> Vec<UnsavedPatch> {
        self.vindex("SAVE PATCH").map_or_else(|_| Vec::new(), OpenVindex::unsaved)
    }
}
