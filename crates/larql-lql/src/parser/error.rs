//! Errors of texts that are not LQL.

use miette::{Diagnostic, LabeledSpan};

use super::expected::Expected;
use crate::ast::Span;

/// Error of a text that is not LQL, with its place.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{kind}")]
pub struct ParseError {
    kind: Box<ParseErrorKind>,
    span: Span,
    help: Option<Box<str>>,
}

/// The kinds of mistake.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// Something else should stand here.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// All that could stand here.
        expected: Expected,
        /// The token that was found, shortened.
        found: String,
    },
    /// A clause is given a second time.
    #[error("{clause} is given twice")]
    Repeated {
        /// The clause's first words.
        clause: String,
        /// Place at which it is given first.
        first: Span,
    },
    /// A clause contradicts an earlier one.
    #[error("{clause} and {other} exclude one another")]
    Conflicting {
        /// The clause that comes too much.
        clause: String,
        /// The one that it contradicts.
        other: String,
        /// Place of that one.
        first: Span,
    },
    /// A number is outside of what makes sense.
    #[error("expected {what} {allowed}, found {found}")]
    OutOfRange {
        /// Meaning of the number.
        what: &'static str,
        /// The range that it must lie in, in words.
        allowed: String,
        /// The number, as written.
        found: String,
    },
    /// A range runs backwards.
    #[error("expected a range from low to high, found {first}-{last}")]
    Backwards {
        /// The number before the dash.
        first: usize,
        /// The number after it.
        last: usize,
    },
    /// The text ends inside a string.
    #[error("this string has no closing {quote}")]
    UnclosedString {
        /// The quote that opened it.
        quote: char,
    },
    /// The text ends inside a comment.
    #[error("this comment has no closing */")]
    UnclosedComment,
    /// Parentheses stand in more parentheses than any question needs.
    #[error("expected at most {most} parentheses inside one another")]
    TooDeep {
        /// The greatest depth.
        most: usize,
    },
    /// A backslash is followed by something that means nothing.
    #[error("{escape} is no escape")]
    BadEscape {
        /// The backslash and the character after it.
        escape: String,
    },
}

impl ParseError {
    pub(super) fn new(kind: ParseErrorKind, span: Span) -> Self {
        Self { kind: Box::new(kind), span, help: None }
    }

    pub(super) fn with_help(mut self, help: impl Into<Box<str>>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Kind of the mistake.
    pub fn kind(&self) -> &ParseErrorKind {
        &self.kind
    }

    /// The bytes that are wrong; empty at the place where something is missing.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Next step, where there is one.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// True if the text is right as far as it goes, so that more text could complete it.
    pub fn is_at_end(&self) -> bool {
        match *self.kind {
            ParseErrorKind::Unexpected { .. } => self.span.start == self.span.end,
            ParseErrorKind::UnclosedString { .. } | ParseErrorKind::UnclosedComment => true,
            _ => false,
        }
    }

    /// The keywords and literals that were expected at the place of the error.
    pub fn expected(&self) -> Option<Expected> {
        match *self.kind {
            ParseErrorKind::Unexpected { expected, .. } => Some(expected),
            _ => None,
        }
    }
}

impl Diagnostic for ParseError {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = |text: &str, span: Span| LabeledSpan::new_with_span(Some(text.to_owned()), span);
        let labels = match &*self.kind {
            ParseErrorKind::Unexpected { .. } if self.span.start == self.span.end => {
                vec![label("something is missing here", self.span)]
            }
            ParseErrorKind::Unexpected { .. } => vec![label("not expected here", self.span)],
            ParseErrorKind::Repeated { first, .. } => {
                vec![label("given here first", *first), label("and here again", self.span)]
            }
            ParseErrorKind::Conflicting { first, .. } => {
                vec![label("given here", *first), label("contradicts it", self.span)]
            }
            ParseErrorKind::OutOfRange { .. } => vec![label("out of range", self.span)],
            ParseErrorKind::Backwards { .. } => vec![label("runs backwards", self.span)],
            ParseErrorKind::UnclosedString { .. } | ParseErrorKind::UnclosedComment => {
                vec![label("opened here", self.span)]
            }
            ParseErrorKind::TooDeep { .. } => vec![label("one too many", self.span)],
            ParseErrorKind::BadEscape { .. } => vec![label("not an escape", self.span)],
        };
        Some(Box::new(labels.into_iter()))
    }
}
