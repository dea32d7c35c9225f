//! A server and a client of it: `cargo run -p larql-server --example server_demo`.
//!
//! Serves the bundled model on a free port, carries out statements in a session on the server, and prints the results as
//! the command line shows them.

use std::error::Error;
use std::sync::Arc;
use std::thread;

use larql_compute::Pool;
use larql_core::progress::NoProgress;
use larql_hub::Library;
use larql_lql::parse;
use larql_lql::render::{Format, RenderOptions, render};
use larql_models::Checkpoint;
use larql_remote::Remote;
use larql_server::{ServeOptions, Server};
use larql_session::Catalog;
use larql_vindex::{ExtractOptions, extract};
use tokio::sync::oneshot;

const STATEMENTS: &str = r#"
    DESCRIBE "France" LIMIT 3;
    INFER "The capital of France is" TOP 3;
    INSERT INTO EDGES (entity, relation, target) VALUES ("Atlantis", "capital", "Lima");
    INFER "The capital of Atlantis is" TOP 3;
    UNDO;
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let catalog = Catalog::new(Arc::new(Pool::for_this_machine()), Library::new(folder.path().to_owned()));
    let vindex = folder.path().join("atlas.vindex");
    let checkpoint = Checkpoint::open(&larql_testing::shipped("atlas"))?;
    extract(&checkpoint, &vindex, &ExtractOptions::default(), &NoProgress)?;
    let models = vec![("atlas".to_owned(), vindex)];
    let options = ServeOptions { models, port: 0, access_log: false, ..ServeOptions::default() };
    let server = Server::open(options, Arc::new(catalog))?;
    let url = server.url();
    println!("listening on {url}\n");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = thread::spawn(|| {
        server.run(async {
            // The sender is dropped when the client is done.
            let _ = stopped.await;
        })
    });
    let asked = ask(&url);
    drop(stop);
    serving.join().map_err(|_| "the server failed")??;
    asked
}

/// Carries out the statements on the server and prints their results.
fn ask(url: &str) -> Result<(), Box<dyn Error>> {
    let remote = Remote::connect(url)?;
    for pipe in parse(STATEMENTS)? {
        println!("larql> {pipe};");
        remote.execute(&pipe, &mut |output| {
            println!("{}", render(&output, Format::Table, &RenderOptions::default()));
        })?;
    }
    Ok(())
}
