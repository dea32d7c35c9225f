//! INFER and EXPLAIN INFER: run the model.

use std::fmt::{self, Display, Formatter};

use super::Help;
use super::clause::{LayerRange, Subject};
use super::print::{Print, quoted};
use super::span::Spanned;
use crate::keyword::Keyword;
use crate::parser::{Once, Parsed, Parser};

/// `INFER …`
#[derive(Clone, Debug, PartialEq)]
pub struct Infer {
    /// The prompt.
    pub prompt: Subject,
    /// Number of next tokens to show; 5 when absent.
    pub top: Option<Spanned<usize>>,
    /// Run the dense model beside, and time both.
    pub compare: bool,
    /// The file that declares what the passes change and capture.
    pub intervention: Option<Spanned<String>>,
}

impl Infer {
    pub(super) const HELP: Help = Help {
        name: "INFER",
        syntax: "INFER str [TOP int] [COMPARE] [WITH INTERVENTION str]",
        example: r#"INFER "The capital of France is" TOP 3;"#,
        meaning: "run the model and show the likeliest next tokens",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let prompt = parser.subject()?;
        let (mut top, mut compare, mut intervention) = (Once::default(), Once::default(), Once::default());
        while parser.clause(&[Keyword::Top], &mut top, Parser::count)?
            || parser.flag(&[Keyword::Compare], &mut compare)?
            || parser.clause(&[Keyword::With, Keyword::Intervention], &mut intervention, Parser::text)?
        {
        }
        let (top, intervention) = (top.value(), intervention.value());
        Ok(Self { prompt, top, compare: compare.is_given(), intervention })
    }
}

/// `EXPLAIN INFER …`
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainInfer {
    /// The prompt.
    pub prompt: Subject,
    /// The layers to explain; all when absent.
    pub layers: Option<Spanned<LayerRange>>,
    /// Show every figure.
    pub verbose: bool,
    /// Number of features per layer; 10 when absent.
    pub top: Option<Spanned<usize>>,
    /// The answer that is explained, by its first token; the likeliest when absent.
    pub answer: Option<Spanned<String>>,
    /// Show what attention looks at, too.
    pub with_attention: bool,
    /// Show the attribution graph in place of layers; `top` is then its number of heads and features, 40 when absent.
    pub graph: Option<ShowGraph>,
}

/// `GRAPH …`
#[derive(Clone, Debug, PartialEq)]
pub struct ShowGraph {
    /// The file that takes the graph, in the format that its ending says.
    pub save: Option<Spanned<String>>,
}

impl ExplainInfer {
    pub(super) const HELP: Help = Help {
        name: "EXPLAIN INFER",
        syntax: "EXPLAIN INFER str [FOR str] [LAYERS range] [VERBOSE] [TOP int] [WITH ATTENTION] [GRAPH [SAVE str]]",
        example: r#"EXPLAIN INFER "The capital of France is" LAYERS {first}-{last} WITH ATTENTION;"#,
        meaning: "run the model and show which features brought the answer about",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let prompt = parser.subject()?;
        let (mut layers, mut verbose) = (Once::default(), Once::default());
        let (mut top, mut with_attention, mut answer) = (Once::default(), Once::default(), Once::default());
        let (mut graph, mut save) = (Once::default(), Once::default());
        loop {
            let of_both = parser.clause(&[Keyword::For], &mut answer, Parser::text)?
                || parser.clause(&[Keyword::Top], &mut top, Parser::count)?;
            let of_layers = layers.is_given() || verbose.is_given() || with_attention.is_given();
            let found = of_both
                || !graph.is_given()
                    && (parser.clause(&[Keyword::Layers], &mut layers, Parser::layers)?
                        || parser.flag(&[Keyword::Verbose], &mut verbose)?
                        || parser.flag(&[Keyword::With, Keyword::Attention], &mut with_attention)?)
                || !of_layers && parser.flag(&[Keyword::Graph], &mut graph)?
                || graph.is_given() && parser.clause(&[Keyword::Save], &mut save, Parser::text)?;
            if !found {
                break;
            }
        }
        Ok(Self {
            prompt,
            layers: layers.value(),
            verbose: verbose.is_given(),
            top: top.value(),
            answer: answer.value(),
            with_attention: with_attention.is_given(),
            graph: graph.is_given().then(|| ShowGraph { save: save.value() }),
        })
    }
}

impl Display for Infer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "INFER{}", self.prompt)?;
        f.clause(&[Keyword::Top], self.top)?;
        f.flag(&[Keyword::Compare], self.compare)?;
        f.clause(&[Keyword::With, Keyword::Intervention], quoted(&self.intervention))
    }
}

impl Display for ExplainInfer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "EXPLAIN INFER{}", self.prompt)?;
        f.clause(&[Keyword::For], quoted(&self.answer))?;
        f.clause(&[Keyword::Layers], self.layers)?;
        f.flag(&[Keyword::Verbose], self.verbose)?;
        f.clause(&[Keyword::Top], self.top)?;
        f.flag(&[Keyword::With, Keyword::Attention], self.with_attention)?;
        let Some(graph) = &self.graph else { return Ok(()) };
        f.flag(&[Keyword::Graph], true)?;
        f.clause(&[Keyword::Save], quoted(&graph.save))
    }
}
