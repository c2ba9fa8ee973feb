//! Starting and stopping a server: its listeners, its workers, its settings.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::error;

use crate::acceptor::{self, Acceptor, Lane};
use crate::command::{CommandHandler, CommandService};
use crate::log_limit::LogLimit;
use crate::service::ServiceFactory;
use crate::tls::{ServerTls, TlsConfig, TlsError};
use crate::worker::{self, MAILBOX_MAX, WorkerSeed};

const READ_BUFFER_BYTES_MIN: usize = 4 * 1024;

/// Settings of one server. [`ServerConfig::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Names the threads: `<name>-worker-0`.
    pub name: String,
    pub listen: Vec<SocketAddr>,
    pub workers: usize,
    /// A connection on which no byte moves for so long is closed.
    pub idle_timeout_ms: u64,
    /// Further connections are closed as soon as they are accepted.
    pub connections_max: usize,
    /// One buffer per worker; at most so much is read from a connection per turn.
    pub read_buffer_bytes: usize,
    /// A connection with so much waiting output is not read until half of it is gone.
    pub out_bytes_high: usize,
    /// With so much output waiting on all connections of a worker, each that has some is not read until it is gone.
    pub worker_out_bytes_high: usize,
    /// A connection with so many requests under way is not read until half of them are answered.
    pub in_flight_max: usize,
    /// With so many bytes of unfinished frames on one worker, connections that need more for a large frame are closed.
    pub worker_in_bytes_max: usize,
    /// What listeners do with TLS; `None` leaves it to frames to say that it is none.
    pub tls: Option<TlsConfig>,
    /// A TLS handshake that takes longer ends the connection.
    pub handshake_timeout_ms: u64,
}

impl ServerConfig {
    pub fn new(name: impl Into<String>, listen: Vec<SocketAddr>) -> ServerConfig {
        ServerConfig {
            name: name.into(),
            listen,
            workers: thread::available_parallelism().map_or(1, usize::from),
            idle_timeout_ms: 120_000,
            connections_max: 65_536,
            read_buffer_bytes: 128 * 1024,
            out_bytes_high: 1024 * 1024,
            worker_out_bytes_high: 64 * 1024 * 1024,
            in_flight_max: 32_768,
            worker_in_bytes_max: 128 * 1024 * 1024,
            tls: None,
            handshake_timeout_ms: 10_000,
        }
    }
}

#[derive(Debug, Error)]
pub enum ServeError {
    #[error("cannot listen on {addr}: {source}")]
    Bind { addr: SocketAddr, source: io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A running server. Dropping it stops it at once.
pub struct ServerHandle {
    local_addrs: Vec<SocketAddr>,
    stop: watch::Sender<Option<Instant>>,
    threads: Vec<JoinHandle<()>>,
    loads: Vec<Arc<AtomicUsize>>,
}

/// Binds all addresses, then starts the workers and accepts connections.
pub fn serve(mut config: ServerConfig, factory: ServiceFactory) -> Result<ServerHandle, ServeError> {
    config.workers = config.workers.max(1);
    config.read_buffer_bytes = config.read_buffer_bytes.max(READ_BUFFER_BYTES_MIN);
    let tls = match &config.tls {
        Some(settings) => ServerTls::open(settings)?,
        None => None,
    };
    let (tls, files) = tls.unzip();
    let mut listeners = Vec::new();
    let mut local_addrs = Vec::new();
    for &addr in &config.listen {
        let bound = acceptor::bind(addr).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (local_addr, listener) = bound.map_err(|source| ServeError::Bind { addr, source })?;
        local_addrs.push(local_addr);
        listeners.push(listener);
    }
    let config = Arc::new(config);
    let violations = Arc::new(LogLimit::default());
    let (stop, stopped) = watch::channel(None);
    let mut server = ServerHandle {
        local_addrs,
        stop,
        threads: Vec::new(),
        loads: Vec::new(),
    };
    let mut lanes = Vec::new();
    for id in 0..config.workers {
        let (mailbox, mail) = mpsc::channel(MAILBOX_MAX);
        let load = Arc::new(AtomicUsize::new(0));
        let seed = WorkerSeed {
            id,
            config: Arc::clone(&config),
            factory: Arc::clone(&factory),
            mailbox: mailbox.clone(),
            mail,
            load: Arc::clone(&load),
            violations: Arc::clone(&violations),
            tls: tls.clone(),
            stop: stopped.clone(),
        };
        server.spawn(format!("{}-worker-{id}", config.name), move || worker::run(seed))?;
        server.loads.push(Arc::clone(&load));
        lanes.push(Lane { mailbox, load });
    }
    if let Some(files) = files {
        let stopped = stopped.clone();
        server.spawn(format!("{}-tls", config.name), move || files.run(stopped))?;
    }
    let acceptor = Acceptor {
        connections_max: config.connections_max,
        lanes,
    };
    server.spawn(format!("{}-accept", config.name), move || {
        acceptor.run(listeners, stopped)
    })?;
    Ok(server)
}

/// Serves decoded commands with one handler that all workers share.
pub fn serve_commands<H>(config: ServerConfig, handler: Arc<H>) -> Result<ServerHandle, ServeError>
where
    H: CommandHandler + Send + Sync,
{
    serve(
        config,
        Arc::new(move |_| Rc::new(CommandService::new(Arc::clone(&handler)))),
    )
}

impl ServerHandle {
    /// The bound addresses, in the order of [`ServerConfig::listen`], with the ports that the system chose.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }

    /// Stops accepting and reading, waits up to `grace` for the replies that are under way, closes the connections and
    /// joins the threads. Blocks: from async code use `spawn_blocking`.
    pub fn shutdown(mut self, grace: Duration) {
        self.stop_within(grace);
    }

    fn stop_within(&mut self, grace: Duration) {
        self.stop.send_replace(Some(Instant::now() + grace));
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a thread of the server had panicked");
            }
        }
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), ServeError> {
        let thread = thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(ServeError::Thread)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.stop_within(Duration::ZERO);
    }
}
