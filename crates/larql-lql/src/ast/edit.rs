//! INSERT, DELETE and UPDATE: change edges.

use std::fmt::{self, Display, Formatter};

use super::Help;
use super::clause::{Condition, Field, Value, print_conditions};
use super::print::{Print, Spelled, separated};
use super::span::Spanned;
use crate::keyword::{Keyword, choice};
use crate::parser::{Item, Once, Parsed, Parser};
use crate::token::{Quote, Token};

/// `INSERT INTO EDGES …`
#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    /// The edges; at least one.
    pub edges: Vec<NewEdge>,
    /// The layer that takes them; a late one when absent.
    pub layer: Option<Spanned<usize>>,
    /// The confidence that is stored, 0 to 1; 0.9 when absent.
    pub confidence: Option<Spanned<f64>>,
    /// The greatest norm of a written vector, relative to the residual's; the solver's choice when absent.
    pub alpha: Option<Spanned<f64>>,
    /// Storage of the edges; COMPOSE where the level allows it when absent.
    pub mode: Option<InsertMode>,
}

/// An edge to be inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEdge {
    /// The entity that it is about.
    pub entity: Spanned<String>,
    /// The relation of entity and target.
    pub relation: Spanned<String>,
    /// The other end.
    pub target: Spanned<String>,
}

choice! {
    /// Storage of an edge.
    InsertMode {
        /// As an entry of the edge memory.
        Knn = Knn,
        /// As a feature in the weights.
        Compose = Compose,
    }
}

impl NewEdge {
    fn parse(parser: &mut Parser) -> Parsed<Self> {
        parser.parenthesised(|parser| {
            let entity = parser.text()?;
            parser.require(Token::Comma, Item::Comma)?;
            let relation = parser.text()?;
            parser.require(Token::Comma, Item::Comma)?;
            Ok(Self { entity, relation, target: parser.text()? })
        })
    }
}

impl Insert {
    pub(super) const HELP: Help = Help {
        name: "INSERT",
        syntax: r#"INSERT INTO EDGES "(" entity "," relation "," target ")"
       VALUES "(" str "," str "," str ")" {"," "(" str "," str "," str ")"}
       [AT LAYER int] [CONFIDENCE num] [ALPHA num] [MODE (KNN | COMPOSE)]"#,
        example: r#"INSERT INTO EDGES (entity, relation, target) VALUES ("Atlantis", "capital", "Poseidonis");"#,
        meaning: "teach the model an edge, in the open patch",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        parser.expect(&[Keyword::Into, Keyword::Edges])?;
        parser.parenthesised(|parser| {
            parser.expect(&[Keyword::Entity])?;
            parser.require(Token::Comma, Item::Comma)?;
            parser.expect(&[Keyword::Relation])?;
            parser.require(Token::Comma, Item::Comma)?;
            parser.expect(&[Keyword::Target])
        })?;
        parser.expect(&[Keyword::Values])?;
        Self::parse_values(parser)
    }

    /// The values after VALUES.
    pub(crate) fn parse_values(parser: &mut Parser) -> Parsed<Self> {
        let edges = parser.list(NewEdge::parse)?;
        let (mut layer, mut confidence) = (Once::default(), Once::default());
        let (mut alpha, mut mode) = (Once::default(), Once::default());
        while parser.clause(&[Keyword::At, Keyword::Layer], &mut layer, Parser::layer)?
            || parser
                .clause(&[Keyword::Confidence], &mut confidence, |p| p.number("a confidence", 0.0..=1.0))?
            || parser.clause(&[Keyword::Alpha], &mut alpha, |p| p.number("a relative norm", 0.0..=1000.0))?
            || parser.clause(&[Keyword::Mode], &mut mode, Parser::one_of)?
        {}
        Ok(Self {
            edges,
            layer: layer.value(),
            confidence: confidence.value(),
            alpha: alpha.value(),
            mode: mode.value(),
        })
    }
}

choice! {
    /// Rows that DELETE and UPDATE change.
    EditTable {
        /// Edges that the model says: inserted ones, or else knowledge of the base.
        Edges = Edges,
        /// Raw features, by layer and number.
        Features = Features,
    }
}

