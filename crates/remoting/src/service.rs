//! What a server does with the frames of its connections.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use oxmq_protocol::{Frame, FrameError, HeaderError};
use thiserror::Error;

use crate::command::ReplyTo;
use crate::connection::Connection;
use crate::worker::WorkerContext;

/// The frames of all connections of one worker. One instance per worker, never called by two at a time; what workers
/// share stands behind `Arc`s inside.
///
/// A *turn* is what one poll of the sockets brought: `on_frame` for every frame of every ready connection, then one
/// `on_turn_end`, then one write per connection that has output. So a service that stages its frames and acts in
/// `on_turn_end` batches over connections. One read brings at most [`ServerConfig::read_buffer_bytes`]
/// (or one larger frame) per connection and turn.
///
/// No method may block.
///
/// [`ServerConfig::read_buffer_bytes`]: crate::ServerConfig::read_buffer_bytes
pub trait Service: 'static {
    fn on_open(&self, _connection: &Rc<Connection>) {}

    /// One complete frame. It may write replies, stage work for `on_turn_end`, or start tasks with
    /// `tokio::task::spawn_local`. An error closes the connection.
    fn on_frame(&self, connection: &Rc<Connection>, frame: Frame<'_>) -> Result<(), CloseReason>;

    /// All connections that were ready in this turn have been read. Also follows `on_wake` and writes made from tasks,
    /// so there may be nothing to do.
    fn on_turn_end(&self) {}

    /// [`WorkerWaker::wake`](crate::WorkerWaker::wake) was called, once or often, since the last time.
    fn on_wake(&self) {}

    /// A request was answered with this code, or would have been were it not one-way; `taken` is false when the connection
    /// takes no output any more. Must not write to connections.
    fn on_reply(&self, _connection: &Connection, _to: &ReplyTo, _code: i32, _taken: bool) {}

    /// The last event of a connection; writes to it are ignored from now on.
    fn on_close(&self, _connection: &Rc<Connection>) {}

    /// The server stops: no more frames will come. Requests that wait for an event (long polls) should be answered
    /// now; a reply that is under way still has until the deadline of the shutdown.
    fn on_shutdown(&self) {}

    /// Requests whose reply is still to come. Shutdown waits for 0.
    fn in_flight(&self) -> usize {
        0
    }
}

/// Makes the service of one worker, on the worker's thread.
pub type ServiceFactory = Arc<dyn Fn(WorkerContext) -> Rc<dyn Service> + Send + Sync>;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CloseReason {
    #[error("the peer closed it")]
    Peer,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Header(#[from] HeaderError),
    #[error("{0}")]
    Io(io::ErrorKind),
    #[error("nothing was read or written for too long")]
    Idle,
    /// Many connections hold large unfinished frames; this one was about to hold another.
    #[error("unfinished frames take too much memory")]
    InputMemory,
    /// A handshake failed, or what came after it was not TLS.
    #[error("TLS: {0}")]
    Tls(String),
    #[error("closed by this server")]
    Local,
    #[error("the server stops")]
    Shutdown,
    /// What a service has against its peer.
    #[error("{0}")]
    Refused(&'static str),
}

impl CloseReason {
    /// Whether the peer broke the protocol, which is worth a line in the log.
    pub(crate) fn is_violation(&self) -> bool {
        matches!(
            self,
            CloseReason::Frame(_)
                | CloseReason::Header(_)
                | CloseReason::InputMemory
                | CloseReason::Tls(_)
                | CloseReason::Refused(_)
        )
    }
}
