//! A name server on a free port and a plain socket to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use oxmq_namesrv::{NamesrvConfig, NamesrvHandle};
use oxmq_protocol::body::{DataVersion, RegisterBrokerBody, TopicConfig};
use oxmq_protocol::requests::*;
use oxmq_protocol::{ExtFields, FieldSet, Frame, RemotingCommand, Request, SerializeType};
use tempfile::TempDir;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A running name server and its folder.
pub(crate) struct Namesrv {
    pub(crate) handle: NamesrvHandle,
    pub(crate) dir: TempDir,
}

impl Namesrv {
    pub(crate) fn start() -> Namesrv {
        Namesrv::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut NamesrvConfig)) -> Namesrv {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let mut config = NamesrvConfig {
            bind_address: "127.0.0.1".into(),
            listen_port: 0,
            kv_config_path: path("kvConfig.json"),
            config_store_path: path("namesrv.properties"),
            ..NamesrvConfig::default()
        };
        change(&mut config);
        let handle = oxmq_namesrv::start(config).unwrap();
        Namesrv { handle, dir }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.handle.local_addr())
    }
}

pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    received: BytesMut,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Client {
        let socket = TcpStream::connect(addr).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Client {
            socket,
            received: BytesMut::new(),
        }
    }

    pub(crate) fn call<R: Request>(&mut self, header: &R::Header, body: impl Into<Bytes>) -> RemotingCommand {
        self.send(&RemotingCommand::request::<R>(header, body.into()), SerializeType::Json)
    }

    pub(crate) fn send(&mut self, command: &RemotingCommand, serialize: SerializeType) -> RemotingCommand {
        let mut frame = BytesMut::new();
        command.encode(serialize, &mut frame);
        self.exchange(&frame)
    }

    /// Writes bytes and reads the frame that answers them.
    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> RemotingCommand {
        self.socket.write_all(bytes).unwrap();
        loop {
            if let Some((frame, taken)) = Frame::peek(&self.received).unwrap() {
                let reply = RemotingCommand::decode(frame).unwrap();
                let _ = self.received.split_to(taken);
                return reply;
            }
            let mut chunk = [0; 64 * 1024];
            let bytes = self.socket.read(&mut chunk).unwrap();
            assert!(bytes > 0, "the name server closed the connection");
            self.received.extend_from_slice(&chunk[..bytes]);
        }
    }

    /// Whether the other side closes this connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        !matches!(self.socket.read(&mut byte), Ok(1..))
    }

    pub(crate) fn register(&mut self, header: &RegisterBrokerHeader, topics: &[&str], counter: i64) -> RemotingCommand {
        self.call::<request::RegisterBroker>(header, registration(topics, counter).encode())
    }

    pub(crate) fn route(&mut self, topic: &str) -> RemotingCommand {
        let header = GetRouteInfoHeader {
            topic: topic.into(),
            accept_standard_json_only: None,
        };
        self.call::<request::GetRouteInfoByTopic>(&header, "")
    }
}

/// A broker of the cluster `c`.
pub(crate) fn broker(broker_name: &str, broker_id: i64) -> RegisterBrokerHeader {
    RegisterBrokerHeader {
        broker_name: broker_name.into(),
        broker_addr: format!("{broker_name}-{broker_id}:10911"),
        cluster_name: "c".into(),
        ha_server_addr: format!("{broker_name}-{broker_id}:10912"),
        broker_id,
        ..RegisterBrokerHeader::default()
    }
}

pub(crate) fn registration(topics: &[&str], counter: i64) -> RegisterBrokerBody {
    let mut body = RegisterBrokerBody::default();
    let wrapper = &mut body.topic_config_serialize_wrapper;
    wrapper.data_version = DataVersion {
        counter,
        ..DataVersion::default()
    };
    for topic in topics {
        let config = TopicConfig::new(*topic, 8, 6);
        wrapper.topic_config_table.insert((*topic).into(), config);
    }
    body
}

/// A typed header read from a reply.
pub(crate) fn fields<F: FieldSet>(reply: &RemotingCommand) -> F {
    F::read(&reply.header.ext_fields).unwrap()
}

pub(crate) fn ext(pairs: &[(&str, &str)]) -> ExtFields {
    pairs.iter().copied().collect()
}

/// Waits until something is so; the deadline is for a machine under load.
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not become so in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}
