//! Assistance for editors of statements: completion, classes of tokens, spelling suggestions.
//!
//! Nothing here knows a terminal; a prompt, a web page and an editor plug-in show the same things.

mod completion;
mod highlight;

pub use completion::{Completion, Text, complete};
pub use highlight::{TokenClass, pieces};

pub use crate::parser::{ends_with_semicolon, nearest};

/// Returns `text` as a string literal of the language.
pub fn quoted(text: &str) -> String {
    crate::token::Quote(text).to_string()
}
