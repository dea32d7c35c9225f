//! A server from its start to its end.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use larql_session::{Catalog, ExecuteError};

use crate::engine::{EngineOptions, PAGE, Scheduler, page_bytes};
use crate::metrics::Metrics;
use crate::models::Models;
use crate::options::ServeOptions;
use crate::routes::{grpc_router, paths, router};
use crate::sessions::Sessions;
use crate::state::{App, AppState};
use crate::{mcp, memory};

/// Keys and values take this share of the available memory where nothing else is said.
const SHARE_OF_MEMORY: u64 = 4;

/// Keys and values take no more than this where nothing else is said.
const MOST_BYTES: u64 = 8 << 30;

/// Memory that is left for everything else.
const HEADROOM: u64 = 256 << 20;

/// Failure to serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// There is nothing to serve.
    #[error("there is no model to serve; name one")]
    NoModel,
    /// Two models have the same name.
    #[error("two models are named {name}; name them apart")]
    SameName {
        /// The name.
        name: String,
    },
    /// A model cannot be opened.
    #[error(transparent)]
    Model(#[from] ExecuteError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another --port or --host")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Error of the system.
        source: io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("cannot use the certificate and the key of TLS: {0}")]
    Tls(io::Error),
    /// The memory does not suffice.
    #[error(
        "keys and values of {} MB were asked for, and {} MB of memory are available, of which {} MB stay free; ask for less, \
         or switch the check off",
        wanted >> 20, available >> 20, HEADROOM >> 20
    )]
    Memory {
        /// Bytes that were asked for.
        wanted: u64,
        /// Bytes that are available.
        available: u64,
    },
    /// The system failed.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// A server that listens, and answers once it [runs](Server::run).
pub struct Server {
    app: App,
    listener: TcpListener,
    address: SocketAddr,
    /// Listener of gRPC, with its address.
    grpc: Option<(TcpListener, SocketAddr)>,
}

impl Server {
    /// Opens the models and listens.
    ///
    /// # Errors
    /// If a model cannot be opened, the address is taken, or the memory does not suffice.
    pub fn open(options: ServeOptions, catalog: Arc<Catalog>) -> Result<Server, ServeError> {
        let (listener, address) = listen(SocketAddr::new(options.host, options.port))?;
        let grpc = options.grpc_port.map(|port| listen(SocketAddr::new(options.host, port))).transpose()?;
        Ok(Server { app: open_app(options, catalog)?, listener, address, grpc })
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address as a browser takes it.
    pub fn url(&self) -> String {
        let scheme = if self.app.options.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Returns the address of gRPC as clients take it; none if the server does not speak it.
    pub fn grpc_url(&self) -> Option<String> {
        let scheme = if self.app.options.tls.is_some() { "https" } else { "http" };
        self.grpc.as_ref().map(|(_, address)| format!("{scheme}://{address}"))
    }

    /// Returns warnings for the operator.
    pub fn warnings(&self) -> Vec<String> {
        let options = &self.app.options;
        let open = !options.host.is_loopback() && options.api_keys.is_empty();
        let warning = "other machines can use this server without a key; set one with --api-key, or keep to --host 127.0.0.1";
        open.then(|| warning.to_owned()).into_iter().collect()
    }

    /// Answers until the process is asked to end, by Ctrl-C or SIGTERM, then finishes what is running, bounded in time. A second
    /// Ctrl-C ends it at once. `on_stop` is called in between.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_until_terminated(self, on_stop: impl FnOnce() + Send + 'static) -> Result<(), ServeError> {
        self.run(async {
            termination().await;
            on_stop();
            tokio::spawn(async {
                termination().await;
                std::process::exit(130);
            });
        })
    }

    /// Answers until `stop` is done, then finishes what is running, bounded in time.
    ///
    /// # Errors
    /// If TLS cannot be set up, or the system fails.
    pub fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), ServeError> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("larql-http").build()?;
        let (app, shutdown) = (Arc::clone(&self.app), self.app.options.limits.shutdown);
        warm_up(&app);
        let result = runtime.block_on(self.serve(stop));
        // Statements that still run are asked to stop when their requests end, and hold nothing that matters.
        runtime.shutdown_timeout(Duration::from_secs(1).min(shutdown));
        app.scheduler.stop();
        result
    }

    async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), ServeError> {
        let Server { app, listener, grpc, .. } = self;
        let (handle, time) = (Handle::new(), app.options.limits.shutdown);
        let (stopping, grpc_handle) = (handle.clone(), Handle::new());
        let grpc_stopping = grpc_handle.clone();
        tokio::spawn(async move {
            stop.await;
            stopping.graceful_shutdown(Some(time));
            grpc_stopping.graceful_shutdown(Some(time));
        });
        let tls = match &app.options.tls {
            None => None,
            Some(tls) => {
                // Another part of the program may have set it already, to the same.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let config = RustlsConfig::from_pem_chain_file(&tls.certificates, &tls.key).await;
                Some(config.map_err(ServeError::Tls)?)
            }
        };
        let http = answer(listener, router(Arc::clone(&app)), tls.clone(), handle);
        match grpc {
            None => http.await?,
            Some((listener, _)) => {
                let grpc = answer(listener, grpc_router(app), tls, grpc_handle);
                tokio::try_join!(http, grpc)?;
            }
        }
        Ok(())
    }
}

