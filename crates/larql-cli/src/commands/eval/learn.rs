use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use larql_knowledge::unprobed::{ScoredWording, choose_wordings, learn, score_wordings, survey};
use larql_knowledge::{LanguageModel, ProbeError};
use miette::IntoDiagnostic;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::Threads;
use crate::output::outln;
use crate::progress::Bars;
use crate::{interrupt, library};

/// Learn how models that were never probed are asked, and how far to believe them
///
/// Tries the shipped wordings with some models, takes those that work best over all of them, asks the models about known
/// subjects, and learns which answers are right. Prints the file that DESCRIBE and `larql eval knowledge --reading` take.
#[derive(Args)]
#[command(after_help = "Example:
  larql eval learn atlas smollm2.gguf gemma.gguf > reading.json")]
pub(crate) struct Arguments {
    /// Models to learn from; none of them may be the one that is evaluated
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// A folder that keeps what was found of each model, so that it is not asked again
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    threads: Threads,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let pool = arguments.threads.pool();
    let bars = Bars::fleeting(interrupt::token()?);
    let mut models = Vec::new();
    for model in &arguments.models {
        let path = library::find(model)?;
        let name = model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        models.push((name, LanguageModel::open(&path, Arc::clone(&pool)).map_err(crate::commands::report)?));
    }
    let kept = |name: &str, what: &str| {
        arguments.keep.as_ref().map(|folder| folder.join(format!("{name}.{what}.json")))
    };
    let mut scored: Vec<Vec<ScoredWording>> = Vec::new();
    for (name, model) in &models {
        scored.push(read_or(kept(name, "wordings"), || {
            score_wordings(model.model(), model.tokenizer(), &bars)
        })?);
    }
    let relations = choose_wordings(&scored);
    let mut answers = Vec::new();
    for (name, model) in &models {
        let ask = || survey(model.model(), model.tokenizer(), &relations, &bars);
        answers.push((name.clone(), read_or(kept(name, "answers"), ask)?));
    }
    outln!("{}", serde_json::to_string(&learn(&answers, relations)).into_diagnostic()?)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the file in which a result is kept; or finds it, and keeps it there.
fn read_or<T: Serialize + DeserializeOwned>(
    kept: Option<PathBuf>,
    find: impl FnOnce() -> Result<T, ProbeError>,
) -> miette::Result<T> {
    if let Some(text) = kept.as_ref().and_then(|kept| std::fs::read_to_string(kept).ok()) {
        return serde_json::from_str(&text).into_diagnostic();
    }
    let found = find().map_err(crate::commands::report)?;
    if let Some(kept) = kept {
        std::fs::write(kept, serde_json::to_string(&found).into_diagnostic()?).into_diagnostic()?;
    }
    Ok(found)
}
