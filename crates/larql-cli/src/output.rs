//! Standard output that fails with an error, not a panic, and text that commands print as it is generated.

use std::fmt::Arguments;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;

use larql_core::Triple;
use larql_core::progress::CancelToken;
use larql_knowledge::MemoryAnswer;
use larql_lql::render::RenderOptions;
use larql_vindex::KnnEntry;
use serde::Serialize;

/// Prints to standard output, as `print!` does. Gives an error if nothing can be written, say on a full disk.
macro_rules! out {
    ($($argument:tt)*) => { $crate::output::write(format_args!($($argument)*)) };
}

/// Prints a line to standard output, as `println!` does. Gives an error if nothing can be written, say on a full disk.
macro_rules! outln {
    () => { $crate::output::write(format_args!("\n")) };
    ($($argument:tt)*) => { $crate::output::write(format_args!("{}\n", format_args!($($argument)*))) };
}

pub(crate) use {out, outln};

/// Writes to standard output.
pub(crate) fn write(text: Arguments<'_>) -> miette::Result<()> {
    let mut output = std::io::stdout();
    output.write_fmt(text).and_then(|()| output.flush()).map_err(unwritable)
}

/// Options of results that standard output shows. Where they go to a file or another program, nothing is cut to a width.
pub(crate) fn render_options() -> RenderOptions {
    let terminal = std::io::stdout().is_terminal();
    let width = console::Term::stdout().size_checked().map(|(_, columns)| columns.into());
    RenderOptions {
        width: width.filter(|_| terminal),
        color: color(&std::io::stdout()),
        ..RenderOptions::default()
    }
}

/// Prints a value as a line of JSON.
pub(crate) fn json(value: &impl Serialize) -> miette::Result<()> {
    let text = serde_json::to_string(value).map_err(|error| miette::miette!("{error}"))?;
    outln!("{text}")
}

/// The program that reads standard output has ended, as `head` does when it has read enough. `larql` then ends without a message.
/// The signal SIGPIPE, which ends other programs then, stays ignored: a connection that the other side closed raises it, too.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the reader of standard output has ended")]
pub(crate) struct ReaderGone;

impl ReaderGone {
    /// Exit code that shells give to a program which SIGPIPE ends.
    pub(crate) const EXIT_CODE: u8 = 141;
}

/// Error of standard output that cannot be written.
pub(crate) fn unwritable(error: std::io::Error) -> miette::Report {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return ReaderGone.into();
    }
    miette::miette!("standard output cannot be written: {error}")
}

/// True if a stream shows colours: it is a terminal that can, and nobody asked for none (no-color.org).
pub(crate) fn color(stream: &impl IsTerminal) -> bool {
    let asked_for_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !asked_for_none && !is_dumb()
}

/// True if the terminal shows nothing but text, so that no line can be edited on it.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb")
}

/// Tells which edges answered in the model's place.
pub(crate) fn tell_recalled(generation: &larql_knowledge::Generation) {
    for MemoryAnswer { entry, cosine, threshold, .. } in &generation.recalled {
        let KnnEntry { triple: Triple { entity, relation, target }, layer, .. } = entry;
        eprintln!(
            "inserted edge: {relation} of {entity} → {target} (L{layer}, cosine {cosine:.2}, answers from {threshold:.2})"
        );
    }
}

/// Standard output for text that comes in pieces, up to the first piece that cannot be written.
pub(crate) struct Stream<'a> {
    token: &'a CancelToken,
    written: miette::Result<()>,
}

impl<'a> Stream<'a> {
    /// Returns a stream that ends once `token` is cancelled.
    pub(crate) fn new(token: &'a CancelToken) -> Stream<'a> {
        Stream { token, written: Ok(()) }
    }

    /// Prints a piece at once, and says whether to go on.
    pub(crate) fn print(&mut self, text: &str) -> ControlFlow<()> {
        self.written = out!("{text}");
        if self.written.is_err() || self.token.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Ends the stream with a line break.
    pub(crate) fn finish(self) -> miette::Result<()> {
        self.written?;
        outln!()
    }
}
