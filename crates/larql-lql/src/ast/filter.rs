//! Filters: the tests of WHERE, joined by AND and OR.

use std::fmt::{self, Display, Formatter};

use super::clause::Condition;
use super::print::separated;
use crate::keyword::Keyword;
use crate::parser::{Item, Once, Parsed, Parser};
use crate::token::Token;

/// A test, or tests joined by AND and OR. Neither stands directly in one of its own kind: `a AND (b AND c)` is read as
/// `a AND b AND c`.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// One test.
    Test(Condition),
    /// Every one of several; at least two.
    All(Vec<Self>),
    /// At least one of several; at least two.
    Any(Vec<Self>),
}

/// More parentheses inside one another are a slip of the finger, and would cost stack.
const DEEPEST: usize = 32;

impl Filter {
    /// Returns the conditions that every row must pass: all of a filter without OR.
    pub fn necessary(&self) -> Vec<&Condition> {
        match self {
            Self::Test(condition) => vec![condition],
            Self::All(parts) => parts.iter().flat_map(Self::necessary).collect(),
            Self::Any(_) => Vec::new(),
        }
    }

    /// Returns every condition in it, from left to right.
    pub fn conditions(&self) -> Vec<&Condition> {
        match self {
            Self::Test(condition) => vec![condition],
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::conditions).collect(),
        }
    }

    /// The clause `WHERE …`, if it is here.
    pub(crate) fn clause(parser: &mut Parser, slot: &mut Once<Self>) -> Parsed<bool> {
        parser.clause(&[Keyword::Where], slot, |parser| Self::parse(parser, 0))
    }

    /// Alternatives, which OR joins.
    fn parse(parser: &mut Parser, depth: usize) -> Parsed<Self> {
        let mut parts = vec![Self::parse_all(parser, depth)?];
        while parser.eat(&[Keyword::Or])? {
            parts.push(Self::parse_all(parser, depth)?);
        }
        let parts = parts.into_iter().flat_map(|part| match part {
            Self::Any(parts) => parts,
            other => vec![other],
        });
        Ok(Self::of(parts.collect(), Self::Any))
    }

    /// Parses a conjunction; AND binds more tightly than OR.
    fn parse_all(parser: &mut Parser, depth: usize) -> Parsed<Self> {
        let mut parts = vec![Self::parse_one(parser, depth)?];
        while parser.eat(&[Keyword::And])? {
            parts.push(Self::parse_one(parser, depth)?);
        }
        let parts = parts.into_iter().flat_map(|part| match part {
            Self::All(parts) => parts,
            other => vec![other],
        });
        Ok(Self::of(parts.collect(), Self::All))
    }

    fn parse_one(parser: &mut Parser, depth: usize) -> Parsed<Self> {
        if !parser.accept(Token::Open, Item::Open) {
            return Condition::parse(parser).map(Self::Test);
        }
        if depth == DEEPEST {
            return Err(parser.too_deep(DEEPEST));
        }
        let inside = Self::parse(parser, depth + 1)?;
        parser.require(Token::Close, Item::Close)?;
        Ok(inside)
    }

    /// `parts` joined, or the only one.
    fn of(mut parts: Vec<Self>, join: fn(Vec<Self>) -> Self) -> Self {
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => {
                parts.extend(last);
                join(parts)
            }
        }
    }
}

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Test(condition) => condition.fmt(f),
            Self::All(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    if index > 0 {
                        f.write_str(" AND ")?;
                    }
                    match part {
                        Self::Any(_) => write!(f, "({part})")?,
                        part => part.fmt(f)?,
                    }
                }
                Ok(())
            }
            Self::Any(parts) => separated(parts, " OR ").fmt(f),
        }
    }
}
