//! The socket of an accepted connection, and TLS around it.
//!
//! Where TLS is served, the first byte that comes decides what a connection is. TLS is made here and not by a task of its
//! own, so that a turn reads and writes TLS connections as it does plain ones: one call of the system for what there is.
//!
//! A handshake is bounded in time ([`handshake_timeout_ms`](crate::ServerConfig::handshake_timeout_ms)), in memory (each
//! counts as [`HANDSHAKE_BYTES`] among the worker's unfinished frames), and in what it keeps from others: a worker takes
//! one step of one handshake per turn.

use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use rustls::ServerConnection;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;

use crate::connection::Connection;
use crate::service::CloseReason;
use crate::tls::ServerTls;
use crate::worker::Worker;

/// The first byte of a TLS handshake. A frame would be larger than any with it.
const HANDSHAKE_RECORD: u8 = 0x16;
/// One read of encrypted bytes.
const READ_BYTES: usize = 32 * 1024;
/// Output that is encrypted at once.
const WRITE_BYTES: usize = 64 * 1024;
/// What a connection may keep of an unfinished handshake: as much as the longest message of one.
const HANDSHAKE_BYTES: usize = 64 * 1024;

pub(crate) struct Stream {
    tcp: TcpStream,
    layer: Layer,
}

enum Layer {
    /// Nothing was read yet: the first byte makes it one of the others.
    Unknown(Arc<ServerTls>),
    Plain,
    Tls(Box<Tls>),
}

struct Tls {
    session: ServerConnection,
    /// Read from the socket and not yet decrypted, for want of room or of a turn.
    encrypted: BytesMut,
    /// Until it is finished.
    handshake: Option<Handshake>,
}

/// A handshake that is under way. It counts among the worker's unfinished frames as long as it lives.
struct Handshake {
    worker: Rc<Worker>,
    since_tick: u32,
}

/// Whether a connection may take the next step of its handshake.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum HandshakeTurn {
    #[default]
    NotAsked,
    Asked,
    Granted,
}

impl Stream {
    pub(crate) fn new(tcp: TcpStream, tls: Option<&Arc<ServerTls>>) -> Stream {
        let layer = tls.map_or(Layer::Plain, |tls| Layer::Unknown(Arc::clone(tls)));
        Stream { tcp, layer }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// There is something to write that no call of `try_write` was given.
    pub(crate) fn wants_write(&self) -> bool {
        matches!(&self.layer, Layer::Tls(tls) if tls.session.wants_write())
    }

    /// With TLS, bytes may be taken that the socket has not taken yet: then it `wants_write`.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Layer::Tls(tls) = &mut self.layer else {
            return self.tcp.try_write(bytes);
        };
        tls.write_records(&self.tcp)?;
        let count = tls.session.writer().write(&bytes[..bytes.len().min(WRITE_BYTES)])?;
        match tls.write_records(&self.tcp) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    /// The worker's tick in which its handshake began, while that lasts.
    pub(crate) fn handshake_since(&self) -> Option<u32> {
        match &self.layer {
            Layer::Tls(tls) => tls.handshake.as_ref().map(|handshake| handshake.since_tick),
            _ => None,
        }
    }

    /// Tells the peer that nothing more will come.
    pub(crate) fn shutdown_write(&mut self) {
        self.close_notify();
        // An error means that the connection is gone, which the next read will tell.
        let _ = SockRef::from(&self.tcp).shutdown(std::net::Shutdown::Write);
    }

    /// The part of it that TLS has; the socket is to be closed next.
    pub(crate) fn close_notify(&mut self) {
        if let Layer::Tls(tls) = &mut self.layer {
            tls.session.send_close_notify();
            // The end of the socket says the same.
            let _ = tls.write_records(&self.tcp);
        }
    }

