//! Lines from a terminal: an editor with history that loses no key, whether it is pressed before a prompt or pasted.
//!
//! The editor takes the keys that wait in batches, and drops what follows the end of a line in the same batch. Keys that a
//! terminal kept while something ran end lines with a line feed, which the editor does not take for the end of a batch.
//! Therefore waiting keys are read here first, and [`Keys`] keeps what follows a line feed.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use reedline::{
    EditCommand, EditMode, Emacs, FileBackedHistory, HistoryItem, Prompt, PromptEditMode, Reedline,
    ReedlineEvent, ReedlineRawEvent, Signal, ValidationResult, Validator,
};

use crate::prompt::LinePrompt;

/// Lines of history that are kept.
const HISTORY: usize = 10_000;
/// Ctrl-D among keys that wait.
const END: char = '\u{4}';

/// Completeness of the typed text: true if it is complete, false if it continues in the next line.
pub type IsWhole = fn(&str) -> bool;

/// Reader of lines that are typed at a terminal.
pub struct LineReader {
    editor: Reedline,
    prompt: LinePrompt,
    is_whole: IsWhole,
    held: Held,
    /// Text that came before its prompt.
    ahead: String,
}

/// Input of a person at the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Text that is whole.
    Text(String),
    /// Nothing, as Ctrl-C dropped the line.
    Dropped,
    /// Nothing, and nothing will come any more.
    End,
}

impl LineReader {
    /// Returns a reader without completion and highlighting. Lines are remembered in the file `history`, if there is one.
    pub fn plain(
        prompt: &'static str,
        is_whole: IsWhole,
        history: Option<PathBuf>,
        color: bool,
    ) -> LineReader {
        let keys = reedline::default_emacs_keybindings();
        let editor = Reedline::create().with_ansi_colors(color);
        LineReader::new(editor, Emacs::new(keys), LinePrompt(prompt), is_whole, history)
    }

    /// Returns a reader over an editor that has all but its edit mode, validator and history.
    pub(crate) fn new(
        editor: Reedline,
        mode: Emacs,
        prompt: LinePrompt,
        is_whole: IsWhole,
        history: Option<PathBuf>,
    ) -> LineReader {
        let held = Held::default();
        let editor = editor
            .with_edit_mode(Box::new(Keys { mode, held: held.clone() }))
            .with_validator(Box::new(WholeText(is_whole)))
            .use_bracketed_paste(true);
        let editor = match history.map(|file| FileBackedHistory::with_file(HISTORY, file)) {
            None => editor,
            Some(Ok(history)) => editor.with_history(Box::new(history)),
            Some(Err(error)) => {
                eprintln!("lines will not be remembered: {error}");
                editor
            }
        };
        LineReader { editor, prompt, is_whole, held, ahead: String::new() }
    }

    /// Reads the next whole text.
    ///
    /// # Errors
    /// If the terminal cannot be read or written.
    pub fn read(&mut self) -> io::Result<Line> {
        self.ahead.push_str(&waiting()?);
        loop {
            if let Some(text) = first_whole(&mut self.ahead, self.is_whole) {
                println_prompted(&self.prompt, &text)?;
                // A text that cannot be remembered runs nevertheless.
                let _ = self.editor.history_mut().save(HistoryItem::from_command_line(text.as_str()));
                return Ok(Line::Text(text));
            }
            if self.ahead.starts_with(END) {
                return Ok(Line::End);
            }
            let begun: String = std::mem::take(&mut self.ahead).chars().filter(|key| *key != END).collect();
            if !begun.is_empty() {
                self.editor.run_edit_commands(&[EditCommand::InsertString(begun)]);
            }
            match self.editor.read_line(&self.prompt).map_err(io::Error::other)? {
                Signal::Success(text) => {
                    let held = self.held.take();
                    if held.is_none() {
                        return Ok(Line::Text(text));
                    }
                    if (self.is_whole)(&text) {
                        self.ahead = held.unwrap_or_default();
                        return Ok(Line::Text(text));
                    }
                    self.ahead = format!("{text}\n{}", held.unwrap_or_default());
                }
                Signal::CtrlD => return Ok(Line::End),
                _ => {
                    self.held.take();
                    return Ok(Line::Dropped);
                }
            }
        }
    }
}

/// Takes the first whole text that a line break ends off `ahead`. Blank lines before it go.
fn first_whole(ahead: &mut String, is_whole: IsWhole) -> Option<String> {
    let blank = ahead.len() - ahead.trim_start_matches(['\n', ' ']).len();
    ahead.drain(..blank);
    let ends = ahead.match_indices('\n').map(|(end, _)| end);
    let end = ends.take_while(|end| !ahead[..*end].contains(END)).find(|end| is_whole(&ahead[..*end]))?;
    let text = ahead[..end].to_owned();
    ahead.drain(..=end);
    Some(text)
}

/// Keys that were pressed while a statement ran.
fn waiting() -> io::Result<String> {
    enable_raw_mode()?;
    let read = read_waiting();
    disable_raw_mode()?;
    read
}

fn read_waiting() -> io::Result<String> {
    let mut text = String::new();
    while event::poll(Duration::ZERO)? {
        take_event(event::read()?, &mut text);
    }
    Ok(text)
}

