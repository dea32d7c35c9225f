//! From tokens to statements: the parts that all statements share.
//!
//! The parser is recursive descent with one token of lookahead. Only the parentheses of WHERE nest, to a fixed depth. Each question that
//! it asks ("is this TOP?") is noted until a token is taken; the notes are the error's list of what was expected, and
//! the completions at that place.

mod clauses;
mod error;
mod expected;
mod literal;
mod suggest;

use crate::ast::{Pipe, Statement};
use crate::ast::{Span, Spanned};
use crate::keyword::{Choice, Keyword, Phrase};
use crate::token::{Quoted, Token, Tokens};
pub(crate) use clauses::Once;
pub use error::{ParseError, ParseErrorKind};
pub use expected::Expected;
pub(crate) use expected::{Item, either};
pub(crate) use literal::SignedNumber;
pub use suggest::nearest;

pub(crate) type Parsed<T> = Result<T, ParseError>;

/// Parses a text of any number of pipes, each ended by `;` (the last one's may be left out).
pub fn parse(text: &str) -> Result<Vec<Spanned<Pipe>>, ParseError> {
    let mut parser = Parser::new(text);
    let mut pipes = Vec::new();
    while parser.skip_to_statement() {
        pipes.push(parser.spanned(Parser::pipe)?);
        parser.end_of_pipe()?;
    }
    Ok(pipes)
}

/// Parses a text that is one statement, with or without its `;`.
pub fn parse_statement(text: &str) -> Result<Statement, ParseError> {
    let mut parser = Parser::new(text);
    let statement = Statement::parse(&mut parser)?;
    parser.end_of_pipe()?;
    if parser.skip_to_statement() {
        return Err(parser
            .unexpected()
            .with_help("one statement is expected here, and this begins a second"));
    }
    Ok(statement)
}

/// Reads all of a part of `text` by `parse`. Places are those in the whole.
pub(crate) fn parse_part<T>(
    text: &str,
    part: Span,
    parse: impl FnOnce(&mut Parser) -> Parsed<T>,
) -> Parsed<T> {
    let mut parser = Parser::of(text, Tokens::within(text, part));
    let parsed = parse(&mut parser)?;
    parser.require(Token::End, Item::End)?;
    Ok(parsed)
}

/// The keywords and literals that could follow `text`; none if there is a mistake in it.
pub(crate) fn expected_after(text: &str) -> Expected {
    let mut parser = Parser::new(text);
    while parser.skip_to_statement() {
        let parsed = parser.pipe().and_then(|_| parser.end_of_pipe());
        if parser.token == Token::End {
            return parser.expected;
        }
        if parsed.is_err() {
            return Expected::default();
        }
    }
    Statement::missing(&mut parser).expected().unwrap_or_default()
}

/// Returns true if the last token is `;`.
pub fn ends_with_semicolon(text: &str) -> bool {
    let mut tokens = Tokens::new(text);
    let mut last = Token::End;
    loop {
        match tokens.next().0 {
            Token::End => return last == Token::Semicolon,
            token => last = token,
        }
    }
}

