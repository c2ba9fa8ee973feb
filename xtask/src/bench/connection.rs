//! Nonblocking connections on one epoll instance, for the load generator and the floor server.
//!
//! Sockets are registered edge-triggered in both directions: nothing has to be re-registered when a write stops
//! short, and whoever is told that a socket is ready reads until a read stops short.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;

const INPUT_BYTES_MIN: usize = 64 << 10;
const EVENTS_MAX: usize = 256;
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) input: Input,
    pub(crate) output: Output,
}

impl Connection {
    pub(crate) fn connect(addr: &str) -> anyhow::Result<Self> {
        Self::new(TcpStream::connect(addr).with_context(|| format!("cannot connect to {addr}"))?)
    }

    pub(crate) fn new(stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: Input::default(),
            output: Output::default(),
        })
    }

    /// Reads once. True: there may be more to read.
    pub(crate) fn fill(&mut self) -> anyhow::Result<bool> {
        self.input.fill(&mut self.stream)
    }

    /// Writes as much of the output as the socket takes.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        self.output.flush(&mut self.stream)
    }
}

/// Bytes received and not consumed yet: `buffer[start..end]`.
#[derive(Default)]
pub(crate) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, length: usize) {
        self.start += length;
        debug_assert!(self.start <= self.end);
    }

    fn fill(&mut self, stream: &mut TcpStream) -> anyhow::Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() - self.end < INPUT_BYTES_MIN / 2 {
            self.buffer.resize(self.buffer.len().max(INPUT_BYTES_MIN / 2) * 2, 0);
        }
        match stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => bail!("the peer closed the connection"),
            Ok(length) => {
                self.end += length;
                Ok(self.end == self.buffer.len())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Bytes to send: `bytes[written..]` still has to go.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    written: usize,
}

impl Output {
    fn flush(&mut self, stream: &mut TcpStream) -> anyhow::Result<()> {
        while self.written < self.bytes.len() {
            match stream.write(&self.bytes[self.written..]) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.bytes.clear();
        self.written = 0;
        Ok(())
    }
}

/// An epoll instance; what is registered is known by a token.
pub(crate) struct Poll {
    fd: OwnedFd,
}

impl Poll {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            fd: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    pub(crate) fn add(&self, source: impl AsFd, token: usize) -> anyhow::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        Ok(epoll::add(&self.fd, source, EventData::new_u64(token as u64), flags)?)
    }

    /// Waits until something is ready, at most this long, and replaces `tokens` by what is.
    pub(crate) fn wait(&self, tokens: &mut Vec<usize>, timeout: Duration) -> anyhow::Result<()> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_MAX];
        tokens.clear();
        match epoll::wait(&self.fd, &mut events, Some(&timeout)) {
            Ok((ready, _)) => tokens.extend(ready.iter().map(|event| event.data.u64() as usize)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Sends one request on a connection of its own and returns the frame that answers it.
pub(crate) fn call(addr: &str, request: &[u8]) -> anyhow::Result<Vec<u8>> {
    Caller::connect(addr)?.call(request)
}

/// A connection with one request at a time.
pub(crate) struct Caller {
    stream: TcpStream,
}

impl Caller {
    pub(crate) fn connect(addr: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr.parse()?, CALL_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CALL_TIMEOUT))?;
        Ok(Self { stream })
    }

    /// The frame that answers this request.
    pub(crate) fn call(&mut self, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.stream.write_all(request)?;
        let mut frame = vec![0; 4];
        self.stream.read_exact(&mut frame)?;
        let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
        (&mut self.stream).take(length.into()).read_to_end(&mut frame)?;
        Ok(frame)
    }
}
