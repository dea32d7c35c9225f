//! The help, made from the table of statements and the table of commands.

use std::fmt::Write;

use larql_lql::assist::nearest;
use larql_lql::ast::{ExampleModel, Help};

use crate::command::COMMANDS;

/// There is no help on a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no statement {topic}{}; .help lists them", .meant.map(|meant| format!(", did you mean {meant}?")).unwrap_or_default())]
pub(crate) struct NoHelp {
    topic: String,
    meant: Option<&'static str>,
}

/// Columns of a page.
const PAGE: usize = 80;

/// A line for each statement and each command.
pub(crate) fn overview() -> String {
    let statements = Help::all().map(|help| (help.name, help.meaning));
    let commands = COMMANDS.iter().map(|command| (command.syntax, command.meaning));
    let mut text = String::from("Statements (.help NAME for the grammar and an example):\n");
    list(&mut text, statements.collect());
    text += "\nCommands:\n";
    list(&mut text, commands.collect());
    text += "\nA statement ends with ; or, on one line that edits nothing, with Enter.\n\
             |> hands rows to SELECT, or to a statement without its entity or prompt,\n\
             which is then carried out for each row.\n";
    text
}

fn list(text: &mut String, entries: Vec<(&str, &str)>) {
    let width = entries.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, meaning) in entries {
        // Writing to a string succeeds.
        let _ = writeln!(text, "  {name:width$}  {}", hanging(meaning, width + 4));
    }
}

/// A text in lines that fit a page of 80 columns, all but the first `indent` columns from its edge.
fn hanging(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut column = indent;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > indent && column + 1 + width > PAGE {
            lines += &format!("\n{:indent$}", "");
            column = indent;
        } else if column > indent {
            lines.push(' ');
            column += 1;
        }
        lines += word;
        column += width;
    }
    lines
}

/// Everything about the statements whose names begin with `topic`, with examples for `model`.
pub(crate) fn topic(topic: &str, model: &ExampleModel) -> Result<String, NoHelp> {
    let wanted = topic.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_uppercase();
    let about = |help: &Help| help.name == wanted || help.name.starts_with(&format!("{wanted} "));
    let entries: Vec<String> = Help::all()
        .filter(about)
        .map(|help| {
            let example = help.example(model);
            format!("{}: {}\n\n{}\n\nFor example\n  {example}\n", help.name, help.meaning, help.syntax)
        })
        .collect();
    if entries.is_empty() {
        let names: Vec<&str> = Help::all().map(|help| help.name).collect();
        return Err(NoHelp { topic: topic.to_owned(), meant: nearest(&wanted, names) });
    }
    Ok(entries.join("\n"))
}
