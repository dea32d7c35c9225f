//! The LQL prompt on a terminal, and scripts: text in, rendered results out.
//!
//! [`Repl`] holds the state of a prompt (format, timer, names seen) and runs text with an [`Engine`]; [`run_lines`]
//! reads a file or a pipe, [`run_terminal`] a terminal. This crate knows nothing of executing statements.
//!
//! ```
//! use larql_lql::ast::Pipe;
//! use larql_lql::output::{Message, Output};
//! use larql_lql::render::{Format, RenderOptions};
//! use larql_lql::{Engine, Failure};
//! use larql_repl::{Interrupt, Outcome, Repl, Streams};
//!
//! struct Echo;
//!
//! impl Engine for Echo {
//!     fn execute(&mut self, pipe: &Pipe, emit: &mut dyn FnMut(Output)) -> Result<(), Failure> {
//!         emit(Output::Message(Message { text: pipe.to_string(), next: None }));
//!         Ok(())
//!     }
//!
//!     fn set_walk_k(&mut self, _k: Option<usize>) {}
//!
//!     fn open(&mut self, model: &str) -> Result<Output, Failure> {
//!         Ok(Output::Message(Message { text: format!("opened {model}"), next: None }))
//!     }
//! }
//!
//! let mut repl = Repl::new(Echo, Format::Table, RenderOptions::default(), Interrupt::default());
//! let (mut out, mut err) = (Vec::new(), Vec::new());
//! let outcome = repl.submit("stats;", &mut Streams { out: &mut out, err: &mut err })?;
//! assert_eq!((outcome, &out[..]), (Outcome::Done, &b"STATS\n"[..]));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! In reading order: `command`, `help` and `obey` (commands that begin with a dot), `input` (lines), `unsaved` (edits that
//! would be lost), `interrupt`, then the parts of the terminal: `terminal`, `line_reader`, `prompt`, `completion`, `names`,
//! `highlight`.

#![forbid(unsafe_code)]

mod command;
mod completion;
mod help;
mod highlight;
mod input;
mod interrupt;
mod line_reader;
mod names;
mod obey;
mod prompt;
mod terminal;
mod unsaved;

use std::fs::File;
use std::io::{self, Write};
use std::time::Instant;

use larql_lql::ast::Pipe;
use larql_lql::render::{Format, RenderOptions, diagnostic, duration, render};
use larql_lql::{Engine, Failure, UnsavedPatch, parse};

use command::Command;
use names::Names;
use unsaved::UnsavedRule;

pub use input::run_lines;
pub use interrupt::Interrupt;
pub use line_reader::{IsWhole, Line, LineReader};
pub use terminal::run_terminal;

/// Output of the REPL: results to the one stream, talk and errors to the other.
pub struct Streams<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Errors, timings.
    pub err: &'a mut dyn Write,
}

/// Outcome of running a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything in it ran.
    Done,
    /// Something in it was wrong or failed; what follows it did not run.
    Failed,
    /// It asks to leave.
    Quit,
}

/// An engine with a prompt's memory.
pub struct Repl<E> {
    engine: E,
    format: Format,
    options: RenderOptions,
    /// Errors are coloured.
    color_errors: bool,
    timer: bool,
    interrupt: Interrupt,
    names: Names,
    /// File that results are written to in place of the stream.
    file: Option<File>,
    unsaved: UnsavedRule,
    /// Patches as they were compiled last.
    compiled: Vec<UnsavedPatch>,
}

impl<E: Engine> Repl<E> {
    /// A prompt for `engine` that renders as told, until `.mode` says otherwise.
    /// `interrupt` stops a running statement; a handler of Ctrl-C holds a clone of it, the engine its flag.
    pub fn new(engine: E, format: Format, options: RenderOptions, interrupt: Interrupt) -> Self {
        let names = Names::default();
        names.set_relations(engine.relations());
        Self {
            engine,
            format,
            options,
            color_errors: options.color,
            timer: false,
            interrupt,
            names,
            file: None,
            unsaved: UnsavedRule::default(),
            compiled: Vec::new(),
        }
    }

    /// Colours errors or not, whatever results are.
    #[must_use]
    pub fn with_colored_errors(self, color_errors: bool) -> Self {
        Self { color_errors, ..self }
    }

    /// Runs what was typed: a command that begins with a dot, or statements.
    ///
    /// # Errors
    /// Only when a stream cannot be written; whatever is wrong with the text is told on `streams.err`.
    pub fn submit(&mut self, text: &str, streams: &mut Streams) -> io::Result<Outcome> {
        match Command::parse(text) {
            None => self.run_script("lql", text, streams),
            Some(Ok(command)) => self.obey(command, streams),
            Some(Err(error)) => {
                writeln!(streams.err, "{error}")?;
                Ok(Outcome::Failed)
            }
        }
    }

    /// Runs the statements of a text, in order, up to the first that fails. A text with a mistake anywhere in it
    /// does not run at all. `name` is what errors call the text.
    ///
    /// # Errors
    /// Only when a stream cannot be written.
    pub fn run_script(&mut self, name: &str, text: &str, streams: &mut Streams) -> io::Result<Outcome> {
        let pipes = match parse(text) {
            Ok(pipes) => pipes,
            Err(error) => {
                write!(streams.err, "{}", diagnostic(&error, name, text, self.color_errors))?;
                return Ok(Outcome::Failed);
            }
        };
        for (index, pipe) in pipes.iter().enumerate() {
            if !self.may_replace(pipe, streams)? {
                return Ok(Outcome::Failed);
            }
            self.options.statement = (pipes.len() > 1).then_some(index + 1);
            let started = Instant::now();
            let result = self.run(pipe, streams.out)?;
            if let Err(failure) = result {
                write!(streams.err, "{}", diagnostic(&*failure, name, text, self.color_errors))?;
                return Ok(Outcome::Failed);
            }
            self.note_compiled(pipe);
            if self.timer {
                writeln!(streams.err, "{}", duration(started.elapsed().as_secs_f64()))?;
            }
        }
        Ok(Outcome::Done)
    }

    fn run(&mut self, pipe: &Pipe, out: &mut dyn Write) -> io::Result<Result<(), Failure>> {
        let Self { engine, format, options, interrupt, names, file, .. } = self;
        let out: &mut dyn Write = match file {
            Some(file) => file,
            None => out,
        };
        let _running = interrupt.start();
        engine.set_most_rows(format.most_rows());
        let mut written = Ok(());
        let result = engine.execute(pipe, &mut |output| {
            names.add(output.entities());
            if written.is_ok() {
                written =
                    out.write_all(render(&output, *format, options).as_bytes()).and_then(|()| out.flush());
            }
        });
        names.set_relations(engine.relations());
        written.map(|()| result)
    }
}
