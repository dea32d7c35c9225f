//! SELECT: rows of edges, features or entities that pass conditions.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use super::Help;
use super::clause::{Condition, Field, print_conditions};
use super::print::{Print, Spelled, separated};
use super::span::Spanned;
use crate::keyword::{Keyword, choice};
use crate::parser::{Item, Once, Parsed, Parser};
use crate::token::{Quote, Token};

/// `SELECT … FROM …`
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// The columns, in order; none means `*`, all that the table has.
    pub fields: Vec<Spanned<Field>>,
    /// Where the rows come from.
    pub from: Table,
    /// Order by likeness to an entity at a layer.
    pub nearest: Option<Nearest>,
    /// What rows must pass, all of it.
    pub conditions: Vec<Condition>,
    /// The field that orders the rows.
    pub order_by: Option<OrderBy>,
    /// How many rows at most; 20 when absent.
    pub limit: Option<Spanned<usize>>,
}

choice! {
    /// What SELECT reads.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    Table {
        /// Edges: entity, relation, target.
        Edges = Edges,
        /// Features as they are: layer, number, tokens, score, label.
        Features = Features,
        /// The distinct names in the features' metadata.
        Entities = Entities,
    }
}

/// `NEAREST TO … AT LAYER …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// The entity.
    pub to: Spanned<String>,
    /// The layer whose gate rows are compared.
    pub layer: Spanned<usize>,
}

/// `ORDER BY …`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderBy {
    /// The field.
    pub field: Spanned<Field>,
    /// Which way; ascending when absent.
    pub direction: Option<Direction>,
}

choice! {
    /// Which way rows are ordered.
    Direction {
        /// Least first.
        Ascending = Asc,
        /// Greatest first.
        Descending = Desc,
    }
}

impl Nearest {
    fn parse(parser: &mut Parser) -> Parsed<Self> {
        let to = parser.text()?;
        parser.expect(&[Keyword::At, Keyword::Layer])?;
        Ok(Self { to, layer: parser.layer()? })
    }
}

impl OrderBy {
    fn parse(parser: &mut Parser) -> Parsed<Self> {
        Ok(Self { field: Field::parse(parser)?, direction: parser.any_of()? })
    }
}

impl Select {
    pub(super) const HELP: Help = Help {
        name: "SELECT",
        syntax: r#"SELECT ("*" | field {"," field}) FROM (EDGES | FEATURES | ENTITIES)
       [NEAREST TO str AT LAYER int] [WHERE cond {AND cond}] [ORDER BY field [ASC | DESC]] [LIMIT int]
field = entity | relation | target | layer | layer_max | feature | confidence | gate | distance | also
      | source | via | count | label | tokens
cond  = field ("=" | "!=" | "<" | ">" | "<=" | ">=" | LIKE) value | field IN "(" value {"," value} ")""#,
        example: r#"SELECT entity, target FROM EDGES WHERE relation = capital ORDER BY gate DESC LIMIT 10;"#,
        meaning: "show the edges, features or entities that pass conditions",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let all = parser.accept(Token::Star, Item::Star);
        let fields = if all { Vec::new() } else { parser.list(Field::parse)? };
        parser.expect(&[Keyword::From])?;
        let from = parser.one_of()?;
        let (mut nearest, mut conditions) = (Once::default(), Once::default());
        let (mut order_by, mut limit) = (Once::default(), Once::default());
        while parser.clause(&[Keyword::Nearest, Keyword::To], &mut nearest, Nearest::parse)?
            || Condition::clause(parser, &mut conditions)?
            || parser.clause(&[Keyword::Order, Keyword::By], &mut order_by, OrderBy::parse)?
            || parser.clause(&[Keyword::Limit], &mut limit, Parser::count)?
        {}
        Ok(Self {
            fields,
            from,
            nearest: nearest.value(),
            conditions: conditions.value().unwrap_or_default(),
            order_by: order_by.value(),
            limit: limit.value(),
        })
    }
}

impl Display for Nearest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} AT LAYER {}", Quote(&self.to), self.layer)
    }
}

impl Display for OrderBy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.field.fmt(f)?;
        f.choice(self.direction)
    }
}

impl Display for Select {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.fields[..] {
            [] => f.write_str("SELECT *")?,
            fields => write!(f, "SELECT {}", separated(fields, ", "))?,
        }
        write!(f, " FROM {}", Spelled(self.from))?;
        f.clause(&[Keyword::Nearest, Keyword::To], self.nearest.as_ref())?;
        print_conditions(f, &self.conditions)?;
        f.clause(&[Keyword::Order, Keyword::By], self.order_by)?;
        f.clause(&[Keyword::Limit], self.limit)
    }
}
