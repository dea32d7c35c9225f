//! Completion: the keywords, names and paths that may follow a text.

use crate::keyword::Keyword;
use crate::parser::{Item, expected_after};
use crate::token::{Quoted, Token, Tokens};

/// The continuations of a text that may be typed next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion<'a> {
    /// Byte offset at which the text begins that a continuation replaces.
    pub start: usize,
    /// Keywords and names of fields, in the letters' case that is being typed.
    pub keywords: Vec<String>,
    /// The text literal that fits there, for the caller to look up; as it stands so far, without quotes.
    pub text: Option<Text<'a>>,
}

/// A text literal that is being typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// An entity, a prompt or another value.
    Name(&'a str),
    /// A relation.
    Relation(&'a str),
    /// A file or folder.
    Path(&'a str),
}

/// Returns the continuations of `typed`, the statements up to the cursor.
pub fn complete(typed: &str) -> Completion<'_> {
    if let Some(string) = open_string(typed) {
        let OpenString { before, inside } = string;
        let text = if takes_path(before) { Text::Path(inside) } else { name(before, inside) };
        return Completion { start: before.len(), keywords: Vec::new(), text: Some(text) };
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
    let name_wanted = expected.allows(Item::Text) || expected.allows(Item::Value);
    let text = (name_wanted && !takes_path(before)).then(|| name(before, word));
    Completion { start, keywords: keywords.collect(), text }
}

fn begins_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

/// A string that has no end yet.
struct OpenString<'a> {
    /// The text before it.
    before: &'a str,
    /// Its content so far.
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

/// Returns the text that follows `before` and names no file: a relation where the condition is one on relations.
fn name<'a>(before: &str, text: &'a str) -> Text<'a> {
    match last_keyword(before) {
        Some(Keyword::Relation) => Text::Relation(text),
        _ => Text::Name(text),
    }
}

/// Returns true if a string that follows `before` names a file.
fn takes_path(before: &str) -> bool {
    use Keyword::{Compile, Diff, Into, Merge, Model, Patch, Save, Stats, Use, Vindex};
    matches!(
        last_keyword(before),
        Some(Compile | Diff | Into | Merge | Model | Patch | Save | Stats | Use | Vindex)
    )
}

fn last_keyword(text: &str) -> Option<Keyword> {
    let mut tokens = Tokens::new(text);
    let mut last = None;
    loop {
        match tokens.next() {
            (Token::End, _) => return last,
            (Token::Word(Some(keyword)), _) => last = Some(keyword),
            _ => {}
        }
    }
}
