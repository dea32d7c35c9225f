//! The prompts on a terminal: what is typed before them, and what they ask.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};

use super::*;

/// A program on a terminal of 80 columns.
struct Terminal {
    keyboard: File,
    shown: Arc<Mutex<String>>,
    child: Child,
}

impl Terminal {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Terminal {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = std::process::Command::new(assert_cmd::cargo_bin!("larql"));
        let home = tempfile::tempdir().unwrap();
        command.args(arguments).env_remove("NO_COLOR").env("TERM", "xterm-256color").env("HOME", home.path());
        command.env("XDG_CACHE_HOME", home.path()).env("XDG_DATA_HOME", home.path());
        command.envs(environment.iter().copied());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        drop(pty.slave);
        let (mut screen, mut answers) =
            (File::from(pty.master.try_clone().unwrap()), File::from(pty.master.try_clone().unwrap()));
        let shown = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                // The place of the cursor, which editors of lines ask a terminal for.
                if text.contains("\u{1b}[6n") && answers.write_all(b"\x1b[1;1R").is_err() {
                    return;
                }
                seen.lock().unwrap().push_str(&text);
            }
        });
        Terminal { keyboard: File::from(pty.master), shown, child }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until all texts have been shown, and returns everything that was.
    fn wait_for(&mut self, texts: &[&str]) -> String {
        let started = Instant::now();
        loop {
            let shown = self.shown.lock().unwrap().clone();
            if texts.iter().all(|text| shown.contains(text)) {
                return shown;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{texts:?} in {shown:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ends(&mut self) {
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < Duration::from_secs(60), "{:?}", self.shown.lock().unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended, unless a test failed.
        let _ = self.child.kill();
    }
}

#[test]
fn lines_that_wait_all_run() {
    let vindex = fixture("llama-f16-all.vindex");
    let lines = "SHOW PATCHES;\nSELECT *\nFROM nowhere;\n.mode markdown\n.mode\n.mode csv\n.mode\n.exit\n";
    let answers = ["expected", "\nmarkdown\r\n", "\ncsv\r\n"];
    // Before there is a prompt, and at a prompt.
    let mut early = Terminal::start(&["repl", text(&vindex)], &[]);
    early.press(lines);
    early.wait_for(&answers);
    early.ends();
    let mut late = Terminal::start(&["repl", text(&vindex)], &[]);
    late.wait_for(&[".help lists statements", "larql> "]);
    late.press(lines);
    late.wait_for(&answers);
    late.ends();
}

#[test]
fn leaving_with_unsaved_edits_takes_a_second_time() {
    let mut terminal = Terminal::start(&["repl", text(&fixture("llama-f16-all.vindex"))], &[]);
    terminal.wait_for(&["larql> "]);
    terminal.press(
        "INSERT INTO EDGES (entity, relation, target) VALUES ('Atlantis', 'capital', 'Poseidon') MODE KNN;\r",
    );
    terminal.wait_for(&["Poseidon"]);
    terminal.press(".exit\r");
    terminal.wait_for(&["not saved", "The same again"]);
    assert!(terminal.child.try_wait().unwrap().is_none());
    terminal.press(".exit\r");
    terminal.ends();
}

#[test]
fn no_escape_sequences_where_nobody_wants_them() {
    let vindex = fixture("llama-f16-all.vindex");
    let shown = |environment: &[(&str, &str)], statement: &str| {
        let mut terminal = Terminal::start(&["lql", "--use", text(&vindex), statement], environment);
        terminal.ends();
        terminal.wait_for(&[if statement == "BAD" { "expected" } else { "layer" }])
    };
    for statement in ["SHOW LAYERS", "BAD"] {
        for environment in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            assert!(!shown(&[environment], statement).contains('\u{1b}'), "{environment:?} {statement}");
        }
        assert!(shown(&[], statement).contains('\u{1b}'), "{statement}");
    }
}
