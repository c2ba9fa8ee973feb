//! Calls to other brokers of the cluster, by broker name. The background thread makes them; name servers know the
//! addresses.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::body::ClusterInfo;
use oxmq_protocol::requests::request;
use oxmq_protocol::{RemotingCommand, json};
use oxmq_remoting::{CallError, RemotingClient};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::broker::Broker;

/// Calls that may wait for the background thread, and that may be under way.
const CALLS_MAX: usize = 1024;
const NAME_SERVER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long addresses are believed; the original asks every 5 s.
const ADDRS_FRESH: Duration = Duration::from_secs(5);

/// Why another broker gave no answer.
#[derive(Debug, Error)]
pub(crate) enum PeerError {
    #[error("cannot find addr for broker {0}")]
    Unknown(String),
    #[error("too many calls to other brokers are under way")]
    Busy,
    #[error(transparent)]
    Call(#[from] CallError),
}

pub(crate) struct Peers {
    calls: mpsc::Sender<PeerCall>,
    waiting: Mutex<Option<mpsc::Receiver<PeerCall>>>,
}

struct PeerCall {
    broker_name: String,
    request: RemotingCommand,
    timeout: Duration,
    answer: oneshot::Sender<Result<RemotingCommand, PeerError>>,
}

impl Default for Peers {
    fn default() -> Peers {
        let (calls, waiting) = mpsc::channel(CALLS_MAX);
        Peers {
            calls,
            waiting: Mutex::new(Some(waiting)),
        }
    }
}

impl Peers {
    /// The answer of the master of that name, whatever its code.
    pub(crate) async fn call(
        &self,
        broker_name: &str,
        request: RemotingCommand,
        timeout: Duration,
    ) -> Result<RemotingCommand, PeerError> {
        let (answer, answered) = oneshot::channel();
        let call = PeerCall {
            broker_name: broker_name.to_owned(),
            request,
            timeout,
            answer,
        };
        self.calls.try_send(call).map_err(|_| PeerError::Busy)?;
        // The background thread drops what it cannot do any more when it ends.
        answered.await.unwrap_or(Err(PeerError::Busy))
    }
}

/// Makes the calls, on the thread that talks to name servers. Ends with that thread.
pub(crate) async fn serve(broker: Arc<Broker>, client: RemotingClient, name_servers: Vec<String>) {
    let Some(mut calls) = broker.peers.waiting.lock().take() else {
        return;
    };
    let addrs = Rc::new(Addrs {
        client: client.clone(),
        name_servers,
        known: RefCell::default(),
        asked_at: Cell::new(None),
        asking: tokio::sync::Mutex::new(()),
    });
    let under_way = Arc::new(Semaphore::new(CALLS_MAX));
    while let Some(mut call) = calls.recv().await {
        let Ok(permit) = Arc::clone(&under_way).acquire_owned().await else {
            return;
        };
        let (client, addrs) = (client.clone(), Rc::clone(&addrs));
        spawn_local(async move {
            let answer = match addrs.of(&call.broker_name).await {
                Some(addr) => {
                    call.request.header.flag = 0;
                    let answer = client.invoke(&addr, call.request, call.timeout).await;
                    answer.map_err(PeerError::from)
                }
                None => Err(PeerError::Unknown(call.broker_name)),
            };
            // An error means that the one who asked has gone.
            let _ = call.answer.send(answer);
            drop(permit);
        });
    }
}

/// Addresses of masters by broker name.
struct Addrs {
    client: RemotingClient,
    name_servers: Vec<String>,
    known: RefCell<BTreeMap<String, String>>,
    asked_at: Cell<Option<Instant>>,
    /// Held by who asks, so that others wait for the same answer.
    asking: tokio::sync::Mutex<()>,
}

impl Addrs {
    async fn of(&self, broker_name: &str) -> Option<String> {
        let _asking = self.asking.lock().await;
        let is_fresh = self.asked_at.get().is_some_and(|at| at.elapsed() < ADDRS_FRESH);
        if !is_fresh || !self.known.borrow().contains_key(broker_name) {
            self.refresh().await;
        }
        self.known.borrow().get(broker_name).cloned()
    }

    /// While no name server answers, the addresses known last stay.
    async fn refresh(&self) {
        for addr in &self.name_servers {
            let call = self
                .client
                .call::<request::GetBrokerClusterInfo>(addr, &(), Bytes::new(), NAME_SERVER_TIMEOUT);
            let info = match call.await {
                Ok(reply) => json::from_slice::<ClusterInfo>(&reply.body).ok(),
                Err(error) => {
                    tracing::debug!(addr, %error, "a name server does not tell the brokers");
                    None
                }
            };
            if let Some(info) = info {
                let masters = info.broker_addr_table.into_values();
                let masters =
                    masters.filter_map(|broker| Some((broker.broker_name.clone(), broker.master()?.to_owned())));
                self.known.replace(masters.collect());
                self.asked_at.set(Some(Instant::now()));
                return;
            }
        }
    }
}
