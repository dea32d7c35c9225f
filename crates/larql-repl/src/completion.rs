//! Candidates for completion: keywords, names that results have shown, files, and the commands of the prompt.

use std::fs;
use std::path::Path;

use larql_lql::assist::{Completion, Text, complete, quoted};
use larql_lql::ast::Help;
use reedline::{Completer, CompletionResult, Suggestion};

use crate::command::COMMANDS;
use crate::names::Names;

/// Greatest number of suggestions.
const MOST: usize = 100;

/// Candidates for the end of what has been typed.
#[derive(Debug, PartialEq, Eq)]
struct Candidates {
    /// Byte offset at which the text begins that a candidate replaces.
    start: usize,
    values: Vec<String>,
}

/// Candidates for the end of `typed`.
fn candidates(typed: &str, names: &Names) -> Candidates {
    if typed.trim_start().starts_with('.') {
        return for_command(typed);
    }
    let Completion { start, keywords: mut values, text } = complete(typed);
    match text {
        Some(Text::Name(begun)) => {
            values.extend(names.beginning_with(begun, MOST).iter().map(|name| quoted(name)));
        }
        Some(Text::Relation(begun)) => {
            values.extend(names.relations_beginning_with(begun, MOST).iter().map(|name| quoted(name)));
        }
        Some(Text::Path(begun)) => values.extend(paths(begun)),
        None => {}
    }
    Candidates { start, values }
}

fn begins_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

fn for_command(typed: &str) -> Candidates {
    let start = typed.len() - typed.trim_start().len();
    let Some((name, argument)) = typed[start..].split_once(char::is_whitespace) else {
        let names = COMMANDS.iter().map(|command| command.name);
        let values = names.filter(|name| begins_with(name, &typed[start..])).map(str::to_owned).collect();
        return Candidates { start, values };
    };
    let argument = argument.trim_start();
    if [".open", ".read", ".import", ".output"].contains(&name) {
        let values = paths(argument.trim_start_matches(['"', '\'']));
        return Candidates { start: typed.len() - argument.len(), values };
    }
    let possible: Vec<&str> = match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) if command.name == ".help" => Help::all().map(|help| help.name).collect(),
        Some(command) => command.arguments.to_vec(),
        None => Vec::new(),
    };
    let values =
        possible.into_iter().filter(|value| begins_with(value, argument)).map(str::to_owned).collect();
    Candidates { start: typed.len() - argument.len(), values }
}

/// Files and folders whose path begins with `typed`, as strings: a folder's has no closing quote, so that one can go on.
fn paths(typed: &str) -> Vec<String> {
    let cut = typed.rfind('/').map_or(0, |slash| slash + 1);
    let (folder, prefix) = typed.split_at(cut);
    let Ok(entries) = fs::read_dir(if folder.is_empty() { Path::new(".") } else { Path::new(folder) }) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let hidden = name.starts_with('.') && !prefix.starts_with('.');
        if hidden || !name.starts_with(prefix) {
            continue;
        }
        // A vindex is a folder that one opens, not one that one looks into.
        let open = entry.path().is_dir() && !name.ends_with(".vindex");
        let literal = quoted(&format!("{folder}{name}{}", if open { "/" } else { "" }));
        found.push(if open { literal[..literal.len() - 1].to_owned() } else { literal });
    }
    found.sort_unstable();
    found.truncate(MOST);
    found
}

/// Offers the candidates as reedline asks for them.
pub(crate) struct LqlCompleter(pub(crate) Names);

