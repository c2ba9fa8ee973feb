//! TLS and plain connections on one port, certificates of both sides, handshakes that go wrong, changed files.

use std::fs;
use std::future::Future;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oxmq_remoting::{CallError, ClientAuth, ClientConfig, ClientTls, RemotingClient, ServerConfig, TlsConfig, TlsMode};
use oxmq_tests::{Authority, Pair, write_roots};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::*;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The first bytes of a handshake that never comes.
const HALF_HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn with_mode(mode: TlsMode) -> TlsConfig {
    TlsConfig {
        tls_server_mode: mode,
        tls_config_file: String::new(),
        ..TlsConfig::default()
    }
}

fn serve(tls: TlsConfig) -> TestServer {
    TestServer::start(ServerConfig {
        tls: Some(tls),
        ..config()
    })
}

fn client(tls: Option<ClientTls>) -> RemotingClient {
    RemotingClient::new(
        ClientConfig {
            tls,
            ..ClientConfig::default()
        },
        None,
    )
}

/// Connects and has something echoed.
async fn try_echo(tls: Option<ClientTls>, server: &TestServer) -> Result<(), CallError> {
    let answer = client(tls)
        .invoke(&server.addr.to_string(), request(ECHO, 0, b"hello"), TIMEOUT)
        .await?;
    assert_eq!(&answer.body[..], b"hello");
    Ok(())
}

/// Files of a server and of those who connect to it.
struct Files {
    folder: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Files {
        Files {
            folder: tempfile::tempdir().unwrap(),
            authority: Authority::new("our root"),
        }
    }

    fn write(&self, name: &str, pair: &Pair) -> (String, String) {
        pair.write(self.folder.path(), name)
    }

    fn roots(&self, name: &str, authority: &Authority) -> String {
        write_roots(self.folder.path(), name, &[authority])
    }

    /// Served with a certificate for `localhost`.
    fn server(&self) -> TlsConfig {
        self.server_with(&self.authority.issue("localhost"))
    }

    fn server_with(&self, pair: &Pair) -> TlsConfig {
        let (cert_path, key_path) = self.write("server", pair);
        TlsConfig {
            tls_test_mode_enable: false,
            tls_server_cert_path: Some(cert_path),
            tls_server_key_path: Some(key_path),
            ..with_mode(TlsMode::Enforcing)
        }
    }

    /// Served to those only who have a certificate of ours.
    fn server_for_ours(&self, need: ClientAuth) -> TlsConfig {
        TlsConfig {
            tls_server_need_client_auth: need,
            tls_server_auth_client: true,
            tls_server_trust_cert_path: Some(self.roots("roots", &self.authority)),
            ..self.server()
        }
    }

    fn client(&self) -> ClientTls {
        ClientTls::trusting(self.roots("roots", &self.authority))
    }

    fn client_with(&self, pair: &Pair) -> ClientTls {
        let (cert_path, key_path) = self.write("client", pair);
        self.client().with_certificate(cert_path, key_path, None)
    }
}

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/tls")
        .join(name);
    path.to_string_lossy().into_owned()
}

#[test]
fn permissive_serves_tls_and_plain_connections_on_one_port() {
    let server = serve(with_mode(TlsMode::Permissive));
    block_on(async {
        try_echo(Some(ClientTls::trusting_anyone()), &server).await.unwrap();
        try_echo(None, &server).await.unwrap();
    });
    server.assert_serves();
}

#[test]
fn enforcing_closes_plain_connections() {
    let server = serve(with_mode(TlsMode::Enforcing));
    let mut plain = server.connect();
    plain.send(&request(ECHO, 1, b"plain"));
    plain.assert_closed();
    block_on(async {
        assert!(matches!(try_echo(None, &server).await, Err(CallError::Closed { .. })));
        try_echo(Some(ClientTls::trusting_anyone()), &server).await.unwrap();
    });
    assert_eq!(server.handled(), 1);
}

#[test]
fn disabled_closes_tls() {
    let server = serve(with_mode(TlsMode::Disabled));
    block_on(async {
        let refused = try_echo(Some(ClientTls::trusting_anyone()), &server).await;
        assert!(matches!(refused, Err(CallError::Connect { .. })), "{refused:?}");
        try_echo(None, &server).await.unwrap();
    });
}

