//! Python blocks of a page, in one interpreter.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::Failure;

use super::Shell;

/// The program that runs blocks: see its documentation.
const DRIVER: &str = include_str!("interpreter.py");

/// Line that ends a block, and its output.
const END: &str = "\u{1e}\n";

/// A running interpreter, which keeps the names that blocks define.
pub(super) struct Interpreter {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Interpreter {
    /// Starts the `python3` that is first in PATH.
    pub(super) fn start(shell: &Shell) -> Result<Self, Failure> {
        let mut child = shell
            .command("python3")
            .args(["-c", DRIVER])
            .env("PYTHONIOENCODING", "utf-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("python3: {e}"))?;
        let input = child.stdin.take().ok_or("python3 takes no input")?;
        let output = child.stdout.take().ok_or("python3 gives no output")?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Runs a block and returns what it prints, with the value of its last line.
    pub(super) fn run(&mut self, code: &str) -> Result<String, Failure> {
        let failed = |e: std::io::Error| format!("python3: {e}");
        self.input.write_all(format!("{code}{END}").as_bytes()).map_err(failed)?;
        self.input.flush().map_err(failed)?;
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).map_err(failed)? == 0 {
                return Err(format!("python3 has ended in the block\n{code}"));
            }
            if line == END {
                break;
            }
            printed += &line;
        }
        // A machine without the package must not write that into the book.
        if printed.contains("ModuleNotFoundError") {
            return Err(format!(
                "{printed}run `cargo xtask python` first, with numpy in the python3 of PATH"
            ));
        }
        Ok(printed)
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        // It ends by itself at the end of its input; a block that hangs is not waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