/// Applies a key or a paste to text that was typed ahead.
fn take_event(event: Event, text: &mut String) {
    match event {
        Event::Key(KeyEvent { kind: KeyEventKind::Release, .. }) => {}
        Event::Key(KeyEvent { code, modifiers, .. }) => match (code, modifiers) {
            (KeyCode::Enter, _) | (KeyCode::Char('j'), KeyModifiers::CONTROL) => text.push('\n'),
            (KeyCode::Char('d'), KeyModifiers::CONTROL) => text.push(END),
            (KeyCode::Char('c'), KeyModifiers::CONTROL) => text.clear(),
            (KeyCode::Char(c), modifiers) if (modifiers - KeyModifiers::SHIFT).is_empty() => text.push(c),
            (KeyCode::Tab, _) => text.push(' '),
            (KeyCode::Backspace, _) if !text.ends_with('\n') => {
                text.pop();
            }
            _ => {}
        },
        Event::Paste(pasted) => text.push_str(&pasted.replace("\r\n", "\n").replace('\r', "\n")),
        _ => {}
    }
}

fn println_prompted(prompt: &LinePrompt, text: &str) -> io::Result<()> {
    use std::io::Write;
    let further = prompt.render_prompt_multiline_indicator();
    let text = text.replace('\n', &format!("\n{further}"));
    writeln!(io::stdout(), "{}{text}", prompt.0)
}

/// Text of keys that follow a line feed in one batch; none before a line feed.
#[derive(Clone, Debug, Default)]
struct Held(Arc<Mutex<Option<String>>>);

impl Held {
    fn take(&self) -> Option<String> {
        self.with(Option::take)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Option<String>) -> T) -> T {
        // A panic elsewhere leaves a text as good as it was.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Keys of Emacs, but a line feed always ends the line, and what follows it is held.
struct Keys {
    mode: Emacs,
    held: Held,
}

impl EditMode for Keys {
    fn parse_event(&mut self, event: ReedlineRawEvent) -> ReedlineEvent {
        let event = Event::from(event);
        let feeds = matches!(
            event,
            Event::Key(KeyEvent { code: KeyCode::Char('j'), modifiers: KeyModifiers::CONTROL, .. })
        );
        let begins = self.held.with(|held| match held {
            Some(text) => {
                take_event(event.clone(), text);
                None
            }
            None => Some(feeds.then(|| *held = Some(String::new())).is_some()),
        });
        match begins {
            None => ReedlineEvent::None,
            Some(true) => ReedlineEvent::Submit,
            Some(false) => match ReedlineRawEvent::try_from(event) {
                Ok(event) => self.mode.parse_event(event),
                Err(()) => ReedlineEvent::None,
            },
        }
    }

    fn edit_mode(&self) -> PromptEditMode {
        self.mode.edit_mode()
    }
}

struct WholeText(IsWhole);

impl Validator for WholeText {
    fn validate(&self, text: &str) -> ValidationResult {
        if (self.0)(text) { ValidationResult::Complete } else { ValidationResult::Incomplete }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ahead: &str) -> (Vec<String>, String) {
        let mut ahead = ahead.to_owned();
        let is_whole: IsWhole = |text| text.ends_with(';');
        let texts = std::iter::from_fn(|| first_whole(&mut ahead, is_whole)).collect();
        (texts, ahead)
    }

    #[test]
    fn every_whole_text_that_waits_comes_in_turn() {
        let (found, rest) = texts("A;\n\n B\nC;\nD;\nE\nF");
        assert_eq!((found, &*rest), (vec!["A;".into(), "B\nC;".into(), "D;".into()], "E\nF"));
    }

    #[test]
    fn nothing_runs_that_follows_the_end_of_input() {
        let (found, rest) = texts("A;\n\u{4}B;\n");
        assert_eq!((found, &*rest), (vec!["A;".to_owned()], "\u{4}B;\n"));
    }

    #[test]
    fn keys_make_text() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        let mut text = String::new();
        let none = KeyModifiers::NONE;
        for event in [
            key(KeyCode::Char('A'), KeyModifiers::SHIFT),
            key(KeyCode::Char('x'), none),
            key(KeyCode::Backspace, none),
            key(KeyCode::Char('j'), KeyModifiers::CONTROL),
            key(KeyCode::Backspace, none),
            Event::Paste("b\r\nc".into()),
            key(KeyCode::Enter, none),
            key(KeyCode::Left, none),
        ] {
            take_event(event, &mut text);
        }
        assert_eq!(text, "A\nb\nc\n");
        take_event(key(KeyCode::Char('c'), KeyModifiers::CONTROL), &mut text);
        assert_eq!(text, "");
    }

    #[test]
    fn keys_that_follow_a_line_feed_are_held() {
        let held = Held::default();
        let mut keys = Keys { mode: Emacs::default(), held: held.clone() };
        let mut press = |code, modifiers| {
            let event = Event::Key(KeyEvent::new(code, modifiers));
            keys.parse_event(ReedlineRawEvent::try_from(event).expect("a key"))
        };
        assert!(matches!(press(KeyCode::Char('a'), KeyModifiers::NONE), ReedlineEvent::Edit(_)));
        assert_eq!(held.take(), None);
        assert_eq!(press(KeyCode::Char('j'), KeyModifiers::CONTROL), ReedlineEvent::Submit);
        assert_eq!(press(KeyCode::Char('b'), KeyModifiers::NONE), ReedlineEvent::None);
        assert_eq!(press(KeyCode::Char('j'), KeyModifiers::CONTROL), ReedlineEvent::None);
        assert_eq!(held.take(), Some("b\n".to_owned()));
        assert!(matches!(press(KeyCode::Char('c'), KeyModifiers::NONE), ReedlineEvent::Edit(_)));
    }
}
