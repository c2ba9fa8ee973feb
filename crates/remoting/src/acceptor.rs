//! The thread that accepts connections and deals each to the worker that has the fewest.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::warn;

use crate::log_limit::LogLimit;
use crate::worker::Mail;

/// As Java's servers (spec: protocol.md §1.3).
const BACKLOG: i32 = 1024;

/// Pause after an error such as "too many open files", which would come back at once.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The way to one worker.
pub(crate) struct Lane {
    pub(crate) mailbox: mpsc::Sender<Mail>,
    pub(crate) load: Arc<AtomicUsize>,
}

pub(crate) struct Acceptor {
    pub(crate) connections_max: usize,
    pub(crate) lanes: Vec<Lane>,
}

pub(crate) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Acceptor {
    pub(crate) fn run(self, listeners: Vec<TcpListener>, mut stop: watch::Receiver<Option<Instant>>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .expect("a runtime needs a few file descriptors, which a server that has just started has");
        runtime.block_on(async {
            let acceptor = Rc::new(self);
            for listener in listeners {
                tokio::task::spawn_local(Rc::clone(&acceptor).listen(listener));
            }
            // An error means that the server's handle is gone, which stops the server as well.
            let _ = stop.wait_for(Option::is_some).await;
        });
    }

    async fn listen(self: Rc<Self>, listener: TcpListener) {
        let (refused, failed) = (LogLimit::default(), LogLimit::default());
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return warn!(%error, "cannot wait for connections"),
        };
        loop {
            match listener.accept().await {
                Ok((stream, peer_addr)) => {
                    if let Err(why) = self.deal(stream, peer_addr).await
                        && let Some(suppressed) = refused.admit()
                    {
                        warn!(%peer_addr, why, suppressed, "connection refused");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if let Some(suppressed) = failed.admit() {
                        warn!(%error, suppressed, "cannot accept connections");
                    }
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    async fn deal(&self, stream: TcpStream, peer_addr: SocketAddr) -> Result<(), &'static str> {
        let open: usize = self.lanes.iter().map(Lane::load).sum();
        if open >= self.connections_max {
            return Err("too many connections");
        }
        // Taken out of this thread's runtime; the worker registers it with its own.
        let Ok(stream) = stream.set_nodelay(true).and_then(|()| stream.into_std()) else {
            return Err("the peer has gone");
        };
        let lane = self
            .lanes
            .iter()
            .filter(|lane| !lane.mailbox.is_closed())
            .min_by_key(|lane| lane.load());
        let lane = lane.ok_or("no worker runs")?;
        lane.load.fetch_add(1, Ordering::Relaxed);
        let sent = lane.mailbox.send(Mail::Adopt(stream, peer_addr)).await;
        sent.map_err(|_| {
            lane.load.fetch_sub(1, Ordering::Relaxed);
            "its worker has stopped"
        })
    }
}

impl Lane {
    fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }
}