#[test]
fn bodies_of_any_size_pass_in_both_directions() {
    let server = serve(with_mode(TlsMode::Permissive));
    let addr = server.addr.to_string();
    let client = client(Some(ClientTls::trusting_anyone()));
    let pattern: Vec<u8> = (0..251).collect();
    let long = Bytes::from(pattern.repeat((5 << 20) / 251 + 1));
    block_on(async {
        client.invoke(&addr, request(ECHO, 0, b"x"), TIMEOUT).await.unwrap();
        let sizes = [
            0,
            1,
            4_000,
            16_300,
            16_384,
            16_400,
            65_000,
            131_072,
            200_000,
            1 << 20,
            5 << 20,
        ];
        let calls: Vec<_> = (0..4)
            .flat_map(|round: usize| sizes.map(|size| long.slice(round..round + size)))
            .map(|body| {
                let (client, addr) = (client.clone(), addr.clone());
                tokio::spawn(async move {
                    let asked = request(ECHO, 0, b"").with_body(body.clone());
                    let answer = client.invoke(&addr, asked, DEADLINE).await.unwrap();
                    assert!(
                        answer.body == body,
                        "{} bytes came back as {}",
                        body.len(),
                        answer.body.len()
                    );
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    });
    assert_eq!(server.handler.open.lock().len(), 1);
}

#[test]
fn the_server_may_ask_its_clients() {
    let server = serve(with_mode(TlsMode::Permissive));
    let client = client(Some(ClientTls::trusting_anyone()));
    block_on(async {
        client
            .invoke(&server.addr.to_string(), request(ECHO, 0, b"x"), TIMEOUT)
            .await
            .unwrap();
        let connection = server.handler.open.lock()[0].clone();
        // Nobody handles it: what counts is that it gets there, and the connection stays.
        connection.oneway(request(ECHO, 0, &vec![1; 300_000])).unwrap();
        client
            .invoke(&server.addr.to_string(), request(ECHO, 0, b"x"), TIMEOUT)
            .await
            .unwrap();
    });
    assert_eq!(server.handler.open.lock().len(), 1);
}

#[test]
fn clients_believe_whom_they_were_told_to() {
    let files = Files::new();
    let server = serve(files.server());
    block_on(async {
        try_echo(Some(ClientTls::trusting_anyone()), &server).await.unwrap();
        try_echo(Some(files.client()), &server).await.unwrap();
        let other = ClientTls::trusting(files.roots("other", &Authority::new("another root")));
        let refused = try_echo(Some(other), &server).await.unwrap_err().to_string();
        assert!(refused.contains("UnknownIssuer"), "{refused}");
        // Connected to by its address, for which the certificate is not.
        let refused = try_echo(Some(files.client().verifying_host()), &server)
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("not valid for name"), "{refused}");
    });
    let server = serve(files.server_with(&files.authority.issue("127.0.0.1")));
    block_on(try_echo(Some(files.client().verifying_host()), &server)).unwrap();
}

#[test]
fn expired_certificates_are_refused_by_both_sides() {
    let files = Files::new();
    let expired = files.authority.issue_expired("localhost");
    let server = serve(files.server_with(&expired));
    block_on(async {
        let refused = try_echo(Some(files.client()), &server).await.unwrap_err().to_string();
        assert!(refused.contains("expired"), "{refused}");
        try_echo(Some(ClientTls::trusting_anyone()), &server).await.unwrap();
    });
    let server = serve(files.server_for_ours(ClientAuth::Require));
    assert!(block_on(try_echo(Some(files.client_with(&expired)), &server)).is_err());
    assert_eq!(server.handled(), 0);
}

#[test]
fn clients_have_to_show_certificates_where_that_is_required() {
    let files = Files::new();
    let ours = files.authority.issue("client");
    let theirs = Authority::new("another root").issue("client");
    // Need, whether its issuer matters; with none, with one of another issuer, with ours.
    let cases = [
        (ClientAuth::None, true, [true, true, true]),
        (ClientAuth::Optional, false, [true, true, true]),
        (ClientAuth::Optional, true, [true, false, true]),
        (ClientAuth::Require, false, [false, true, true]),
        (ClientAuth::Require, true, [false, false, true]),
    ];
    for (need, auth_client, expected) in cases {
        let server = serve(TlsConfig {
            tls_server_auth_client: auth_client,
            ..files.server_for_ours(need)
        });
        let clients = [files.client(), files.client_with(&theirs), files.client_with(&ours)];
        let clients = clients.into_iter().zip([None, Some(&theirs), Some(&ours)]);
        for ((client, pair), expected) in clients.zip(expected) {
            // Clients share the file.
            pair.map(|pair| files.write("client", pair));
            let served = block_on(try_echo(Some(client), &server));
            assert_eq!(served.is_ok(), expected, "{need:?} {auth_client}: {served:?}");
        }
    }
}

#[test]
fn keys_may_be_encrypted_and_certificates_of_version_1() {
    let config = |cert, password: Option<&str>| TlsConfig {
        tls_test_mode_enable: false,
        tls_server_cert_path: Some(fixture(cert)),
        tls_server_key_path: Some(fixture("encrypted.key")),
        tls_server_key_password: password.map(str::to_owned),
        ..with_mode(TlsMode::Enforcing)
    };
    let server = serve(config("self_signed.pem", Some("s3cret")));
    block_on(try_echo(Some(ClientTls::trusting(fixture("self_signed.pem"))), &server)).unwrap();
    let server = serve(config("version1.pem", Some("s3cret")));
    block_on(try_echo(Some(ClientTls::trusting_anyone()), &server)).unwrap();

    for (password, why) in [(Some("wrong"), "cannot be decrypted"), (None, "no password is set")] {
        let error = start_error(config("self_signed.pem", password));
        assert!(error.contains(why), "{error}");
    }
}

fn start_error(tls: TlsConfig) -> String {
    let config = ServerConfig {
        tls: Some(tls),
        ..config()
    };
    let started = oxmq_remoting::serve_commands(config, Arc::new(TestHandler::default()));
    started.err().map(|error| error.to_string()).unwrap()
}

#[test]
fn a_server_does_not_start_with_certificates_that_it_cannot_use() {
    let files = Files::new();
    let right = files.server();
    let (_, other_key) = files.write("other", &files.authority.issue("localhost"));
    let with = |change: fn(&mut TlsConfig)| {
        let mut config = right.clone();
        change(&mut config);
        config
    };
    let cases = [
        (
            with(|config| config.tls_server_cert_path = None),
            "tls.server.certPath is not set",
        ),
        (
            with(|config| config.tls_server_key_path = Some("/nowhere/key.pem".into())),
            "/nowhere/key.pem: No such file",
        ),
        (
            TlsConfig {
                tls_server_key_path: Some(other_key),
                ..right.clone()
            },
            "does not belong to the certificate",
        ),
        (
            TlsConfig {
                tls_server_key_path: right.tls_server_cert_path.clone(),
                ..right.clone()
            },
            "there is no private key in it",
        ),
        (
            TlsConfig {
                tls_server_cert_path: right.tls_server_key_path.clone(),
                ..right.clone()
            },
            "there is no certificate in it",
        ),
        (
            with(|config| {
                config.tls_server_need_client_auth = ClientAuth::Require;
                config.tls_server_auth_client = true;
            }),
            "tls.server.trustCertPath is not set",
        ),
    ];
    for (config, expected) in cases {
        let error = start_error(config);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn changed_certificates_serve_new_connections_and_leave_open_ones() {
    let files = Files::new();
    let next = Authority::new("the next root");
    let server = serve(files.server());
    let addr = server.addr.to_string();
    let open = client(Some(files.client()));
    let trusting_next = ClientTls::trusting(files.roots("next", &next));
    block_on(async {
        open.invoke(&addr, request(ECHO, 0, b"x"), TIMEOUT).await.unwrap();
        assert!(try_echo(Some(trusting_next.clone()), &server).await.is_err());
        files.write("server", &next.issue("localhost"));
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while try_echo(Some(trusting_next.clone()), &server).await.is_err() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the new certificate is not served"
            );
            open.invoke(&addr, request(ECHO, 0, b"x"), TIMEOUT).await.unwrap();
        }
        assert!(try_echo(Some(files.client()), &server).await.is_err());
        // Its connection is the first one still: a new one would not have been believed.
        open.invoke(&addr, request(ECHO, 0, b"x"), TIMEOUT).await.unwrap();
    });
}

#[test]
fn unfinished_handshakes_end_in_time() {
    let server = TestServer::start(ServerConfig {
        tls: Some(with_mode(TlsMode::Permissive)),
        handshake_timeout_ms: 200,
        idle_timeout_ms: 60_000,
        ..config()
    });
    let mut silent = server.connect();
    silent.write(&HALF_HELLO);
    let mut slow = server.connect();
    slow.write(&HALF_HELLO);
    wait_for("the end of the slow one", || slow.socket.write_all(&[0]).is_err());
    // What comes before the end is an alert.
    let mut rest = Vec::new();
    silent.socket.read_to_end(&mut rest).unwrap();
    server.assert_serves();
}

#[test]
fn unfinished_handshakes_have_a_common_bound() {
    let server = TestServer::start(ServerConfig {
        workers: 1,
        worker_in_bytes_max: 1 << 20,
        tls: Some(with_mode(TlsMode::Permissive)),
        ..config()
    });
    let waiting: Vec<RawClient> = (0..100)
        .map(|_| {
            let mut client = server.connect();
            // The server may close before it has taken everything.
            let _ = client.socket.write_all(&HALF_HELLO);
            client
        })
        .collect();
    wait_for("most are closed", || server.connections() <= 16);
    server.assert_serves();
    drop(waiting);
    wait_for("room", || server.connections() == 0);
    block_on(try_echo(Some(ClientTls::trusting_anyone()), &server)).unwrap();
}

#[test]
fn many_handshakes_at_once_all_succeed_while_others_are_served() {
    let server = TestServer::start(ServerConfig {
        workers: 1,
        tls: Some(with_mode(TlsMode::Permissive)),
        ..config()
    });
    let addr = server.addr.to_string();
    let tls = ClientTls::trusting_anyone();
    block_on(async {
        let all: Vec<_> = (0..100)
            .map(|_| {
                let (client, addr) = (client(Some(tls.clone())), addr.clone());
                tokio::spawn(async move { client.invoke(&addr, request(ECHO, 0, b"x"), TIMEOUT).await })
            })
            .collect();
        try_echo(None, &server).await.unwrap();
        for one in all {
            one.await.unwrap().unwrap();
        }
    });
}

#[test]
fn an_idle_tls_connection_costs_little() {
    let server = serve(with_mode(TlsMode::Permissive));
    let addr = server.addr.to_string();
    block_on(async {
        let tls = ClientTls::trusting_anyone();
        let connect = || client(Some(tls.clone()));
        let first = connect();
        first
            .invoke(&addr, request(ECHO, 0, &[0; 2000]), TIMEOUT)
            .await
            .unwrap();
        let before = anonymous_bytes();
        let mut idle = Vec::new();
        for _ in 0..200 {
            let client = connect();
            client
                .invoke(&addr, request(ECHO, 0, &[0; 2000]), TIMEOUT)
                .await
                .unwrap();
            idle.push(client);
        }
        let each = anonymous_bytes().saturating_sub(before) / idle.len();
        // Most of it is the buffer of our own client.
        assert!(each < 200_000, "{each} bytes for each idle connection");
    });
}

/// What a client says first.
fn client_hello(server: &TestServer) -> Vec<u8> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let heard = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut bytes = vec![0; 8192];
        let count = socket.read(&mut bytes).unwrap();
        bytes.truncate(count);
        bytes
    });
    let _ = block_on(client(Some(ClientTls::trusting_anyone())).invoke(&addr, request(ECHO, 0, b""), TIMEOUT));
    server.assert_serves();
    heard.join().unwrap()
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let server = serve(with_mode(TlsMode::Permissive));
    let hello = client_hello(&server);
    let mut client = server.connect();
    for byte in hello {
        client.write(&[byte]);
    }
    let mut answer = [0; 6];
    client.socket.read_exact(&mut answer).unwrap();
    // A handshake record with a ServerHello.
    assert_eq!((answer[0], answer[5]), (0x16, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn broken_handshakes_never_hurt_the_server(at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        static SERVER: std::sync::OnceLock<(&'static TestServer, Vec<u8>)> = std::sync::OnceLock::new();
        let (server, hello) = SERVER.get_or_init(|| {
            let server: &TestServer = Box::leak(Box::new(serve(with_mode(TlsMode::Permissive))));
            (server, client_hello(server))
        });
        let mut broken = hello.clone();
        let at = 1 + at.index(broken.len() - 1);
        broken.splice(at..(at + bytes.len()).min(hello.len()), bytes);
        let mut client = server.connect();
        let _ = client.socket.write_all(&broken);
        server.assert_serves();
    }
}

#[test]
fn files_are_named_where_they_cannot_be_used_by_clients() {
    let server = serve(with_mode(TlsMode::Permissive));
    let refused = block_on(try_echo(Some(ClientTls::trusting("/nowhere/ca.pem")), &server)).unwrap_err();
    assert!(
        refused.to_string().contains("cannot use /nowhere/ca.pem: No such file"),
        "{refused}"
    );
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem").to_string_lossy().into_owned();
    fs::write(&empty, "nothing").unwrap();
    let refused = block_on(try_echo(Some(ClientTls::trusting(empty)), &server)).unwrap_err();
    assert!(
        refused.to_string().contains("there is no certificate in it"),
        "{refused}"
    );
}