/// Listens on an address, and returns the one that it became.
fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let listener = TcpListener::bind(address).map_err(|source| ServeError::Address { address, source })?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Answers on a listener until its handle says to end.
async fn answer(
    listener: TcpListener,
    router: Router,
    tls: Option<RustlsConfig>,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    match tls {
        None => axum_server::from_tcp(listener)?.handle(handle).serve(service).await,
        Some(config) => axum_server::from_tcp_rustls(listener, config)?.handle(handle).serve(service).await,
    }
}

/// Speaks the Model Context Protocol on standard input and output, until the input ends.
///
/// # Errors
/// If a model cannot be opened, the memory does not suffice, or the client speaks another protocol.
pub fn serve_mcp(options: ServeOptions, catalog: Arc<Catalog>) -> Result<(), ServeError> {
    let app = open_app(options, catalog)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(mcp::serve_stdio(Arc::clone(&app)));
    runtime.shutdown_timeout(Duration::from_secs(1));
    app.scheduler.stop();
    result
}

/// Opens the models, and starts the engine.
fn open_app(options: ServeOptions, catalog: Arc<Catalog>) -> Result<App, ServeError> {
    if options.models.is_empty() {
        return Err(ServeError::NoModel);
    }
    for (index, (name, _)) in options.models.iter().enumerate() {
        if options.models[..index].iter().any(|(other, _)| other == name) {
            return Err(ServeError::SameName { name: name.clone() });
        }
    }
    let models = Models::open(&catalog, &options.models)?;
    let engine = engine_options(&options, &models)?;
    let metrics = Arc::new(Metrics::new());
    let scheduler = Scheduler::start(engine, Arc::clone(catalog.pool()), Arc::clone(&metrics))?;
    let sessions = Sessions::new(catalog, options.limits.session_idle, options.limits.sessions);
    let routes = paths(&options);
    Ok(Arc::new(AppState::new(options, models, sessions, scheduler, metrics, routes)))
}

/// Loads the models' tokenizers and weights beside the first requests.
fn warm_up(app: &App) {
    let app = Arc::clone(app);
    std::thread::spawn(move || {
        for model in app.models.iter() {
            // A vindex without weights is served for browsing; a request for more gets an error.
            let _ = model.language();
        }
    });
}

/// Returns the bounds of the engine, for the memory that there is.
fn engine_options(options: &ServeOptions, models: &Models) -> Result<EngineOptions, ServeError> {
    let limits = options.engine;
    let page =
        models.iter().map(|model| page_bytes(model.spec(), limits.key_values)).max().unwrap_or(1).max(1)
            as u64;
    let available = memory::available_bytes();
    let share = available.map_or(1 << 30, |available| available / SHARE_OF_MEMORY).min(MOST_BYTES);
    let wanted = limits.key_value_bytes.unwrap_or(share);
    if let Some(available) = available.filter(|_| limits.check_memory)
        && wanted > available.saturating_sub(HEADROOM)
    {
        return Err(ServeError::Memory { wanted, available });
    }
    // No more than all places can fill.
    let context = models.iter().map(|model| model.spec().context_length).max().unwrap_or(0);
    let enough = context.div_ceil(PAGE).saturating_mul(limits.concurrent * 2);
    let pages = usize::try_from(wanted / page).unwrap_or(usize::MAX).clamp(1, enough.max(1));
    Ok(EngineOptions {
        concurrent: limits.concurrent.max(1),
        waiting: limits.waiting,
        pages,
        key_values: limits.key_values,
        share_prefixes: limits.share_prefixes,
    })
}

/// Waits until the process is asked to end.
async fn termination() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
