//! The floor: a server that does as little as can be done for a send.
//!
//! It reads the same frames, appends their bytes to preallocated files with one positioned write per round of
//! ready connections, and answers each with a well-formed send result. It parses lengths and the opaque, nothing
//! else. One thread with its own epoll instance and file per core; connections are dealt out in turn.

use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use rustix::io::pwritev;

use super::connection::{Connection, Poll};
use super::frames::{frame, write_decimal};
use super::response::split;

const SEGMENT_BYTES: u64 = 1 << 30;
/// The kernel's limit of buffers in one vectored write.
const SLICES_MAX: usize = 1024;

/// Serves until it is killed. `sync`: every write is on the disk before it is answered.
pub(crate) fn serve(port: u16, dir: &Path, sync: bool) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let workers = thread::available_parallelism()?.get();
    let inboxes: Vec<Arc<Inbox>> = (0..workers)
        .map(|_| Inbox::new().map(Arc::new))
        .collect::<Result<_, _>>()?;
    for (index, inbox) in inboxes.iter().enumerate() {
        let log = Log::create(dir.join(format!("floor-{index}")), sync)?;
        let inbox = Arc::clone(inbox);
        thread::spawn(move || {
            if let Err(error) = Worker::new(log).run(&inbox) {
                eprintln!("floor server: {error:#}");
                std::process::exit(1);
            }
        });
    }
    for (index, stream) in listener.incoming().enumerate() {
        inboxes[index % workers].put(Connection::new(stream?)?)?;
    }
    Ok(())
}

/// Connections on their way to a worker. They are registered with its epoll instance already, under the position
/// that they will have in its list, and are taken when the first event tells of them.
struct Inbox {
    poll: Poll,
    arrived: Mutex<(usize, Vec<Connection>)>,
}

impl Inbox {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            arrived: Mutex::default(),
        })
    }

    fn put(&self, connection: Connection) -> anyhow::Result<()> {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        self.poll.add(&connection.stream, arrived.0)?;
        arrived.0 += 1;
        arrived.1.push(connection);
        Ok(())
    }

    fn take(&self) -> Vec<Connection> {
        std::mem::take(&mut self.arrived.lock().unwrap_or_else(PoisonError::into_inner).1)
    }
}

struct Worker {
    log: Log,
    /// A closed connection leaves its place empty: places are the tokens.
    connections: Vec<Option<Connection>>,
    answer: Vec<u8>,
    answer_opaque_at: usize,
}

impl Worker {
    fn new(log: Log) -> Self {
        let answer = frame(
            "{\"code\":0,\"extFields\":{\"queueId\":\"0\",\"transactionId\":\"7F0000010A2B07A4A9B5C6D700000000\",\
             \"msgId\":\"7F0000010000EA070000000000000000\",\"TRACE_ON\":\"true\",\"MSG_REGION\":\"DefaultRegion\",\
             \"queueOffset\":\"0\"},\"flag\":1,\"language\":\"RUST\",\"opaque\":1000000000,\
             \"serializeTypeCurrentRPC\":\"JSON\",\"version\":513}",
            &[],
        );
        let answer_opaque_at = opaque_at(&answer).expect("the answer has an opaque");
        Self {
            log,
            connections: Vec::new(),
            answer,
            answer_opaque_at,
        }
    }

    fn run(&mut self, inbox: &Inbox) -> anyhow::Result<()> {
        let mut ready = Vec::new();
        let mut complete = Vec::new();
        loop {
            inbox.poll.wait(&mut ready, Duration::from_secs(3600))?;
            if ready.iter().any(|&token| token >= self.connections.len()) {
                self.connections.extend(inbox.take().into_iter().map(Some));
            }
            complete.clear();
            for &token in &ready {
                complete.push((token, self.receive(token)?));
            }
            self.append(&complete)?;
            for &(token, bytes) in &complete {
                self.reply(token, bytes)?;
            }
        }
    }

    /// Reads what is there; returns how many bytes of it are whole frames.
    fn receive(&mut self, token: usize) -> anyhow::Result<usize> {
        let Some(connection) = &mut self.connections[token] else {
            return Ok(0);
        };
        loop {
            match connection.fill() {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => {
                    self.connections[token] = None;
                    return Ok(0);
                }
            }
        }
        let mut bytes = 0;
        while let Some(frame) = split(&connection.input.bytes()[bytes..])? {
            bytes += frame.length;
        }
        Ok(bytes)
    }

