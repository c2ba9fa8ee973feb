//! What the tests of several crates need: a raw socket to misbehave with, patience, and an eye on memory.
//!
//! Tests of the whole system are in `it/`: name server, broker and client of one process, and peers that misbehave.
//! Programs of other clients are in `interop/`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

pub mod golden;
mod pki;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use oxmq_protocol::{Frame, RemotingCommand, SerializeType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use pki::{Authority, Pair, write_roots};

/// For anything that should happen at once, on a machine under load.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A blocking socket that speaks frames when asked to.
pub struct RawClient {
    pub socket: TcpStream,
    input: BytesMut,
    next_opaque: i32,
    /// Requests of the server, in their order.
    pub inbound: Vec<RemotingCommand>,
    /// What a failure names.
    last_request: String,
}

impl RawClient {
    pub fn connect(addr: SocketAddr) -> RawClient {
        let socket = TcpStream::connect(addr).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        RawClient {
            socket,
            input: BytesMut::new(),
            next_opaque: 1,
            inbound: Vec::new(),
            last_request: String::new(),
        }
    }

    /// The response to a request; a panic if the server closes instead.
    pub fn call(&mut self, request: &RemotingCommand) -> RemotingCommand {
        let response = self.try_call(request, SerializeType::Json);
        response.expect("a response rather than a closed connection")
    }

    /// `None` when the server closes the connection.
    pub fn try_call(&mut self, request: &RemotingCommand, serialize: SerializeType) -> Option<RemotingCommand> {
        let mut request = request.clone();
        request.header.opaque = self.next_opaque;
        self.next_opaque += 1;
        self.last_request = format!("{:.2000}", format!("{request:?}"));
        // A server that has closed already is told by the read.
        let _ = self.socket.write_all(&encode(&request, serialize));
        loop {
            let command = self.try_receive()?;
            if !command.header.is_response() {
                self.inbound.push(command);
            } else if command.header.opaque == request.header.opaque {
                return Some(command);
            }
        }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub fn send(&mut self, command: &RemotingCommand) {
        self.write(&encode(command, SerializeType::Json));
    }

    /// What the server sends next.
    pub fn receive(&mut self) -> RemotingCommand {
        self.try_receive().expect("a frame rather than a closed connection")
    }

    /// `None` when the server closes the connection.
    pub fn try_receive(&mut self) -> Option<RemotingCommand> {
        loop {
            if let Some((frame, taken)) = Frame::peek(&self.input).unwrap() {
                let command = RemotingCommand::decode(frame).unwrap();
                let _ = self.input.split_to(taken);
                return Some(command);
            }
            let mut piece = [0; 64 * 1024];
            match self.socket.read(&mut piece) {
                Ok(0) => return None,
                Ok(count) => self.input.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!(
                    "neither a frame nor a closed connection: {error}; last request: {}",
                    self.last_request
                ),
            }
        }
    }

    pub fn assert_closed(&mut self) {
        assert_eq!(self.try_receive(), None);
    }
}

pub fn encode(command: &RemotingCommand, serialize: SerializeType) -> BytesMut {
    let mut out = BytesMut::new();
    command.encode(serialize, &mut out);
    out
}

/// Polls a condition until it holds.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The same, for a condition that needs no name.
#[track_caller]
pub fn eventually(condition: impl FnMut() -> bool) {
    wait_for("it to become so", condition);
}

/// Raises the limit of open files as far as it goes, and tells it.
pub fn raise_files_limit() -> usize {
    let hard = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: hard,
        maximum: hard,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    hard.map_or(usize::MAX, |files| files as usize)
}

/// Memory of this process that no file backs.
pub fn anonymous_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}
