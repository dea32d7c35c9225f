//! What could be typed next.

use std::fs;
use std::path::Path;

use reedline::{Completer, CompletionResult, Suggestion};

use super::command::COMMANDS;
use super::names::Names;
use crate::ast::Help;
use crate::keyword::Keyword;
use crate::parser::{Item, expected_after};
use crate::token::{Quote, Quoted, Token, Tokens};

/// More than this nobody reads.
const MOST: usize = 100;

/// Candidates for the end of what has been typed.
#[derive(Debug, PartialEq, Eq)]
struct Candidates {
    /// Where the text begins that a candidate replaces.
    start: usize,
    values: Vec<String>,
}

/// Candidates for the end of `typed`.
fn candidates(typed: &str, names: &Names) -> Candidates {
    if typed.trim_start().starts_with('.') {
        return for_command(typed);
    }
    if let Some(string) = open_string(typed) {
        return for_string(string, names);
    }
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let start = typed.trim_end_matches(is_word).len();
    let (before, word) = typed.split_at(start);
    let expected = expected_after(before);
    let field_wanted = expected.allows(Item::Field);
    let lower =
        field_wanted || (!word.is_empty() && word.chars().all(|c| c.is_lowercase() || !c.is_alphabetic()));
    let spell = |keyword: Keyword| {
        if lower { keyword.text().to_lowercase() } else { keyword.text().to_owned() }
    };
    let keywords = expected.keywords().filter(|keyword| begins_with(keyword.text(), word)).map(spell);
    let mut values: Vec<String> = keywords.collect();
    let name_wanted = expected.allows(Item::Text) || expected.allows(Item::Value);
    if name_wanted && !takes_path(before) {
        values.extend(names.beginning_with(word, MOST).iter().map(|name| Quote(name).to_string()));
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
    let possible: Vec<&str> = match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) if command.name == ".help" => Help::all().map(|help| help.name).collect(),
        Some(command) => command.arguments.to_vec(),
        None => Vec::new(),
    };
    let values =
        possible.into_iter().filter(|value| begins_with(value, argument)).map(str::to_owned).collect();
    Candidates { start: typed.len() - argument.len(), values }
}

/// A string that has no end yet.
struct OpenString<'a> {
    /// What stands before it.
    before: &'a str,
    /// What stands in it so far.
    inside: &'a str,
}

fn open_string(typed: &str) -> Option<OpenString<'_>> {
    let mut tokens = Tokens::new(typed);
    loop {
        match tokens.next() {
            (Token::End, _) => return None,
            (Token::Text(Quoted::Unclosed), span) => {
                return Some(OpenString { before: &typed[..span.start], inside: &typed[span.start + 1..] });
            }
            _ => {}
        }
    }
}

fn for_string(string: OpenString, names: &Names) -> Candidates {
    let values = if takes_path(string.before) {
        paths(string.inside)
    } else {
        names.beginning_with(string.inside, MOST).iter().map(|name| Quote(name).to_string()).collect()
    };
    Candidates { start: string.before.len(), values }
}

/// Whether a string that follows `before` names a file.
fn takes_path(before: &str) -> bool {
    use Keyword::{Compile, Diff, Into, Merge, Model, Patch, Save, Stats, Use, Vindex};
    let mut tokens = Tokens::new(before);
    let mut last = None;
    loop {
        match tokens.next() {
            (Token::End, _) => break,
            (Token::Word(Some(keyword)), _) => last = Some(keyword),
            _ => {}
        }
    }
    matches!(last, Some(Compile | Diff | Into | Merge | Model | Patch | Save | Stats | Use | Vindex))
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
        let literal = Quote(&format!("{folder}{name}{}", if open { "/" } else { "" })).to_string();
        found.push(if open { literal[..literal.len() - 1].to_owned() } else { literal });
    }
    found.sort_unstable();
    found.truncate(MOST);
    found
}

/// Offers the candidates as reedline asks for them.
pub(super) struct LqlCompleter(pub(super) Names);

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
        assert_eq!(offered("USE \"no such folder/x"), Vec::<String>::new());
    }

    #[test]
    fn commands_and_their_arguments() {
        assert_eq!(offered(".m"), [".mode"]);
        assert_eq!(offered(".mode "), ["table", "json", "csv"]);
        assert_eq!(offered(".mode j"), ["json"]);
        assert_eq!(offered(".help show l"), ["SHOW LAYERS"]);
        assert_eq!(offered(".zzz x"), Vec::<String>::new());
    }
}
