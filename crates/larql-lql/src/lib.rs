//! LQL, the query language: lexer, parser, statements, typed results and rendering.
//!
//! This crate knows what a statement says and how its answer looks. It knows nothing of running statements, of terminals,
//! or of HTTP.
//!
//! Text becomes [`ast::Statement`]s, and statements print themselves in one canonical form:
//!
//! ```
//! let text = r#"select entity, target from edges limit 5 where relation = capital -- any order, any case"#;
//! let statement = larql_lql::parse_statement(text)?;
//! let canonical = r#"SELECT entity, target FROM EDGES WHERE relation = "capital" LIMIT 5"#;
//! assert_eq!(statement.to_string(), canonical);
//! assert_eq!(larql_lql::parse_statement(canonical)?, statement);
//!
//! let mistake = larql_lql::parse_statement(r#"DESCRIBE "France" VERBSE"#).unwrap_err();
//! assert_eq!(mistake.help(), Some("did you mean VERBOSE?"));
//! # Ok::<(), larql_lql::ParseError>(())
//! ```
//!
//! Answers are data too: an [`output::Output`] is what every surface renders, by [`render::render`] as table, JSON or
//! CSV.
//!
//! In reading order: `keyword` and `token` (the lexer), `parser` (what all statements share, and the errors), [`ast`]
//! (one file for each family of statements), [`output`] (one file for each family of results), [`render`], [`assist`]
//! (completion and highlighting), `engine` (the trait of whatever runs statements), [`vindexfile`] (the instructions that
//! a vindex is built by).

#![forbid(unsafe_code)]

pub mod assist;
pub mod ast;
mod engine;
mod keyword;
pub mod output;
mod parser;
pub mod render;
mod token;
pub mod vindexfile;

pub use engine::{Engine, Failure, UnsavedPatch};
pub use keyword::Keyword;
pub use parser::{Expected, ParseError, ParseErrorKind, parse, parse_statement};
pub use token::quoted;
