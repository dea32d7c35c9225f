//! Statements carried out from their text to their answer, against the small vindexes of the repository.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod atlas;
mod building;
mod describing;
mod editing;
mod extracting;
mod inferring;
mod inserting;
mod opening;
mod piping;
mod selecting;
mod sharing;
mod showing;
mod tracing;
mod upkeep;
mod walking;

use std::path::Path;
use std::sync::Arc;

use larql_compute::Pool;
use larql_hub::Library;
use larql_lql::ast;
use larql_lql::output::{Datum, Output, Selected};
use larql_lql::render::{Format, RenderOptions, diagnostic, render};
use larql_session::{Catalog, ExecuteError, QueryError, Session};

const ALL: &str = "llama-f16-all.vindex";
const BROWSE: &str = "llama-f32-browse.vindex";
const BLOCKS: &str = "llama-q4k.vindex";
const GEMMA: &str = "gemma3-f16-all.vindex";
const CHECKPOINT: &str = "llama-checkpoint";

/// Path of a fixture.
fn fixture(name: &str) -> String {
    larql_testing::repository("fixtures").join(name).display().to_string()
}

/// Copies a fixture to `target`.
fn copy(name: &str, target: &Path) {
    std::fs::create_dir(target).unwrap();
    for file in std::fs::read_dir(fixture(name)).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), target.join(file.file_name())).unwrap();
    }
}

/// A catalog with nothing open, on one thread.
fn catalog(library: Library) -> Arc<Catalog> {
    Arc::new(Catalog::new(Arc::new(Pool::new(1)), library))
}

/// A session with nothing open.
fn session() -> Session {
    Session::new(catalog(Library::default()))
}

/// A session with a fixture open.
fn open(name: &str) -> Session {
    let mut session = session();
    session.open_path(fixture(name).as_ref()).unwrap();
    session
}

/// The last answer to the last of some statements.
fn run(session: &mut Session, text: &str) -> Result<Output, ExecuteError> {
    Ok(run_all(session, text)?.pop().unwrap())
}

/// Every answer to some statements. As JSON each reads back as the same answer.
fn run_all(session: &mut Session, text: &str) -> Result<Vec<Output>, ExecuteError> {
    let mut outputs = Vec::new();
    for pipe in larql_lql::parse(text).unwrap() {
        session.execute_pipe(&pipe, &mut |output| outputs.push(output))?;
    }
    for output in &outputs {
        let json = render(output, Format::Json, &RenderOptions::default());
        assert_eq!(serde_json::from_str::<Output>(&json).unwrap(), *output);
    }
    Ok(outputs)
}

/// The answer of a fixture.
fn ask(fixture: &str, text: &str) -> Output {
    run(&mut open(fixture), text).unwrap()
}

/// Rows that SELECT finds in a fixture.
fn select(fixture: &str, text: &str) -> Selected {
    match ask(fixture, text) {
        Output::Select(selected) => selected,
        other => panic!("SELECT answers {other:?}"),
    }
}

/// One column of a selection.
fn column(selected: &Selected, field: ast::Field) -> Vec<Option<&Datum>> {
    selected.rows.iter().map(|row| row.get(field)).collect()
}

/// An answer as people read it, whatever the place of the repository.
fn shown(output: &Output) -> String {
    let table = render(output, Format::Table, &RenderOptions::default());
    table.replace(&fixture(""), "fixtures/")
}

/// The error of a statement as people read it.
fn refused(session: &mut Session, text: &str) -> String {
    let error = run(session, text).unwrap_err();
    diagnostic(&error, "lql", text, false).replace(&fixture(""), "fixtures/")
}
