//! The project's checks: `cargo xtask COMMAND`.

mod book;
mod circles;
mod fuzz;
mod python;
mod tidy;
mod wording;

use std::path::Path;
use std::process::{Command, ExitCode};

/// A command that went wrong, in one sentence.
type Failure = String;

const HELP: &str = "\
cargo xtask check           fmt, lint, doc, tidy and test: what must hold before a commit
cargo xtask fmt             formatting
cargo xtask lint            clippy with warnings as errors
cargo xtask doc             documentation of the crates with warnings as errors
cargo xtask tidy            crate charters, house rules, wording of documentation
cargo xtask test            all tests; those on real models are skipped where the models are absent
cargo xtask book            runs the examples of the book and compares what they print
    --write                 writes what they print into the book
    --engine COMMAND        carries out LQL with another command than `larql lql --use atlas`
    --larql PATH            runs this program instead of building one
    PAGE.md …               runs the examples of these pages only
cargo xtask pages           builds the book, checks its links and all spelling (mdbook, lychee, typos)
cargo xtask deny            licences, sources and duplicates of dependencies (cargo-deny)
cargo xtask python          the Python package: its tests, and its types by mypy and pyright
cargo xtask package         the archive of each crate as it would be published
cargo xtask fuzz [SECONDS]  every fuzz target for so long (60)
cargo xtask accept          accept changed snapshots (needs cargo-insta)
The tools of `test`, `python`, `pages` and `deny` are in scripts/check-tools.txt: pip install -r scripts/check-tools.txt";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["check"] => check(),
        ["fmt"] => fmt(),
        ["lint"] => lint(),
        ["doc"] => doc(),
        ["tidy"] => tidy::run(repository()),
        ["test"] => cargo(&["test", "--workspace", "--quiet"]),
        ["book", ref options @ ..] => {
            book::Options::parse(options).and_then(|options| book::run(repository(), &options))
        }
        ["pages"] => pages(),
        ["deny"] => cargo(&["deny", "--all-features", "check", "licenses", "bans", "sources"]),
        ["python"] => python::check(repository()),
        ["package"] => package(),
        ["fuzz"] => fuzz::run_all(repository(), 60),
        ["fuzz", seconds] => match seconds.parse() {
            Ok(seconds) => fuzz::run_all(repository(), seconds),
            Err(_) => Err(format!("`{seconds}` is not a number of seconds")),
        },
        ["accept"] => cargo(&["insta", "accept", "--workspace"]),
        _ => {
            println!("{HELP}");
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<(), Failure> {
    fmt()?;
    lint()?;
    doc()?;
    tidy::run(repository())?;
    cargo(&["test", "--workspace", "--quiet"])
}

fn fmt() -> Result<(), Failure> {
    cargo(&["fmt", "--all", "--check"])
}

fn lint() -> Result<(), Failure> {
    cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])
}

fn doc() -> Result<(), Failure> {
    let mut command = Command::new("cargo");
    command.args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings");
    run(command)
}

/// Makes the archive of each crate as it would be published, without compiling it again.
fn package() -> Result<(), Failure> {
    cargo(&[
        "package",
        "--workspace",
        "--exclude",
        "xtask",
        "--exclude",
        "larql-testing",
        "--exclude",
        "larql-python",
        "--exclude",
        "larql-hub-testing",
        "--no-verify",
        "--allow-dirty",
        "--quiet",
    ])
}

fn pages() -> Result<(), Failure> {
    run(tool("mdbook", &["build", "docs"]))?;
    run(tool("lychee", &["--config", "docs/lychee.toml", "."]))?;
    run(tool("typos", &["--config", "docs/typos.toml"]))
}

fn tool(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn cargo(arguments: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new("cargo");
    command.args(arguments);
    run(command)
}

/// Runs a command in the repository's root.
fn run(mut command: Command) -> Result<(), Failure> {
    let status = command.current_dir(repository()).status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed with {status}")) }
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
