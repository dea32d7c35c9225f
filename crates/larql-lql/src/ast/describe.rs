//! DESCRIBE: what a model associates with an entity.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use super::Help;
use super::clause::{Detail, Subject};
use super::print::Print;
use super::span::Spanned;
use crate::keyword::{Keyword, choice};
use crate::parser::{Once, Parsed, Parser};

/// `DESCRIBE …`
#[derive(Clone, Debug, PartialEq)]
pub struct Describe {
    /// The entity.
    pub entity: Subject,
    /// The bands of layers to look in; knowledge, then output, when absent.
    pub scope: Option<Scope>,
    /// The only layer to look in.
    pub layer: Option<Spanned<usize>>,
    /// Only edges whose relation has a name.
    pub relations_only: bool,
    /// Detail of each edge; one line for each with a relation when absent.
    pub detail: Option<Detail>,
    /// Greatest number of edges of each band; all, or as many as a page takes, when absent.
    pub limit: Option<Spanned<usize>>,
    /// Yield results layer by layer.
    pub stream: bool,
}

choice! {
    /// The bands of layers that DESCRIBE looks in.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    Scope {
        /// The early layers: form.
        Syntax = Syntax,
        /// The middle layers: facts.
        Knowledge = Knowledge,
        /// The late layers: the next token.
        Output = Output,
        /// Every layer.
        All = All Layers,
    }
}

impl Describe {
    pub(super) const HELP: Help = Help {
        name: "DESCRIBE",
        syntax: "DESCRIBE str [SYNTAX | KNOWLEDGE | OUTPUT | ALL LAYERS] [AT LAYER int] [RELATIONS ONLY]
         [VERBOSE | BRIEF | RAW] [LIMIT int] [STREAM]",
        example: r#"DESCRIBE "France" RELATIONS ONLY;"#,
        meaning: "show what the model associates with an entity, surest first",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let entity = parser.subject()?;
        let (mut scope, mut layer, mut relations_only) = (Once::default(), Once::default(), Once::default());
        let (mut detail, mut limit, mut stream) = (Once::default(), Once::default(), Once::default());
        while parser.alternative(&mut scope)?
            || parser.clause(&[Keyword::At, Keyword::Layer], &mut layer, Parser::layer)?
            || parser.flag(&[Keyword::Relations, Keyword::Only], &mut relations_only)?
            || parser.alternative(&mut detail)?
            || parser.clause(&[Keyword::Limit], &mut limit, Parser::count)?
            || parser.flag(&[Keyword::Stream], &mut stream)?
        {}
        Ok(Self {
            entity,
            scope: scope.value(),
            layer: layer.value(),
            relations_only: relations_only.is_given(),
            detail: detail.value(),
            limit: limit.value(),
            stream: stream.is_given(),
        })
    }
}

impl Display for Describe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "DESCRIBE{}", self.entity)?;
        f.choice(self.scope)?;
        f.clause(&[Keyword::At, Keyword::Layer], self.layer)?;
        f.flag(&[Keyword::Relations, Keyword::Only], self.relations_only)?;
        f.choice(self.detail)?;
        f.clause(&[Keyword::Limit], self.limit)?;
        f.flag(&[Keyword::Stream], self.stream)
    }
}
