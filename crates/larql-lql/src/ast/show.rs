//! SHOW … and STATS: what is there.

use std::fmt::{self, Display, Formatter};

use super::clause::{Detail, LayerRange};
use super::filter::Filter;
use super::print::{Print, quoted};
use super::span::Spanned;
use super::{Help, Statement};
use crate::keyword::Keyword;
use crate::parser::{Once, Parsed, Parser};

/// `SHOW RELATIONS`
#[derive(Clone, Debug, PartialEq)]
pub struct ShowRelations {
    /// The only layer to count in.
    pub layer: Option<Spanned<usize>>,
    /// Show some edges of each.
    pub with_examples: bool,
    /// Detail of each relation.
    pub detail: Option<Detail>,
}

/// `SHOW LAYERS`
#[derive(Clone, Debug, PartialEq)]
pub struct ShowLayers {
    /// The only layers to show.
    pub layers: Option<Spanned<LayerRange>>,
}

/// `SHOW FEATURES …`
#[derive(Clone, Debug, PartialEq)]
pub struct ShowFeatures {
    /// The layer.
    pub layer: Spanned<usize>,
    /// Filter that features must pass.
    pub filter: Option<Filter>,
    /// Greatest number of rows; all when absent.
    pub limit: Option<Spanned<usize>>,
}

/// `SHOW ENTITIES`
#[derive(Clone, Debug, PartialEq)]
pub struct ShowEntities {
    /// The only layer to look in.
    pub layer: Option<Spanned<usize>>,
    /// Greatest number of rows; all when absent.
    pub limit: Option<Spanned<usize>>,
}

/// `STATS`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The vindex; the one in use when absent.
    pub path: Option<Spanned<String>>,
}

pub(super) const HELP: [Help; 7] = [
    Help {
        name: "SHOW RELATIONS",
        syntax: "SHOW RELATIONS [AT LAYER int] [WITH EXAMPLES] [VERBOSE | BRIEF | RAW]",
        example: "SHOW RELATIONS WITH EXAMPLES;",
        meaning: "list the relations that features are labelled with",
    },
    Help {
        name: "SHOW LAYERS",
        syntax: "SHOW LAYERS [[RANGE] range]",
        example: "SHOW LAYERS {first}-{last};",
        meaning: "list the layers: features, band, mean gate norm, labelled share",
    },
    Help {
        name: "SHOW FEATURES",
        syntax: "SHOW FEATURES int [WHERE test] [LIMIT int]",
        example: r#"SHOW FEATURES {last} WHERE label = capital;"#,
        meaning: "list the features of a layer",
    },
    Help {
        name: "SHOW ENTITIES",
        syntax: "SHOW ENTITIES [[AT LAYER] int] [LIMIT int]",
        example: "SHOW ENTITIES AT LAYER {last} LIMIT 10;",
        meaning: "list the names that features know",
    },
    Help {
        name: "SHOW MODELS",
        syntax: "SHOW MODELS",
        example: "SHOW MODELS;",
        meaning: "list the vindexes and models in the cache",
    },
    Help {
        name: "SHOW COMPACT STATUS",
        syntax: "SHOW COMPACT STATUS",
        example: "SHOW COMPACT STATUS;",
        meaning: "tell how many edits wait for COMPACT",
    },
    Help {
        name: "STATS",
        syntax: "STATS [str]",
        example: "STATS;",
        meaning: "tell model, sizes, level, labels and patches",
    },
];

/// Parses what follows SHOW.
pub(super) fn parse(parser: &mut Parser) -> Parsed<Statement> {
    if parser.eat(&[Keyword::Relations])? {
        return ShowRelations::parse(parser).map(Statement::ShowRelations);
    }
    if parser.eat(&[Keyword::Layers])? {
        let layers = if parser.eat(&[Keyword::Range])? || parser.at_whole_number() {
            Some(parser.layers()?)
        } else {
            None
        };
        return Ok(Statement::ShowLayers(ShowLayers { layers }));
    }
    if parser.eat(&[Keyword::Features])? {
        return ShowFeatures::parse(parser).map(Statement::ShowFeatures);
    }
    if parser.eat(&[Keyword::Entities])? {
        return ShowEntities::parse(parser).map(Statement::ShowEntities);
    }
    if parser.eat(&[Keyword::Models])? {
        return Ok(Statement::ShowModels);
    }
    if parser.eat(&[Keyword::Patches])? {
        return Ok(Statement::ShowPatches);
    }
    parser.expect(&[Keyword::Compact, Keyword::Status])?;
    Ok(Statement::ShowCompactStatus)
}

impl ShowRelations {
    fn parse(parser: &mut Parser) -> Parsed<Self> {
        let (mut layer, mut with_examples, mut detail) = (Once::default(), Once::default(), Once::default());
        while parser.clause(&[Keyword::At, Keyword::Layer], &mut layer, Parser::layer)?
            || parser.flag(&[Keyword::With, Keyword::Examples], &mut with_examples)?
            || parser.alternative(&mut detail)?
        {}
        Ok(Self { layer: layer.value(), with_examples: with_examples.is_given(), detail: detail.value() })
    }
}

impl ShowFeatures {
    fn parse(parser: &mut Parser) -> Parsed<Self> {
        let layer = parser.layer()?;
        let (mut filter, mut limit) = (Once::default(), Once::default());
        while Filter::clause(parser, &mut filter)?
            || parser.clause(&[Keyword::Limit], &mut limit, Parser::count)?
        {}
        Ok(Self { layer, filter: filter.value(), limit: limit.value() })
    }
}

impl ShowEntities {
    fn parse(parser: &mut Parser) -> Parsed<Self> {
        let (mut layer, mut limit) = (Once::default(), Once::default());
        if parser.at_whole_number() {
            parser.clause(&[], &mut layer, Parser::layer)?;
        }
        while parser.clause(&[Keyword::At, Keyword::Layer], &mut layer, Parser::layer)?
            || parser.clause(&[Keyword::Limit], &mut limit, Parser::count)?
        {}
        Ok(Self { layer: layer.value(), limit: limit.value() })
    }
}

impl Stats {
    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        Ok(Self { path: parser.optional_text()? })
    }
}

impl Display for ShowRelations {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("SHOW RELATIONS")?;
        f.clause(&[Keyword::At, Keyword::Layer], self.layer)?;
        f.flag(&[Keyword::With, Keyword::Examples], self.with_examples)?;
        f.choice(self.detail)
    }
}

impl Display for ShowLayers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("SHOW LAYERS")?;
        f.clause(&[], self.layers)
    }
}

impl Display for ShowFeatures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "SHOW FEATURES {}", self.layer)?;
        f.clause(&[Keyword::Where], self.filter.as_ref())?;
        f.clause(&[Keyword::Limit], self.limit)
    }
}

impl Display for ShowEntities {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("SHOW ENTITIES")?;
        f.clause(&[Keyword::At, Keyword::Layer], self.layer)?;
        f.clause(&[Keyword::Limit], self.limit)
    }
}

impl Display for Stats {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("STATS")?;
        f.clause(&[], quoted(&self.path))
    }
}
