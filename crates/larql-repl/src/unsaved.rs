//! Edits that no file has: told before they are lost, and saved where that is asked for.

use std::io;

use larql_lql::Engine;
use larql_lql::assist::quoted;
use larql_lql::ast::{Pipe, Source, Statement};
use larql_lql::render::{Format, diagnostic, render};
use larql_lql::{UnsavedPatch, parse};

use crate::{Outcome, Repl, Streams};

/// Treatment of unsaved edits by a statement that would discard them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum UnsavedRule {
    /// A note, for sessions without a person.
    #[default]
    Note,
    /// A warning, and the same statement a second time.
    Ask {
        /// The statement that was warned of.
        warned_of: Option<String>,
    },
}

impl<E: Engine> Repl<E> {
    /// Prints which edits are in no file, and how to keep them. False if there are none.
    ///
    /// # Errors
    /// Only when a stream cannot be written.
    pub fn warn_of_loss(&mut self, streams: &mut Streams) -> io::Result<bool> {
        let mut unsaved = self.engine.unsaved();
        unsaved.retain(|patch| !self.compiled.contains(patch));
        for UnsavedPatch { name, edits, automatic } in &unsaved {
            let edits = format!("{edits} edit{} in patch {name}", if *edits == 1 { "" } else { "s" });
            let keep = match automatic {
                true => r#"SAVE PATCH "edits.vlp"; keeps"#,
                false => "SAVE PATCH; keeps",
            };
            let them = if edits.starts_with("1 ") { "it" } else { "them" };
            match self.unsaved {
                UnsavedRule::Note => {
                    writeln!(streams.err, "note: {edits} not saved; {keep} {them}, as does --save FILE")?;
                }
                UnsavedRule::Ask { .. } => writeln!(streams.err, "{edits} not saved; {keep} {them}.")?,
            }
        }
        Ok(!unsaved.is_empty())
    }

    /// Saves the open patch to a file, and says so on `streams.err`. A patch without edits is not saved.
    ///
    /// # Errors
    /// Only when a stream cannot be written.
    pub fn save(&mut self, file: &str, streams: &mut Streams) -> io::Result<Outcome> {
        if self.engine.unsaved().is_empty() {
            writeln!(streams.err, "note: there are no edits to save in {file}")?;
            return Ok(Outcome::Done);
        }
        let statement = format!("SAVE PATCH {};", quoted(file));
        for pipe in parse(&statement).map_err(io::Error::other)? {
            let mut saved = String::new();
            let result = self.engine.execute(&pipe, &mut |output| {
                saved = render(&output, Format::Table, &Default::default());
            });
            if let Err(failure) = result {
                write!(streams.err, "{}", diagnostic(&*failure, "--save", &statement, self.color_errors))?;
                return Ok(Outcome::Failed);
            }
            write!(streams.err, "{saved}")?;
        }
        Ok(Outcome::Done)
    }

    /// Asks before edits are given up from now on, as a person is there.
    pub(crate) fn ask_before_loss(&mut self) {
        self.unsaved = UnsavedRule::Ask { warned_of: None };
    }

    /// Takes note of a pipe that has run: what it compiled is kept, though no patch file has it.
    pub(crate) fn note_compiled(&mut self, pipe: &Pipe) {
        let of_current = |statement: &Statement| match statement {
            Statement::CompileVindex(compile) => compile.source == Source::Current,
            Statement::CompileModel(compile) => compile.source == Source::Current,
            _ => false,
        };
        if pipe.stages.iter().any(|stage| of_current(&stage.value)) {
            self.compiled = self.engine.unsaved();
        }
    }

    /// True if a pipe may run: it opens nothing else, or the edits may be given up.
    pub(crate) fn may_replace(&mut self, pipe: &Pipe, streams: &mut Streams) -> io::Result<bool> {
        let replaces = pipe.stages.iter().any(|stage| matches!(stage.value, Statement::Use(_)));
        if replaces { self.may_give_up(&pipe.to_string(), streams) } else { Ok(true) }
    }

    /// Warns of unsaved edits that `statement` would discard. True if it may run: there are none, the session is not
    /// interactive, or the statement is repeated.
    pub(crate) fn may_give_up(&mut self, statement: &str, streams: &mut Streams) -> io::Result<bool> {
        if let UnsavedRule::Ask { warned_of: Some(before) } = &self.unsaved
            && before == statement
        {
            self.ask_before_loss();
            return Ok(true);
        }
        let warned = self.warn_of_loss(streams)?;
        let UnsavedRule::Ask { warned_of } = &mut self.unsaved else { return Ok(true) };
        if warned {
            *warned_of = Some(statement.to_owned());
            writeln!(streams.err, "The same again gives up what is not saved.")?;
        }
        Ok(!warned)
    }
}
