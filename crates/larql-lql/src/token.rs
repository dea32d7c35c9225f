//! From text to tokens.

use std::borrow::Cow;

use logos::{Filter, Lexer, Logos};

use crate::ast::Span;
use crate::keyword::Keyword;

/// The kind of a token. What it says is the text under its span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Logos)]
#[logos(skip r"[\s\u{feff}]+")]
#[logos(skip(r"(--|#)[^\n]*", allow_greedy = true))]
pub(crate) enum Token {
    /// A keyword or a bare word; hyphens may stand inside.
    #[regex(r"[\p{Alphabetic}_][\p{Alphabetic}\p{N}_]*(-[\p{Alphabetic}\p{N}_]+)*", keyword)]
    Word(Option<Keyword>),
    /// Digits only.
    #[regex(r"[0-9]+", priority = 5)]
    Integer,
    /// With a fraction, an exponent or both.
    #[regex(r"[0-9]*\.[0-9]+([eE][+-]?[0-9]+)?", priority = 5)]
    #[regex(r"[0-9]+[eE][+-]?[0-9]+", priority = 5)]
    Number,
    /// Begins like a number and is none: `5x`, `1.2.3`.
    #[regex(r"[0-9][0-9a-zA-Z_.]*", priority = 2)]
    Malformed,
    /// A string, in single or double quotes.
    #[token("\"", string)]
    #[token("'", string)]
    Text(Quoted),
    /// `/*` without `*/`, up to the end. A comment with both is skipped.
    #[token("/*", comment)]
    UnclosedComment,
    #[token("-")]
    Minus,
    #[token("+")]
    Plus,
    #[token("*")]
    Star,
    #[token(",")]
    Comma,
    #[token("(")]
    Open,
    #[token(")")]
    Close,
    #[token("=")]
    Equal,
    #[token("!=")]
    NotEqual,
    #[token("<")]
    Less,
    #[token("<=")]
    LessEqual,
    #[token(">")]
    Greater,
    #[token(">=")]
    GreaterEqual,
    #[token(";")]
    Semicolon,
    #[token("|>")]
    Pipe,
    /// A character that begins nothing.
    Unknown,
    /// After the last token.
    End,
}

/// Kind of the body of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quoted {
    /// As it stands.
    Plain,
    /// After `unescape`.
    Escaped,
    /// Not at all: the closing quote is missing.
    Unclosed,
}

fn keyword(lexer: &mut Lexer<Token>) -> Filter<Option<Keyword>> {
    Filter::Emit(Keyword::from_word(lexer.slice()))
}

/// Reads on to the closing quote. A loop over bytes, so that a string of any size costs no stack.
fn string(lexer: &mut Lexer<Token>) -> Filter<Quoted> {
    let quote = lexer.slice().as_bytes()[0];
    let rest = lexer.remainder().as_bytes();
    let mut quoted = Quoted::Plain;
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            b'\\' => {
                quoted = Quoted::Escaped;
                at += 1 + rest.get(at + 1).map_or(0, |first| character_width(*first));
            }
            byte if byte == quote && rest.get(at + 1) == Some(&quote) => {
                quoted = Quoted::Escaped;
                at += 2;
            }
            byte if byte == quote => {
                lexer.bump(at + 1);
                return Filter::Emit(quoted);
            }
            _ => at += 1,
        }
    }
    lexer.bump(rest.len());
    Filter::Emit(Quoted::Unclosed)
}

/// Skips to the end of a comment; one in another ends both.
fn comment(lexer: &mut Lexer<Token>) -> Filter<()> {
    const END: &str = "*/";
    let rest = lexer.remainder();
    let end = rest.find(END);
    lexer.bump(end.map_or(rest.len(), |at| at + END.len()));
    if end.is_some() { Filter::Skip } else { Filter::Emit(()) }
}

/// Bytes of the UTF-8 character that starts with `first`.
fn character_width(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

/// The text of the string token `token`, quotes included; `Err` holds the place of a bad escape in it.
pub(crate) fn unescape(token: &str, quoted: Quoted) -> Result<Cow<'_, str>, Span> {
    let body = &token[1..token.len() - 1];
    if quoted == Quoted::Plain {
        return Ok(Cow::Borrowed(body));
    }
    let quote = token.as_bytes()[0] as char;
    let mut text = String::with_capacity(body.len());
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                let escape = characters.next().map(|(_, character)| character);
                let bad = Span::new(1 + at, 2 + at + escape.map_or(0, char::len_utf8));
                text.push(match escape {
                    Some('\\' | '"' | '\'') => escape.unwrap_or_default(),
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some('u') => braced_code_point(&mut characters).ok_or(bad)?,
                    _ => return Err(bad),
                });
            }
            _ if character == quote => {
                // The second of a doubled quote.
                characters.next();
                text.push(quote);
            }
            _ => text.push(character),
        }
    }
    Ok(Cow::Owned(text))
}

/// Reads `{1f600}`.
fn braced_code_point(characters: &mut std::str::CharIndices<'_>) -> Option<char> {
    characters.next().filter(|(_, open)| *open == '{')?;
    let mut code = 0_u32;
    for count in 0..=6 {
        match characters.next()?.1 {
            '}' if count > 0 => return char::from_u32(code),
            digit => code = code * 16 + digit.to_digit(16)?,
        }
    }
    None
}

/// `text` as a string token of canonical LQL.
pub(crate) struct Quote<'a>(pub(crate) &'a str);

impl std::fmt::Display for Quote<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write;
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                control if control.is_control() => write!(f, "\\u{{{:x}}}", control as u32)?,
                other => f.write_char(other)?,
            }
        }
        f.write_char('"')
    }
}

/// A text as LQL writes it: in double quotes, with escapes.
pub fn quoted(text: &str) -> String {
    Quote(text).to_string()
}

