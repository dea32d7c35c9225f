use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use larql_hub::model_name;
use larql_server::{EngineLimits, Limits, RateLimit, ServeOptions, Server, Tls};
use larql_session::Catalog;

use crate::arguments::{KeyValues, Threads};
use crate::library;

/// Serve models over HTTP, with an explorer in the browser
///
/// Every model answers under its name. Requests are generated together, a token of each in one pass. Edits last as long as
/// their session, and nothing is written to disk. Ctrl-C finishes what is running and ends.
#[derive(Args)]
#[command(after_help = "Examples:
  larql serve smollm2.vindex
  larql serve smollm2=smollm2.vindex atlas --port 9000
  larql serve --dir models --host 0.0.0.0 --api-key \"$KEY\" --rate-limit 100/min

Then:
  a browser                     http://127.0.0.1:8080/
  OpenAI's clients              base_url=http://127.0.0.1:8080/v1
  Ollama's clients              OLLAMA_HOST=http://127.0.0.1:8080
  curl -s http://127.0.0.1:8080/v1/describe?entity=France")]
pub(crate) struct Arguments {
    /// Vindexes, GGUF files, checkpoint directories or models' names; NAME=MODEL to serve one under another name
    #[arg(value_name = "MODEL", required_unless_present = "dir")]
    models: Vec<String>,
    /// Serve every vindex and GGUF file in this folder
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Address to listen on; 0.0.0.0 lets other machines in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 for any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Speak gRPC on this port, too; 0 for any that is free
    #[arg(long, value_name = "PORT")]
    grpc_port: Option<u16>,
    /// Ask for this key; may be given several times
    #[arg(long = "api-key", value_name = "KEY")]
    api_keys: Vec<String>,
    /// File of TLS certificates, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// File of the TLS key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let pages of this origin use the server, as in `https://example.org`; * for all; may be given several times
    #[arg(long = "cors", value_name = "ORIGIN")]
    cors_origins: Vec<String>,
    /// Requests that one address may make, as in 100/min
    #[arg(long, value_name = "RATE", value_parser = RateLimit::parse)]
    rate_limit: Option<RateLimit>,
    /// Take the client's address from X-Forwarded-For, which a proxy in front sets
    #[arg(long)]
    trust_forwarded_for: bool,
    /// Fetch patches from this host; may be given several times
    #[arg(long = "patch-host", value_name = "HOST")]
    patch_hosts: Vec<String>,
    /// Run no models: browse alone
    #[arg(long)]
    no_infer: bool,
    /// Refuse edits
    #[arg(long)]
    no_edit: bool,
    /// Neither the explorer nor /openapi.json
    #[arg(long)]
    no_docs: bool,
    /// Read special tokens in messages as such, so that a message can end its turn
    #[arg(long)]
    special_tokens_in_messages: bool,
    /// Texts that are generated at the same time
    #[arg(long, value_name = "N", default_value_t = EngineLimits::default().concurrent)]
    max_concurrent: usize,
    /// Requests that wait for a place; more are refused
    #[arg(long, value_name = "N", default_value_t = EngineLimits::default().waiting)]
    max_waiting: usize,
    /// Memory for keys and values in MB [default: a quarter of what is available]
    #[arg(long, value_name = "MB")]
    key_value_memory: Option<u64>,
    #[command(flatten)]
    key_values: KeyValues,
    /// Read every prompt anew, even if another one began alike
    #[arg(long)]
    no_prefix_sharing: bool,
    /// Start whatever memory is available
    #[arg(long)]
    no_memcheck: bool,
    /// Tokens of a text for which a request gives no number
    #[arg(long, value_name = "N", default_value_t = Limits::default().default_tokens)]
    default_tokens: usize,
    /// Tokens of a text
    #[arg(long, value_name = "N", default_value_t = Limits::default().most_tokens)]
    max_tokens: usize,
    /// Bytes of a request
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().body_bytes)]
    max_body: usize,
    /// Seconds for a question in LQL
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().query_time.as_secs())]
    infer_timeout_secs: u64,
    /// Seconds after which a session without requests ends
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().session_idle.as_secs())]
    session_ttl_secs: u64,
    /// Write no line for each request
    #[arg(long)]
    no_log: bool,
    #[command(flatten)]
    threads: Threads,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let catalog = Arc::new(Catalog::new(arguments.threads.pool(), library::open_without_downloads()?));
    let options = arguments.options()?;
    let server = Server::open(options, catalog).map_err(super::report)?;
    server.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    eprintln!("listening on {}", server.url());
    if let Some(url) = server.grpc_url() {
        eprintln!("gRPC on {url}");
    }
    let on_stop = || {
        // Whether or not somebody still reads, the server ends.
        let _ = writeln!(std::io::stderr(), "finishing what is running; Ctrl-C again to end at once");
    };
    server.run_until_terminated(on_stop).map_err(super::report)?;
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn options(self) -> miette::Result<ServeOptions> {
        let models = self.named_models()?;
        let tls = self.tls_cert.zip(self.tls_key).map(|(certificates, key)| Tls { certificates, key });
        Ok(ServeOptions {
            models,
            host: self.host,
            port: self.port,
            grpc_port: self.grpc_port,
            api_keys: self.api_keys,
            tls,
            cors_origins: self.cors_origins,
            rate_limit: self.rate_limit,
            trust_forwarded_for: self.trust_forwarded_for,
            patch_hosts: self.patch_hosts,
            infer: !self.no_infer,
            edit: !self.no_edit,
            docs: !self.no_docs,
            special_tokens_in_messages: self.special_tokens_in_messages,
            access_log: !self.no_log,
            engine: EngineLimits {
                concurrent: self.max_concurrent,
                waiting: self.max_waiting,
                key_value_bytes: self.key_value_memory.map(|megabytes| megabytes << 20),
                key_values: self.key_values.format(),
                share_prefixes: !self.no_prefix_sharing,
                check_memory: !self.no_memcheck,
            },
            limits: Limits {
                body_bytes: self.max_body,
                default_tokens: self.default_tokens,
                most_tokens: self.max_tokens,
                query_time: Duration::from_secs(self.infer_timeout_secs),
                session_idle: Duration::from_secs(self.session_ttl_secs),
                ..Limits::default()
            },
        })
    }

    /// The models by name: those that are named, then those in the folder, in order of name.
    fn named_models(&self) -> miette::Result<Vec<(String, PathBuf)>> {
        let mut models = self.models.iter().map(|model| named(model)).collect::<miette::Result<Vec<_>>>()?;
        if let Some(dir) = &self.dir {
            let unreadable = |error| miette::miette!("{}: {error}", dir.display());
            let entries = std::fs::read_dir(dir).map_err(unreadable)?;
            let paths = entries.map(|entry| Ok(entry.map_err(unreadable)?.path()));
            let mut paths = paths.collect::<miette::Result<Vec<PathBuf>>>()?;
            paths.retain(|path| {
                let is_gguf = path.extension().is_some_and(|ending| ending == "gguf");
                is_gguf || larql_vindex::Vindex::is_at(path)
            });
            paths.sort();
            models.extend(paths.into_iter().map(|path| (served_name(&path), path)));
        }
        Ok(models)
    }
}

/// A model by its name, for an argument MODEL or NAME=MODEL.
pub(super) fn named(model: &str) -> miette::Result<(String, PathBuf)> {
    let (name, model) = match model.split_once('=') {
        Some((name, model)) => (Some(name.to_owned()), model),
        None => (None, model),
    };
    let path = library::find(Path::new(model))?;
    Ok((name.unwrap_or_else(|| served_name(Path::new(model))), path))
}

/// The name of a model that is given no other: its file's without the ending.
fn served_name(path: &Path) -> String {
    let is_model = path.extension().is_some_and(|ending| ending == "vindex" || ending == "gguf");
    let stem = path.file_stem().filter(|_| is_model);
    stem.map_or_else(|| model_name(path), |stem| stem.to_string_lossy().into_owned())
}
