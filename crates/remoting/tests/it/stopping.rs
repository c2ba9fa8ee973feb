//! What a stopping server still does.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::*;

#[test]
fn what_is_under_way_is_answered_before_the_connections_close() {
    let mut server = TestServer::start(config());
    let mut client = server.connect();
    client.send(&request_with_number(ECHO_LATE, 1, 200));
    client.send(&request_with_number(LARGE, 2, 5_000_000));
    wait_for("both are taken", || server.handled() == 2);
    let handle = server.handle.take().unwrap();
    let stopping = std::thread::spawn(move || handle.shutdown(DEADLINE));
    let mut opaques = [client.receive().header.opaque, client.receive().header.opaque];
    opaques.sort_unstable();
    assert_eq!(opaques, [1, 2]);
    client.assert_closed();
    stopping.join().unwrap();
    assert!(TcpStream::connect(server.addr).is_err());
}

#[test]
fn a_request_that_is_never_answered_delays_the_stop_up_to_its_deadline() {
    let mut server = TestServer::start(config());
    let mut client = server.connect();
    client.send(&request_with_number(ECHO_LATE, 1, 60_000));
    wait_for("it is taken", || server.handled() == 1);
    let started = Instant::now();
    server.handle.take().unwrap().shutdown(Duration::from_millis(100));
    assert!((100..3000).contains(&started.elapsed().as_millis()));
    client.assert_closed();
}

#[test]
fn a_client_that_keeps_sending_does_not_delay_the_stop() {
    let mut server = TestServer::start(config());
    let mut client = server.connect();
    let sending = std::thread::spawn(move || {
        let frame = encode(&request(SILENT, 1, &[0; 1000]));
        while std::io::Write::write_all(&mut client.socket, &frame).is_ok() {}
    });
    wait_for("it sends", || server.handled() > 100);
    let started = Instant::now();
    server.handle.take().unwrap().shutdown(DEADLINE);
    assert!(started.elapsed() < Duration::from_secs(3));
    sending.join().unwrap();
}

#[test]
fn a_server_without_clients_stops_at_once_and_frees_its_port() {
    let mut server = TestServer::start(config());
    let started = Instant::now();
    server.handle.take().unwrap().shutdown(DEADLINE);
    assert!(started.elapsed() < Duration::from_secs(1));
    let again = TestServer::start(oxmq_remoting::ServerConfig {
        listen: vec![server.addr],
        ..config()
    });
    again.assert_serves();
}
