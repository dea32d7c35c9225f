//! Shared by the examples: a folder of their own, with the bundled model open.

use std::error::Error;
use std::sync::Arc;

use larql_compute::Pool;
use larql_hub::Library;
use larql_lql::parse;
use larql_lql::render::{Format, RenderOptions, render};
use larql_session::{Catalog, Session};
use tempfile::TempDir;

/// Folder that an example works in, with a session in which the bundled model is open. What is written there is gone with it.
pub(crate) struct Atlas {
    pub(crate) session: Session,
    _folder: TempDir,
}

impl Atlas {
    pub(crate) fn open() -> Result<Atlas, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        std::env::set_current_dir(&folder)?;
        let library = Library::new(folder.path().join("models"));
        let catalog = Catalog::new(Arc::new(Pool::for_this_machine()), library);
        let mut atlas = Atlas { session: Session::new(Arc::new(catalog)), _folder: folder };
        atlas.show("USE \"atlas\";")?;
        Ok(atlas)
    }

    /// Carries out statements and prints each with its answer.
    pub(crate) fn show(&mut self, statements: &str) -> Result<(), Box<dyn Error>> {
        for pipe in parse(statements)? {
            println!("larql> {pipe};");
            self.session.execute_pipe(&pipe, &mut |output| {
                println!("{}", render(&output, Format::Table, &RenderOptions::default()));
            })?;
        }
        Ok(())
    }
}
