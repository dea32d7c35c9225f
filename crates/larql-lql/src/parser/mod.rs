//! From tokens to statements: the parts that all statements share.
//!
//! The parser is recursive descent with one token of lookahead and no recursion: LQL does not nest. Each question that
//! it asks ("is this TOP?") is noted until a token is taken; the notes are the error's list of what was expected, and
//! the completions at that place.

mod error;
mod expected;
mod literal;
mod suggest;

use crate::ast::{Field, Pipe, Statement};
use crate::ast::{Span, Spanned};
use crate::keyword::{Choice, Keyword, Phrase};
use crate::token::{Quote, Quoted, Token, Tokens};
pub use error::{ParseError, ParseErrorKind};
pub use expected::Expected;
pub(crate) use expected::Item;
pub(crate) use literal::SignedNumber;
pub(crate) use suggest::nearest;

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

pub(crate) struct Parser<'a> {
    text: &'a str,
    tokens: Tokens<'a>,
    token: Token,
    span: Span,
    /// Where the token before this one ends.
    previous_end: usize,
    /// What has been asked of this token so far.
    expected: Expected,
    /// Whether a statement stands to the left, whose rows can be this one's subject.
    piped: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let mut tokens = Tokens::new(text);
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

    /// Whether this token is `keyword`, without taking it.
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

    /// What `parse` reads, between parentheses.
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

    /// One or more, with commas between them.
    pub(crate) fn list<T>(&mut self, mut parse: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = vec![parse(self)?];
        while self.accept(Token::Comma, Item::Comma) {
            items.push(parse(self)?);
        }
        Ok(items)
    }

    /// Reads the clause that `phrase` begins, if it is here: true when it was.
    ///
    /// Clauses stand in any order, so a statement asks for each of them in turn until none is there:
    ///
    /// ```text
    /// while parser.clause(&[Top], &mut top, Parser::count)? || parser.clause(&[Mode], &mut mode, Parser::one_of)? {}
    /// ```
    pub(crate) fn clause<T>(
        &mut self,
        phrase: Phrase,
        slot: &mut Once<T>,
        parse: impl FnOnce(&mut Self) -> Parsed<T>,
    ) -> Parsed<bool> {
        if let Some((_, first)) = slot.0 {
            return if self.is_at_start_of(phrase) { Err(self.repeated(phrase, first)) } else { Ok(false) };
        }
        let start = self.span.start;
        if !self.eat(phrase)? {
            return Ok(false);
        }
        let value = parse(self)?;
        slot.0 = Some((value, Span::new(start, self.previous_end)));
        Ok(true)
    }

    /// Reads the words that stand for themselves, if they are here.
    pub(crate) fn flag(&mut self, phrase: Phrase, slot: &mut Once<()>) -> Parsed<bool> {
        self.clause(phrase, slot, |_| Ok(()))
    }

    /// Reads one of several words that stand for themselves, if one is here.
    pub(crate) fn alternative<C: Choice>(&mut self, slot: &mut Once<C>) -> Parsed<bool> {
        if let Some((given, first)) = slot.0 {
            let again = C::ALL.iter().find(|choice| self.is_at_start_of(choice.phrase()));
            return match again {
                None => Ok(false),
                Some(again) if *again == given => Err(self.repeated(again.phrase(), first)),
                Some(again) => Err(self.conflicting(again.phrase(), given.phrase(), first)),
            };
        }
        let start = self.span.start;
        let Some(choice) = self.any_of()? else { return Ok(false) };
        slot.0 = Some((choice, Span::new(start, self.previous_end)));
        Ok(true)
    }

    /// Whether `phrase` begins here. Not noted as expected, because it has been given already.
    fn is_at_start_of(&self, phrase: Phrase) -> bool {
        phrase.first().is_some_and(|first| self.token == Token::Word(Some(*first)))
    }

    #[cold]
    fn repeated(&self, phrase: Phrase, first: Span) -> ParseError {
        let kind = ParseErrorKind::Repeated { clause: spelled(phrase), first };
        ParseError::new(kind, self.span).with_help("each clause may be given once")
    }

    #[cold]
    fn conflicting(&self, phrase: Phrase, other: Phrase, first: Span) -> ParseError {
        let kind = ParseErrorKind::Conflicting { clause: spelled(phrase), other: spelled(other), first };
        ParseError::new(kind, self.span).with_help("keep one of the two")
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

    fn suggestion(&self, written: &str) -> Option<String> {
        match self.token {
            Token::Word(_) => {
                let meant = nearest(written, self.expected.keywords().map(Keyword::text));
                if self.expected.allows(Item::Field) {
                    return Some(match meant {
                        Some(field) => format!("did you mean {}?", field.to_lowercase()),
                        None => format!("the fields are {}", Field::names().join(", ")),
                    });
                }
                if let Some(keyword) = meant {
                    return Some(format!("did you mean {keyword}?"));
                }
                if self.expected.allows(Item::Text) && written.len() < 40 {
                    return Some(format!("put it in quotes: {}", Quote(written)));
                }
                let begins =
                    self.keyword().is_some_and(|keyword| Statement::verbs().any(|verb| verb == keyword));
                (begins && self.expected.allows(Item::End))
                    .then(|| "end the statement before it with ;".into())
            }
            Token::Unknown if written.starts_with(['“', '”', '„', '‘', '’', '«', '»', '`']) => {
                Some("strings take straight quotes: \"…\" or '…'".into())
            }
            Token::Unknown if written.starts_with('|') => Some("statements are joined by |>".into()),
            Token::Equal if self.expected.allows(Item::Value) => Some("equality is a single =".into()),
            Token::Greater if self.expected.allows(Item::Value) => Some("inequality is !=".into()),
            _ => None,
        }
    }
}

/// The words of a phrase with blanks between.
pub(crate) fn spelled(phrase: Phrase) -> String {
    phrase.iter().map(|keyword| keyword.text()).collect::<Vec<_>>().join(" ")
}

/// `text`, cut where it would flood the message.
fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// A clause that may be given once, and where it was.
pub(crate) struct Once<T>(Option<(T, Span)>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Once<T> {
    pub(crate) fn value(self) -> Option<T> {
        self.0.map(|(value, _)| value)
    }

    pub(crate) fn is_given(&self) -> bool {
        self.0.is_some()
    }
}
