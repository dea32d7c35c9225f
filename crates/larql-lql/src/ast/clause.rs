//! The parts that several statements share: subjects, ranges, fields, values and conditions.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use super::print::{Print, separated};
use super::span::Spanned;
use crate::keyword::{Choice, Keyword, choice};
use crate::parser::{Item, Parsed, Parser, SignedNumber};
use crate::token::{Quote, Token};

/// The entity or prompt that a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Written out.
    Text(Spanned<String>),
    /// Left out right of `|>`: each row of the statement on the left is the subject in turn.
    Piped,
}

impl Subject {
    /// Returns the text; none if the statement leaves its subject out.
    pub fn text(&self) -> Option<&Spanned<String>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Piped => None,
        }
    }
}

impl Display for Subject {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, " {}", Quote(text)),
            Self::Piped => Ok(()),
        }
    }
}

/// Layers `first` to `last`, both included; `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LayerRange {
    /// The first layer.
    pub first: usize,
    /// The last layer.
    pub last: usize,
}

impl Display for LayerRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

choice! {
    /// Detail of the rows.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    Detail {
        /// Everything, with the tokens that an edge was also found under.
        Verbose = Verbose,
        /// One line each.
        Brief = Brief,
        /// Scores without labels.
        Raw = Raw,
    }
}

choice! {
    /// A column of edges, features or entities. The names are those of the typed results.
    #[derive(PartialOrd, Ord)]
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    Field {
        /// The entity that the edge is about.
        Entity = Entity,
        /// The relation of entity and target.
        Relation = Relation,
        /// The other end of the edge.
        Target = Target,
        /// The layer, or the first of a span.
        Layer = Layer,
        /// The last layer of a span.
        LayerMax = LayerMax,
        /// The number of the feature in its layer.
        Feature = Feature,
        /// Probability that the edge is true, 0 to 1.
        Confidence = Confidence,
        /// The logit with which a feature writes its first token.
        Score = Score,
        /// The gate score.
        Gate = Gate,
        /// The distance from what NEAREST TO names.
        Distance = Distance,
        /// Other spellings that were found with the target.
        Also = Also,
        /// Source of the relation's name.
        Source = Source,
        /// The method that found the edge.
        Via = Via,
        /// Number of features that say the same.
        Count = Count,
        /// The feature's label.
        Label = Label,
        /// The tokens that the feature writes.
        Tokens = Tokens,
    }
}

impl Field {
    /// The name in results: lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::Relation => "relation",
            Self::Target => "target",
            Self::Layer => "layer",
            Self::LayerMax => "layer_max",
            Self::Feature => "feature",
            Self::Confidence => "confidence",
            Self::Score => "score",
            Self::Gate => "gate",
            Self::Distance => "distance",
            Self::Also => "also",
            Self::Source => "source",
            Self::Via => "via",
            Self::Count => "count",
            Self::Label => "label",
            Self::Tokens => "tokens",
        }
    }

    /// Returns true if its values are numbers, and not texts.
    pub fn is_numeric(self) -> bool {
        match self {
            Self::Layer
            | Self::LayerMax
            | Self::Feature
            | Self::Confidence
            | Self::Score
            | Self::Gate
            | Self::Distance
            | Self::Count => true,
            Self::Entity
            | Self::Relation
            | Self::Target
            | Self::Also
            | Self::Source
            | Self::Via
            | Self::Label
            | Self::Tokens => false,
        }
    }

    /// The names of all.
    pub(crate) fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|field| field.name()).collect()
    }

    pub(crate) fn parse(parser: &mut Parser) -> Parsed<Spanned<Self>> {
        parser.spanned(|parser| match parser.any_of()? {
            Some(field) => Ok(field),
            None => {
                parser.note(Item::Field);
                Err(parser.unexpected())
            }
        })
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Value that a field is compared with or set to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string or a bare word.
    Text(String),
    /// A number without fraction or exponent.
    Integer(i64),
    /// Any other number; finite.
    Number(f64),
}

impl Value {
    pub(crate) fn parse(parser: &mut Parser) -> Parsed<Spanned<Self>> {
        parser.spanned(|parser| {
            if let Some(number) = parser.signed()? {
                return Ok(match number {
                    SignedNumber::Integer(integer) => Self::Integer(integer),
                    SignedNumber::Float(number) => Self::Number(number),
                });
            }
            if let Some(word) = parser.word() {
                return Ok(Self::Text(word));
            }
            match parser.string_token()? {
                Some(text) => Ok(Self::Text(text.value)),
                None => Err(parser.unexpected()),
            }
        })
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => Quote(text).fmt(f),
            Self::Integer(integer) => integer.fmt(f),
            // The debug form keeps a fraction or an exponent, so that it reads back as this kind of number.
            Self::Number(number) => write!(f, "{number:?}"),
        }
    }
}

/// Comparison of a field's value with a given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `>`
    Greater,
    /// `<=`
    LessEqual,
    /// `>=`
    GreaterEqual,
    /// `LIKE`: `%` stands for any text, `_` for one character.
    Like,
}

impl Comparison {
    const SIGNS: [(Self, Token, &'static str); 6] = [
        (Self::Equal, Token::Equal, "="),
        (Self::NotEqual, Token::NotEqual, "!="),
        (Self::Less, Token::Less, "<"),
        (Self::Greater, Token::Greater, ">"),
        (Self::LessEqual, Token::LessEqual, "<="),
        (Self::GreaterEqual, Token::GreaterEqual, ">="),
    ];

    fn parse(parser: &mut Parser) -> Parsed<Self> {
        for (comparison, token, _) in Self::SIGNS {
            if parser.accept(token, Item::Comparison) {
                return Ok(comparison);
            }
        }
        parser.expect(&[Keyword::Like])?;
        Ok(Self::Like)
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = Self::SIGNS.iter().find(|(comparison, ..)| comparison == self);
        f.write_str(sign.map_or("LIKE", |(_, _, sign)| sign))
    }
}

/// One condition of WHERE.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The field that is tested.
    pub field: Spanned<Field>,
    /// Test of its value.
    pub test: Test,
}

/// The test of a condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// Compare with one value.
    Compare(Comparison, Spanned<Value>),
    /// Equal one of several; at least one.
    In(Vec<Spanned<Value>>),
}

impl Condition {
    pub(crate) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let field = Field::parse(parser)?;
        let test = if parser.eat(&[Keyword::In])? {
            Test::In(parser.parenthesised(|parser| parser.list(Value::parse))?)
        } else {
            Test::Compare(Comparison::parse(parser)?, Value::parse(parser)?)
        };
        Ok(Self { field, test })
    }

    /// Conditions with AND between, at least one.
    pub(crate) fn parse_all(parser: &mut Parser) -> Parsed<Vec<Self>> {
        let mut conditions = vec![Self::parse(parser)?];
        while parser.eat(&[Keyword::And])? {
            conditions.push(Self::parse(parser)?);
        }
        Ok(conditions)
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.test {
            Test::Compare(comparison, value) => write!(f, "{} {comparison} {value}", self.field),
            Test::In(values) => write!(f, "{} IN ({})", self.field, separated(values, ", ")),
        }
    }
}

/// ` WHERE a AND b`, or nothing.
pub(crate) fn print_conditions(f: &mut Formatter<'_>, conditions: &[Condition]) -> fmt::Result {
    f.clause(&[Keyword::Where], (!conditions.is_empty()).then(|| separated(conditions, " AND ")))
}
