//! A name server on a free port and a plain socket to it.

use std::net::SocketAddr;

use bytes::Bytes;
use oxmq_namesrv::{NamesrvConfig, NamesrvHandle};
use oxmq_protocol::body::{DataVersion, RegisterBrokerBody, TopicConfig};
use oxmq_protocol::requests::*;
use oxmq_protocol::{ExtFields, FieldSet, RemotingCommand, Request, SerializeType};
use oxmq_tests::{RawClient, encode};
use tempfile::TempDir;

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

pub(crate) struct Client(pub(crate) RawClient);

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Client {
        Client(RawClient::connect(addr))
    }

    pub(crate) fn call<R: Request>(&mut self, header: &R::Header, body: impl Into<Bytes>) -> RemotingCommand {
        self.0.call(&RemotingCommand::request::<R>(header, body.into()))
    }

    pub(crate) fn send(&mut self, command: &RemotingCommand, serialize: SerializeType) -> RemotingCommand {
        self.exchange(&encode(command, serialize))
    }

    /// Writes bytes and reads the frame that answers them.
    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> RemotingCommand {
        self.0.write(bytes);
        self.0.receive()
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
