//! CPU per message of a server that only echoes: the floor under every request of a real one.
//!
//! `cargo bench -p oxmq-remoting --bench echo [-- <seconds per case>]`. The load comes from threads of this process; only the
//! server's worker threads are counted, from `/proc/self/task/*/schedstat`.

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use oxmq_protocol::{Frame, RemotingCommand, RequestCode, SerializeType};
use oxmq_remoting::{CloseReason, Connection, ServerConfig, Service, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BODY_BYTES: usize = 128;

/// Stages every frame and answers at the end of the turn, as the broker does.
#[derive(Default)]
struct Echo {
    staged: RefCell<Vec<Rc<Connection>>>,
    reply: BytesMut,
}

impl Service for Echo {
    fn on_frame(&self, connection: &Rc<Connection>, _frame: Frame<'_>) -> Result<(), CloseReason> {
        self.staged.borrow_mut().push(Rc::clone(connection));
        Ok(())
    }

    fn on_turn_end(&self) {
        for connection in self.staged.borrow_mut().drain(..) {
            connection.write(|out| out.extend_from_slice(&self.reply));
        }
    }
}

struct Case {
    name: &'static str,
    connections: usize,
    in_flight: usize,
}

const CASES: [Case; 4] = [
    Case {
        name: "4 connections x 64 in flight",
        connections: 4,
        in_flight: 64,
    },
    Case {
        name: "4 connections x 16 in flight",
        connections: 4,
        in_flight: 16,
    },
    Case {
        name: "16 connections, one in flight",
        connections: 16,
        in_flight: 1,
    },
    Case {
        name: "256 connections, one in flight",
        connections: 256,
        in_flight: 1,
    },
];

fn main() {
    let seconds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(3);
    let reply = frame(BytesMut::new());
    let listen = "127.0.0.1:0".parse().expect("an address");
    let server = serve(
        ServerConfig::new("echo", vec![listen]),
        Arc::new(move |_| {
            Rc::new(Echo {
                reply: reply.clone(),
                ..Echo::default()
            })
        }),
    )
    .expect("a server on a free port");
    let addr = server.local_addrs()[0];
    for case in CASES {
        measure(&case, addr, Duration::from_secs(seconds));
    }
}

fn measure(case: &Case, addr: SocketAddr, duration: Duration) {
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let load = {
        let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
        let (connections, in_flight) = (case.connections, case.in_flight);
        thread::spawn(move || generate(addr, connections, in_flight, &done, &stop))
    };
    thread::sleep(Duration::from_millis(300));
    let (messages, cpu, started) = (done.load(Ordering::Relaxed), worker_cpu(), Instant::now());
    thread::sleep(duration);
    let messages = done.load(Ordering::Relaxed) - messages;
    let (cpu, elapsed) = (worker_cpu() - cpu, started.elapsed());
    stop.store(true, Ordering::Relaxed);
    load.join().expect("the load thread");
    println!(
        "{:32} {:>9.0} messages/s   {:.3} us of server CPU per message",
        case.name,
        messages as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / messages as f64,
    );
}

/// CPU time of all worker threads so far.
fn worker_cpu() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("procfs");
    let nanos = tasks.flatten().filter_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let figures = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let worker = name.starts_with("echo-worker");
        figures.split(' ').next()?.parse::<u64>().ok().filter(|_| worker)
    });
    Duration::from_nanos(nanos.sum())
}

fn generate(addr: SocketAddr, connections: usize, in_flight: usize, done: &Arc<AtomicU64>, stop: &Arc<AtomicBool>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let tasks: Vec<_> = (0..connections)
            .map(|_| tokio::spawn(keep_in_flight(addr, in_flight, Arc::clone(done), Arc::clone(stop))))
            .collect();
        for task in tasks {
            task.await.expect("a load task");
        }
    });
}

async fn keep_in_flight(addr: SocketAddr, in_flight: usize, done: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut socket = TcpStream::connect(addr).await.expect("the server accepts");
    socket.set_nodelay(true).expect("a socket option");
    let request = frame(BytesMut::from(&[b'x'; BODY_BYTES][..]));
    let requests = request.repeat(in_flight);
    let mut input = BytesMut::with_capacity(256 * 1024);
    socket.write_all(&requests).await.expect("a write");
    while !stop.load(Ordering::Relaxed) {
        socket.read_buf(&mut input).await.expect("a read");
        let mut replies = 0;
        while let Some((_, taken)) = Frame::peek(&input).expect("a frame") {
            let _ = input.split_to(taken);
            replies += 1;
        }
        done.fetch_add(replies as u64, Ordering::Relaxed);
        socket
            .write_all(&requests[..replies * request.len()])
            .await
            .expect("a write");
        input.reserve(64 * 1024);
    }
}

/// A frame of the size of a send request with this body.
fn frame(body: BytesMut) -> BytesMut {
    let mut command = RemotingCommand::default();
    command.header.code = RequestCode::SendMessageV2.code();
    command.header.ext_fields.set("b", "x".repeat(150));
    command.body = body.freeze();
    let mut out = BytesMut::new();
    command.encode(SerializeType::Json, &mut out);
    out
}
