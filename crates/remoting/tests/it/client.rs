//! The client against our server, and against peers that misbehave.

use std::future::Future;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::requests::{NamespaceHeader, SendMessageHeader, request as row};
use oxmq_protocol::{RemotingCommand, SerializeType};
use oxmq_remoting::{CallError, ClientConfig, RemotingClient, RequestHandler, ServerConfig};

use crate::support::*;

const TIMEOUT: Duration = Duration::from_secs(10);

fn client() -> RemotingClient {
    RemotingClient::new(ClientConfig::default(), None)
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A peer that accepts one connection after the other and does this with it.
fn peer(serve: impl Fn(std::net::TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            serve(socket.unwrap());
        }
    });
    addr
}

#[test]
fn many_callers_share_a_connection_and_each_gets_its_own_answer() {
    let server = TestServer::start(config());
    block_on(async {
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            let client = RemotingClient::new(
                ClientConfig {
                    serialize,
                    ..ClientConfig::default()
                },
                None,
            );
            let calls: Vec<_> = (0..500)
                .map(|number: u32| {
                    let (client, addr) = (client.clone(), server.addr.to_string());
                    tokio::spawn(async move {
                        let body = vec![number as u8; number as usize * 40];
                        let answer = client.invoke(&addr, request(ECHO, 0, &body), TIMEOUT).await.unwrap();
                        assert!(answer.body == body);
                    })
                })
                .collect();
            for call in calls {
                call.await.unwrap();
            }
        }
    });
    assert_eq!(server.handler.open.lock().len(), 2);
}

