//! DIFF: differences of two vindexes.

use std::fmt::{self, Display, Formatter};

use super::print::{Print, quoted};
use super::span::Spanned;
use super::{Help, Source};
use crate::keyword::Keyword;
use crate::parser::{Once, Parsed, Parser};
use crate::token::Quote;

/// `DIFF … …`
#[derive(Clone, Debug, PartialEq)]
pub struct Diff {
    /// The vindex that is compared.
    pub base: Spanned<String>,
    /// The other vindex.
    pub other: Source,
    /// The only layer to compare.
    pub layer: Option<Spanned<usize>>,
    /// The only relation to compare.
    pub relation: Option<Spanned<String>>,
    /// Greatest number of differences that are shown.
    pub limit: Option<Spanned<usize>>,
    /// The patch file that makes `other` out of `base`, to be written.
    pub into_patch: Option<Spanned<String>>,
}

impl Diff {
    pub(super) const HELP: Help = Help {
        name: "DIFF",
        syntax: "DIFF str (CURRENT | str) [LAYER int] [RELATION str] [LIMIT int] [INTO PATCH str]",
        example: r#"DIFF "{vindex}" CURRENT INTO PATCH "changes.vlp";"#,
        meaning: "show what two vindexes say differently, or write it as a patch",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let base = parser.text()?;
        let other = Source::parse(parser)?;
        let (mut layer, mut relation) = (Once::default(), Once::default());
        let (mut limit, mut into_patch) = (Once::default(), Once::default());
        while parser.clause(&[Keyword::Layer], &mut layer, Parser::layer)?
            || parser.clause(&[Keyword::Relation], &mut relation, Parser::text)?
            || parser.clause(&[Keyword::Limit], &mut limit, Parser::count)?
            || parser.clause(&[Keyword::Into, Keyword::Patch], &mut into_patch, Parser::text)?
        {}
        Ok(Self {
            base,
            other,
            layer: layer.value(),
            relation: relation.value(),
            limit: limit.value(),
            into_patch: into_patch.value(),
        })
    }
}

impl Display for Diff {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "DIFF {} {}", Quote(&self.base), self.other)?;
        f.clause(&[Keyword::Layer], self.layer)?;
        f.clause(&[Keyword::Relation], quoted(&self.relation))?;
        f.clause(&[Keyword::Limit], self.limit)?;
        f.clause(&[Keyword::Into, Keyword::Patch], quoted(&self.into_patch))
    }
}
