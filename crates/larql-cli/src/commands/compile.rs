use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use larql_lql::ast::{
    ApplyPatch, CompileModel, CompileVindex, Conflict, ModelFormat, Source, Spanned, Statement,
};
use larql_lql::render::{self, RenderOptions};

use crate::arguments::{ReportFormat, Threads};
use crate::output::out;
use crate::progress::Bars;
use crate::{interrupt, library};

/// Write a vindex with patches as a vindex or a model of its own
///
/// The same as USE, APPLY PATCH and COMPILE in LQL. The vindex itself stays as it is.
#[derive(Args)]
#[command(after_help = "Examples:
  larql compile smollm2.vindex --patch facts.vlp -o edited.vindex
  larql compile smollm2.vindex --patch facts.vlp -o edited.gguf")]
pub(crate) struct Arguments {
    /// The vindex
    vindex: PathBuf,
    /// Lay this patch over it first; may be given several times
    #[arg(long = "patch", value_name = "FILE")]
    patches: Vec<PathBuf>,
    /// Path to write to
    #[arg(long, short)]
    output: PathBuf,
    /// Format [default: gguf or safetensors if the output's name ends so, else vindex]
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: Option<TargetArgument>,
    /// Patch that wins if two edit the same feature
    #[arg(long, value_enum, default_value = "last-wins")]
    on_conflict: ConflictArgument,
    /// Keep KNN edges as lookup entries instead of writing them into weights (vindex output only)
    #[arg(long)]
    snapshot: bool,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    format: ReportFormat,
}

/// Formats that can be written.
#[derive(Clone, Copy, ValueEnum)]
enum TargetArgument {
    /// A vindex
    Vindex,
    /// A directory that transformers loads
    Safetensors,
    /// A file that llama.cpp loads
    Gguf,
}

/// Rule for two edits of one feature.
#[derive(Clone, Copy, ValueEnum)]
enum ConflictArgument {
    /// The patch given later
    LastWins,
    /// The patch with the higher confidence
    HighestConfidence,
    /// None: stop with an error
    Fail,
}

impl From<ConflictArgument> for Conflict {
    fn from(argument: ConflictArgument) -> Self {
        match argument {
            ConflictArgument::LastWins => Conflict::LastWins,
            ConflictArgument::HighestConfidence => Conflict::HighestConfidence,
            ConflictArgument::Fail => Conflict::Fail,
        }
    }
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let bars = Arc::new(Bars::new(interrupt::token()?));
    let mut session =
        library::session_without_library(arguments.threads.pool()).with_progress(Arc::clone(&bars) as Arc<_>);
    session.open_path(&library::find(&arguments.vindex)?)?;
    for patch in &arguments.patches {
        session.execute(&Statement::ApplyPatch(ApplyPatch { path: named(patch) }))?;
    }
    let output = session.execute(&arguments.statement())?;
    bars.finish();
    let format = if arguments.format.is_json() { render::Format::Json } else { render::Format::Table };
    out!("{}", render::render(&output, format, &RenderOptions::default()))?;
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn target(&self) -> TargetArgument {
        let ending = self.output.extension().map(|ending| ending.to_ascii_lowercase());
        self.to.unwrap_or_else(|| match ending.as_deref().and_then(|ending| ending.to_str()) {
            Some("gguf") => TargetArgument::Gguf,
            Some("safetensors") => TargetArgument::Safetensors,
            _ => TargetArgument::Vindex,
        })
    }

    fn statement(&self) -> Statement {
        let (source, into) = (Source::Current, named(&self.output));
        let model =
            |format| CompileModel { source: Source::Current, into: into.clone(), format: Some(format) };
        match self.target() {
            TargetArgument::Vindex => Statement::CompileVindex(CompileVindex {
                source,
                into,
                on_conflict: Some(self.on_conflict.into()),
                snapshot: self.snapshot,
            }),
            TargetArgument::Safetensors => Statement::CompileModel(model(ModelFormat::Safetensors)),
            TargetArgument::Gguf => Statement::CompileModel(model(ModelFormat::Gguf)),
        }
    }
}

/// A path as a statement has it.
fn named(path: &Path) -> Spanned<String> {
    Spanned::new(path.display().to_string(), Default::default())
}
