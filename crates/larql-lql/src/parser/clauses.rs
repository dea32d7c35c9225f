//! Clauses, which stand in any order and each at most once.

use super::error::{ParseError, ParseErrorKind};
use super::{Parsed, Parser};
use crate::ast::Span;
use crate::keyword::{Choice, Phrase};
use crate::token::Token;

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

impl Parser<'_> {
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

    /// True if `phrase` begins here. Not noted as expected, because it has been given already.
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
}

/// The words of a phrase with blanks between.
fn spelled(phrase: Phrase) -> String {
    phrase.iter().map(|keyword| keyword.text()).collect::<Vec<_>>().join(" ")
}
