use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use larql_server::{ServeOptions, serve_mcp};
use larql_session::Catalog;

use super::serve::named;
use crate::arguments::Threads;
use crate::library;

/// Serve the Model Context Protocol on standard input and output
///
/// For the configuration of a program that speaks the protocol. `larql serve` speaks it too, at /mcp. Edits last as long as
/// the connection, and nothing is written to disk.
#[derive(Args)]
#[command(after_help = "Examples:
  larql mcp smollm2.vindex

In the configuration of a program:
  {\"mcpServers\": {\"larql\": {\"command\": \"larql\", \"args\": [\"mcp\", \"smollm2.vindex\"]}}}")]
pub(crate) struct Arguments {
    /// Vindexes, GGUF files, checkpoint directories or models' names; NAME=MODEL to offer one under another name
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,
    /// Refuse edits
    #[arg(long)]
    no_edit: bool,
    #[command(flatten)]
    threads: Threads,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let models = arguments.models.iter().map(|model| named(model)).collect::<miette::Result<Vec<_>>>()?;
    let options = ServeOptions { models, edit: !arguments.no_edit, ..ServeOptions::default() };
    let catalog = Arc::new(Catalog::new(arguments.threads.pool(), library::open_without_downloads()?));
    serve_mcp(options, catalog).map_err(super::report)?;
    Ok(ExitCode::SUCCESS)
}
