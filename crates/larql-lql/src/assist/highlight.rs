//! Classes of tokens, by which an editor colours statements.

use crate::ast::Span;
use crate::parser::parse;
use crate::token::{Token, Tokens};

/// TokenClass of a piece of statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenClass {
    /// White space, punctuation, and words that are no keywords.
    Plain,
    /// A keyword or the pipe sign.
    Keyword,
    /// A string.
    Text,
    /// A number.
    Number,
    /// White space with a comment in it.
    Comment,
    /// The place of the first mistake.
    Mistake,
}

impl TokenClass {
    fn of(token: Token) -> Self {
        match token {
            Token::Word(Some(_)) | Token::Pipe => Self::Keyword,
            Token::Text(_) => Self::Text,
            Token::Integer | Token::Number => Self::Number,
            Token::Malformed | Token::Unknown => Self::Mistake,
            Token::UnclosedComment => Self::Comment,
            _ => Self::Plain,
        }
    }
}

/// Returns `line` in pieces with their classes, in order and with nothing left out.
pub fn pieces(line: &str) -> Vec<(TokenClass, &str)> {
    let mistake = parse(line).err().filter(|error| !error.is_at_end()).map(|error| error.span());
    let mut pieces = Vec::new();
    let mut tokens = Tokens::new(line);
    let mut end = 0;
    loop {
        let (token, span) = tokens.next();
        if span.start > end {
            let gap = &line[end..span.start];
            let commented = ["--", "#", "/*"].iter().any(|sign| gap.contains(sign));
            pieces.push((if commented { TokenClass::Comment } else { TokenClass::Plain }, gap));
        }
        if token == Token::End {
            return pieces;
        }
        let wrong = mistake.is_some_and(|mistake: Span| mistake.start < span.end && span.start < mistake.end);
        pieces.push((if wrong { TokenClass::Mistake } else { TokenClass::of(token) }, span.of(line)));
        end = span.end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn classes(line: &str) -> Vec<(TokenClass, &str)> {
        pieces(line).into_iter().filter(|(class, _)| *class != TokenClass::Plain).collect()
    }

    #[test]
    fn tells_the_kinds_apart() {
        use TokenClass::*;
        assert_eq!(
            classes("walk 'x' TOP 5 -- now"),
            [(Keyword, "walk"), (Text, "'x'"), (Keyword, "TOP"), (Number, "5"), (Comment, " -- now"),]
        );
        assert_eq!(
            classes("WALK 'x' TPO 5"),
            [(Keyword, "WALK"), (Text, "'x'"), (Mistake, "TPO"), (Number, "5")]
        );
    }

    #[test]
    fn what_is_not_finished_is_no_mistake() {
        assert_eq!(
            classes("DESCRIBE \"Fra"),
            [(TokenClass::Keyword, "DESCRIBE"), (TokenClass::Text, "\"Fra")]
        );
        assert_eq!(classes("SELECT"), [(TokenClass::Keyword, "SELECT")]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(line in any::<String>()) {
            prop_assert_eq!(pieces(&line).into_iter().map(|(_, piece)| piece).collect::<String>(), line);
        }
    }
}
