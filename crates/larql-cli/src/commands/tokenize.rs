use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use larql_models::{Checkpoint, TextFiles, Tokenizer};
use larql_vindex::Vindex;
use serde::Serialize;

use crate::arguments::ReportFormat;
use crate::output::outln;
use crate::{library, output};

/// Show the tokens of a text
///
/// Prints a line for each token: its position, its id and its text, in which ␣ is a blank. Tokens that a prompt begins or
/// ends with are included, as `run --raw` runs them.
#[derive(Args)]
#[command(after_help = "Examples:
  larql tokenize smollm2.gguf \"The capital of France is\"
  larql tokenize atlas --format json < prompt.txt")]
pub(crate) struct Arguments {
    /// A vindex, a GGUF file, a checkpoint directory or a model's name
    model: PathBuf,
    /// The text; without it, standard input
    #[arg(allow_hyphen_values = true)]
    text: Option<String>,
    /// Leave out the tokens that a prompt begins or ends with
    #[arg(long)]
    no_special: bool,
    #[command(flatten)]
    format: ReportFormat,
}

/// A token of the text.
#[derive(Serialize)]
struct Token {
    id: u32,
    /// Its entry in the vocabulary.
    token: String,
    special: bool,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let tokenizer = tokenizer(&library::find(&arguments.model)?)?;
    let text = match arguments.text {
        Some(text) => text,
        None => super::piped()?.ok_or_else(|| miette::miette!("there is no text; give it as an argument"))?,
    };
    let ids = tokenizer.encode(&text, !arguments.no_special).map_err(super::report)?;
    let token = |id: u32| {
        let special = tokenizer.is_special(id);
        let token = if special { tokenizer.token_text(id) } else { None };
        Token { id, token: token.unwrap_or_else(|| tokenizer.decode(&[id], false)), special }
    };
    let tokens: Vec<Token> = ids.into_iter().map(token).collect();
    if arguments.format.is_json() {
        output::json(&tokens)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (position, Token { id, token, .. }) in tokens.iter().enumerate() {
        let token: String = token.chars().map(visible).collect();
        outln!("{position:>6} {id:>8}  {token}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A character as it shows in a table.
fn visible(character: char) -> String {
    match character {
        ' ' => "␣".to_owned(),
        control if control.is_control() => control.escape_default().to_string(),
        character => character.to_string(),
    }
}

fn tokenizer(path: &Path) -> miette::Result<Arc<Tokenizer>> {
    let of = |text: &TextFiles| text.tokenizer().map_err(super::report);
    let tokenizer = match Vindex::is_at(path) {
        true => of(Vindex::open(path).map_err(super::report)?.text())?,
        false => of(Checkpoint::open(path).map_err(super::report)?.text())?,
    };
    tokenizer
        .ok_or_else(|| miette::miette!("{} has no tokenizer; put its tokenizer.json there", path.display()))
}