#[test]
fn the_client_works_on_several_threads() {
    let server = TestServer::start(config());
    let client = client();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (client, addr) = (client.clone(), server.addr.to_string());
            std::thread::spawn(move || {
                block_on(async {
                    for _ in 0..100 {
                        // The connection lives on the runtime of whoever opened it, and may go with it.
                        match client.invoke(&addr, request(ECHO, 0, b"x"), TIMEOUT).await {
                            Ok(answer) => assert_eq!(&answer.body[..], b"x"),
                            Err(CallError::Closed { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_code_other_than_success_is_an_error_of_call_only() {
    let server = TestServer::start(config());
    let addr = server.addr.to_string();
    block_on(async {
        let header = NamespaceHeader {
            namespace: Some("n".into()),
        };
        let error = client()
            .call::<row::GetKvListByNamespace>(&addr, &header, Bytes::new(), TIMEOUT)
            .await
            .unwrap_err();
        assert!(matches!(error, CallError::Response { code: 3, .. }), "{error}");
        let mut unknown = RemotingCommand::default();
        unknown.header.code = 9999;
        let answer = client().invoke(&addr, unknown, TIMEOUT).await.unwrap();
        assert_eq!(answer.header.code, 3);
    });
}

#[test]
fn an_answer_without_its_fields_is_malformed() {
    let server = TestServer::start(config());
    let header = SendMessageHeader::default();
    let answer = block_on(client().call::<row::SendMessage>(&server.addr.to_string(), &header, Bytes::new(), TIMEOUT));
    assert!(matches!(answer.unwrap_err(), CallError::Malformed(_)));
}

#[test]
fn a_call_times_out_and_the_connection_serves_on() {
    let server = TestServer::start(config());
    let addr = server.addr.to_string();
    block_on(async {
        let client = client();
        let busy = {
            let (client, addr) = (client.clone(), addr.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    client.invoke(&addr, request(ECHO, 0, b""), TIMEOUT).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        };
        let short = Duration::from_millis(50);
        let error = client.invoke(&addr, request(SILENT, 0, b""), short).await.unwrap_err();
        assert!(matches!(error, CallError::Timeout { millis: 50, .. }), "{error}");
        busy.await.unwrap();
    });
    assert_eq!(server.handler.open.lock().len(), 1);
}

#[test]
fn a_peer_that_says_nothing_at_all_is_left() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let addr = peer(move |socket| {
        count.fetch_add(1, Ordering::SeqCst);
        std::mem::forget(socket);
    })
    .to_string();
    block_on(async {
        let client = client();
        let short = Duration::from_millis(30);
        for _ in 0..2 {
            let error = client.invoke(&addr, request(ECHO, 0, b""), short).await.unwrap_err();
            assert!(matches!(error, CallError::Timeout { .. }), "{error}");
        }
    });
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
}

#[test]
fn calls_fail_when_the_connection_dies_and_the_next_one_reconnects() {
    let mut server = TestServer::start(config());
    let addr = server.addr.to_string();
    block_on(async {
        let client = client();
        let waiting = {
            let (client, addr) = (client.clone(), addr.clone());
            tokio::spawn(async move { client.invoke(&addr, request(SILENT, 0, b""), TIMEOUT).await })
        };
        while server.handled() == 0 {
            tokio::task::yield_now().await;
        }
        let handle = server.handle.take().unwrap();
        tokio::task::spawn_blocking(move || handle.shutdown(Duration::ZERO))
            .await
            .unwrap();
        let error = waiting.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Closed { .. }), "{error}");
        let error = client.invoke(&addr, request(ECHO, 0, b""), TIMEOUT).await.unwrap_err();
        assert!(matches!(error, CallError::Connect { .. }), "{error}");

        let again = TestServer::start(ServerConfig {
            listen: vec![server.addr],
            ..config()
        });
        client.invoke(&addr, request(ECHO, 0, b""), TIMEOUT).await.unwrap();
        drop(again);
    });
}

#[test]
fn garbage_and_foreign_answers_fail_the_call_but_not_the_client() {
    let pieces: [&[u8]; 4] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0xff; 64],
        b"\0\0\0\x08\0\0\0\x04{{{{",
        &[],
    ];
    block_on(async {
        let client = client();
        for piece in pieces {
            let addr = peer(move |mut socket| {
                let foreign = encode(&RemotingCommand::response(77_777, 0, None));
                // The client may have closed already.
                let _ = socket.write_all(&foreign).and_then(|()| socket.write_all(piece));
            })
            .to_string();
            let error = client.invoke(&addr, request(ECHO, 0, b""), TIMEOUT).await.unwrap_err();
            assert!(matches!(error, CallError::Closed { .. }), "{error}");
        }
    });
}

#[test]
fn oneway_requests_arrive_even_if_the_client_is_shut_down_next() {
    let server = TestServer::start(config());
    let addr = server.addr.to_string();
    block_on(async {
        let client = client();
        for _ in 0..1000 {
            client.oneway(&addr, request(SILENT, 0, &[0; 5000])).await.unwrap();
        }
        client.shutdown().await;
    });
    wait_for("all have arrived", || server.handled() == 1000);
}

#[test]
fn a_peer_that_does_not_read_makes_callers_wait() {
    let addr = peer(std::mem::forget).to_string();
    block_on(async {
        let client = RemotingClient::new(
            ClientConfig {
                out_bytes_high: 1 << 20,
                oneway_timeout: Duration::from_millis(200),
                ..ClientConfig::default()
            },
            None,
        );
        for _ in 0..1000 {
            match client.oneway(&addr, request(SILENT, 0, &[0; 100_000])).await {
                Ok(()) => {}
                Err(CallError::Timeout { .. }) => return,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("100 MB were taken from the callers");
    });
}

#[test]
fn more_calls_than_allowed_are_refused() {
    let server = TestServer::start(config());
    let addr = server.addr.to_string();
    block_on(async {
        let client = RemotingClient::new(
            ClientConfig {
                in_flight_max: 5,
                ..ClientConfig::default()
            },
            None,
        );
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let (client, addr) = (client.clone(), addr.clone());
                tokio::spawn(async move { client.invoke(&addr, request(SILENT, 0, b""), TIMEOUT).await })
            })
            .collect();
        while server.handled() < 5 {
            tokio::task::yield_now().await;
        }
        let error = client.invoke(&addr, request(ECHO, 0, b""), TIMEOUT).await.unwrap_err();
        assert!(matches!(error, CallError::Busy { .. }), "{error}");
        // A caller that gives up makes room.
        waiting[0].abort();
        while !waiting[0].is_finished() {
            tokio::task::yield_now().await;
        }
        client.invoke(&addr, request(ECHO, 0, b""), TIMEOUT).await.unwrap();
    });
}

#[test]
fn idle_connections_are_closed_and_opened_again() {
    let server = TestServer::start(config());
    let addr = server.addr.to_string();
    block_on(async {
        let client = RemotingClient::new(
            ClientConfig {
                idle_timeout: Duration::from_millis(50),
                ..ClientConfig::default()
            },
            None,
        );
        client.invoke(&addr, request(ECHO, 0, b""), TIMEOUT).await.unwrap();
        while server.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        client.invoke(&addr, request(ECHO, 0, b""), TIMEOUT).await.unwrap();
    });
    assert_eq!(server.handler.open.lock().len(), 2);
}

/// Answers each request of the server with its body, doubled.
struct Doubling;

impl RequestHandler for Doubling {
    fn handle(
        &self,
        _: &str,
        request: RemotingCommand,
    ) -> Pin<Box<dyn Future<Output = Option<RemotingCommand>> + Send>> {
        Box::pin(async move { Some(answer(request.body.repeat(2).into())) })
    }
}

#[test]
fn the_server_calls_its_clients_from_any_thread() {
    let server = TestServer::start(config());
    let addr = server.addr.to_string();
    block_on(async {
        let client = RemotingClient::new(ClientConfig::default(), Some(Arc::new(Doubling)));
        client.invoke(&addr, request(ECHO, 0, b""), TIMEOUT).await.unwrap();
        let connection = server.handler.open.lock()[0].clone();
        for _ in 0..100 {
            connection.oneway(request(SILENT, 0, b"one-way")).unwrap();
            let reply = connection.call(request(ECHO, 0, b"ab"), TIMEOUT).await.unwrap();
            assert_eq!(&reply.body[..], b"abab");
        }
        client.close(&addr);
        while server.connections() > 0 {
            tokio::task::yield_now().await;
        }
        let error = connection.call(request(ECHO, 0, b""), TIMEOUT).await.unwrap_err();
        assert!(matches!(error, CallError::Closed { .. }), "{error}");
    });
}

#[test]
fn calls_of_the_server_time_out_and_fail_when_the_client_goes() {
    let server = TestServer::start(config());
    let mut silent = server.connect();
    silent.send(&request(ECHO, 0, b""));
    silent.receive();
    let connection = server.handler.open.lock()[0].clone();
    block_on(async {
        let short = Duration::from_millis(20);
        let error = connection.call(request(ECHO, 0, b""), short).await.unwrap_err();
        assert!(matches!(error, CallError::Timeout { .. }), "{error}");
        let waiting = tokio::spawn(async move { connection.call(request(ECHO, 0, b""), TIMEOUT).await });
        tokio::task::spawn_blocking(move || {
            silent.receive();
            silent.receive();
        })
        .await
        .unwrap();
        let error = waiting.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Closed { .. }), "{error}");
    });
}
