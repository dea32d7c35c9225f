//! WALK and EXPLAIN WALK: which features a prompt's last token fires, without running the model.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use super::Help;
use super::clause::{LayerRange, Subject};
use super::print::{Print, Spelled};
use super::span::Spanned;
use crate::keyword::{Keyword, choice};
use crate::parser::{Once, Parsed, Parser};

/// `WALK …`
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    /// The prompt, whose last token is looked up.
    pub prompt: Subject,
    /// Number of features per layer; 10 when absent.
    pub top: Option<Spanned<usize>>,
    /// The layers to ask; all when absent.
    pub layers: Option<WalkLayers>,
    /// Ranking of features; hybrid when absent.
    pub mode: Option<WalkMode>,
    /// Show PURE and DENSE side by side.
    pub compare: bool,
}

/// The layers that WALK asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkLayers {
    /// All of them.
    All,
    /// Some.
    Range(Spanned<LayerRange>),
}

choice! {
    /// Ranking of features in WALK.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    WalkMode {
        /// The activation where the vindex holds what it takes, else the gate score.
        Hybrid = Hybrid,
        /// The gate score alone.
        Pure = Pure,
        /// The activation, `act(gate) * up`, by its magnitude.
        Dense = Dense,
    }
}

impl WalkLayers {
    fn parse(parser: &mut Parser) -> Parsed<Self> {
        if parser.eat(&[Keyword::All])? { Ok(Self::All) } else { parser.layers().map(Self::Range) }
    }
}

impl Walk {
    pub(super) const HELP: Help = Help {
        name: "WALK",
        syntax: "WALK str [TOP int] [LAYERS (range | ALL)] [MODE (HYBRID | PURE | DENSE)] [COMPARE]",
        example: r#"WALK "The capital of France is" TOP 5 LAYERS {first}-{last};"#,
        meaning: "show the features that a prompt's last token fires",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let prompt = parser.subject()?;
        let (mut top, mut layers) = (Once::default(), Once::default());
        let (mut mode, mut compare) = (Once::default(), Once::default());
        while parser.clause(&[Keyword::Top], &mut top, Parser::count)?
            || parser.clause(&[Keyword::Layers], &mut layers, WalkLayers::parse)?
            || parser.clause(&[Keyword::Mode], &mut mode, Parser::one_of)?
            || parser.flag(&[Keyword::Compare], &mut compare)?
        {}
        Ok(Self {
            prompt,
            top: top.value(),
            layers: layers.value(),
            mode: mode.value(),
            compare: compare.is_given(),
        })
    }
}

/// `EXPLAIN WALK …`
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainWalk {
    /// The prompt, whose last token is looked up.
    pub prompt: Subject,
    /// The layers to explain; all when absent.
    pub layers: Option<Spanned<LayerRange>>,
    /// Show every figure that the ranking came from.
    pub verbose: bool,
    /// Number of features per layer; 10 when absent.
    pub top: Option<Spanned<usize>>,
}

impl ExplainWalk {
    pub(super) const HELP: Help = Help {
        name: "EXPLAIN WALK",
        syntax: "EXPLAIN WALK str [LAYERS range] [VERBOSE] [TOP int]",
        example: r#"EXPLAIN WALK "The capital of France is" VERBOSE;"#,
        meaning: "show how WALK comes to its features",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let prompt = parser.subject()?;
        let (mut layers, mut verbose, mut top) = (Once::default(), Once::default(), Once::default());
        while parser.clause(&[Keyword::Layers], &mut layers, Parser::layers)?
            || parser.flag(&[Keyword::Verbose], &mut verbose)?
            || parser.clause(&[Keyword::Top], &mut top, Parser::count)?
        {}
        Ok(Self { prompt, layers: layers.value(), verbose: verbose.is_given(), top: top.value() })
    }
}

impl Display for WalkLayers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Keyword::All.fmt(f),
            Self::Range(range) => range.fmt(f),
        }
    }
}

impl Display for Walk {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "WALK{}", self.prompt)?;
        f.clause(&[Keyword::Top], self.top)?;
        f.clause(&[Keyword::Layers], self.layers)?;
        f.clause(&[Keyword::Mode], self.mode.map(Spelled))?;
        f.flag(&[Keyword::Compare], self.compare)
    }
}

impl Display for ExplainWalk {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "EXPLAIN WALK{}", self.prompt)?;
        f.clause(&[Keyword::Layers], self.layers)?;
        f.flag(&[Keyword::Verbose], self.verbose)?;
        f.clause(&[Keyword::Top], self.top)
    }
}
