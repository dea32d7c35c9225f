//! EXTRACT: write a vindex from a checkpoint.

use std::fmt::{self, Display, Formatter};

use larql_vindex_spec::ExtractLevel;

use super::Help;
use super::clause::LayerRange;
use super::print::{Print, Spelled, separated};
use super::span::Spanned;
use crate::keyword::{Choice, Keyword, Phrase, choice};
use crate::parser::{Once, Parsed, Parser};
use crate::token::Quote;

/// `EXTRACT MODEL … INTO …`
#[derive(Clone, Debug, PartialEq)]
pub struct Extract {
    /// The checkpoint: a path, a name in the cache, or `owner/name` of the hub.
    pub model: Spanned<String>,
    /// The directory to write.
    pub into: Spanned<String>,
    /// The only components to write; none means all that the level asks for.
    pub components: Vec<Spanned<Component>>,
    /// The only layers to write.
    pub layers: Option<Spanned<LayerRange>>,
    /// Level of the vindex; browse when absent.
    pub level: Option<ExtractLevel>,
    /// Quantisation of weights.
    pub quant: Option<Quant>,
    /// Store f32 where f16 is the default.
    pub f32: bool,
}

choice! {
    /// A part of the model that EXTRACT can be told to write.
    Component {
        /// Gate rows.
        FfnGate = FfnGate,
        /// Up rows.
        FfnUp = FfnUp,
        /// Down columns.
        FfnDown = FfnDown,
        /// Token embeddings.
        Embeddings = Embeddings,
        /// Attention's value and output matrices.
        AttnOv = AttnOv,
        /// Attention's query and key matrices.
        AttnQk = AttnQk,
    }
}

choice! {
    /// Quantisation of weights.
    Quant {
        /// 4-bit blocks of the Q4_K kind.
        Q4k = Q4k,
        /// Unquantised.
        None = None,
    }
}

impl Choice for ExtractLevel {
    const ALL: &'static [Self] = &ExtractLevel::ALL;

    fn phrase(self) -> Phrase {
        match self {
            Self::Browse => &[Keyword::Browse],
            Self::Attention => &[Keyword::Attention],
            Self::Inference => &[Keyword::Inference],
            Self::All => &[Keyword::All],
        }
    }
}

impl Extract {
    pub(super) const HELP: Help = Help {
        name: "EXTRACT",
        syntax: r#"EXTRACT MODEL str INTO str [COMPONENTS comp {"," comp}] [LAYERS range]
        [WITH (BROWSE | ATTENTION | INFERENCE | ALL)] [QUANT (Q4K | NONE)] [F32]
comp  = FFN_GATE | FFN_UP | FFN_DOWN | EMBEDDINGS | ATTN_OV | ATTN_QK"#,
        example: r#"EXTRACT MODEL "atlas" INTO "copy.vindex" WITH ALL;"#,
        meaning: "write a vindex from a checkpoint",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        parser.expect(&[Keyword::Model])?;
        let model = parser.text()?;
        parser.expect(&[Keyword::Into])?;
        let into = parser.text()?;
        let (mut components, mut layers, mut level) = (Once::default(), Once::default(), Once::default());
        let (mut quant, mut f32) = (Once::default(), Once::default());
        while parser
            .clause(&[Keyword::Components], &mut components, |p| p.list(|p| p.spanned(Parser::one_of)))?
            || parser.clause(&[Keyword::Layers], &mut layers, Parser::layers)?
            || parser.clause(&[Keyword::With], &mut level, Parser::one_of)?
            || parser.clause(&[Keyword::Quant], &mut quant, Parser::one_of)?
            || parser.flag(&[Keyword::F32], &mut f32)?
        {}
        Ok(Self {
            model,
            into,
            components: components.value().unwrap_or_default(),
            layers: layers.value(),
            level: level.value(),
            quant: quant.value(),
            f32: f32.is_given(),
        })
    }
}

impl Display for Component {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Spelled(*self).fmt(f)
    }
}

impl Display for Extract {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "EXTRACT MODEL {} INTO {}", Quote(&self.model), Quote(&self.into))?;
        f.clause(
            &[Keyword::Components],
            (!self.components.is_empty()).then(|| separated(&self.components, ", ")),
        )?;
        f.clause(&[Keyword::Layers], self.layers)?;
        f.clause(&[Keyword::With], self.level.map(Spelled))?;
        f.clause(&[Keyword::Quant], self.quant.map(Spelled))?;
        f.flag(&[Keyword::F32], self.f32)
    }
}
