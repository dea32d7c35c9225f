//! The book in `docs/`: runs its examples and compares their output, or fills the output in.
//!
//! Four kinds of fenced blocks of a page are checked:
//!
//! - `lql` followed by `text`: statements, and the output of the engine that gets them on standard input;
//! - `python` followed by `text`: Python with the package of `cargo xtask python`, and what it prints, as in a notebook;
//! - `console`: shell commands after `$ `, and their output;
//! - `ebnf` below a heading that names a statement: the grammar that `.help` prints for it.
//!
//! The blocks of one page run in order, in one folder, where `docs` leads to the folder of the book. Other blocks are
//! not run.

mod cli;
mod compare;
mod page;
mod python;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::Failure;
use page::{Block, Page};
use python::Interpreter;

/// Options of `cargo xtask book`.
#[derive(Default)]
pub(crate) struct Options {
    /// Writes the output of the examples into the pages instead of comparing it.
    write: bool,
    /// Command that carries out the statements of `lql` blocks.
    engine: Option<String>,
    /// The program that the examples call; built if it is not named.
    larql: Option<PathBuf>,
    /// File names of the pages to run; all pages if empty.
    pages: Vec<String>,
}

impl Options {
    /// Reads the words after `cargo xtask book`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--write" => options.write = true,
                "--engine" => {
                    let command = words.next().ok_or("--engine needs a command in quotes")?;
                    options.engine = Some((*command).to_owned());
                }
                "--larql" => {
                    options.larql =
                        Some(PathBuf::from(words.next().ok_or("--larql needs the path of the program")?));
                }
                option if option.starts_with("--") => {
                    let known = "--write, --engine COMMAND and --larql PATH";
                    return Err(format!("unknown option `{option}`; known are {known}"));
                }
                page => options.pages.push(page.to_owned()),
            }
        }
        Ok(options)
    }
}

/// Command that carries out `lql` blocks unless `--engine` names another one.
const ENGINE: &str = "larql lql --use atlas";

/// Runs the examples of the README and of the book.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    let shell = Shell::new(root, options.larql.as_deref())?;
    let mut problems = Vec::new();
    let mut examples = 0;
    for path in pages(root)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !options.pages.is_empty() && !options.pages.iter().any(|page| page == name) {
            continue;
        }
        let text = read(&path)?;
        let mut page = Page::parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let found = if name == "cli.md" {
            cli::render(&shell).map(|blocks| page.replace(&blocks))
        } else {
            shell.page(&mut page, options.engine.as_deref().unwrap_or(ENGINE))
        };
        let differences = found.map_err(|e| format!("{}: {e}", path.display()))?;
        examples += page.blocks().count();
        if options.write {
            write(&path, &page.to_string())?;
        } else {
            problems.extend(differences.iter().map(|d| format!("{}:{d}", path.display())));
        }
    }
    for problem in &problems {
        eprintln!("book: {problem}");
    }
    if problems.is_empty() {
        println!("{examples} blocks of the book are up to date");
        return Ok(());
    }
    let advice = "`cargo xtask book --write` fills in what the program prints now";
    Err(format!("{} examples of the book print something else; {advice}", problems.len()))
}

/// The README and all pages of the book.
fn pages(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let folder = root.join("docs/src");
    let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut pages: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages.insert(0, root.join("README.md"));
    Ok(pages)
}

/// Runs commands with the `larql` of this build first in the path, a cache of its own, and no terminal.
struct Shell {
    path: String,
    folder: PathBuf,
    root: PathBuf,
}

