//! Help, completions, and arguments that are not understood.

use predicates::prelude::*;

use super::*;

/// The commands, as the help of the whole names them.
fn commands() -> Vec<String> {
    let help = stdout(&larql(["--help"]).assert().success());
    let list =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = list.filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    names.filter(|name| name != "help").collect()
}

#[test]
fn every_command_shows_how_it_is_called() {
    let commands = commands();
    assert!(commands.len() >= 11, "{commands:?}");
    for command in commands {
        let help = stdout(&larql([&*command, "--help"]).assert().success());
        let (_, examples) = help.split_once("Example").unwrap_or_else(|| panic!("{command} has no example"));
        assert!(examples.contains(&format!("larql {command} ")), "{command}: {examples}");
    }
}

#[test]
fn without_arguments_there_is_help() {
    larql([]).assert().code(2).stderr(predicate::str::contains("Start with:"));
}

#[test]
fn the_version_is_one_line() {
    let version = format!("larql {}\n", env!("CARGO_PKG_VERSION"));
    larql(["--version"]).assert().success().stdout(version);
}

#[test]
fn a_mistyped_option_is_pointed_out() {
    let mistake = ["extract", "x", "--outptu", "y"];
    larql(mistake).assert().code(2).stdout("").stderr(predicate::str::contains("'--output'"));
}

#[test]
fn completions_name_every_command() {
    let script = stdout(&larql(["completions", "bash"]).assert().success().stderr(""));
    for command in commands() {
        assert!(script.contains(&command), "{command}");
    }
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        larql(["completions", shell]).assert().success().stdout(predicate::str::contains("larql"));
    }
}
