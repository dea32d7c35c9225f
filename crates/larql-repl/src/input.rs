//! Texts from lines: when one is whole, and running those of a file or pipe.

use std::io::{self, BufRead};

use larql_lql::assist::ends_with_semicolon;
use larql_lql::ast::{Pipe, Spanned, Statement};
use larql_lql::{Engine, parse};

use crate::{Outcome, Repl, Streams};

/// Returns true if what was typed at a terminal can run, and false if more must follow.
///
/// A line that is a whole statement runs at once. One that cannot end yet goes on, and then ends with `;` or an empty
/// line. A statement that edits runs at its `;` alone: its beginning may be a statement that edits more. A mistake that
/// no further line can mend is shown at once.
pub(crate) fn is_whole(text: &str) -> bool {
    let typed = text.trim();
    if typed.is_empty() || typed.starts_with('.') {
        return true;
    }
    let ends_with_empty_line = text.rsplit_once('\n').is_some_and(|(_, last)| last.trim().is_empty());
    match parse(text) {
        Ok(pipes) if edits(&pipes) => ends_with_semicolon(text),
        Ok(_) => ends_with_empty_line || !typed.contains('\n') || ends_with_semicolon(text),
        Err(error) => ends_with_empty_line || !error.is_at_end(),
    }
}

/// Returns true if the lines of a file or pipe can run: commands are lines, statements end with `;`.
fn is_whole_in_file(text: &str) -> bool {
    let typed = text.trim();
    if typed.is_empty() || typed.starts_with('.') {
        return true;
    }
    match parse(text) {
        Ok(pipes) => pipes.is_empty() || ends_with_semicolon(text),
        Err(error) => !error.is_at_end(),
    }
}

fn edits(pipes: &[Spanned<Pipe>]) -> bool {
    let edits = |statement: &Statement| {
        matches!(
            statement,
            Statement::Insert(_)
                | Statement::Delete(_)
                | Statement::Update(_)
                | Statement::Merge(_)
                | Statement::Rebalance(_)
                | Statement::Compact(_)
        )
    };
    pipes.iter().flat_map(|pipe| &pipe.value.stages).any(|stage| edits(&stage.value))
}

/// Runs all that `lines` holds: commands, and statements that end with `;`. True if nothing failed; what comes after a
/// failure runs.
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
        let may_end = text.is_empty() || line.contains(';');
        text.push_str(&line);
        if may_end && is_whole_in_file(&text) {
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
            "DELETE FROM EDGES WHERE entity = 'a';",
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
            "DELETE FROM EDGES WHERE entity = 'a'",
            "DELETE FROM EDGES WHERE entity = 'a'\n",
            "UPDATE EDGES SET target = 'c' WHERE entity = 'a'",
            "INSERT INTO EDGES (entity, relation, target) VALUES (\"a\", \"b\", \"c\")",
            "SELECT * FROM EDGES; COMPACT MAJOR",
        ] {
            assert!(!is_whole(text), "{text:?}");
        }
    }

    #[test]
    fn a_statement_of_a_file_ends_at_its_semicolon() {
        for text in ["", "-- a comment", ".mode csv", "STATS;", "SELECT *\nFROM EDGES;", "FOO", "quit"] {
            assert!(is_whole_in_file(text), "{text:?}");
        }
        for text in ["STATS", "STATS\n", "SELECT *\n\n", "DELETE FROM EDGES WHERE entity = 'a'"] {
            assert!(!is_whole_in_file(text), "{text:?}");
        }
    }
}