    fn poll_read(
        &mut self,
        connection: &Rc<Connection>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Layer::Unknown(served) = &self.layer {
            let before = space.filled().len();
            ready!(Pin::new(&mut self.tcp).poll_read(cx, space))?;
            let came = &space.filled()[before..];
            self.layer = match came.first() {
                None => return Poll::Ready(Ok(())),
                Some(&HANDSHAKE_RECORD) => {
                    let tls = Tls::begin(served, connection.worker(), came)?;
                    space.set_filled(before);
                    Layer::Tls(Box::new(tls))
                }
                Some(_) if served.is_enforcing => return Poll::Ready(Err(plain_refused())),
                Some(_) => Layer::Plain,
            };
        }
        match &mut self.layer {
            Layer::Tls(tls) => tls.poll_read(&mut self.tcp, connection, cx, space),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl Tls {
    fn begin(served: &ServerTls, worker: &Rc<Worker>, came: &[u8]) -> io::Result<Tls> {
        // They leave the other half to frames.
        if worker.input_bytes.get() + HANDSHAKE_BYTES > worker.config.worker_in_bytes_max / 2 {
            return Err(io::Error::other(CloseReason::InputMemory));
        }
        Ok(Tls {
            session: served.begin().map_err(broken)?,
            encrypted: came.into(),
            handshake: Some(Handshake::begin(worker)),
        })
    }

    /// Fills `space`, as a socket would; nothing is the end.
    fn poll_read(
        &mut self,
        tcp: &mut TcpStream,
        connection: &Rc<Connection>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = space.filled().len();
        loop {
            match self.session.reader().read(space.initialize_unfilled()) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(count) => {
                    space.advance(count);
                    if space.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            if !self.encrypted.is_empty() {
                if self.handshake.is_some() && !has_turn(connection) {
                    return Poll::Pending;
                }
                self.decrypt()?;
                continue;
            }
            if space.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            let count = ready!(self.poll_fill(tcp, connection.worker(), cx))?;
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads from the socket. Memory for it is kept only while there is something in it.
    fn poll_fill(&mut self, tcp: &mut TcpStream, worker: &Worker, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.encrypted.capacity() == 0 {
            self.encrypted = worker.buffers.take();
        }
        self.encrypted.reserve(READ_BYTES);
        let read = pin!(tcp.read_buf(&mut (&mut self.encrypted).limit(READ_BYTES))).poll(cx);
        if self.encrypted.is_empty() {
            worker.buffers.give_back(std::mem::take(&mut self.encrypted));
        }
        read
    }

    /// Hands a piece of what was read to the session, and takes the next step of its protocol.
    fn decrypt(&mut self) -> io::Result<()> {
        let taken = self.session.read_tls(&mut &self.encrypted[..])?;
        self.encrypted.advance(taken);
        self.session.process_new_packets().map_err(broken)?;
        if taken == 0 {
            // Nothing may follow the end that the peer has announced.
            self.encrypted.clear();
        }
        if !self.session.is_handshaking() {
            self.handshake = None;
        }
        Ok(())
    }

    fn write_records(&mut self, tcp: &TcpStream) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut Output(tcp))?;
        }
        Ok(())
    }
}

/// Whether the connection may go on with its handshake; asks for it if not.
fn has_turn(connection: &Rc<Connection>) -> bool {
    let turn = connection.handshake_turn();
    match turn.get() {
        HandshakeTurn::Granted => {
            turn.set(HandshakeTurn::NotAsked);
            return true;
        }
        HandshakeTurn::NotAsked => {
            turn.set(HandshakeTurn::Asked);
            connection.worker().queue_handshake(Rc::clone(connection));
        }
        HandshakeTurn::Asked => {}
    }
    false
}

fn plain_refused() -> io::Error {
    io::Error::other(CloseReason::Refused(
        "a plain connection, and tls.server.mode is enforcing",
    ))
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::other(CloseReason::Tls(error.to_string()))
}

impl Handshake {
    fn begin(worker: &Rc<Worker>) -> Handshake {
        worker.input_bytes.update(|bytes| bytes + HANDSHAKE_BYTES);
        Handshake {
            since_tick: worker.tick.get(),
            worker: Rc::clone(worker),
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.worker.input_bytes.update(|bytes| bytes - HANDSHAKE_BYTES);
    }
}

/// The plain bytes that come over a connection.
pub(crate) struct Input<'a>(pub(crate) &'a Rc<Connection>);

impl AsyncRead for Input<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let connection = self.0;
        let (read, wants_write) = {
            let mut stream = connection.stream().borrow_mut();
            let Some(stream) = stream.as_mut() else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            if let Layer::Plain = stream.layer {
                return Pin::new(&mut stream.tcp).poll_read(cx, space);
            }
            (stream.poll_read(connection, cx, space), stream.wants_write())
        };
        if wants_write {
            connection.flush_records(cx);
        }
        read
    }
}

/// A socket as rustls writes to it.
struct Output<'a>(&'a TcpStream);

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
