//! Calling servers by address, with one connection for each.
//!
//! A [`RemotingClient`] is cheap to clone and may be used from any number of tasks of any tokio runtime. A connection is
//! opened by the first call to its address, shared by all, closed when idle, and opened again by the next call after it
//! has died; a call that was under way when it died fails.

mod connection;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use oxmq_protocol::{FieldSet, RemotingCommand, Request, SerializeType, response_code};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::error::CallError;
use crate::signing::Credentials;
use crate::tls::ClientTls;
use connection::ClientConnection;

/// Settings of a client.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    pub connect_timeout: Duration,
    /// A connection on which no byte moves for so long is closed.
    pub idle_timeout: Duration,
    /// How requests are written. Responses may come either way.
    pub serialize: SerializeType,
    /// Calls that may wait for one peer.
    pub in_flight_max: usize,
    /// With so many unsent bytes to one peer, further callers wait.
    pub out_bytes_high: usize,
    /// How long a one-way request may wait for a connection and for room.
    pub oneway_timeout: Duration,
    /// Names and values that every request carries besides its own fields.
    pub common_fields: Vec<(String, String)>,
    /// Connections use TLS.
    pub tls: Option<ClientTls>,
    /// Requests are signed.
    pub credentials: Option<Credentials>,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            connect_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(120),
            serialize: SerializeType::Json,
            in_flight_max: 65_535,
            out_bytes_high: 16 * 1024 * 1024,
            oneway_timeout: Duration::from_secs(3),
            common_fields: Vec::new(),
            tls: None,
            credentials: None,
        }
    }
}

/// Answers the requests that servers send to their clients (40, 39, 220, 221, 307, 309, 326).
pub trait RequestHandler: Send + Sync + 'static {
    /// `None` for a request that is ignored. The reply of a one-way request is dropped.
    fn handle(
        &self,
        addr: &str,
        request: RemotingCommand,
    ) -> Pin<Box<dyn Future<Output = Option<RemotingCommand>> + Send>>;
}

/// A successful response with its typed fields.
#[derive(Debug, Clone)]
pub struct Reply<R: Request> {
    pub fields: R::Reply,
    pub body: Bytes,
    pub remark: Option<String>,
    /// The peer's version ordinal.
    pub version: i32,
}

#[derive(Clone)]
pub struct RemotingClient(Arc<Inner>);

struct Inner {
    config: Arc<ClientConfig>,
    handler: Option<Arc<dyn RequestHandler>>,
    peers: Mutex<HashMap<String, Arc<Peer>>>,
}

/// One address. The lock is held while connecting, so that callers share the attempt.
struct Peer {
    addr: Arc<str>,
    connection: tokio::sync::Mutex<Option<Arc<ClientConnection>>>,
}

impl RemotingClient {
    pub fn new(config: ClientConfig, handler: Option<Arc<dyn RequestHandler>>) -> RemotingClient {
        RemotingClient(Arc::new(Inner {
            config: Arc::new(config),
            handler,
            peers: Mutex::default(),
        }))
    }

