//! Peers that break the protocol lose their connection, and nobody else notices.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::Ordering;

use oxmq_remoting::ServerConfig;
use proptest::prelude::*;

use crate::support::*;

#[test]
fn lying_lengths_close_the_connection() {
    let server = TestServer::start(config());
    let lies: [&[u8]; 6] = [
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        &[0, 0, 0, 3, 0, 0, 0, 0],
        &[0x01, 0x00, 0x00, 0x00, 0, 0, 0, 0],
        &[0, 0, 0, 8, 0, 0, 0, 9],
        &[0, 0, 0, 8, 9, 0, 0, 0],
    ];
    for lie in lies {
        let mut client = server.connect();
        client.send(&request(ECHO, 1, b"before"));
        assert_eq!(&client.receive().body[..], b"before");
        client.write(lie);
        client.assert_closed();
    }
    server.assert_serves();
}

#[test]
fn an_unreadable_header_closes_the_connection() {
    let server = TestServer::start(config());
    for frame in [
        &b"\0\0\0\x08\0\0\0\x04{{{{"[..],
        &b"\0\0\0\x04\0\0\0\0"[..],
        &b"\0\0\0\x08\x01\0\0\x04abcd"[..],
    ] {
        let mut client = server.connect();
        client.write(frame);
        client.assert_closed();
    }
    server.assert_serves();
}

#[test]
fn an_announced_frame_costs_no_memory_before_it_comes() {
    let server = TestServer::start(ServerConfig {
        connections_max: 3000,
        ..config()
    });
    let before = anonymous_bytes();
    let count = 1000.min(raise_files_limit() / 4);
    let waiting: Vec<RawClient> = (0..count)
        .map(|_| {
            let mut client = server.connect();
            client.write(&[0x00, 0xff, 0xff, 0xf0, 0, 0, 0, 100, b'{']);
            client
        })
        .collect();
    wait_for("all connections", || server.connections() == count);
    server.assert_serves();
    let grown = anonymous_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more for {} promises", waiting.len());
}

#[test]
fn unfinished_large_frames_have_a_common_bound() {
    let server = TestServer::start(ServerConfig {
        workers: 1,
        worker_in_bytes_max: 8 << 20,
        ..config()
    });
    let mut piece = vec![0x00, 0xff, 0xff, 0xf0, 0, 0, 0, 100];
    piece.resize(1 << 20, b' ');
    let waiting: Vec<RawClient> = (0..32)
        .map(|_| {
            let mut client = server.connect();
            // The server may close before it has taken everything.
            let _ = client.socket.write_all(&piece);
            client
        })
        .collect();
    wait_for("most are closed", || server.connections() <= 10);
    server.assert_serves();
    drop(waiting);
}

#[test]
fn a_panicking_handler_costs_its_connection_only() {
    let server = TestServer::start(ServerConfig { workers: 1, ..config() });
    let mut client = server.connect();
    client.send(&request(PANIC, 1, b""));
    client.assert_closed();
    wait_for("the connection is forgotten", || server.connections() == 0);
    server.assert_serves();
}

#[test]
fn silent_connections_are_closed_after_the_idle_timeout() {
    let server = TestServer::start(ServerConfig {
        idle_timeout_ms: 200,
        ..config()
    });
    let mut silent = server.connect();
    let mut busy = server.connect();
    wait_for("the end of the silent one", || {
        busy.send(&request(ECHO, 1, b"busy"));
        busy.receive();
        server.handler.closed.load(Ordering::SeqCst) == 1
    });
    silent.assert_closed();
    busy.send(&request(ECHO, 1, b"busy"));
    busy.receive();
}

#[test]
fn connections_above_the_bound_are_closed_at_once() {
    let server = TestServer::start(ServerConfig {
        connections_max: 3,
        ..config()
    });
    let kept: Vec<RawClient> = (0..3).map(|_| server.connect()).collect();
    wait_for("three connections", || server.connections() == 3);
    server.connect().assert_closed();
    drop(kept);
    wait_for("room", || server.connections() == 0);
    server.assert_serves();
}

#[test]
fn connections_are_dealt_evenly_and_forgotten_when_closed() {
    let server = TestServer::start(config());
    let clients: Vec<RawClient> = (0..100).map(|_| server.connect()).collect();
    wait_for("all connections", || server.handler.open.lock().len() == 100);
    let on_first = server.handler.open.lock().iter().filter(|c| c.worker() == 0).count();
    assert_eq!(on_first, 50);
    for (number, client) in clients.into_iter().enumerate() {
        if number % 2 == 0 {
            client.socket.shutdown(Shutdown::Write).unwrap();
        }
    }
    wait_for("no connections", || server.connections() == 0);
    assert_eq!(server.handler.closed.load(Ordering::SeqCst), 100);
}

#[test]
fn thousands_of_idle_connections_cost_little() {
    let server = TestServer::start(config());
    let before = anonymous_bytes();
    let idle: Vec<RawClient> = (0..4000.min(raise_files_limit() / 4))
        .map(|_| {
            let mut client = server.connect();
            client.send(&request(ECHO, 1, &[0; 2000]));
            client.receive();
            client
        })
        .collect();
    let each = anonymous_bytes().saturating_sub(before) / idle.len();
    // Includes the test's own end of each connection.
    assert!(each < 10_000, "{each} bytes for each idle connection");
    server.assert_serves();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_never_hurt_the_server(pieces in prop::collection::vec(piece(), 1..20)) {
        static SERVER: std::sync::OnceLock<std::net::SocketAddr> = std::sync::OnceLock::new();
        let addr = *SERVER.get_or_init(|| {
            let server = Box::leak(Box::new(TestServer::start(config())));
            server.addr
        });
        let mut client = RawClient::connect(addr);
        for piece in pieces {
            if client.socket.write_all(&piece).is_err() {
                break;
            }
        }
        let mut other = RawClient::connect(addr);
        other.send(&request(ECHO, 1, b"other"));
        prop_assert_eq!(&other.receive().body[..], b"other");
    }
}

/// Anything, or a frame that is right up to one byte.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let frame = encode(&request(ECHO, 1, b"body")).to_vec();
    let length = frame.len();
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000),
        Just(frame.clone()),
        (0..length, any::<u8>()).prop_map(move |(at, byte)| {
            let mut frame = frame.clone();
            frame[at] = byte;
            frame
        }),
    ]
}
