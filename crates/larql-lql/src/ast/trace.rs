//! TRACE: how the residual stream comes to the answer, layer by layer. The language has it, and nothing carries it out yet,
//! so the help leaves it out.

use std::fmt::{self, Display, Formatter};

use super::clause::{LayerRange, Subject};
use super::print::{Print, Spelled, quoted};
use super::span::Spanned;
use crate::keyword::{Keyword, choice};
use crate::parser::{Once, Parsed, Parser};

/// `TRACE …`
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The prompt.
    pub prompt: Subject,
    /// The token whose rank and probability are followed; the model's answer when absent.
    pub target: Option<Spanned<String>>,
    /// Show what attention and the feed-forward step contribute.
    pub decompose: bool,
    /// The only layers to show.
    pub layers: Option<Spanned<LayerRange>>,
    /// The positions to trace; the last when absent, all with SAVE.
    pub positions: Option<Positions>,
    /// The file that takes the residuals.
    pub save: Option<Spanned<String>>,
}

choice! {
    /// The token positions of a trace.
    Positions {
        /// The last.
        Last = Last,
        /// Every one.
        All = All,
    }
}

impl Trace {
    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let prompt = parser.subject()?;
        let (mut target, mut decompose, mut layers) = (Once::default(), Once::default(), Once::default());
        let (mut positions, mut save) = (Once::default(), Once::default());
        while parser.clause(&[Keyword::For], &mut target, Parser::text)?
            || parser.flag(&[Keyword::Decompose], &mut decompose)?
            || parser.clause(&[Keyword::Layers], &mut layers, Parser::layers)?
            || parser.clause(&[Keyword::Positions], &mut positions, Parser::one_of)?
            || parser.clause(&[Keyword::Save], &mut save, Parser::text)?
        {}
        Ok(Self {
            prompt,
            target: target.value(),
            decompose: decompose.is_given(),
            layers: layers.value(),
            positions: positions.value(),
            save: save.value(),
        })
    }
}

impl Display for Trace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "TRACE{}", self.prompt)?;
        f.clause(&[Keyword::For], quoted(&self.target))?;
        f.flag(&[Keyword::Decompose], self.decompose)?;
        f.clause(&[Keyword::Layers], self.layers)?;
        f.clause(&[Keyword::Positions], self.positions.map(Spelled))?;
        f.clause(&[Keyword::Save], quoted(&self.save))
    }
}
