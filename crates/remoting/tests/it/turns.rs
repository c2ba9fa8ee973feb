//! The order within a turn, which batching over connections rests on, and what one turn may do of handshakes.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use oxmq_protocol::Frame;
use oxmq_remoting::{
    CloseReason, Connection, ServerConfig, ServerHandle, Service, TlsConfig, WorkerContext, WorkerWaker, serve,
};
use parking_lot::Mutex;

use crate::support::*;

/// Writes down the events of its worker. A frame whose body is "hold" holds the worker up.
struct Recorder {
    events: Arc<Mutex<Vec<&'static str>>>,
    held: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
    staged: Cell<usize>,
}

impl Service for Recorder {
    fn on_open(&self, _: &Rc<Connection>) {
        self.opened.fetch_add(1, Ordering::SeqCst);
    }

    fn on_frame(&self, _: &Rc<Connection>, frame: Frame<'_>) -> Result<(), CloseReason> {
        if frame.body == b"hold" {
            self.held.store(true, Ordering::SeqCst);
            wait_for("the release", || !self.held.load(Ordering::SeqCst));
        }
        self.staged.update(|staged| staged + 1);
        self.events.lock().push("frame");
        Ok(())
    }

    fn on_turn_end(&self) {
        if self.staged.take() > 0 {
            self.events.lock().push("end");
        }
    }
}

/// A server of one worker, one who can hold that worker up, and others.
struct Crowd {
    events: Arc<Mutex<Vec<&'static str>>>,
    held: Arc<AtomicBool>,
    holder: RawClient,
    others: Vec<RawClient>,
    _server: ServerHandle,
}

impl Crowd {
    fn connect(config: ServerConfig, others: usize) -> Crowd {
        let events = Arc::new(Mutex::new(Vec::new()));
        let (held, opened): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let (recorded, holding, counting) = (Arc::clone(&events), Arc::clone(&held), Arc::clone(&opened));
        let factory = move |_| -> Rc<dyn Service> {
            Rc::new(Recorder {
                events: Arc::clone(&recorded),
                held: Arc::clone(&holding),
                opened: Arc::clone(&counting),
                staged: Cell::new(0),
            })
        };
        let server = serve(ServerConfig { workers: 1, ..config }, Arc::new(factory)).unwrap();
        let addr = server.local_addrs()[0];
        let crowd = Crowd {
            events,
            held,
            holder: RawClient::connect(addr),
            others: (0..others).map(|_| RawClient::connect(addr)).collect(),
            _server: server,
        };
        wait_for("all connections", || opened.load(Ordering::SeqCst) == 1 + others);
        crowd
    }

    fn hold(&mut self) {
        self.holder.send(&request(ECHO, 0, b"hold"));
        self.wait_until_held();
    }

    fn wait_until_held(&self) {
        wait_for("the worker is held up", || self.held.load(Ordering::SeqCst));
    }

    fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
    }
}

#[test]
fn connections_that_are_ready_together_share_one_turn_end() {
    let mut crowd = Crowd::connect(config(), 200);

    // While the worker is held up, all others become ready: the next poll of the sockets finds them together.
    crowd.hold();
    let frame = encode(&request(ECHO, 0, b""));
    for other in &mut crowd.others {
        other.socket.write_all(&frame).unwrap();
    }
    crowd.release();
    wait_for("the end", || crowd.events.lock().len() == 203);
    let mut expected = vec!["frame", "end"];
    expected.extend(["frame"; 200]);
    expected.push("end");
    assert_eq!(*crowd.events.lock(), expected);
}

#[test]
fn a_turn_takes_one_step_of_one_handshake_however_many_are_ready() {
    const HANDSHAKES: usize = 30;
    let tls = TlsConfig {
        tls_config_file: String::new(),
        ..TlsConfig::default()
    };
    let with_tls = ServerConfig {
        tls: Some(tls),
        ..config()
    };
    let mut crowd = Crowd::connect(with_tls, HANDSHAKES);
    crowd.hold();
    let hello = client_hello();
    for other in &mut crowd.others {
        other.socket.write_all(&hello).unwrap();
        other.socket.set_nonblocking(true).unwrap();
    }
    // The answer to a hello is where the arithmetic is.
    let answered = |crowd: &Crowd| {
        let others = crowd.others.iter();
        others.filter(|other| other.socket.peek(&mut [0]).is_ok()).count()
    };
    // The next frame is there before the worker goes on: each turn takes one, and holds the worker up again.
    for turn in 0..=HANDSHAKES {
        crowd.holder.send(&request(ECHO, 0, b"hold"));
        crowd.release();
        crowd.wait_until_held();
        let answered = answered(&crowd);
        assert!(answered <= turn, "{answered} steps before frame {turn}");
    }
    crowd.release();
    wait_for("all answers", || answered(&crowd) == HANDSHAKES);
}

/// What a client begins with.
fn client_hello() -> Vec<u8> {
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut session = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
}

struct WakeCounter {
    wakes: Arc<AtomicUsize>,
    ends: Arc<AtomicUsize>,
}

impl Service for WakeCounter {
    fn on_frame(&self, _: &Rc<Connection>, _: Frame<'_>) -> Result<(), CloseReason> {
        Ok(())
    }
    fn on_turn_end(&self) {
        self.ends.fetch_add(1, Ordering::SeqCst);
    }
    fn on_wake(&self) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn wakes_from_other_threads_reach_their_worker_and_are_coalesced() {
    let wakers: Arc<Mutex<Vec<(usize, WorkerWaker)>>> = Arc::default();
    let (wakes, ends): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
    let server = {
        let (wakers, wakes, ends) = (Arc::clone(&wakers), Arc::clone(&wakes), Arc::clone(&ends));
        let factory = move |context: WorkerContext| -> Rc<dyn Service> {
            assert_eq!(context.workers, 2);
            wakers.lock().push((context.id, context.waker.clone()));
            Rc::new(WakeCounter {
                wakes: Arc::clone(&wakes),
                ends: Arc::clone(&ends),
            })
        };
        serve(config(), Arc::new(factory)).unwrap()
    };
    wait_for("both workers", || wakers.lock().len() == 2);
    for round in 1..=200 {
        let waker = wakers.lock()[round % 2].1.clone();
        waker.wake();
        wait_for("the wake", || wakes.load(Ordering::SeqCst) >= round);
    }
    wait_for("their turn ends", || ends.load(Ordering::SeqCst) >= 2);
    let before = wakes.load(Ordering::SeqCst);
    for _ in 0..100_000 {
        wakers.lock()[0].1.wake();
    }
    wait_for("a wake", || wakes.load(Ordering::SeqCst) > before);
    assert!(wakes.load(Ordering::SeqCst) - before < 100_000);
    drop(server);
}
