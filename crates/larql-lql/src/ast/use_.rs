//! USE: open a vindex, a checkpoint or a server.

use std::fmt::{self, Display, Formatter};

use super::Help;
use super::print::Print;
use super::span::Spanned;
use crate::keyword::Keyword;
use crate::parser::{Parsed, Parser};
use crate::token::Quote;

/// `USE …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A vindex: a directory, `hf://owner/name[@rev]`, or a name in the cache.
    Vindex(Spanned<String>),
    /// A checkpoint, read live.
    Model {
        /// The checkpoint.
        model: Spanned<String>,
        /// Extract a vindex when a statement needs one.
        auto_extract: bool,
    },
    /// A server that answers reads.
    Remote(Spanned<String>),
}

impl Use {
    pub(super) const HELP: Help = Help {
        name: "USE",
        syntax: "USE str | USE MODEL str [AUTO_EXTRACT] | USE REMOTE str",
        example: r#"USE "atlas";"#,
        meaning: "open a vindex, a checkpoint or a server; later statements are about it",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        if parser.eat(&[Keyword::Model])? {
            let model = parser.text()?;
            return Ok(Self::Model { model, auto_extract: parser.eat(&[Keyword::AutoExtract])? });
        }
        if parser.eat(&[Keyword::Remote])? {
            return parser.text().map(Self::Remote);
        }
        parser.text().map(Self::Vindex)
    }
}

impl Display for Use {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vindex(path) => write!(f, "USE {}", Quote(path)),
            Self::Model { model, auto_extract } => {
                write!(f, "USE MODEL {}", Quote(model))?;
                f.flag(&[Keyword::AutoExtract], *auto_extract)
            }
            Self::Remote(url) => write!(f, "USE REMOTE {}", Quote(url)),
        }
    }
}