    fn append(&mut self, complete: &[(usize, usize)]) -> anyhow::Result<()> {
        let mut slices = Vec::with_capacity(complete.len());
        for &(token, bytes) in complete {
            if let Some(connection) = &self.connections[token]
                && bytes > 0
            {
                slices.push(IoSlice::new(&connection.input.bytes()[..bytes]));
            }
        }
        self.log.append(&mut slices)
    }

    fn reply(&mut self, token: usize, bytes: usize) -> anyhow::Result<()> {
        let Some(connection) = &mut self.connections[token] else {
            return Ok(());
        };
        let mut at = 0;
        while at < bytes {
            let request = &connection.input.bytes()[at..bytes];
            let request = split(request)?.context("whole frames were counted")?;
            let opaque = opaque_at(request.header).map_or(0, |at| read_decimal(&request.header[at..]));
            let start = connection.output.bytes.len();
            connection.output.bytes.extend_from_slice(&self.answer);
            write_decimal(&mut connection.output.bytes[start + self.answer_opaque_at..], opaque);
            at += request.length;
        }
        connection.input.consume(bytes);
        if connection.flush().is_err() {
            self.connections[token] = None;
        }
        Ok(())
    }
}

/// Segments of [`SEGMENT_BYTES`], allocated before they are written.
struct Log {
    path: PathBuf,
    sync: bool,
    segment: u64,
    file: File,
    position: u64,
}

impl Log {
    fn create(path: PathBuf, sync: bool) -> anyhow::Result<Self> {
        Ok(Self {
            file: segment_file(&path, 0)?,
            path,
            sync,
            segment: 0,
            position: 0,
        })
    }

    fn append(&mut self, slices: &mut [IoSlice<'_>]) -> anyhow::Result<()> {
        if slices.is_empty() {
            return Ok(());
        }
        for chunk in slices.chunks_mut(SLICES_MAX) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let written = pwritev(&self.file, rest, self.position)?;
                self.position += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
        }
        if self.sync {
            fdatasync(&self.file)?;
        }
        if self.position >= SEGMENT_BYTES {
            self.segment += 1;
            self.file = segment_file(&self.path, self.segment)?;
            self.position = 0;
        }
        Ok(())
    }
}

fn segment_file(path: &Path, segment: u64) -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path.with_extension(segment.to_string()))?;
    fallocate(&file, FallocateFlags::empty(), 0, SEGMENT_BYTES)?;
    Ok(file)
}

/// Where the digits of the opaque are: looked for from the end, where Java's headers have it.
fn opaque_at(header: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"\"opaque\":";
    header
        .windows(KEY.len())
        .rposition(|window| window == KEY)
        .map(|at| at + KEY.len())
}

fn read_decimal(digits: &[u8]) -> u32 {
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0_u32, |value, digit| {
        value.wrapping_mul(10).wrapping_add(u32::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::frames::{OPAQUE_BASE, SendTemplate};
    use crate::bench::response::Response;

    #[test]
    fn sends_are_appended_and_answered_by_their_opaque() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Arc::new(Inbox::new().unwrap());
        let log = Log::create(dir.path().join("log"), true).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (server_inbox, mut request) = (Arc::clone(&inbox), Vec::new());
        thread::spawn(move || Worker::new(log).run(&server_inbox));
        thread::spawn(move || {
            inbox
                .put(Connection::new(listener.accept().unwrap().0).unwrap())
                .unwrap()
        });

        SendTemplate::single("bench", 128).append_to(&mut request, OPAQUE_BASE + 77, 0, 0);
        let answer = crate::bench::connection::call(&addr, &request).unwrap();
        let (response, _) = Response::parse(&answer).unwrap().unwrap();
        assert_eq!(
            (response.code, response.opaque, response.is_answer),
            (0, OPAQUE_BASE + 77, true)
        );
        let written = std::fs::read(dir.path().join("log.0")).unwrap();
        assert_eq!(written[..request.len()], request);
    }
}
