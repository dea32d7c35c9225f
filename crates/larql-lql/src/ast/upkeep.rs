//! MERGE, REBALANCE and COMPACT: keep many edits in good order.

use std::fmt::{self, Display, Formatter};

use super::Help;
use super::print::{Print, Spelled, quoted};
use super::span::Spanned;
use crate::keyword::{Keyword, choice};
use crate::parser::{Item, Once, Parsed, Parser};
use crate::token::{Quote, Token};

/// `MERGE …`
#[derive(Clone, Debug, PartialEq)]
pub struct Merge {
    /// The vindex whose edges are taken over.
    pub source: Spanned<String>,
    /// The vindex that takes them; the one in use when absent.
    pub into: Option<Spanned<String>>,
    /// Rule for two contradicting edges; the more confident stays when absent.
    pub on_conflict: Option<MergeConflict>,
}

choice! {
    /// Rule for two contradicting edges.
    MergeConflict {
        /// The one that comes in.
        KeepSource = KeepSource,
        /// The one that was there.
        KeepTarget = KeepTarget,
        /// The more confident one.
        HighestConfidence = HighestConfidence,
    }
}

impl Merge {
    pub(super) const HELP: Help = Help {
        name: "MERGE",
        syntax: "MERGE str [INTO str] [ON CONFLICT (KEEP_SOURCE | KEEP_TARGET | HIGHEST_CONFIDENCE)]",
        example: r#"MERGE "{vindex}" ON CONFLICT KEEP_TARGET;"#,
        meaning: "take over the edges of another vindex",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let source = parser.text()?;
        let (mut into, mut on_conflict) = (Once::default(), Once::default());
        while parser.clause(&[Keyword::Into], &mut into, Parser::text)?
            || parser.clause(&[Keyword::On, Keyword::Conflict], &mut on_conflict, Parser::one_of)?
        {}
        Ok(Self { source, into: into.value(), on_conflict: on_conflict.value() })
    }
}

/// `REBALANCE`
#[derive(Clone, Debug, PartialEq)]
pub struct Rebalance {
    /// Go on until nothing changes, MAX rounds or not.
    pub until_converged: bool,
    /// Greatest number of rounds; 16 when absent.
    pub max: Option<Spanned<usize>>,
    /// The least probability that a target may have; 0.30 when absent.
    pub floor: Option<Spanned<f64>>,
    /// The greatest; 0.90 when absent.
    pub ceiling: Option<Spanned<f64>>,
}

impl Rebalance {
    pub(super) const HELP: Help = Help {
        name: "REBALANCE",
        syntax: "REBALANCE [UNTIL CONVERGED] [MAX int] [FLOOR num] [CEILING num]",
        example: "REBALANCE UNTIL CONVERGED FLOOR 0.4;",
        meaning: "rescale features: the probability of each target in a range",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let (mut until_converged, mut max) = (Once::default(), Once::default());
        let (mut floor, mut ceiling) = (Once::default(), Once::default());
        while parser.flag(&[Keyword::Until, Keyword::Converged], &mut until_converged)?
            || parser.clause(&[Keyword::Max], &mut max, Parser::count)?
            || parser.clause(&[Keyword::Floor], &mut floor, Parser::probability)?
            || parser.clause(&[Keyword::Ceiling], &mut ceiling, Parser::probability)?
        {}
        Ok(Self {
            until_converged: until_converged.is_given(),
            max: max.value(),
            floor: floor.value(),
            ceiling: ceiling.value(),
        })
    }
}

/// `COMPACT …`
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Compact {
    /// Turn KNN entries into features.
    Minor,
    /// Solve all edges together.
    Major {
        /// Also those that were solved for before, as far as the model does not say them any more.
        full: bool,
        /// Weight of changes on background text; 0.03 when absent.
        lambda: Option<Spanned<f64>>,
    },
}

impl Compact {
    pub(super) const HELP: Help = Help {
        name: "COMPACT",
        syntax: r#"COMPACT MINOR | COMPACT MAJOR [FULL] [WITH LAMBDA "=" num]"#,
        example: "COMPACT MAJOR WITH LAMBDA = 0.1;",
        meaning: "fold edits into the weights, one by one or all together",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        if parser.eat(&[Keyword::Minor])? {
            return Ok(Self::Minor);
        }
        parser.expect(&[Keyword::Major])?;
        let (mut full, mut lambda) = (Once::default(), Once::default());
        while parser.flag(&[Keyword::Full], &mut full)?
            || parser.clause(&[Keyword::With, Keyword::Lambda], &mut lambda, |parser| {
                parser.require(Token::Equal, Item::Equal)?;
                parser.number("a regularisation", 0.0..=1e6)
            })?
        {}
        Ok(Self::Major { full: full.is_given(), lambda: lambda.value() })
    }
}

impl Display for Merge {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "MERGE {}", Quote(&self.source))?;
        f.clause(&[Keyword::Into], quoted(&self.into))?;
        f.clause(&[Keyword::On, Keyword::Conflict], self.on_conflict.map(Spelled))
    }
}

impl Display for Rebalance {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("REBALANCE")?;
        f.flag(&[Keyword::Until, Keyword::Converged], self.until_converged)?;
        f.clause(&[Keyword::Max], self.max)?;
        f.clause(&[Keyword::Floor], self.floor)?;
        f.clause(&[Keyword::Ceiling], self.ceiling)
    }
}

impl Display for Compact {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minor => f.write_str("COMPACT MINOR"),
            Self::Major { full, lambda } => {
                f.write_str("COMPACT MAJOR")?;
                f.flag(&[Keyword::Full], *full)?;
                f.clause(&[Keyword::With, Keyword::Lambda], lambda.map(|lambda| format!("= {lambda}")))
            }
        }
    }
}
