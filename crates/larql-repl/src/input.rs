//! Texts from lines: when one is whole, and running those of a file or pipe.

use std::io::{self, BufRead};

use larql_lql::assist::ends_with_semicolon;
use larql_lql::{Engine, parse};

use crate::{Outcome, Repl, Streams};

/// Returns true if what was typed can run, and false if more must follow.
///
/// A line that is a whole statement runs at once. One that cannot end yet goes on, and then ends with `;` or an empty
/// line. A mistake that no further line can mend is shown at once.
pub(crate) fn is_whole(text: &str) -> bool {
    let typed = text.trim();
    let ends_with_empty_line = text.rsplit_once('\n').is_some_and(|(_, last)| last.trim().is_empty());
    if typed.is_empty() || typed.starts_with('.') || ends_with_empty_line {
        return true;
    }
    match parse(text) {
        Ok(_) => !typed.contains('\n') || ends_with_semicolon(text),
        Err(error) => !error.is_at_end(),
    }
}

/// Runs all that `lines` holds, as if it had been typed. True if nothing failed; what comes after a failure runs.
///
/// # Errors
/// When `lines` cannot be read or a stream cannot be written.
pub fn run_lines<E: Engine>(
    repl: &mut Repl<E>,
    lines: impl BufRead,
    streams: &mut Streams,
) -> io::Result<bool> {
    let mut text = String::new();
    let mut all_done = true;
    for line in lines.lines() {
        let line = line?;
        // A long statement of many lines is not judged anew at each of them, but only where it may end.
        let may_end = text.is_empty() || line.contains(';') || line.trim().is_empty();
        text.push_str(&line);
        if may_end && is_whole(&text) {
            match repl.submit(&std::mem::take(&mut text), streams)? {
                Outcome::Done => {}
                Outcome::Failed => all_done = false,
                Outcome::Quit => return Ok(all_done),
            }
        } else {
            text.push('\n');
        }
    }
    let last = repl.submit(&text, streams)?;
    Ok(all_done && last != Outcome::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_texts_run() {
        for text in [
            "",
            "   ",
            ".help",
            "STATS",
            "STATS;",
            "DESCRIBE \"France\" -- with a comment",
            "SELECT *\nFROM EDGES;",
            "SELECT *\nFROM EDGES; -- done",
            "SELECT *\nFROM EDGES\n",
            "SELECT *\nFROM EDGES\n  ",
            "DESCRIBE \"France\n",
            "FOO",
            "SELECT *\nFRM",
            "quit",
        ] {
            assert!(is_whole(text), "{text:?}");
        }
    }

    #[test]
    fn texts_that_must_go_on_wait() {
        for text in [
            "SELECT *",
            "SELECT * FROM",
            "SELECT *\nFROM EDGES",
            "DESCRIBE \"France",
            "STATS |>",
            "STATS; SELECT",
            "INSERT INTO EDGES (entity, relation, target)\nVALUES (\"a\", \"b\",",
        ] {
            assert!(!is_whole(text), "{text:?}");
        }
    }
}