/// `DELETE FROM EDGES WHERE …` or `DELETE FROM FEATURES WHERE …`
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// Rows that are deleted.
    pub table: EditTable,
    /// Conditions that a row must pass to be deleted, all of them; at least one.
    pub conditions: Vec<Condition>,
}

impl Delete {
    pub(super) const HELP: Help = Help {
        name: "DELETE",
        syntax: "DELETE FROM (EDGES | FEATURES) WHERE cond {AND cond}",
        example: r#"DELETE FROM EDGES WHERE entity = "Atlantis" AND relation = capital;"#,
        meaning: "take inserted edges away, or have the model forget what it knows",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        parser.expect(&[Keyword::From])?;
        let table = parser.one_of()?;
        parser.expect(&[Keyword::Where])?;
        Ok(Self { table, conditions: Condition::parse_all(parser)? })
    }

    /// Parses what follows DELETE in a Vindexfile: `[FEATURES] cond {AND cond}`.
    pub(crate) fn parse_conditions(parser: &mut Parser) -> Parsed<Self> {
        let features = parser.eat(&[Keyword::Features])?;
        let table = if features { EditTable::Features } else { EditTable::Edges };
        Ok(Self { table, conditions: Condition::parse_all(parser)? })
    }
}

/// `UPDATE EDGES SET … WHERE …` or `UPDATE FEATURES SET … WHERE …`
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Rows that are changed.
    pub table: EditTable,
    /// The fields to set; at least one.
    pub assignments: Vec<Assignment>,
    /// Conditions that a row must pass to be changed, all of them; at least one.
    pub conditions: Vec<Condition>,
}

/// `field = value`
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The field.
    pub field: Spanned<Field>,
    /// Its new value.
    pub value: Spanned<Value>,
}

impl Assignment {
    fn parse(parser: &mut Parser) -> Parsed<Self> {
        let field = Field::parse(parser)?;
        parser.require(Token::Equal, Item::Equal)?;
        Ok(Self { field, value: Value::parse(parser)? })
    }
}

impl Update {
    pub(super) const HELP: Help = Help {
        name: "UPDATE",
        syntax: r#"UPDATE (EDGES | FEATURES) SET field "=" value {"," field "=" value}
       WHERE cond {AND cond}"#,
        example: r#"UPDATE EDGES SET target = "Lyon" WHERE entity = "France" AND relation = capital;"#,
        meaning: "have the model give another answer, in the open patch",
    };

    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let table = parser.one_of()?;
        parser.expect(&[Keyword::Set])?;
        let assignments = parser.list(Assignment::parse)?;
        parser.expect(&[Keyword::Where])?;
        Ok(Self { table, assignments, conditions: Condition::parse_all(parser)? })
    }
}

impl Display for NewEdge {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {}, {})", Quote(&self.entity), Quote(&self.relation), Quote(&self.target))
    }
}

impl Display for Insert {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("INSERT INTO EDGES (entity, relation, target) VALUES ")?;
        self.print_values(f)
    }
}

impl Insert {
    /// The values after VALUES.
    pub(crate) fn print_values(&self, f: &mut Formatter<'_>) -> fmt::Result {
        separated(&self.edges, ", ").fmt(f)?;
        f.clause(&[Keyword::At, Keyword::Layer], self.layer)?;
        f.clause(&[Keyword::Confidence], self.confidence)?;
        f.clause(&[Keyword::Alpha], self.alpha)?;
        f.clause(&[Keyword::Mode], self.mode.map(Spelled))
    }
}

impl Display for Delete {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "DELETE FROM {}", Spelled(self.table))?;
        print_conditions(f, &self.conditions)
    }
}

impl Delete {
    /// Prints what follows DELETE in a Vindexfile.
    pub(crate) fn print_conditions(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.table == EditTable::Features {
            f.write_str("FEATURES ")?;
        }
        separated(&self.conditions, " AND ").fmt(f)
    }
}

impl Display for Assignment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.field, self.value)
    }
}

impl Display for Update {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "UPDATE {} SET {}", Spelled(self.table), separated(&self.assignments, ", "))?;
        print_conditions(f, &self.conditions)
    }
}
