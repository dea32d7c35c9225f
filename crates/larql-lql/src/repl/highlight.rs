//! The colours of what is being typed.

use nu_ansi_term::{Color, Style};
use reedline::{Highlighter, StyledText};

use crate::ast::Span;
use crate::parser::parse;
use crate::token::{Token, Tokens};

/// What a piece of the line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Plain,
    Keyword,
    Text,
    Number,
    Comment,
    Command,
    Mistake,
}

impl Class {
    fn of(token: Token) -> Self {
        match token {
            Token::Word(Some(_)) | Token::Pipe => Self::Keyword,
            Token::Text(_) => Self::Text,
            Token::Integer | Token::Number => Self::Number,
            Token::Malformed | Token::Unknown => Self::Mistake,
            _ => Self::Plain,
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Keyword => Color::Blue.bold(),
            Self::Text => Color::Green.normal(),
            Self::Number => Color::Cyan.normal(),
            Self::Comment => Style::new().dimmed(),
            Self::Command => Color::Purple.normal(),
            Self::Mistake => Color::Red.underline(),
        }
    }
}

/// The line in pieces, nothing left out.
fn pieces(line: &str) -> Vec<(Class, &str)> {
    if line.trim_start().starts_with('.') {
        return vec![(Class::Command, line)];
    }
    let mistake = parse(line).err().filter(|error| !error.is_at_end()).map(|error| error.span());
    let mut pieces = Vec::new();
    let mut tokens = Tokens::new(line);
    let mut end = 0;
    loop {
        let (token, span) = tokens.next();
        if span.start > end {
            let gap = &line[end..span.start];
            pieces.push((if gap.contains("--") { Class::Comment } else { Class::Plain }, gap));
        }
        if token == Token::End {
            return pieces;
        }
        let wrong = mistake.is_some_and(|mistake: Span| mistake.start < span.end && span.start < mistake.end);
        pieces.push((if wrong { Class::Mistake } else { Class::of(token) }, span.of(line)));
        end = span.end;
    }
}

/// Colours the line as reedline asks for it.
pub(super) struct LqlHighlighter;

impl Highlighter for LqlHighlighter {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut styled = StyledText::new();
        for (class, piece) in pieces(line) {
            styled.push((class.style(), piece.to_owned()));
        }
        styled
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn classes(line: &str) -> Vec<(Class, &str)> {
        pieces(line).into_iter().filter(|(class, _)| *class != Class::Plain).collect()
    }

    #[test]
    fn tells_the_kinds_apart() {
        use Class::*;
        assert_eq!(
            classes("walk 'x' TOP 5 -- now"),
            [(Keyword, "walk"), (Text, "'x'"), (Keyword, "TOP"), (Number, "5"), (Comment, " -- now"),]
        );
        assert_eq!(
            classes("WALK 'x' TPO 5"),
            [(Keyword, "WALK"), (Text, "'x'"), (Mistake, "TPO"), (Number, "5")]
        );
        assert_eq!(classes(".mode json"), [(Command, ".mode json")]);
    }

    #[test]
    fn what_is_not_finished_is_no_mistake() {
        assert_eq!(classes("DESCRIBE \"Fra"), [(Class::Keyword, "DESCRIBE"), (Class::Text, "\"Fra")]);
        assert_eq!(classes("SELECT"), [(Class::Keyword, "SELECT")]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(line in any::<String>()) {
            prop_assert_eq!(pieces(&line).into_iter().map(|(_, piece)| piece).collect::<String>(), line);
        }
    }
}
