//! COMPILE: write what is open, edits included, as a vindex or a model of its own.

use std::fmt::{self, Display, Formatter};

use super::print::{Print, Spelled};
use super::span::Spanned;
use super::{Help, Statement};
use crate::keyword::{Keyword, choice};
use crate::parser::{Once, Parsed, Parser};
use crate::token::Quote;

/// A vindex that a statement reads: the one in use, or another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The one in use, with its patches.
    Current,
    /// One named by path.
    Path(Spanned<String>),
}

/// `COMPILE … INTO VINDEX …`
#[derive(Clone, Debug, PartialEq)]
pub struct CompileVindex {
    /// The vindex that is compiled.
    pub source: Source,
    /// The directory to write.
    pub into: Spanned<String>,
    /// Rule for two edits of one feature; the last wins when absent.
    pub on_conflict: Option<Conflict>,
    /// Carry KNN entries as they are instead of lowering them into weights.
    pub snapshot: bool,
}

/// `COMPILE … INTO MODEL …`
#[derive(Clone, Debug, PartialEq)]
pub struct CompileModel {
    /// The vindex that is compiled.
    pub source: Source,
    /// The directory or file to write.
    pub into: Spanned<String>,
    /// The kind of file; safetensors when absent.
    pub format: Option<ModelFormat>,
}

choice! {
    /// Rule for two edits of one feature when a vindex is compiled.
    Conflict {
        /// The one applied last.
        LastWins = LastWins,
        /// The more confident one.
        HighestConfidence = HighestConfidence,
        /// Neither: the statement fails.
        Fail = Fail,
    }
}

choice! {
    /// A format that other programs load.
    ModelFormat {
        /// For transformers.
        Safetensors = Safetensors,
        /// For llama.cpp.
        Gguf = Gguf,
    }
}

impl Source {
    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        if parser.eat(&[Keyword::Current])? { Ok(Self::Current) } else { parser.text().map(Self::Path) }
    }
}

pub(super) const HELP: Help = Help {
    name: "COMPILE",
    syntax: r#"COMPILE (CURRENT | str) INTO VINDEX str [ON CONFLICT (LAST_WINS | HIGHEST_CONFIDENCE | FAIL)] [SNAPSHOT]
COMPILE (CURRENT | str) INTO MODEL str [FORMAT (SAFETENSORS | GGUF)]"#,
    example: r#"COMPILE CURRENT INTO MODEL "edited" FORMAT GGUF;"#,
    meaning: "write a vindex or a model of its own, edits included",
};

pub(super) fn parse(parser: &mut Parser) -> Parsed<Statement> {
    let source = Source::parse(parser)?;
    parser.expect(&[Keyword::Into])?;
    if parser.eat(&[Keyword::Vindex])? {
        return compile_vindex(parser, source).map(Statement::CompileVindex);
    }
    parser.expect(&[Keyword::Model])?;
    compile_model(parser, source).map(Statement::CompileModel)
}

fn compile_vindex(parser: &mut Parser, source: Source) -> Parsed<CompileVindex> {
    let into = parser.text()?;
    let (mut on_conflict, mut snapshot) = (Once::default(), Once::default());
    while parser.clause(&[Keyword::On, Keyword::Conflict], &mut on_conflict, Parser::one_of)?
        || parser.flag(&[Keyword::Snapshot], &mut snapshot)?
    {}
    Ok(CompileVindex { source, into, on_conflict: on_conflict.value(), snapshot: snapshot.is_given() })
}

fn compile_model(parser: &mut Parser, source: Source) -> Parsed<CompileModel> {
    let into = parser.text()?;
    let mut format = Once::default();
    while parser.clause(&[Keyword::Format], &mut format, Parser::one_of)? {}
    Ok(CompileModel { source, into, format: format.value() })
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current => Keyword::Current.fmt(f),
            Self::Path(path) => Quote(path).fmt(f),
        }
    }
}

impl Display for CompileVindex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "COMPILE {} INTO VINDEX {}", self.source, Quote(&self.into))?;
        f.clause(&[Keyword::On, Keyword::Conflict], self.on_conflict.map(Spelled))?;
        f.flag(&[Keyword::Snapshot], self.snapshot)
    }
}

impl Display for CompileModel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "COMPILE {} INTO MODEL {}", self.source, Quote(&self.into))?;
        f.clause(&[Keyword::Format], self.format.map(Spelled))
    }
}
