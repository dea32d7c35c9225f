//! The colours of a line that is being typed.

use larql_lql::assist::{TokenClass, pieces};
use nu_ansi_term::{Color, Style};
use reedline::{Highlighter, StyledText};

fn style(class: TokenClass) -> Style {
    match class {
        TokenClass::Keyword => Color::Blue.bold(),
        TokenClass::Text => Color::Green.normal(),
        TokenClass::Number => Color::Cyan.normal(),
        TokenClass::Comment => Style::new().dimmed(),
        TokenClass::Mistake => Color::Red.underline(),
        _ => Style::new(),
    }
}

/// Colours the line as reedline asks for it.
pub(crate) struct LqlHighlighter;

impl Highlighter for LqlHighlighter {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut styled = StyledText::new();
        if line.trim_start().starts_with('.') {
            styled.push((Color::Purple.normal(), line.to_owned()));
            return styled;
        }
        for (class, piece) in pieces(line) {
            styled.push((style(class), piece.to_owned()));
        }
        styled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coloured(line: &str) -> Vec<(Style, String)> {
        LqlHighlighter.highlight(line, 0).buffer
    }

    #[test]
    fn a_command_has_one_colour_and_a_statement_those_of_its_tokens() {
        assert_eq!(coloured(".mode json"), [(Color::Purple.normal(), ".mode json".to_owned())]);
        assert_eq!(coloured("STATS;").first(), Some(&(Color::Blue.bold(), "STATS".to_owned())));
    }
}