impl Completer for LqlCompleter {
    fn complete(&mut self, line: &str, position: usize) -> CompletionResult {
        let typed = line.get(..position).unwrap_or(line);
        let Candidates { start, values } = candidates(typed, &self.0);
        let span = reedline::Span::new(start, typed.len());
        let suggestions = values.into_iter().map(|value| {
            let append_whitespace = !value.ends_with('/');
            Suggestion { value, span, append_whitespace, ..Suggestion::default() }
        });
        CompletionResult::fresh(suggestions.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(typed: &str) -> Vec<String> {
        let names = Names::default();
        names.add(["France", "Frankfurt", "say \"hi\"", "Berlin"]);
        candidates(typed, &names).values
    }

    #[test]
    fn keywords_by_position() {
        assert_eq!(offered("DESC"), ["DESCRIBE"]);
        assert_eq!(offered("desc"), ["describe"]);
        assert_eq!(offered("EXPLAIN "), ["INFER", "WALK"]);
        assert_eq!(offered("WALK \"x\" "), ["COMPARE", "LAYERS", "MODE", "TOP"]);
        assert_eq!(offered("WALK \"x\" TOP 5 "), ["COMPARE", "LAYERS", "MODE"]);
        assert_eq!(offered("WALK \"x\" MODE "), ["DENSE", "HYBRID", "PURE"]);
        assert_eq!(offered("STATS; SHOW PAT"), ["PATCHES"]);
        assert_eq!(offered("SELECT la"), ["label", "layer", "layer_max"]);
        assert_eq!(offered("SELECT * FROM EDGES WH"), ["WHERE"]);
        assert_eq!(offered("FOO "), Vec::<String>::new());
        assert!(
            offered("").contains(&"SELECT".to_owned()) && offered("STATS |> ").contains(&"INFER".to_owned())
        );
    }

    #[test]
    fn names_where_an_entity_stands() {
        assert_eq!(offered("DESCRIBE \"fra"), [r#""France""#, r#""Frankfurt""#]);
        assert_eq!(offered("DESCRIBE Ber"), [r#""Berlin""#]);
        assert_eq!(offered("DESCRIBE 'say"), [r#""say \"hi\"""#]);
        assert_eq!(offered("SELECT * FROM EDGES WHERE entity = Fra"), [r#""France""#, r#""Frankfurt""#]);
        let names = Names::default();
        assert_eq!(candidates("DESCRIBE \"F", &names).start, "DESCRIBE ".len());
    }

    #[test]
    fn relations_where_one_is_compared() {
        let names = Names::default();
        names.set_relations(vec!["capital".to_owned(), "language".to_owned()]);
        let offered = |typed| candidates(typed, &names).values;
        assert_eq!(offered("SELECT * FROM EDGES WHERE relation = "), [r#""capital""#, r#""language""#]);
        assert_eq!(offered("SELECT * FROM EDGES WHERE relation = \"la"), [r#""language""#]);
        assert_eq!(offered("SELECT * FROM EDGES WHERE entity = ca"), Vec::<String>::new());
    }

    #[test]
    fn files_where_a_path_stands() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        fs::create_dir(path.join("gemma.vindex")).expect("a folder");
        fs::create_dir(path.join("models")).expect("a folder");
        fs::write(path.join("goods.vlp"), "").expect("a file");
        fs::write(path.join(".hidden"), "").expect("a file");
        let root = path.to_str().expect("a path in UTF-8");
        assert_eq!(
            offered(&format!("USE \"{root}/g")),
            [format!("\"{root}/gemma.vindex\""), format!("\"{root}/goods.vlp\""),]
        );
        assert_eq!(offered(&format!("EXTRACT MODEL \"{root}/m")), [format!("\"{root}/models/")]);
        assert_eq!(offered(&format!("DIFF \"a\" \"{root}/")).len(), 3);
        assert_eq!(offered(&format!(".read {root}/goo")), [format!("\"{root}/goods.vlp\"")]);
        assert_eq!(offered("USE \"no such folder/x"), Vec::<String>::new());
    }

    #[test]
    fn commands_and_their_arguments() {
        assert_eq!(offered(".m"), [".mode"]);
        assert_eq!(offered(".mode "), ["table", "box", "markdown", "line", "json", "csv"]);
        assert_eq!(offered(".mode j"), ["json"]);
        assert_eq!(offered(".help show l"), ["SHOW LAYERS"]);
        assert_eq!(offered(".zzz x"), Vec::<String>::new());
    }
}