impl Shell {
    fn new(root: &Path, larql: Option<&Path>) -> Result<Self, Failure> {
        let root = root.canonicalize().map_err(|e| format!("{}: {e}", root.display()))?;
        let larql = match larql {
            Some(larql) => larql.canonicalize().map_err(|e| format!("{}: {e}", larql.display()))?,
            None => {
                crate::cargo(&["build", "--quiet", "--bin", "larql"])?;
                root.join("target/debug/larql")
            }
        };
        let programs = larql.parent().ok_or("the program lies in no folder")?.display().to_string();
        let folder = root.join("target/book-examples");
        if folder.exists() {
            // Results that an earlier run cached would be announced as such.
            fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        let rest = std::env::var("PATH").unwrap_or_default();
        Ok(Self { path: format!("{programs}:{rest}"), folder, root })
    }

    /// Runs the blocks of a page, puts their output in, and names the blocks whose output was another one.
    fn page(&self, page: &mut Page, engine: &str) -> Result<Vec<String>, Failure> {
        self.clean_folder().map_err(|e| format!("{}: {e}", self.folder.display()))?;
        let mut differences = Vec::new();
        let mut interpreter = None;
        for block in page.blocks_mut() {
            let printed = match &block.kind {
                Block::Python(code) => {
                    let interpreter = match &mut interpreter {
                        Some(running) => running,
                        none => none.insert(Interpreter::start(self)?),
                    };
                    self.without_folders(&interpreter.run(code)?)
                }
                Block::Lql(statements) => self.run(engine, statements)?,
                Block::Console(text) => self.console(text)?,
                Block::Grammar(statement) => self.grammar(statement)?,
            };
            if !compare::alike(&block.expected, &printed) {
                let line = compare::first_difference(&block.expected, &printed);
                differences.push(format!("{}: {line}", block.line));
                block.expected = printed;
            }
        }
        Ok(differences)
    }

    /// Makes the folder that examples run in, without what an earlier page left there.
    fn clean_folder(&self) -> std::io::Result<()> {
        let work = self.folder.join("work");
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        fs::create_dir_all(&work)?;
        #[cfg(unix)]
        std::os::unix::fs::symlink(self.root.join("docs"), work.join("docs"))?;
        Ok(())
    }

    /// A program in the page's folder, with the `larql` of this build and a cache of its own.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.join("work"))
            .env("PATH", &self.path)
            .env("PYTHONPATH", self.root.join("target/python"))
            .env("XDG_CACHE_HOME", self.folder.join("cache"));
        command
    }

    /// Runs a command in the page's folder and returns what it wrote to both streams.
    fn run(&self, command: &str, input: &str) -> Result<String, Failure> {
        let mut child = self
            .command("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{command}: {e}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that reads nothing may have closed its end already.
            let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
        }
        let output = child.wait_with_output().map_err(|e| format!("{command}: {e}"))?;
        Ok(self.tidied(&output))
    }

    /// Output without the names of this machine's folders.
    fn tidied(&self, output: &Output) -> String {
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        self.without_folders(&String::from_utf8_lossy(&text))
    }

    /// Text without the names of this machine's folders.
    fn without_folders(&self, text: &str) -> String {
        let folder = |name: &str| self.folder.join(name).display().to_string();
        let text = text.replace(&folder("cache"), "~/.cache").replace(&format!("{}/", folder("work")), "");
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let text = lines.join("\n");
        format!("{}\n", text.trim_end_matches('\n')).trim_start_matches('\n').to_owned()
    }

    /// Runs the commands of a `console` block; returns them with their output.
    fn console(&self, block: &str) -> Result<String, Failure> {
        let mut text = String::new();
        for command in page::commands(block) {
            let printed = self.run(&command, "")?;
            // A machine that lacks a tool must not write that into the book.
            if printed.contains("ModuleNotFoundError") {
                let advice = "pip install -r scripts/check-tools.txt, and put that Python first in PATH";
                return Err(format!("`{command}` cannot run here: {printed}\n{advice}"));
            }
            text += &format!("$ {}\n{printed}", command.replace('\n', "\n> "));
            if !text.ends_with("\n\n") {
                text += "\n";
            }
        }
        Ok(format!("{}\n", text.trim_end_matches('\n')))
    }

    /// The grammar in the help of a statement.
    fn grammar(&self, statement: &str) -> Result<String, Failure> {
        let help = self.run("larql repl atlas", &format!(".help {statement}\n"))?;
        let grammar = help.split_once(&format!("{statement}: ")).and_then(|(_, topic)| {
            let (_, grammar) = topic.split_once("\n\n")?;
            Some(grammar.split("\n\nFor example").next().unwrap_or_default())
        });
        let grammar = grammar.ok_or_else(|| format!("no help on {statement}: {help}"))?;
        Ok(format!("{grammar}\n"))
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