/// The tokens of a text, with their places; `Token::End` for ever after the last.
#[derive(Clone)]
pub(crate) struct Tokens<'a>(Lexer<'a, Token>);

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self(Token::lexer(text))
    }

    /// The tokens of a part of `text`, with their places in the whole.
    pub(crate) fn within(text: &'a str, part: Span) -> Self {
        let mut lexer = Token::lexer(&text[..part.end]);
        lexer.bump(part.start);
        Self(lexer)
    }

    pub(crate) fn next(&mut self) -> (Token, Span) {
        match self.0.next() {
            Some(Ok(token)) => (token, self.0.span().into()),
            Some(Err(())) => (Token::Unknown, self.0.span().into()),
            None => {
                let end = self.0.source().len();
                (Token::End, Span::new(end, end))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &str) -> Vec<(Token, &str)> {
        let mut tokens = Tokens::new(text);
        let mut found = Vec::new();
        loop {
            match tokens.next() {
                (Token::End, _) => return found,
                (token, span) => found.push((token, span.of(text))),
            }
        }
    }

    fn text_of(literal: &str) -> Result<String, Span> {
        match tokens(literal)[..] {
            [(Token::Text(quoted), token)] if token == literal => {
                unescape(token, quoted).map(Cow::into_owned)
            }
            ref other => panic!("{literal} is no string: {other:?}"),
        }
    }

    #[test]
    fn numbers_ranges_and_words_part() {
        let kinds = |text| tokens(text).into_iter().map(|(token, _)| token).collect::<Vec<_>>();
        assert_eq!(kinds("22-27"), [Token::Integer, Token::Minus, Token::Integer]);
        assert_eq!(kinds("22 - 27"), [Token::Integer, Token::Minus, Token::Integer]);
        assert_eq!(kinds("-1e-3 .5 2.5"), [Token::Minus, Token::Number, Token::Number, Token::Number]);
        assert_eq!(kinds("5x 1.2.3 1e"), [Token::Malformed; 3]);
        assert_eq!(kinds("top"), [Token::Word(Some(Keyword::Top))]);
        assert_eq!(tokens("native-language"), [(Token::Word(None), "native-language")]);
        assert_eq!(tokens("größe 日本"), [(Token::Word(None), "größe"), (Token::Word(None), "日本")]);
    }

    #[test]
    fn comments_and_odd_blanks_are_skipped() {
        assert_eq!(
            tokens("\u{feff}a\u{a0}-- b ' \" \n;-- end"),
            [(Token::Word(None), "a"), (Token::Semicolon, ";")]
        );
    }

    #[test]
    fn comments_of_every_style_are_skipped() {
        let words = |text| tokens(text).into_iter().map(|(_, word)| word).collect::<Vec<_>>();
        for text in
            ["a /* b */ c", "a /* ; \n ' */c", "a /***/ /**/ c", "a # b\nc", "a -- /*\nc", "a/* é * / */c"]
        {
            assert_eq!(words(text), ["a", "c"], "{text}");
        }
        assert_eq!(tokens("a /* b"), [(Token::Word(None), "a"), (Token::UnclosedComment, "/* b")]);
        assert_eq!(words("'/* # -- */'"), ["'/* # -- */'"]);
    }

    #[test]
    fn unknown_characters_keep_to_character_bounds() {
        assert_eq!(tokens("“a”"), [(Token::Unknown, "“"), (Token::Word(None), "a"), (Token::Unknown, "”")]);
        assert_eq!(tokens("a | b")[1], (Token::Unknown, "|"));
        assert_eq!(tokens("!!")[0], (Token::Unknown, "!"));
    }

    #[test]
    fn quotes_inside_strings() {
        assert_eq!(text_of(r#""say ""hi""""#), Ok(r#"say "hi""#.into()));
        assert_eq!(text_of(r#""say \"hi\"""#), Ok(r#"say "hi""#.into()));
        assert_eq!(text_of("'it''s'"), Ok("it's".into()));
        assert_eq!(text_of(r"'it\'s'"), Ok("it's".into()));
        assert_eq!(text_of(r#"'a "quoted" word'"#), Ok(r#"a "quoted" word"#.into()));
        assert_eq!(text_of(r"'\n\t\r\\\u{1F600}'"), Ok("\n\t\r\\😀".into()));
        assert_eq!(text_of("''"), Ok(String::new()));
    }

    #[test]
    fn bad_escapes_are_placed() {
        assert_eq!(text_of(r"'C:\models'"), Err(Span::new(3, 5)));
        assert_eq!(text_of(r"'\é'"), Err(Span::new(1, 4)));
        for literal in [r"'\u{}'", r"'\u{d800}'", r"'\u{1234567}'", r"'\u12'", r"'\u{'"] {
            assert_eq!(text_of(literal), Err(Span::new(1, 3)), "{literal}");
        }
    }

    #[test]
    fn a_string_without_end_is_one_token() {
        for literal in ["\"abc", "'", "\"a\"\"", "'a\\", "'a\\é"] {
            assert_eq!(tokens(literal), [(Token::Text(Quoted::Unclosed), literal)]);
        }
    }

    proptest! {
        #[test]
        fn quoting_inverts(text in any::<String>()) {
            prop_assert_eq!(text_of(&Quote(&text).to_string()), Ok(text));
        }

        #[test]
        fn any_text_is_covered_in_order(text in any::<String>()) {
            let mut tokens = Tokens::new(&text);
            let mut last = 0;
            loop {
                let (token, span) = tokens.next();
                prop_assert!(last <= span.start && span.start <= span.end && text.is_char_boundary(span.end));
                if token == Token::End {
                    break;
                }
                prop_assert!(span.start < span.end);
                last = span.end;
            }
        }
    }
}
