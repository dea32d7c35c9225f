//! Carrying out the commands of the prompt.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use larql_core::facts::Facts;
use larql_lql::Engine;
use larql_lql::ast::{Insert, NewEdge, Statement};
use larql_lql::parse;
use larql_lql::render::{Format, RenderOptions, diagnostic, render};

use crate::command::{Command, TABLES};
use crate::{Outcome, Repl, Streams, help, run_lines};

impl<E: Engine> Repl<E> {
    /// Carries out a command.
    pub(crate) fn obey(&mut self, command: Command, streams: &mut Streams) -> io::Result<Outcome> {
        match command {
            Command::Help(None) => write!(streams.out, "{}", help::overview())?,
            Command::Help(Some(topic)) => match help::topic(&topic, &self.engine.example_model()) {
                Ok(text) => write!(streams.out, "{text}")?,
                Err(error) => return failed(streams, error),
            },
            Command::Mode(None) => writeln!(streams.out, "{}", self.format.name())?,
            Command::Mode(Some(format)) => self.format = format,
            Command::Output(None) => self.file = None,
            Command::Output(Some(path)) => match File::create(&path) {
                Ok(file) => self.file = Some(file),
                Err(error) => return failed(streams, format!("{path}: {error}")),
            },
            Command::Read(path) => return self.read(&path, streams),
            Command::Open(model) => return self.open(&model, streams),
            Command::Import(path) => return self.import(&path, streams),
            Command::Tables => {
                for (table, meaning) in TABLES {
                    writeln!(streams.out, "{table:<8}  {meaning}")?;
                }
            }
            Command::Schema(table) => {
                for (each, _) in TABLES {
                    let shown = table.is_none_or(|table| table == each);
                    if shown && self.schema(each, streams)? == Outcome::Failed {
                        return Ok(Outcome::Failed);
                    }
                }
            }
            Command::Timer(on) => self.timer = on,
            Command::WalkK(k) => self.engine.set_walk_k(k),
            Command::Quit => return Ok(Outcome::Quit),
        }
        Ok(Outcome::Done)
    }

    fn read(&mut self, path: &str, streams: &mut Streams) -> io::Result<Outcome> {
        // The whole file, so that it may hold `.read` of a file that it replaces.
        match fs::read_to_string(path) {
            Ok(text) => match run_lines(self, text.as_bytes(), streams)? {
                true => Ok(Outcome::Done),
                false => Ok(Outcome::Failed),
            },
            Err(error) => failed(streams, format!("{path}: {error}")),
        }
    }

    fn open(&mut self, model: &str, streams: &mut Streams) -> io::Result<Outcome> {
        if !self.may_give_up(&format!(".open {model}"), streams)? {
            return Ok(Outcome::Failed);
        }
        match self.engine.open(model) {
            Ok(opened) => {
                self.names.set_relations(self.engine.relations());
                streams.out.write_all(render(&opened, self.format, &self.options).as_bytes())?;
                Ok(Outcome::Done)
            }
            Err(failure) => {
                write!(streams.err, "{}", diagnostic(&*failure, ".open", model, self.color_errors))?;
                Ok(Outcome::Failed)
            }
        }
    }

    /// Inserts the facts of a file by one INSERT.
    fn import(&mut self, path: &str, streams: &mut Streams) -> io::Result<Outcome> {
        let facts = match Facts::read(Path::new(path)) {
            Ok(facts) => facts,
            Err(error) => return failed(streams, error),
        };
        let edge = |fact: &larql_core::Triple| NewEdge {
            entity: fact.entity.clone().into(),
            relation: fact.relation.clone().into(),
            target: fact.target.clone().into(),
        };
        let edges: Vec<NewEdge> = facts.iter().map(edge).collect();
        if edges.is_empty() {
            return failed(streams, format!("{path} has no facts"));
        }
        let insert = Insert { edges, layer: None, confidence: None, alpha: None, mode: None };
        self.run_script(path, &Statement::Insert(insert).to_string(), streams)
    }

    /// Prints the columns of a table.
    fn schema(&mut self, table: &str, streams: &mut Streams) -> io::Result<Outcome> {
        let statement = format!("SELECT * FROM {table} LIMIT 1");
        let pipes = parse(&statement).map_err(io::Error::other)?;
        let mut columns = String::new();
        for pipe in &pipes {
            let result = self.engine.execute(pipe, &mut |output| {
                columns = render(&output, Format::Csv, &RenderOptions::default());
            });
            if let Err(failure) = result {
                write!(streams.err, "{}", diagnostic(&*failure, ".schema", &statement, self.color_errors))?;
                return Ok(Outcome::Failed);
            }
        }
        let columns = columns.lines().next().unwrap_or_default().replace(',', ", ");
        writeln!(streams.out, "{table} ({columns})")?;
        Ok(Outcome::Done)
    }
}

fn failed(streams: &mut Streams, error: impl std::fmt::Display) -> io::Result<Outcome> {
    writeln!(streams.err, "{error}")?;
    Ok(Outcome::Failed)
}
