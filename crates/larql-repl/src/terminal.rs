//! The prompt on a terminal.

use std::io;
use std::path::PathBuf;

use larql_lql::Engine;
use nu_ansi_term::{Color, Style};
use reedline::{
    ColumnarMenu, DefaultHinter, EditCommand, Emacs, KeyCode, KeyModifiers, MenuBuilder, Reedline,
    ReedlineEvent, ReedlineMenu, default_emacs_keybindings,
};

use crate::completion::LqlCompleter;
use crate::highlight::LqlHighlighter;
use crate::input::is_whole;
use crate::line_reader::{Line, LineReader};
use crate::prompt::LinePrompt;
use crate::{Outcome, Repl, Streams};

const COMPLETION_MENU: &str = "completion";

/// Talks with a person until they leave. Lines are remembered in the file `history`, if there is one.
///
/// # Errors
/// When the terminal cannot be read or written.
pub fn run_terminal<E: Engine>(repl: &mut Repl<E>, history: Option<PathBuf>) -> io::Result<()> {
    let mut reader = reader(repl, history);
    repl.ask_before_loss();
    loop {
        repl.options.width = comfy_table::Table::new().width().map(usize::from);
        let mut streams = Streams { out: &mut io::stdout(), err: &mut io::stderr() };
        let leaves = match reader.read()? {
            Line::Text(text) => repl.submit(&text, &mut streams)? == Outcome::Quit,
            // The line is dropped, the prompt goes on.
            Line::Dropped => false,
            Line::End => true,
        };
        if leaves && repl.may_give_up("leave", &mut streams)? {
            return Ok(());
        }
    }
}

fn reader<E: Engine>(repl: &Repl<E>, history: Option<PathBuf>) -> LineReader {
    let mut keys = default_emacs_keybindings();
    let complete = vec![ReedlineEvent::Menu(COMPLETION_MENU.into()), ReedlineEvent::MenuNext];
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, ReedlineEvent::UntilFound(complete));
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    let new_line = ReedlineEvent::Edit(vec![EditCommand::InsertNewline]);
    keys.add_binding(KeyModifiers::ALT, KeyCode::Enter, new_line);
    let menu = Box::new(ColumnarMenu::default().with_name(COMPLETION_MENU));
    let mut editor = Reedline::create()
        .with_completer(Box::new(LqlCompleter(repl.names.clone())))
        .with_menu(ReedlineMenu::EngineCompleter(menu))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_ansi_colors(repl.options.color);
    if repl.options.color {
        editor = editor
            .with_highlighter(Box::new(LqlHighlighter))
            .with_hinter(Box::new(DefaultHinter::default().with_style(Style::new().fg(Color::DarkGray))));
    }
    LineReader::new(editor, Emacs::new(keys), LinePrompt("larql> "), is_whole, history)
}
