//! Serves the models that it is given, on a free port or the one that `--port=N` names: a server in twenty lines.
//!
//!     cargo run --release -p larql-server --example serve -- smollm2.vindex

use std::path::PathBuf;
use std::sync::Arc;

use larql_compute::Pool;
use larql_hub::{Library, ModelResolver, model_name};
use larql_server::{ServeOptions, Server};
use larql_session::Catalog;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (flags, models): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let port = flags.iter().find_map(|flag| flag.strip_prefix("--port=")).map_or(Ok(0), str::parse)?;
    let library = Library::new(std::env::temp_dir().join("larql-example-models"));
    let named = |model: &String| Ok((model_name(model.as_ref()), library.find(model.as_ref())?));
    let models =
        models.iter().map(named).collect::<Result<Vec<(String, PathBuf)>, larql_hub::LibraryError>>()?;
    let catalog = Arc::new(Catalog::new(Arc::new(Pool::for_this_machine()), library));
    let server = Server::open(ServeOptions { models, port, ..ServeOptions::default() }, catalog)?;
    eprintln!("listening on {}", server.url());
    server.run_until_terminated(|| eprintln!("finishing what is running"))?;
    Ok(())
}
