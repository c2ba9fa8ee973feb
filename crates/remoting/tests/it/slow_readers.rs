//! A peer that does not read is not read from: what it can make the server hold is bounded.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oxmq_protocol::{Frame, SerializeType};
use oxmq_remoting::{CloseReason, Connection, RequestGuard, ServerConfig, Service, WorkerContext, WorkerWaker, serve};
use parking_lot::Mutex;

use crate::support::*;

/// Writes requests until the server stops reading them.
fn write_until_stuck(client: &mut RawClient, frame: &[u8]) -> usize {
    let timeout = Some(Duration::from_millis(300));
    client.socket.set_write_timeout(timeout).unwrap();
    let mut written = 0;
    while client.socket.write_all(frame).is_ok() {
        written += 1;
        assert!(written < 200_000, "the server reads on and on");
    }
    client.socket.set_write_timeout(Some(DEADLINE)).unwrap();
    written
}

#[test]
fn a_client_that_never_reads_stops_being_read() {
    let server = TestServer::start(ServerConfig {
        out_bytes_high: 256 * 1024,
        ..config()
    });
    let mut lazy = server.connect();
    // 100 bytes ask for 100 KB: the requests that fit into one read alone would make some 100 MB.
    write_until_stuck(&mut lazy, &encode(&request_with_number(LARGE, 1, 100_000)));
    let asked = server.handled() * 100_000;
    let kernel_buffers = 16 << 20;
    assert!(asked < kernel_buffers + (1 << 20), "{asked} bytes were made for it");
    server.assert_serves();
}

#[test]
fn after_it_has_read_everything_it_is_served_again() {
    let server = TestServer::start(ServerConfig {
        out_bytes_high: 64 * 1024,
        ..config()
    });
    let mut client = server.connect();
    let count = 3000;
    let mut writer = client.socket.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for opaque in 0..count {
            let frame = encode(&request_with_number(LARGE, opaque, 20_000));
            writer.write_all(&frame).unwrap();
        }
    });
    let stuck_at = || server.handled();
    wait_for("the server stops reading", || {
        let before = stuck_at();
        std::thread::sleep(Duration::from_millis(100));
        before > 0 && stuck_at() == before
    });
    assert!(stuck_at() < count as usize);
    for opaque in 0..count {
        let reply = client.receive();
        assert_eq!((reply.header.opaque, reply.body.len()), (opaque, 20_000));
    }
    writing.join().unwrap();
}

#[test]
fn too_many_requests_under_way_stop_the_reading_until_half_are_answered() {
    let server = TestServer::start(ServerConfig {
        in_flight_max: 10,
        ..config()
    });
    let mut client = server.connect();
    for opaque in 0..40 {
        client.send(&request_with_number(ECHO_LATE, opaque, 20));
    }
    let mut opaques: Vec<i32> = (0..40).map(|_| client.receive().header.opaque).collect();
    opaques.sort_unstable();
    assert_eq!(opaques, (0..40).collect::<Vec<_>>());
    assert_eq!(server.handler.late_max.load(Ordering::SeqCst), 10);
}

#[test]
fn a_client_that_never_reads_is_closed_as_idle() {
    let server = TestServer::start(ServerConfig {
        idle_timeout_ms: 300,
        out_bytes_high: 64 * 1024,
        ..config()
    });
    let mut lazy = server.connect();
    write_until_stuck(&mut lazy, &encode(&request_with_number(LARGE, 1, 100_000)));
    wait_for("the connection is closed", || server.connections() == 0);
}

/// Takes requests and answers them when it is woken.
struct Hoarder {
    taken: Arc<AtomicUsize>,
    requests: RefCell<Vec<RequestGuard>>,
}

impl Service for Hoarder {
    fn on_frame(&self, connection: &Rc<Connection>, _: Frame<'_>) -> Result<(), CloseReason> {
        self.taken.fetch_add(1, Ordering::SeqCst);
        self.requests.borrow_mut().push(connection.begin_request(60_000));
        Ok(())
    }

    fn on_wake(&self) {
        for request in self.requests.take() {
            request
                .connection()
                .send(&answer(vec![0; 60_000].into()), SerializeType::Json);
        }
    }
}

#[test]
fn answers_that_are_being_made_count_as_waiting() {
    let taken = Arc::new(AtomicUsize::new(0));
    let waker: Arc<Mutex<Option<WorkerWaker>>> = Arc::default();
    let (counting, waking) = (Arc::clone(&taken), Arc::clone(&waker));
    let config = ServerConfig {
        workers: 1,
        out_bytes_high: 240_000,
        ..config()
    };
    let factory = move |context: WorkerContext| -> Rc<dyn Service> {
        *waking.lock() = Some(context.waker);
        Rc::new(Hoarder {
            taken: Arc::clone(&counting),
            requests: RefCell::default(),
        })
    };
    let server = serve(config, Arc::new(factory)).unwrap();
    let mut client = RawClient::connect(server.local_addrs()[0]);
    client.write(&encode(&request(ECHO, 1, b"")).repeat(12));
    for expected in [4, 8, 12] {
        wait_for("as many as may", || taken.load(Ordering::SeqCst) == expected);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(taken.load(Ordering::SeqCst), expected);
        waker.lock().as_ref().unwrap().wake();
        for _ in 0..4 {
            assert_eq!(client.receive().body.len(), 60_000);
        }
    }
}
