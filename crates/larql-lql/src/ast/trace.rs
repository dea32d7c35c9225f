//! TRACE: how the residual stream comes to the answer, layer by layer.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use super::Help;
use super::clause::{LayerRange, Subject};
use super::print::{Print, Spelled, quoted};
use super::span::Spanned;
use crate::keyword::{Keyword, choice};
use crate::parser::{Once, Parsed, Parser};
use crate::token::Quote;

/// `TRACE …`
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The prompt.
    pub prompt: Subject,
    /// Another prompt whose stream is compared.
    pub other: Option<Spanned<String>>,
    /// The answer that is followed; the model's own where one is needed and none is named.
    pub target: Option<Spanned<String>>,
    /// Show norms and contributions of attention and of the feed-forward step.
    pub decompose: bool,
    /// The only layers to show; with SAVE of tier 2, those whose deltas are kept.
    pub layers: Option<Spanned<LayerRange>>,
    /// The positions to show; the last when absent.
    pub positions: Option<Positions>,
    /// The file that takes the residuals of all positions.
    pub save: Option<SaveTrace>,
}

/// `SAVE … FORMAT … TIER … WINDOW …`
#[derive(Clone, Debug, PartialEq)]
pub struct SaveTrace {
    /// The file.
    pub path: Spanned<String>,
    /// Its format; CHAIN when absent.
    pub format: Option<TraceFormat>,
    /// The tier of a context store, 1 to 4; 1 when absent.
    pub tier: Option<Spanned<usize>>,
    /// Tokens of a window of a boundary or context store; 200 when absent.
    pub window: Option<Spanned<usize>>,
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

choice! {
    /// The format of a saved trace.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    TraceFormat {
        /// Every waypoint of every token.
        Chain = Chain,
        /// The residual at the end of each window.
        Boundary = Boundary,
        /// The residual at the end of each window and what layers added, by tier.
        Context = Context,
    }
}

impl Trace {
    pub(super) const HELP: Help = Help {
        name: "TRACE",
        syntax: r#"TRACE str [DIFF str] [FOR str] [DECOMPOSE] [LAYERS range] [POSITIONS (LAST | ALL)]
       [SAVE str [FORMAT (CHAIN | BOUNDARY | CONTEXT)] [TIER int] [WINDOW int]]"#,
        example: r#"TRACE "The capital of France is" FOR "Paris";"#,
        meaning: "show layer by layer how an answer arises in the residual stream, compare two prompts, or save residuals",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let prompt = parser.subject()?;
        let (mut other, mut target, mut decompose) = (Once::default(), Once::default(), Once::default());
        let (mut layers, mut positions, mut path) = (Once::default(), Once::default(), Once::default());
        let (mut format, mut tier, mut window) = (Once::default(), Once::default(), Once::default());
        loop {
            let mut more = parser.clause(&[Keyword::Diff], &mut other, Parser::text)?
                || parser.clause(&[Keyword::For], &mut target, Parser::text)?
                || parser.flag(&[Keyword::Decompose], &mut decompose)?
                || parser.clause(&[Keyword::Layers], &mut layers, Parser::layers)?
                || parser.clause(&[Keyword::Positions], &mut positions, Parser::one_of)?
                || parser.clause(&[Keyword::Save], &mut path, Parser::text)?;
            // They describe the file, so they follow its name.
            more = more
                || path.is_given()
                    && (parser.clause(&[Keyword::Format], &mut format, Parser::one_of)?
                        || parser.clause(&[Keyword::Tier], &mut tier, Parser::count)?
                        || parser.clause(&[Keyword::Window], &mut window, Parser::count)?);
            if !more {
                break;
            }
        }
        let save = path.value().map(|path| SaveTrace {
            path,
            format: format.value(),
            tier: tier.value(),
            window: window.value(),
        });
        Ok(Self {
            prompt,
            other: other.value(),
            target: target.value(),
            decompose: decompose.is_given(),
            layers: layers.value(),
            positions: positions.value(),
            save,
        })
    }
}

impl Display for Trace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "TRACE{}", self.prompt)?;
        f.clause(&[Keyword::Diff], quoted(&self.other))?;
        f.clause(&[Keyword::For], quoted(&self.target))?;
        f.flag(&[Keyword::Decompose], self.decompose)?;
        f.clause(&[Keyword::Layers], self.layers)?;
        f.clause(&[Keyword::Positions], self.positions.map(Spelled))?;
        let Some(save) = &self.save else { return Ok(()) };
        f.clause(&[Keyword::Save], Some(Quote(&save.path)))?;
        f.clause(&[Keyword::Format], save.format.map(Spelled))?;
        f.clause(&[Keyword::Tier], save.tier)?;
        f.clause(&[Keyword::Window], save.window)
    }
}
