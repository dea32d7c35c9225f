use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use larql_lql::ast::{CompileModel, ModelFormat, Source, Spanned, Statement};
use larql_lql::render::{self, RenderOptions};
use larql_lql::vindexfile::Vindexfile;
use larql_session::{Build, BuildError, BuildOptions, ExecuteError, LayerDone, Session};
use larql_vindex::Vindex;
use larql_vindex_spec::ExtractLevel;
use miette::{NamedSource, Report};

use crate::arguments::Threads;
use crate::described::begins_with;
use crate::progress::Bars;
use crate::{interrupt, library, sizes};

/// The file in a folder that says what to build.
const VINDEXFILE: &str = "Vindexfile";

/// Build a vindex by a Vindexfile
///
/// A Vindexfile says what to begin with and how to edit it, one instruction a line: FROM, PATCH, INSERT, DELETE, LABELS,
/// EXPOSE and STAGE. What INSERT and DELETE did is kept in the cache, so that the next build has to do only what
/// changed. The same Vindexfile and inputs give the same bytes.
#[derive(Args)]
#[command(after_help = "Examples:
  larql build
  larql build --force
  larql build facts/ --stage small -o small.vindex
  larql build facts/ --compile gguf -o facts.gguf

A Vindexfile:
  FROM smollm2.vindex
  PATCH geography.vlp
  INSERT (\"Atlantis\", \"capital\", \"Poseidon\")
  DELETE entity = \"Atlantis\" AND relation = \"currency\"
  EXPOSE browse inference")]
pub(crate) struct Arguments {
    /// The folder of the Vindexfile
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Build this stage of the Vindexfile; what stands before all stages belongs to it
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// Path of the vindex to write [default: a file in the folder, named after the stage or the folder]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Write a model for other programs, not a vindex
    #[arg(long, value_enum, value_name = "FORMAT")]
    compile: Option<ModelArgument>,
    /// Replace the output of an earlier build
    #[arg(long)]
    force: bool,
    /// A place to publish it; `larql publish` does that
    #[arg(long, value_name = "hf://…", hide = true)]
    publish: Option<String>,
    #[command(flatten)]
    threads: Threads,
}

/// Formats that other programs load.
#[derive(Clone, Copy, ValueEnum)]
enum ModelArgument {
    /// A directory that transformers loads
    Safetensors,
    /// A file that llama.cpp loads
    Gguf,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    if let Some(place) = arguments.publish {
        return Err(miette::miette!(
            help = format!("build it, then: larql publish VINDEX {place}"),
            "build does not publish"
        ));
    }
    let path = arguments.folder.join(VINDEXFILE);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| miette::miette!("{} cannot be read: {error}", path.display()))?;
    let vindexfile = Vindexfile::parse(&text).map_err(|error| {
        Report::new(error).with_source_code(NamedSource::new(path.display().to_string(), text.clone()))
    })?;
    let output = match &arguments.output {
        Some(output) => output.clone(),
        None => arguments.default_output()?,
    };
    // A look before the work, which may take long.
    let earlier = EarlierOutput::at(&output, arguments.force)?;

    let token = interrupt::token()?;
    let bars = Arc::new(Bars::new(token.clone()));
    let mut session = library::session(arguments.threads.pool())?.with_progress(Arc::clone(&bars) as Arc<_>);
    let options = BuildOptions { folder: &arguments.folder, stage: arguments.stage.as_deref() };
    let built = session.build(&vindexfile, options, &mut |done| {
        tell(done);
        if token.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let build = match built {
        Err(error @ BuildError::Interrupted) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(interrupt::EXIT_CODE));
        }
        built => built?,
    };
    let written = earlier.replaced_by(&output, || arguments.write(&mut session, &build, &output));
    bars.finish();
    match written {
        Err(error) if token.is_cancelled() => {
            eprintln!("{error}");
            Ok(ExitCode::from(interrupt::EXIT_CODE))
        }
        written => written.map(|()| ExitCode::SUCCESS),
    }
}

