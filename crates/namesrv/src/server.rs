//! A running name server: the tables behind their locks, the thread that looks for dead brokers and carries notices.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use oxmq_protocol::RemotingCommand;
use oxmq_protocol::requests::{NotifyMinBrokerIdHeader, request};
use oxmq_remoting::{
    ClientConfig, ConnectionHandle, RemotingClient, ServeError, ServerConfig, ServerHandle, TlsConfig, serve_commands,
};
use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::config::NamesrvConfig;
use crate::kv_config::{KvConfig, KvConfigError};
use crate::route_table::{ConnectionId, MinBrokerIdChange, Refused, Registered, Registration, RouteTable};

/// Notices of code 905 that wait to be sent. More are dropped: brokers also ask every second.
const NOTICES_MAX: usize = 4096;
const NOTICE_TIMEOUT: Duration = Duration::from_millis(300);
/// What requests under way get when the server stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

#[derive(Debug, Error)]
pub enum StartError {
    #[error("bindAddress \"{0}\" is not an address")]
    BindAddress(String),
    #[error(transparent)]
    KvConfig(#[from] KvConfigError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running name server. Dropping it stops it.
pub struct NamesrvHandle {
    server: Option<ServerHandle>,
    local_addr: SocketAddr,
    /// Dropped to stop the background thread.
    stop: Option<mpsc::Sender<Notice>>,
    background: Option<JoinHandle<()>>,
}

/// What all workers share.
pub(crate) struct NameServer {
    /// For work that goes on after a handler has returned.
    pub(crate) own: Weak<NameServer>,
    pub(crate) config: Arc<RwLock<NamesrvConfig>>,
    /// Held while settings change, until the file has them; readers of `config` do not wait for the disk.
    pub(crate) saving_config: Arc<Mutex<()>>,
    pub(crate) table: RwLock<RouteTable>,
    pub(crate) kv: Arc<KvConfig>,
    /// Connections over which brokers registered.
    brokers: Mutex<HashMap<ConnectionId, ConnectionHandle>>,
    notices: mpsc::WeakSender<Notice>,
    started: Instant,
}

/// A one-way request to a broker.
struct Notice {
    to: String,
    header: NotifyMinBrokerIdHeader,
}

/// Listens and serves. Returns when the port accepts.
pub fn start(config: NamesrvConfig) -> Result<NamesrvHandle, StartError> {
    let bind_address: IpAddr = config
        .bind_address
        .parse()
        .map_err(|_| StartError::BindAddress(config.bind_address.clone()))?;
    let kv = KvConfig::open(PathBuf::from(&config.kv_config_path))?;
    let mut serving = ServerConfig::new("namesrv", vec![(bind_address, config.listen_port).into()]);
    serving.workers = config.server_worker_threads;
    serving.idle_timeout_ms = config.server_channel_max_idle_time_seconds * 1000;
    serving.tls = Some(TlsConfig::of(&config));
    let (stop, notices) = mpsc::channel(NOTICES_MAX);
    let name_server = Arc::new_cyclic(|own| NameServer {
        own: Weak::clone(own),
        config: Arc::new(RwLock::new(config)),
        saving_config: Arc::default(),
        table: RwLock::default(),
        kv: Arc::new(kv),
        brokers: Mutex::default(),
        notices: stop.downgrade(),
        started: Instant::now(),
    });
    let server = serve_commands(serving, Arc::clone(&name_server))?;
    let local_addr = server.local_addrs()[0];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let background = thread::Builder::new()
        .name("namesrv-background".into())
        .spawn(move || runtime.block_on(name_server.run_background(notices)))?;
    Ok(NamesrvHandle {
        server: Some(server),
        local_addr,
        stop: Some(stop),
        background: Some(background),
    })
}

impl NamesrvHandle {
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops accepting, answers what is under way, closes the connections and joins the threads.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for NamesrvHandle {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(server) = self.server.take() {
            server.shutdown(SHUTDOWN_GRACE);
        }
        if let Some(background) = self.background.take() {
            // A panic there was reported by the panic hook; there is nothing left to stop.
            let _ = background.join();
        }
    }
}

impl NameServer {
    /// The clock of the route table.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub(crate) fn register(
        &self,
        connection: ConnectionHandle,
        registration: Registration,
    ) -> Result<Registered, Refused> {
        let mut registered = self.table.write().register(self.now_ms(), registration)?;
        self.brokers.lock().insert(connection.id(), connection);
        self.announce(std::mem::take(&mut registered.changes));
        Ok(registered)
    }

    pub(crate) fn connection_closed(&self, connection: ConnectionId) {
        if self.brokers.lock().remove(&connection).is_none() {
            return;
        }
        let changes = self.table.write().connection_closed(connection);
        info!(
            connection,
            "connection of a broker closed, its brokers are unregistered"
        );
        self.announce(changes);
    }

    /// Tells brokers that the leader of their group changed, where that is wanted.
    pub(crate) fn announce(&self, changes: Vec<MinBrokerIdChange>) {
        if changes.is_empty() || !self.config.read().notify_min_broker_id_changed {
            return;
        }
        let Some(notices) = self.notices.upgrade() else { return };
        for MinBrokerIdChange { notice, to } in changes {
            for to in to {
                let header = notice.clone();
                if notices.try_send(Notice { to, header }).is_err() {
                    warn!("too many notices wait to be sent, one is dropped");
                }
            }
        }
    }

    /// Until the handle is dropped.
    async fn run_background(self: Arc<Self>, mut notices: mpsc::Receiver<Notice>) {
        let client_config = ClientConfig {
            connect_timeout: NOTICE_TIMEOUT,
            oneway_timeout: NOTICE_TIMEOUT,
            tls: TlsConfig::of(&*self.config.read()).client(),
            ..ClientConfig::default()
        };
        let client = RemotingClient::new(client_config, None);
        let interval = || Duration::from_millis(self.config.read().scan_not_active_broker_interval_ms);
        let mut next_scan = Instant::now() + interval();
        loop {
            tokio::select! {
                notice = notices.recv() => match notice {
                    Some(notice) => {
                        let client = client.clone();
                        tokio::spawn(async move { notice.send(&client).await });
                    }
                    None => break,
                },
                () = tokio::time::sleep_until(next_scan.into()) => {
                    self.drop_expired();
                    next_scan = Instant::now() + interval();
                }
            }
        }
        client.shutdown().await;
    }

    fn drop_expired(&self) {
        let expired = self.table.write().expire(self.now_ms());
        for addr in &expired.addrs {
            warn!(broker_addr = addr, "broker was not heard in time and is unregistered");
        }
        for connection in &expired.connections {
            if let Some(connection) = self.brokers.lock().remove(connection) {
                // It may be closed already, which is as good.
                let _ = connection.close();
            }
        }
        self.announce(expired.changes);
    }
}

impl Notice {
    async fn send(self, client: &RemotingClient) {
        let request = RemotingCommand::request::<request::NotifyMinBrokerIdChange>(&self.header, Bytes::new());
        if let Err(error) = client.oneway(&self.to, request).await {
            warn!(broker_addr = self.to, %error, "broker cannot be told about the smallest id of its group");
        }
    }
}
