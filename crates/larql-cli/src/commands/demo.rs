use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use larql_compute::Pool;
use larql_hub::Library;
use larql_lql::render::Format;
use larql_remote::Switching;
use larql_repl::{Interrupt, Outcome, Repl, Streams};
use larql_session::{Catalog, Session};
use miette::IntoDiagnostic;

use super::lql::prompt;
use super::repl::talk;
use crate::output::{self, outln};

/// See LARQL work, on a small model that comes with it
///
/// Runs real statements in a folder of its own, which is removed afterwards. On a terminal it ends in the REPL.
#[derive(Args)]
#[command(after_help = "Example:\n  larql demo --no-repl")]
pub(crate) struct Arguments {
    /// End after the last statement, on a terminal too
    #[arg(long)]
    no_repl: bool,
}

/// A statement, and what to look for in its answer.
struct Step {
    about: &'static str,
    statement: &'static str,
}

const STEPS: [Step; 14] = [
    Step {
        about: "A checkpoint becomes a vindex, as with `larql extract atlas -o atlas.vindex --level all`.",
        statement: r#"EXTRACT MODEL "atlas" INTO "atlas.vindex" WITH ALL;"#,
    },
    Step { about: "A vindex is opened like a database.", statement: r#"USE "atlas.vindex";"# },
    Step { about: "What the model associates with a word.", statement: r#"DESCRIBE "France" LIMIT 5;"# },
    Step {
        about: "What it says next: the forward pass runs over the features of the vindex.",
        statement: r#"INFER "The capital of France is" TOP 3;"#,
    },
    Step {
        about: "How it gets there: what each layer would answer, and the feature that pushes the answer most.",
        statement: r#"EXPLAIN INFER "The capital of France is" TOP 1;"#,
    },
    Step {
        about: "The same knowledge as a table.",
        statement: r#"SELECT entity, relation, target, confidence FROM EDGES
           WHERE entity IN ("Japan", "oxygen", "hot") AND confidence > 0.5
           ORDER BY confidence DESC LIMIT 9;"#,
    },
    Step {
        about: "A fact that it was never taught becomes a feature of its own. The vindex itself is never written.",
        statement: r#"INSERT INTO EDGES (entity, relation, target)
           VALUES ("Atlantis", "capital", "Poseidon");"#,
    },
    Step {
        about: "It comes out, token by token: P, ose, idon;",
        statement: r#"INFER "The capital of Atlantis is" TOP 2;"#,
    },
    Step { about: "nothing else changes.", statement: r#"INFER "The capital of France is" TOP 2;"# },
    Step { about: "Edits are kept in a file.", statement: r#"SAVE PATCH "edits.vlp";"# },
    Step {
        about: "Base and edits become a vindex of its own,",
        statement: r#"COMPILE CURRENT INTO VINDEX "edited.vindex";"#,
    },
    Step {
        about: "and a model as other programs read it.",
        statement: r#"COMPILE CURRENT INTO MODEL "edited" FORMAT safetensors;"#,
    },
    Step {
        about: "That model knows it too,",
        statement: r#"USE MODEL "edited"; INFER "The capital of Atlantis is" TOP 1;"#,
    },
    Step {
        about: "and the vindex is like any other.",
        statement: r#"USE "edited.vindex"; INFER "The capital of Atlantis is" TOP 1;"#,
    },
];

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    // Statements name files without a folder, as a person would.
    let home = std::env::current_dir().into_diagnostic()?;
    let folder = tempfile::Builder::new().prefix("larql-demo-").tempdir().into_diagnostic()?;
    std::env::set_current_dir(folder.path()).into_diagnostic()?;
    let result = demonstrate(folder.path(), !arguments.no_repl);
    // Some systems do not remove the folder that a process is in.
    std::env::set_current_dir(home).into_diagnostic()?;
    folder.close().into_diagnostic()?;
    result
}

fn demonstrate(folder: &Path, may_talk: bool) -> miette::Result<ExitCode> {
    let interrupt = Interrupt::default();
    let models = Library::new(folder.join("cache"));
    let catalog = Catalog::new(Arc::new(Pool::for_this_machine()), models);
    let session = Session::new(Arc::new(catalog)).with_progress(Arc::new(interrupt.token()));
    let mut repl = prompt(session, Format::Table, output::render_options(), interrupt)?;
    if !steps(&mut repl).map_err(output::unwritable)? {
        return Ok(ExitCode::FAILURE);
    }
    if may_talk && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        outln!("\nYour turn. .help lists statements; Ctrl-D quits and deletes\n{}", folder.display())?;
        talk(&mut repl)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows each statement and its answer; false if one failed.
fn steps(repl: &mut Repl<Switching<Session>>) -> std::io::Result<bool> {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    for (index, Step { about, statement }) in STEPS.iter().enumerate() {
        let about = comment(about);
        writeln!(out, "{}{about}\nlarql> {statement}", if index > 0 { "\n" } else { "" })?;
        let mut streams = Streams { out: &mut out, err: &mut err };
        if repl.run_script("demo", statement, &mut streams)? != Outcome::Done {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A comment in lines that fit 80 columns.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("--")];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= 80 => {
                *line += &format!(" {word}")
            }
            _ => lines.push(format!("--   {word}")),
        }
    }
    lines.join("\n")
}
