//! The order within a turn, which batching over connections rests on.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use oxmq_protocol::Frame;
use oxmq_remoting::{CloseReason, Connection, ServerConfig, Service, WorkerContext, WorkerWaker, serve};
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

#[test]
fn connections_that_are_ready_together_share_one_turn_end() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&events);
    let (held, opened): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
    let (holding, counting) = (Arc::clone(&held), Arc::clone(&opened));
    let config = ServerConfig { workers: 1, ..config() };
    let server = serve(
        config,
        Arc::new(move |_| {
            Rc::new(Recorder {
                events: Arc::clone(&recorded),
                held: Arc::clone(&holding),
                opened: Arc::clone(&counting),
                staged: Cell::new(0),
            })
        }),
    )
    .unwrap();
    let addr = server.local_addrs()[0];
    let mut first = RawClient::connect(addr);
    let mut others: Vec<RawClient> = (0..200).map(|_| RawClient::connect(addr)).collect();
    wait_for("all connections", || opened.load(Ordering::SeqCst) == 201);

    // While the worker is held up, all others become ready: the next poll of the sockets finds them together.
    first.send(&request(ECHO, 0, b"hold"));
    wait_for("the worker is held up", || held.load(Ordering::SeqCst));
    let frame = encode(&request(ECHO, 0, b""));
    for other in &mut others {
        other.socket.write_all(&frame).unwrap();
    }
    held.store(false, Ordering::SeqCst);
    wait_for("the end", || events.lock().len() == 203);
    let mut expected = vec!["frame", "end"];
    expected.extend(["frame"; 200]);
    expected.push("end");
    assert_eq!(*events.lock(), expected);
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
