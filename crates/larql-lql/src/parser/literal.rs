//! Strings, numbers and ranges.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::error::{ParseError, ParseErrorKind};
use super::{Item, Parsed, Parser, shortened};
use crate::ast::{LayerRange, Subject};
use crate::ast::{Span, Spanned};
use crate::token::{Token, unescape};

/// No transformer has as many layers; a higher number is a slip of the finger.
const MOST_LAYERS: usize = 9_999;
/// More rows than any vindex has features.
const MOST_ROWS: usize = 1_000_000_000;

impl Parser<'_> {
    /// A string.
    pub(crate) fn text(&mut self) -> Parsed<Spanned<String>> {
        match self.optional_text()? {
            Some(text) => Ok(text),
            None => Err(self.unexpected()),
        }
    }

    /// A string, if one is here.
    pub(crate) fn optional_text(&mut self) -> Parsed<Option<Spanned<String>>> {
        self.note(Item::Text);
        self.string_token()
    }

    /// A string, if one is here, for a caller that has noted what it expects.
    pub(crate) fn string_token(&mut self) -> Parsed<Option<Spanned<String>>> {
        let Token::Text(quoted) = self.token else { return Ok(None) };
        let literal = self.span.of(self.text);
        if quoted == crate::token::Quoted::Unclosed {
            return Err(self.unexpected());
        }
        let span = self.span;
        let text = unescape(literal, quoted).map_err(|bad| {
            let bad = Span::new(span.start + bad.start, span.start + bad.end);
            let escape = bad.of(self.text).to_owned();
            ParseError::new(ParseErrorKind::BadEscape { escape }, bad)
                .with_help(r#"the escapes are \\ \" \' \n \r \t and \u{…}; a backslash itself is written \\"#)
        })?;
        let text = Spanned::new(text.into_owned(), span);
        self.advance();
        Ok(Some(text))
    }

    /// A string; right of `|>` it may be left out.
    pub(crate) fn subject(&mut self) -> Parsed<Subject> {
        match self.optional_text()? {
            Some(text) => Ok(Subject::Text(text)),
            None if self.is_piped() => Ok(Subject::Piped),
            None => Err(self.unexpected()),
        }
    }

    /// A layer's number.
    pub(crate) fn layer(&mut self) -> Parsed<Spanned<usize>> {
        self.whole_number("a layer", 0..=MOST_LAYERS)
    }

    /// A number of rows, at least one.
    pub(crate) fn count(&mut self) -> Parsed<Spanned<usize>> {
        self.whole_number("a count", 1..=MOST_ROWS)
    }

    /// Number of rows that are passed over.
    pub(crate) fn offset(&mut self) -> Parsed<Spanned<usize>> {
        self.whole_number("a count", 0..=MOST_ROWS)
    }

    /// A first and a last layer, or one layer alone.
    pub(crate) fn layers(&mut self) -> Parsed<Spanned<LayerRange>> {
        self.expected.item(Item::Range);
        let first = self.layer()?;
        let mut range = LayerRange { first: first.value, last: first.value };
        let mut span = first.span;
        if self.accept(Token::Minus, Item::Dash) {
            let last = self.layer()?;
            range.last = last.value;
            span.end = last.span.end;
        }
        if range.last < range.first {
            let kind = ParseErrorKind::Backwards { first: range.first, last: range.last };
            return Err(
                ParseError::new(kind, span).with_help(format!("write {}-{}", range.last, range.first))
            );
        }
        Ok(Spanned::new(range, span))
    }

    /// A probability.
    pub(crate) fn probability(&mut self) -> Parsed<Spanned<f64>> {
        self.number("a probability", 0.0..=1.0)
    }

    /// True if a number could begin here.
    pub(crate) fn at_whole_number(&mut self) -> bool {
        self.expected.item(Item::WholeNumber);
        matches!(self.token, Token::Integer | Token::Minus | Token::Plus)
    }

    fn whole_number(&mut self, what: &'static str, allowed: RangeInclusive<usize>) -> Parsed<Spanned<usize>> {
        let start = self.span.start;
        let negative = self.sign(Item::WholeNumber);
        self.expected.item(Item::WholeNumber);
        if self.token != Token::Integer {
            return Err(self.unexpected());
        }
        let digits = self.span.of(self.text);
        self.advance();
        let span = Span::new(start, self.previous_end);
        match digits.parse::<usize>() {
            Ok(number) if allowed.contains(&number) && (!negative || number == 0) => {
                Ok(Spanned::new(number, span))
            }
            _ => Err(self.out_of_range(what, from_to(&allowed), span)),
        }
    }

    /// A number in the range `allowed`, which `what` names in the error.
    pub(crate) fn number(
        &mut self,
        what: &'static str,
        allowed: RangeInclusive<f64>,
    ) -> Parsed<Spanned<f64>> {
        let start = self.span.start;
        let negative = self.sign(Item::Number);
        self.expected.item(Item::Number);
        if !matches!(self.token, Token::Integer | Token::Number) {
            return Err(self.unexpected());
        }
        let digits = self.span.of(self.text);
        self.advance();
        let span = Span::new(start, self.previous_end);
        // Overflow reads as infinity, which no allowed range contains.
        let magnitude = digits.parse().unwrap_or(f64::INFINITY);
        let number = if negative { -magnitude } else { magnitude };
        if allowed.contains(&number) && number.is_finite() {
            return Ok(Spanned::new(number, span));
        }
        Err(self.out_of_range(what, from_to(&allowed), span))
    }

    /// A number of either kind as `(text without the sign, negative)`, if one is here.
    pub(crate) fn signed(&mut self) -> Parsed<Option<SignedNumber>> {
        let start = self.span.start;
        let signed = matches!(self.token, Token::Minus | Token::Plus);
        let negative = self.sign(Item::Value);
        if !matches!(self.token, Token::Integer | Token::Number) {
            self.expected.item(if signed { Item::Number } else { Item::Value });
            return if signed { Err(self.unexpected()) } else { Ok(None) };
        }
        let whole = self.token == Token::Integer;
        let digits = self.span.of(self.text);
        self.advance();
        let span = Span::new(start, self.previous_end);
        let number = if whole {
            let magnitude = digits.parse::<i128>().ok();
            let number = magnitude.and_then(|m| i64::try_from(if negative { -m } else { m }).ok());
            number.map(SignedNumber::Integer)
        } else {
            let magnitude = digits.parse::<f64>().ok().filter(|m| m.is_finite());
            magnitude.map(|m| SignedNumber::Float(if negative { -m } else { m }))
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(self.out_of_range("a number", "that 64 bits can hold".into(), span)),
        }
    }

    /// Takes a sign, if one is here: true for minus.
    fn sign(&mut self, item: Item) -> bool {
        self.expected.item(item);
        let negative = self.token == Token::Minus;
        if negative || self.token == Token::Plus {
            self.advance();
        }
        negative
    }

    #[cold]
    fn out_of_range(&self, what: &'static str, allowed: String, span: Span) -> ParseError {
        let found = shortened(span.of(self.text));
        ParseError::new(ParseErrorKind::OutOfRange { what, allowed, found }, span)
    }
}

fn from_to<T: Display>(allowed: &RangeInclusive<T>) -> String {
    format!("from {} to {}", allowed.start(), allowed.end())
}

/// A number as it was written: with a fraction or exponent, or without.
pub(crate) enum SignedNumber {
    Integer(i64),
    Float(f64),
}
