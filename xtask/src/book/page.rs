//! A page of Markdown as a list of texts and of blocks that can be run.

use std::fmt::{self, Display, Formatter};

use crate::Failure;

/// A page, in order.
pub(super) struct Page {
    parts: Vec<Part>,
}

enum Part {
    /// Lines that are left as they are.
    Text(String),
    /// The output of a block that runs.
    Output(Runnable),
}

/// A block that runs, with the output that the page shows.
pub(super) struct Runnable {
    pub(super) kind: Block,
    pub(super) expected: String,
    /// Line of the page on which the output begins, from 1.
    pub(super) line: usize,
}

/// Content of a block.
pub(super) enum Block {
    /// Statements for the engine.
    Lql(String),
    /// Commands after `$ `, with the output between them.
    Console(String),
    /// A statement whose grammar is shown.
    Grammar(String),
    /// Python, which goes on from the earlier blocks of the page.
    Python(String),
}

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    ///
    /// A block without an end, and `lql` without a `text` block after it.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut heading = String::new();
        let mut statements: Option<String> = None;
        let mut python: Option<String> = None;
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            if let Some(title) = line.strip_prefix("## ").or(line.strip_prefix("### ")) {
                title.clone_into(&mut heading);
            }
            plain += &format!("{line}\n");
            let Some(language) = line.strip_prefix("```") else { continue };
            let mut body = String::new();
            loop {
                match lines.next() {
                    Some((_, "```")) => break,
                    Some((_, line)) => body += &format!("{line}\n"),
                    None => return Err(format!("the block in line {} has no end", number + 1)),
                }
            }
            let before = python.take();
            let kind = match (language, statements.take()) {
                ("text", Some(statements)) => Some(Block::Lql(statements)),
                ("text", None) => before.map(Block::Python),
                ("python", None) => {
                    python = Some(body.clone());
                    None
                }
                ("lql", None) => {
                    statements = Some(body.clone());
                    None
                }
                (_, Some(_)) => return Err(format!("line {}: `lql` without `text` after it", number + 1)),
                ("console", None) => Some(Block::Console(body.clone())),
                ("ebnf", None) => Some(Block::Grammar(heading.clone())),
                _ => None,
            };
            match kind {
                None => plain += &body,
                Some(kind) => {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(Part::Output(Runnable { kind, expected: body, line: number + 2 }));
                }
            }
            plain += "```\n";
        }
        parts.push(Part::Text(plain));
        Ok(Self { parts })
    }

    pub(super) fn blocks_mut(&mut self) -> impl Iterator<Item = &mut Runnable> {
        self.parts.iter_mut().filter_map(|part| match part {
            Part::Output(block) => Some(block),
            Part::Text(_) => None,
        })
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = &Runnable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Output(block) => Some(block),
            Part::Text(_) => None,
        })
    }

    /// Replaces all after the first paragraph with generated text; names the page if that is a change.
    pub(super) fn replace(&mut self, generated: &str) -> Vec<String> {
        let before = self.to_string();
        let opening: String = before
            .lines()
            .take_while(|line| !line.starts_with("## "))
            .fold(String::new(), |text, line| text + line + "\n");
        let after = opening + generated;
        if after == before {
            return Vec::new();
        }
        let same = before.lines().zip(after.lines()).take_while(|(before, after)| before == after).count();
        self.parts = vec![Part::Text(after)];
        vec![format!("{}: the program's help is another one", same + 1)]
    }
}

impl Display for Page {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Output(block) => f.write_str(&block.expected),
        })
    }
}

/// Commands of a `console` block; a line that begins with `> ` continues a command.
pub(super) fn commands(block: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut continues = false;
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push(command.to_owned());
            continues = true;
        } else if let (true, Some(more), Some(command)) =
            (continues, line.strip_prefix("> "), commands.last_mut())
        {
            *command += &format!("\n{more}");
        } else {
            continues = false;
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n\n```lql\nSTATS;\n```\n\n```text\nold\n```\n\n## UNDO\n\n```ebnf\nUNDO\n```\n\n```sh\nls\n```\n\n\
        ```python\nf()\n```\n\n```text\n1\n```\n\n```python\ng()\n```\n";

    #[test]
    fn a_page_that_is_parsed_prints_as_it_was() {
        assert_eq!(Page::parse(PAGE).unwrap().to_string(), PAGE);
    }

    #[test]
    fn statements_and_grammars_run_and_other_blocks_do_not() {
        let page = Page::parse(PAGE).unwrap();
        let kinds: Vec<&Block> = page.blocks().map(|block| &block.kind).collect();
        let [Block::Lql(statements), Block::Grammar(name), Block::Python(python)] = kinds[..] else {
            panic!("{} blocks run", kinds.len())
        };
        assert_eq!((&**statements, &**name, &**python), ("STATS;\n", "UNDO", "f()\n"));
    }

    #[test]
    fn output_that_is_filled_in_replaces_the_old_one() {
        let mut page = Page::parse(PAGE).unwrap();
        page.blocks_mut().next().unwrap().expected = "new\n".to_owned();
        assert_eq!(page.to_string(), PAGE.replace("old", "new"));
    }

    #[test]
    fn statements_without_output_are_an_error() {
        assert!(Page::parse("```lql\nSTATS;\n```\n\n```sh\nls\n```\n").is_err());
    }

    #[test]
    fn a_command_may_continue_on_further_lines() {
        assert_eq!(commands("$ one 'a\n> b'\noutput\n> no command\n$ two\n"), ["one 'a\nb'", "two"]);
    }
}