pub(crate) struct Parser<'a> {
    text: &'a str,
    tokens: Tokens<'a>,
    token: Token,
    span: Span,
    /// End of the token before this one.
    previous_end: usize,
    /// Everything that this token has been compared with so far.
    expected: Expected,
    /// True if a statement stands to the left, whose rows can be this one's subject.
    piped: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self::of(text, Tokens::new(text))
    }

    fn of(text: &'a str, mut tokens: Tokens<'a>) -> Self {
        let (token, span) = tokens.next();
        Self { text, tokens, token, span, previous_end: 0, expected: Expected::default(), piped: false }
    }

    pub(crate) fn advance(&mut self) {
        self.previous_end = self.span.end;
        (self.token, self.span) = self.tokens.next();
        self.expected = Expected::default();
    }

    /// Skips empty statements; false at the end of the text.
    fn skip_to_statement(&mut self) -> bool {
        while self.token == Token::Semicolon {
            self.advance();
        }
        self.token != Token::End
    }

    fn pipe(&mut self) -> Parsed<Pipe> {
        self.piped = false;
        let mut stages = vec![self.spanned(Statement::parse)?];
        while self.accept(Token::Pipe, Item::Pipe) {
            self.piped = true;
            stages.push(self.spanned(Statement::parse)?);
        }
        Ok(Pipe { stages })
    }

    fn end_of_pipe(&mut self) -> Parsed<()> {
        self.expected.item(Item::End);
        match self.token {
            Token::Semicolon | Token::End => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    pub(crate) fn is_piped(&self) -> bool {
        self.piped
    }

    /// Runs `parse` and adds the place of what it took.
    pub(crate) fn spanned<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<Spanned<T>> {
        let start = self.span.start;
        let value = parse(self)?;
        Ok(Spanned::new(value, Span::new(start, self.previous_end)))
    }

    /// True if this token is `keyword`, which is not taken.
    pub(crate) fn at(&mut self, keyword: Keyword) -> bool {
        self.expected.keyword(keyword);
        self.token == Token::Word(Some(keyword))
    }

    /// Takes `phrase` if its first word is here; the others must follow.
    pub(crate) fn eat(&mut self, phrase: Phrase) -> Parsed<bool> {
        let Some((first, rest)) = phrase.split_first() else { return Ok(true) };
        if !self.at(*first) {
            return Ok(false);
        }
        self.advance();
        for keyword in rest {
            if !self.at(*keyword) {
                return Err(self.unexpected());
            }
            self.advance();
        }
        Ok(true)
    }

    /// Takes `phrase`, which must be here.
    pub(crate) fn expect(&mut self, phrase: Phrase) -> Parsed<()> {
        if self.eat(phrase)? { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Takes `token` if it is here.
    pub(crate) fn accept(&mut self, token: Token, item: Item) -> bool {
        self.expected.item(item);
        let here = self.token == token;
        if here {
            self.advance();
        }
        here
    }

    /// Takes `token`, which must be here.
    pub(crate) fn require(&mut self, token: Token, item: Item) -> Parsed<()> {
        if self.accept(token, item) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// The keyword that stands here, without asking for it.
    pub(crate) fn keyword(&self) -> Option<Keyword> {
        match self.token {
            Token::Word(keyword) => keyword,
            _ => None,
        }
    }

    /// Notes that `keyword` could stand here.
    pub(crate) fn note_keyword(&mut self, keyword: Keyword) {
        self.expected.keyword(keyword);
    }

    /// Notes that `item` could stand here.
    pub(crate) fn note(&mut self, item: Item) {
        self.expected.item(item);
    }

    /// A bare word, keyword or not, as it is written; if one is here.
    pub(crate) fn word(&mut self) -> Option<String> {
        let word = matches!(self.token, Token::Word(_)).then(|| self.span.of(self.text).to_owned());
        if word.is_some() {
            self.advance();
        }
        word
    }

    /// The result of `parse`, between parentheses.
    pub(crate) fn parenthesised<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.require(Token::Open, Item::Open)?;
        let inside = parse(self)?;
        self.require(Token::Close, Item::Close)?;
        Ok(inside)
    }

    /// One of the alternatives, if one is here.
    pub(crate) fn any_of<C: Choice>(&mut self) -> Parsed<Option<C>> {
        for choice in C::ALL {
            if self.eat(choice.phrase())? {
                return Ok(Some(*choice));
            }
        }
        Ok(None)
    }

    /// One of the alternatives.
    pub(crate) fn one_of<C: Choice>(&mut self) -> Parsed<C> {
        match self.any_of()? {
            Some(choice) => Ok(choice),
            None => Err(self.unexpected()),
        }
    }

    /// The error of parentheses that stand in `most` others already.
    #[cold]
    pub(crate) fn too_deep(&self, most: usize) -> ParseError {
        ParseError::new(ParseErrorKind::TooDeep { most }, self.span)
    }

    /// One or more, with commas between them.
    pub(crate) fn list<T>(&mut self, mut parse: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = vec![parse(self)?];
        while self.accept(Token::Comma, Item::Comma) {
            items.push(parse(self)?);
        }
        Ok(items)
    }

    /// The error for this token, from all that was asked of it.
    #[cold]
    pub(crate) fn unexpected(&mut self) -> ParseError {
        let written = self.span.of(self.text);
        let (found, span) = match self.token {
            Token::Text(Quoted::Unclosed) => {
                let quote = if written.starts_with('\'') { '\'' } else { '"' };
                let span = Span::new(self.span.start, self.span.start + 1);
                return ParseError::new(ParseErrorKind::UnclosedString { quote }, span).with_help(format!(
                    "close it with {quote}; a quote inside is doubled or follows a backslash"
                ));
            }
            Token::UnclosedComment => {
                let span = Span::new(self.span.start, self.span.start + 2);
                return ParseError::new(ParseErrorKind::UnclosedComment, span);
            }
            Token::End => ("the end of the text".into(), Span::new(self.previous_end, self.previous_end)),
            Token::Text(_) => (format!("the string {}", shortened(written)), self.span),
            _ => (format!("`{}`", shortened(written)), self.span),
        };
        let error = ParseError::new(ParseErrorKind::Unexpected { expected: self.expected, found }, span);
        match self.suggestion(written) {
            Some(help) => error.with_help(help),
            None => error,
        }
    }
}

/// `text`, cut where it would flood the message.
fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}
