//! SELECT: rows of edges, features or entities that pass conditions.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use super::Help;
use super::clause::Field;
use super::filter::Filter;
use super::print::{Print, Spelled, separated};
use super::span::Spanned;
use crate::keyword::{Keyword, choice};
use crate::parser::{Item, Once, Parsed, Parser};
use crate::token::{Quote, Token};

/// `SELECT … FROM …`
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// Each row once.
    pub distinct: bool,
    /// The columns, in order; none means `*`, all that the table has.
    pub columns: Vec<Spanned<Column>>,
    /// Source of the rows.
    pub from: Table,
    /// Order by likeness to an entity at a layer.
    pub nearest: Option<Nearest>,
    /// Filter that rows must pass.
    pub filter: Option<Filter>,
    /// The fields whose values rows are counted by; none if rows are not grouped.
    pub group_by: Vec<Spanned<Field>>,
    /// The fields that order the rows, the weightiest first.
    pub order_by: Vec<OrderBy>,
    /// Greatest number of rows; all when absent.
    pub limit: Option<Spanned<usize>>,
    /// Number of rows that are passed over before the first.
    pub offset: Option<Spanned<usize>>,
}

/// A column of SELECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// A field of the table.
    Field(Field),
    /// `COUNT(*)`: the number of rows.
    CountRows,
    /// `COUNT(DISTINCT field)`: the number of different values.
    CountDistinct(Spanned<Field>),
}

choice! {
    /// Table that SELECT reads.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    Table {
        /// Edges: entity, relation, target.
        Edges = Edges,
        /// Features as they are: layer, number, tokens, score, label.
        Features = Features,
        /// The facts that a probe saw features carry.
        Evidence = Evidence,
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

/// A field of `ORDER BY …`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderBy {
    /// The field.
    pub field: Spanned<Field>,
    /// Direction; ascending when absent.
    pub direction: Option<Direction>,
}

choice! {
    /// Direction of an order of rows.
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
        let field = parser.spanned(|parser| match Column::parse(parser)? {
            Column::Field(field) => Ok(field),
            // The rows of a group, which have one name wherever they stand.
            Column::CountRows | Column::CountDistinct(_) => Ok(Field::Count),
        })?;
        Ok(Self { field, direction: parser.any_of()? })
    }
}

impl Column {
    fn parse(parser: &mut Parser) -> Parsed<Self> {
        let field = Field::parse(parser)?.value;
        if field != Field::Count || !parser.accept(Token::Open, Item::Open) {
            return Ok(Self::Field(field));
        }
        let counted = if parser.accept(Token::Star, Item::Star) {
            Self::CountRows
        } else {
            parser.expect(&[Keyword::Distinct])?;
            Self::CountDistinct(Field::parse(parser)?)
        };
        parser.require(Token::Close, Item::Close)?;
        Ok(counted)
    }

    /// Returns the name that its values have in results.
    pub fn field(&self) -> Field {
        match self {
            Self::Field(field) => *field,
            Self::CountRows | Self::CountDistinct(_) => Field::Count,
        }
    }
}

impl Display for Column {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => field.fmt(f),
            Self::CountRows => f.write_str("COUNT(*)"),
            Self::CountDistinct(field) => write!(f, "COUNT(DISTINCT {field})"),
        }
    }
}

impl Select {
    pub(super) const HELP: Help = Help {
        name: "SELECT",
        syntax: r#"SELECT [DISTINCT] ("*" | column {"," column}) FROM (EDGES | FEATURES | EVIDENCE | ENTITIES)
       [NEAREST TO str AT LAYER int] [WHERE test] [GROUP BY field {"," field}]
       [ORDER BY field [ASC | DESC] {"," field [ASC | DESC]}] [LIMIT int] [OFFSET int]
column = field | COUNT "(" "*" ")" | COUNT "(" DISTINCT field ")"
field  = entity | relation | target | layer | layer_max | feature | confidence | score | gate | distance
       | also | source | via | count | label | tokens
test   = cond {(AND | OR) cond}, with parentheses; AND binds more tightly
cond   = field ("=" | "!=" | "<" | ">" | "<=" | ">=" | LIKE) value | field IN "(" value {"," value} ")""#,
        example: r#"SELECT entity, target, confidence FROM EDGES WHERE entity = "France" ORDER BY confidence DESC LIMIT 10;"#,
        meaning: "show the edges, features or entities that pass conditions",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let distinct = parser.eat(&[Keyword::Distinct])?;
        let all = parser.accept(Token::Star, Item::Star);
        let columns = if all { Vec::new() } else { parser.list(|parser| parser.spanned(Column::parse))? };
        parser.expect(&[Keyword::From])?;
        let from = parser.one_of()?;
        let (mut nearest, mut filter, mut group_by) = (Once::default(), Once::default(), Once::default());
        let (mut order_by, mut limit, mut offset) = (Once::default(), Once::default(), Once::default());
        while parser.clause(&[Keyword::Nearest, Keyword::To], &mut nearest, Nearest::parse)?
            || Filter::clause(parser, &mut filter)?
            || parser.clause(&[Keyword::Group, Keyword::By], &mut group_by, |p| p.list(Field::parse))?
            || parser.clause(&[Keyword::Order, Keyword::By], &mut order_by, |p| p.list(OrderBy::parse))?
            || parser.clause(&[Keyword::Limit], &mut limit, Parser::count)?
            || parser.clause(&[Keyword::Offset], &mut offset, Parser::offset)?
        {}
        Ok(Self {
            distinct,
            columns,
            from,
            nearest: nearest.value(),
            filter: filter.value(),
            group_by: group_by.value().unwrap_or_default(),
            order_by: order_by.value().unwrap_or_default(),
            limit: limit.value(),
            offset: offset.value(),
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
        f.write_str("SELECT")?;
        f.flag(&[Keyword::Distinct], self.distinct)?;
        match &self.columns[..] {
            [] => f.write_str(" *")?,
            columns => write!(f, " {}", separated(columns, ", "))?,
        }
        write!(f, " FROM {}", Spelled(self.from))?;
        f.clause(&[Keyword::Nearest, Keyword::To], self.nearest.as_ref())?;
        f.clause(&[Keyword::Where], self.filter.as_ref())?;
        let fields = (!self.group_by.is_empty()).then(|| separated(&self.group_by, ", "));
        f.clause(&[Keyword::Group, Keyword::By], fields)?;
        let fields = (!self.order_by.is_empty()).then(|| separated(&self.order_by, ", "));
        f.clause(&[Keyword::Order, Keyword::By], fields)?;
        f.clause(&[Keyword::Limit], self.limit)?;
        f.clause(&[Keyword::Offset], self.offset)
    }
}
