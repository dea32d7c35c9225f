//! The prompt on a terminal.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use larql_lql::Engine;
use nu_ansi_term::{Color, Style};
use reedline::{
    ColumnarMenu, DefaultHinter, EditCommand, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder,
    Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent,
    ReedlineMenu, Signal, ValidationResult, Validator, default_emacs_keybindings,
};

use crate::completion::LqlCompleter;
use crate::highlight::LqlHighlighter;
use crate::input::is_whole;
use crate::{Outcome, Repl, Streams};

/// Lines of history that are kept.
const HISTORY: usize = 10_000;
const COMPLETION_MENU: &str = "completion";

/// Talks with a person until they leave. Lines are remembered in the file `history`, if there is one.
///
/// # Errors
/// When the terminal cannot be read or written.
pub fn run_terminal<E: Engine>(repl: &mut Repl<E>, history: Option<PathBuf>) -> io::Result<()> {
    let mut editor = editor(repl, history);
    loop {
        repl.options.width = comfy_table::Table::new().width().map(usize::from);
        match editor.read_line(&LqlPrompt).map_err(io::Error::other)? {
            Signal::Success(text) => {
                let mut streams = Streams { out: &mut io::stdout(), err: &mut io::stderr() };
                if repl.submit(&text, &mut streams)? == Outcome::Quit {
                    return Ok(());
                }
            }
            // The line is dropped, the prompt goes on.
            Signal::CtrlC => {}
            Signal::CtrlD => return Ok(()),
            _ => {}
        }
    }
}

fn editor<E>(repl: &Repl<E>, history: Option<PathBuf>) -> Reedline {
    let mut keys = default_emacs_keybindings();
    let complete = vec![ReedlineEvent::Menu(COMPLETION_MENU.into()), ReedlineEvent::MenuNext];
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, ReedlineEvent::UntilFound(complete));
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    let new_line = ReedlineEvent::Edit(vec![EditCommand::InsertNewline]);
    keys.add_binding(KeyModifiers::ALT, KeyCode::Enter, new_line);
    let menu = Box::new(ColumnarMenu::default().with_name(COMPLETION_MENU));
    let mut editor = Reedline::create()
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_completer(Box::new(LqlCompleter(repl.names.clone())))
        .with_menu(ReedlineMenu::EngineCompleter(menu))
        .with_validator(Box::new(LqlValidator))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_ansi_colors(repl.options.color)
        .use_bracketed_paste(true);
    if repl.options.color {
        editor = editor
            .with_highlighter(Box::new(LqlHighlighter))
            .with_hinter(Box::new(DefaultHinter::default().with_style(Style::new().fg(Color::DarkGray))));
    }
    match history.map(|file| FileBackedHistory::with_file(HISTORY, file)) {
        None => editor,
        Some(Ok(history)) => editor.with_history(Box::new(history)),
        Some(Err(error)) => {
            eprintln!("lines will not be remembered: {error}");
            editor
        }
    }
}

struct LqlValidator;

impl Validator for LqlValidator {
    fn validate(&self, text: &str) -> ValidationResult {
        if is_whole(text) { ValidationResult::Complete } else { ValidationResult::Incomplete }
    }
}

struct LqlPrompt;

impl Prompt for LqlPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        "larql".into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        "> ".into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "  ...> ".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = matches!(search.status, PromptHistorySearchStatus::Failing);
        format!("({}search: {}) ", if failing { "failing " } else { "" }, search.term).into()
    }
}