    /// Calls a request of the table; any response but success is an error.
    pub async fn call<R: Request>(
        &self,
        addr: &str,
        header: &R::Header,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Reply<R>, CallError> {
        let request = RemotingCommand::request::<R>(header, body);
        let response = self.invoke(addr, request, timeout).await?;
        if response.header.code != response_code::SUCCESS {
            return Err(CallError::Response {
                code: response.header.code,
                remark: response.header.remark.unwrap_or_default(),
            });
        }
        Ok(Reply {
            fields: R::Reply::read(&response.header.ext_fields)?,
            body: response.body,
            remark: response.header.remark,
            version: response.header.version,
        })
    }

    /// Sends a request and returns the response, whatever its code. The timeout covers connecting too.
    pub async fn invoke(
        &self,
        addr: &str,
        mut request: RemotingCommand,
        timeout: Duration,
    ) -> Result<RemotingCommand, CallError> {
        self.complete(&mut request);
        let deadline = Instant::now() + timeout;
        let timed_out = || CallError::Timeout {
            addr: addr.to_owned(),
            millis: timeout.as_millis() as u64,
        };
        let connection = self.connection(addr, deadline).await?;
        let sent = Instant::now();
        let called = timeout_at(deadline, connection.call(request)).await;
        called.unwrap_or_else(|_| {
            connection.suspect(sent);
            Err(timed_out())
        })
    }

    /// Hands a request that is not answered to the connection's writer.
    pub async fn oneway(&self, addr: &str, mut request: RemotingCommand) -> Result<(), CallError> {
        self.complete(&mut request);
        let timeout = self.0.config.oneway_timeout;
        let deadline = Instant::now() + timeout;
        let connection = self.connection(addr, deadline).await?;
        let sent = timeout_at(deadline, connection.oneway(request)).await;
        sent.unwrap_or_else(|_| {
            Err(CallError::Timeout {
                addr: addr.to_owned(),
                millis: timeout.as_millis() as u64,
            })
        })
    }

    /// Adds the common fields, and the signature of all that the request carries then.
    fn complete(&self, request: &mut RemotingCommand) {
        for (name, value) in &self.0.config.common_fields {
            request.header.ext_fields.set(name, value);
        }
        if let Some(credentials) = &self.0.config.credentials {
            credentials.sign(request);
        }
    }

    /// Closes the connection to an address, if there is one; calls that wait on it fail.
    pub fn close(&self, addr: &str) {
        let peer = self.0.peers.lock().remove(addr);
        if let Some(connection) = peer.and_then(|peer| peer.connection.try_lock().ok()?.take()) {
            connection.close();
        }
    }

    /// Writes what was handed over, then closes all connections. A later call opens a connection again.
    pub async fn shutdown(&self) {
        let peers = std::mem::take(&mut *self.0.peers.lock());
        for peer in peers.into_values() {
            let connection = peer.connection.lock().await.take();
            if let Some(connection) = connection {
                connection.finish(self.0.config.oneway_timeout).await;
            }
        }
    }

    async fn connection(&self, addr: &str, deadline: Instant) -> Result<Arc<ClientConnection>, CallError> {
        let peer = self.peer(addr);
        let connecting = async {
            let mut slot = peer.connection.lock().await;
            if let Some(open) = slot.as_ref().filter(|connection| connection.is_open()) {
                return Ok(Arc::clone(open));
            }
            let connection = self.connect(&peer.addr).await?;
            *slot = Some(Arc::clone(&connection));
            Ok(connection)
        };
        let limit = deadline.min(Instant::now() + self.0.config.connect_timeout);
        timeout_at(limit, connecting).await.unwrap_or_else(|_| {
            Err(CallError::Connect {
                addr: addr.to_owned(),
                source: std::io::ErrorKind::TimedOut.into(),
            })
        })
    }

    async fn connect(&self, addr: &Arc<str>) -> Result<Arc<ClientConnection>, CallError> {
        let connected = async {
            let stream = TcpStream::connect(&**addr).await?;
            stream.set_nodelay(true)?;
            let connection = ClientConnection::new(Arc::clone(addr), Arc::clone(&self.0.config));
            let handler = self.0.handler.clone();
            match &self.0.config.tls {
                None => connection.start(stream.into_split(), handler),
                Some(tls) => connection.start(tokio::io::split(tls.connect(addr, stream).await?), handler),
            }
            Ok(connection)
        };
        connected.await.map_err(|source| CallError::Connect {
            addr: addr.to_string(),
            source,
        })
    }

    fn peer(&self, addr: &str) -> Arc<Peer> {
        let mut peers = self.0.peers.lock();
        if let Some(peer) = peers.get(addr) {
            return Arc::clone(peer);
        }
        let peer = Arc::new(Peer {
            addr: addr.into(),
            connection: tokio::sync::Mutex::new(None),
        });
        peers.insert(addr.to_owned(), Arc::clone(&peer));
        peer
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for peer in self.peers.get_mut().values() {
            if let Ok(connection) = peer.connection.try_lock()
                && let Some(connection) = &*connection
            {
                connection.close();
            }
        }
    }
}
