//! What a developer runs all day: `cargo xtask COMMAND`.

mod circles;
mod fuzz;
mod tidy;

use std::path::Path;
use std::process::{Command, ExitCode};

/// A command that went wrong, in one sentence.
type Failure = String;

const HELP: &str = "\
cargo xtask check           everything below but fuzz: what must hold before a commit
cargo xtask fmt             formatting
cargo xtask lint            clippy with warnings as errors
cargo xtask doc             documentation with warnings as errors
cargo xtask tidy            licences of dependencies, crate charters, house rules
cargo xtask test            all tests; real models are skipped where they are absent
cargo xtask fuzz [SECONDS]  every fuzz target for so long (60)
cargo xtask accept          accept changed snapshots (needs cargo-insta)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["check"] => check(),
        ["fmt"] => fmt(),
        ["lint"] => lint(),
        ["doc"] => doc(),
        ["tidy"] => tidy::run(repository()),
        ["test"] => test(),
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
    test()
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

fn test() -> Result<(), Failure> {
    cargo(&["test", "--workspace", "--quiet"])
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
