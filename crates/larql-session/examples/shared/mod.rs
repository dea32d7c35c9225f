//! What the examples share: a folder of their own, with the bundled model open.

use std::error::Error;
use std::sync::Arc;

use larql_compute::Pool;
use larql_hub::Library;
use larql_lql::parse;
use larql_lql::render::{Format, RenderOptions, render};
use larql_session::{Catalog, Session};

/// Carries out statements on the bundled model and prints each with its answer. What they write is gone afterwards.
pub(crate) fn show(statements: &str) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    std::env::set_current_dir(&folder)?;
    let library = Library::new(folder.path().join("models"));
    let catalog = Catalog::new(Arc::new(Pool::for_this_machine()), library);
    let mut session = Session::new(Arc::new(catalog));
    for pipe in parse(&format!("USE \"atlas\";\n{statements}"))? {
        println!("larql> {pipe};");
        session.execute_pipe(&pipe, &mut |output| {
            println!("{}", render(&output, Format::Table, &RenderOptions::default()));
        })?;
    }
    Ok(())
}