/// A line for each layer as it is done.
fn tell(LayerDone { number, of, layer, cached }: LayerDone<'_>) {
    let cached = if cached { " (cached)" } else { "" };
    eprintln!("[{number}/{of}] {}{cached}", layer.instruction);
}

/// Output of an earlier build.
struct EarlierOutput {
    exists: bool,
}

impl EarlierOutput {
    /// Looks at the output's place.
    ///
    /// # Errors
    /// If something lies there that is not to be replaced, or that no build wrote.
    fn at(output: &Path, force: bool) -> miette::Result<EarlierOutput> {
        if output.symlink_metadata().is_err() {
            return Ok(EarlierOutput { exists: false });
        }
        if !force {
            let path = output.display();
            return Err(miette::miette!(
                help = "--force replaces it; -o PATH writes elsewhere",
                "{path} exists"
            ));
        }
        let built =
            begins_with(output, b"GGUF") || Vindex::is_at(output) || output.join("config.json").is_file();
        if !built {
            return Err(miette::miette!(
                "{} is neither a vindex nor a model, so it is not replaced",
                output.display()
            ));
        }
        Ok(EarlierOutput { exists: true })
    }

    /// Has `write` write the output anew. The earlier output is there again if that fails.
    fn replaced_by(&self, output: &Path, write: impl FnOnce() -> miette::Result<()>) -> miette::Result<()> {
        if !self.exists {
            return write();
        }
        let moved = |error: std::io::Error| miette::miette!("{}: {error}", output.display());
        let folder =
            output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let aside = tempfile::Builder::new().prefix(".larql-earlier-").tempdir_in(folder).map_err(moved)?;
        let earlier = aside.path().join("output");
        std::fs::rename(output, &earlier).map_err(moved)?;
        let written = write();
        if written.is_err() && output.symlink_metadata().is_err() {
            std::fs::rename(&earlier, output).map_err(moved)?;
        }
        written
    }
}

impl Arguments {
    fn write(&self, session: &mut Session, build: &Build, output: &Path) -> miette::Result<()> {
        let Some(format) = self.compile else {
            let report = session.write_build(build, output)?;
            let bytes = report.files.iter().map(|(_, bytes)| bytes).sum();
            eprintln!("{}: {} in {} files", output.display(), sizes::human(bytes), report.files.len());
            return Ok(());
        };
        if build.exposed.is_some_and(|level| level < ExtractLevel::All) {
            return Err(miette::miette!(
                help = "write EXPOSE browse inference compile, or leave EXPOSE out",
                "EXPOSE does not name compile, so no model is compiled of what is built"
            ));
        }
        let format = match format {
            ModelArgument::Safetensors => ModelFormat::Safetensors,
            ModelArgument::Gguf => ModelFormat::Gguf,
        };
        let into = Spanned::from(output.display().to_string());
        let statement = CompileModel { source: Source::Current, into, format: Some(format) };
        let written = session.execute(&Statement::CompileModel(statement)).map_err(|error| match error {
            ExecuteError::Vindex(error) => super::report(*error),
            error => error.into(),
        })?;
        eprint!("{}", render::render(&written, render::Format::Table, &RenderOptions::default()));
        Ok(())
    }

    /// In the folder of the Vindexfile, named after the stage or the folder.
    fn default_output(&self) -> miette::Result<PathBuf> {
        let folder = self.folder.canonicalize();
        let folder = folder.map_err(|error| miette::miette!("{}: {error}", self.folder.display()))?;
        let name = match &self.stage {
            Some(stage) => stage.clone(),
            None => folder.file_name().map_or("built".into(), |name| name.to_string_lossy().into_owned()),
        };
        let ending = match self.compile {
            None => ".vindex",
            Some(ModelArgument::Gguf) => ".gguf",
            Some(ModelArgument::Safetensors) => ".safetensors",
        };
        Ok(self.folder.join(format!("{name}{ending}")))
    }
}
