//! The interactive prompt, and scripts: text in, rendered results out.
//!
//! [`Repl`] holds what a prompt remembers (format, timer, names seen) and runs text against an [`Engine`]. It knows
//! nothing of terminals: [`run_lines`] feeds it a file or a pipe, [`run_terminal`] a person.

mod command;
mod completion;
mod help;
mod highlight;
mod input;
mod interrupt;
mod names;
mod terminal;

use std::io::{self, Write};
use std::time::Instant;

use miette::Diagnostic;

use crate::Session;
use crate::ast::Pipe;
use crate::output::Output;
use crate::parser::parse;
use crate::render::{Format, RenderOptions, diagnostic, duration, render};
use command::Command;
pub use input::run_lines;
pub use interrupt::Interrupt;
use names::Names;
pub use terminal::run_terminal;

/// What runs statements.
pub trait Engine {
    /// Runs the statements of a pipe and hands on each result as soon as it is there. Long work looks at
    /// [`Interrupt::flag`] now and then, and when that is true ends with an error that says so.
    ///
    /// # Errors
    /// Labels of the error are places in the text that `pipe` was parsed from.
    fn execute(&mut self, pipe: &Pipe, emit: &mut dyn FnMut(Output)) -> Result<(), Failure>;

    /// Makes INFER walk the `k` strongest features of each layer from now on; all when absent.
    fn set_walk_k(&mut self, k: Option<usize>);
}

/// A session's [`Progress`](larql_vindex::Progress) is what looks at the flag.
impl Engine for Session {
    fn execute(&mut self, pipe: &Pipe, emit: &mut dyn FnMut(Output)) -> Result<(), Failure> {
        Ok(self.execute_pipe(pipe, emit)?)
    }

    fn set_walk_k(&mut self, k: Option<usize>) {
        Self::set_walk_k(self, k);
    }
}

/// Why a statement failed.
pub type Failure = Box<dyn Diagnostic + Send + Sync>;

/// Where the REPL writes: results to the one, talk and errors to the other.
pub struct Streams<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Errors, timings.
    pub err: &'a mut dyn Write,
}

/// How a text came off.
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
    timer: bool,
    interrupt: Interrupt,
    names: Names,
}

impl<E: Engine> Repl<E> {
    /// A prompt for `engine` that renders as told, until `.mode` says otherwise.
    /// `interrupt` stops a running statement; a handler of Ctrl-C holds a clone of it, the engine its flag.
    pub fn new(engine: E, format: Format, options: RenderOptions, interrupt: Interrupt) -> Self {
        Self { engine, format, options, timer: false, interrupt, names: Names::default() }
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
                write!(streams.err, "{}", diagnostic(&error, name, text, self.options.color))?;
                return Ok(Outcome::Failed);
            }
        };
        for pipe in &pipes {
            let started = Instant::now();
            let result = self.run(pipe, streams.out)?;
            if let Err(failure) = result {
                write!(streams.err, "{}", diagnostic(&*failure, name, text, self.options.color))?;
                return Ok(Outcome::Failed);
            }
            if self.timer {
                writeln!(streams.err, "{}", duration(started.elapsed().as_secs_f64()))?;
            }
        }
        Ok(Outcome::Done)
    }

    fn run(&mut self, pipe: &Pipe, out: &mut dyn Write) -> io::Result<Result<(), Failure>> {
        let Self { engine, format, options, interrupt, names, .. } = self;
        let _running = interrupt.start();
        let mut written = Ok(());
        let result = engine.execute(pipe, &mut |output| {
            names.add(output.entities());
            if written.is_ok() {
                written =
                    out.write_all(render(&output, *format, options).as_bytes()).and_then(|()| out.flush());
            }
        });
        written.map(|()| result)
    }

    fn obey(&mut self, command: Command, streams: &mut Streams) -> io::Result<Outcome> {
        match command {
            Command::Help(None) => write!(streams.out, "{}", help::overview())?,
            Command::Help(Some(topic)) => match help::topic(&topic) {
                Ok(text) => write!(streams.out, "{text}")?,
                Err(error) => {
                    writeln!(streams.err, "{error}")?;
                    return Ok(Outcome::Failed);
                }
            },
            Command::Mode(format) => self.format = format,
            Command::Timer(on) => self.timer = on,
            Command::WalkK(k) => self.engine.set_walk_k(k),
            Command::Quit => return Ok(Outcome::Quit),
        }
        Ok(Outcome::Done)
    }
}
