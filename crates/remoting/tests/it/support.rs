//! A server to talk to.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use oxmq_protocol::{RemotingCommand, RequestCode, SerializeType};
use oxmq_remoting::{
    CommandHandler, Connection, ConnectionHandle, Outcome, ServerConfig, ServerHandle, serve_commands,
};
pub(crate) use oxmq_tests::{DEADLINE, RawClient, anonymous_bytes, raise_files_limit, wait_for};
use parking_lot::Mutex;

pub(crate) fn config() -> ServerConfig {
    ServerConfig {
        workers: 2,
        ..ServerConfig::new("test", vec!["127.0.0.1:0".parse().unwrap()])
    }
}

/// Answers by request code; remembers its connections.
#[derive(Default)]
pub(crate) struct TestHandler {
    pub(crate) open: Mutex<Vec<ConnectionHandle>>,
    pub(crate) closed: AtomicUsize,
    pub(crate) handled: AtomicUsize,
    late: Arc<AtomicUsize>,
    /// The most late answers that were to come at one time.
    pub(crate) late_max: AtomicUsize,
    /// Who holds it keeps the worker of a `GATE` request from going on.
    pub(crate) gate: Mutex<()>,
}

/// Answered with its own body.
pub(crate) const ECHO: RequestCode = RequestCode::SendMessage;
/// Answered like `ECHO`, after as many milliseconds as `queueId` says.
pub(crate) const ECHO_LATE: RequestCode = RequestCode::PullMessage;
/// Never answered.
pub(crate) const SILENT: RequestCode = RequestCode::HeartBeat;
/// Answered with a body of as many bytes as `queueId` says.
pub(crate) const LARGE: RequestCode = RequestCode::QueryMessage;
/// Answered, but not before the gate is open; its whole worker waits.
pub(crate) const GATE: RequestCode = RequestCode::LockBatchMq;
/// A bug in the handler.
pub(crate) const PANIC: RequestCode = RequestCode::UnlockBatchMq;

impl CommandHandler for TestHandler {
    fn handle(&self, _: &Rc<Connection>, code: RequestCode, command: RemotingCommand) -> Outcome {
        self.handled.fetch_add(1, Ordering::SeqCst);
        let number = || command.header.ext_fields.get("queueId").unwrap().parse().unwrap();
        match code {
            ECHO => Outcome::Reply(answer(command.body)),
            ECHO_LATE => {
                let wait = Duration::from_millis(number());
                let late = Arc::clone(&self.late);
                let now = late.fetch_add(1, Ordering::SeqCst) + 1;
                self.late_max.fetch_max(now, Ordering::SeqCst);
                Outcome::later(async move {
                    tokio::time::sleep(wait).await;
                    late.fetch_sub(1, Ordering::SeqCst);
                    answer(command.body)
                })
            }
            LARGE => Outcome::Reply(answer(vec![7; number() as usize].into())),
            SILENT => Outcome::Nothing,
            GATE => {
                drop(self.gate.lock());
                Outcome::Reply(answer(command.body))
            }
            PANIC => panic!("as the test wants it"),
            _ => Outcome::Unsupported,
        }
    }

    fn on_open(&self, connection: &Rc<Connection>) {
        self.open.lock().push(connection.handle());
    }

    fn on_close(&self, _: &Rc<Connection>) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) fn answer(body: Bytes) -> RemotingCommand {
    RemotingCommand::response(0, 0, None).with_body(body)
}

pub(crate) fn request(code: RequestCode, opaque: i32, body: &[u8]) -> RemotingCommand {
    let mut command = RemotingCommand::default().with_body(body.to_vec());
    command.header.code = code.code();
    command.header.opaque = opaque;
    command
}

pub(crate) fn request_with_number(code: RequestCode, opaque: i32, number: usize) -> RemotingCommand {
    let mut command = request(code, opaque, b"numbered");
    command.header.ext_fields.set("queueId", number.to_string());
    command
}

pub(crate) fn encode(command: &RemotingCommand) -> BytesMut {
    oxmq_tests::encode(command, SerializeType::Json)
}

pub(crate) struct TestServer {
    pub(crate) handle: Option<ServerHandle>,
    pub(crate) handler: Arc<TestHandler>,
    pub(crate) addr: SocketAddr,
}

impl TestServer {
    pub(crate) fn start(config: ServerConfig) -> TestServer {
        let handler = Arc::new(TestHandler::default());
        let handle = serve_commands(config, Arc::clone(&handler)).unwrap();
        TestServer {
            addr: handle.local_addrs()[0],
            handle: Some(handle),
            handler,
        }
    }

    pub(crate) fn connect(&self) -> RawClient {
        RawClient::connect(self.addr)
    }

    pub(crate) fn connections(&self) -> usize {
        self.handle.as_ref().unwrap().connections()
    }

    pub(crate) fn handled(&self) -> usize {
        self.handler.handled.load(Ordering::SeqCst)
    }

    /// The server works for somebody else.
    pub(crate) fn assert_serves(&self) {
        let mut client = self.connect();
        client.send(&request(ECHO, 4711, b"still there"));
        let response = client.receive();
        assert_eq!(
            (response.header.opaque, &response.body[..]),
            (4711, &b"still there"[..])
        );
    }
}
