//! A broker on free ports with its files in a temporary folder, and the requests of a client.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use oxmq_broker::{Broker, BrokerConfig, BrokerHandle};
use oxmq_protocol::body::{ConsumerData, HeartbeatData, SubscriptionData};
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::requests::{
    CreateTopicHeader, PullMessageHeader, SendMessageHeader, SendMessageHeaderV2, SendMessageReply, request,
};
use oxmq_protocol::{FieldSet, RemotingCommand, Request, SerializeType, json};
use oxmq_remoting::{ClientConfig, RemotingClient};

pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct TestBroker {
    handle: Option<BrokerHandle>,
    config: BrokerConfig,
    addr: SocketAddr,
    _folder: tempfile::TempDir,
}

impl TestBroker {
    pub(crate) fn start() -> TestBroker {
        TestBroker::start_with(|_| {})
    }

    pub(crate) fn start_with(adjust: impl FnOnce(&mut BrokerConfig)) -> TestBroker {
        let folder = tempfile::tempdir().unwrap();
        let mut config = BrokerConfig {
            broker_name: "broker-a".into(),
            broker_ip1: "127.0.0.1".into(),
            bind_address: "127.0.0.1".into(),
            namesrv_addr: None,
            listen_port: 0,
            store_path_root_dir: folder.path().to_string_lossy().into_owned(),
            mapped_file_size_commit_log: 64 * 1024 * 1024,
            max_hash_slot_num: 1000,
            max_index_num: 4000,
            workers: 2,
            ..BrokerConfig::default()
        };
        adjust(&mut config);
        let handle = Broker::start(config.clone()).unwrap();
        TestBroker {
            addr: handle.local_addr(),
            handle: Some(handle),
            config,
            _folder: folder,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn broker(&self) -> &Broker {
        self.handle.as_ref().unwrap().broker()
    }

    pub(crate) fn stop(&mut self) {
        self.handle.take().unwrap().shutdown();
    }

    /// Starts another broker on what the files of this one hold right now: what a kill would leave.
    pub(crate) fn start_on_copy(&self) -> TestBroker {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(std::path::Path::new(&self.config.store_path_root_dir), folder.path());
        let config = BrokerConfig {
            store_path_root_dir: folder.path().to_string_lossy().into_owned(),
            listen_port: 0,
            ..self.config.clone()
        };
        let handle = Broker::start(config.clone()).unwrap();
        TestBroker {
            addr: handle.local_addr(),
            handle: Some(handle),
            config,
            _folder: folder,
        }
    }

    /// Starts again on the same files.
    pub(crate) fn start_again(&mut self) {
        let handle = Broker::start(self.config.clone()).unwrap();
        self.addr = handle.local_addr();
        self.handle = Some(handle);
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(SerializeType::Json)
    }

    pub(crate) fn client_with(&self, serialize: SerializeType) -> Client {
        let config = ClientConfig {
            serialize,
            ..ClientConfig::default()
        };
        Client {
            addr: self.addr.to_string(),
            remoting: RemotingClient::new(config, None),
        }
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) addr: String,
    pub(crate) remoting: RemotingClient,
}

impl Client {
    pub(crate) async fn invoke(&self, command: RemotingCommand) -> RemotingCommand {
        self.remoting.invoke(&self.addr, command, TIMEOUT).await.unwrap()
    }

    pub(crate) async fn call<R: Request>(&self, header: &R::Header, body: impl Into<Bytes>) -> RemotingCommand {
        self.invoke(RemotingCommand::request::<R>(header, body.into())).await
    }

    pub(crate) async fn create_topic(&self, topic: &str, queues: i32, order: bool) {
        let header = CreateTopicHeader {
            topic: topic.into(),
            default_topic: Some("TBW102".into()),
            read_queue_nums: queues,
            write_queue_nums: queues,
            perm: 6,
            topic_filter_type: "SINGLE_TAG".into(),
            topic_sys_flag: Some(0),
            order,
            ..CreateTopicHeader::default()
        };
        let reply = self.call::<request::UpdateAndCreateTopic>(&header, Bytes::new()).await;
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    }

    /// Sends one message by 310.
    pub(crate) async fn send(&self, header: &SendMessageHeaderV2, body: &'static str) -> RemotingCommand {
        self.call::<request::SendMessageV2>(header, body).await
    }

    pub(crate) async fn send_v1(&self, header: &SendMessageHeader, body: &'static str) -> RemotingCommand {
        self.call::<request::SendMessage>(header, body).await
    }

    pub(crate) async fn pull(&self, header: &PullMessageHeader) -> RemotingCommand {
        self.call::<request::PullMessage>(header, Bytes::new()).await
    }

    /// Makes the group known as one that consumes these topics.
    pub(crate) async fn subscribe(&self, group: &str, topic: &str, expression: &str, sub_version: i64) {
        let subscription = SubscriptionData::parse(topic, expression, sub_version).unwrap();
        let heartbeat = HeartbeatData {
            client_id: "client-1".into(),
            consumer_data_set: vec![ConsumerData {
                group_name: group.into(),
                subscription_data_set: vec![subscription],
                ..ConsumerData::default()
            }],
            ..HeartbeatData::default()
        };
        let reply = self.call::<request::HeartBeat>(&(), json::to_vec(&heartbeat)).await;
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    }
}

pub(crate) fn message(topic: &str, queue_id: i32) -> SendMessageHeaderV2 {
    SendMessageHeaderV2 {
        producer_group: "pg".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id,
        born_timestamp: 1_700_000_000_000,
        properties: Some(properties(&[("UNIQ_KEY", "K1"), ("WAIT", "true")])),
        reconsume_times: Some(0),
        ..SendMessageHeaderV2::default()
    }
}

pub(crate) fn properties(entries: &[(&str, &str)]) -> String {
    entries
        .iter()
        .map(|(name, value)| format!("{name}\u{1}{value}\u{2}"))
        .collect()
}

/// A pull with a subscription of its own.
pub(crate) fn pull(topic: &str, queue_id: i32, queue_offset: i64) -> PullMessageHeader {
    PullMessageHeader {
        consumer_group: "cg".into(),
        topic: topic.into(),
        queue_id,
        queue_offset,
        max_msg_nums: 32,
        sys_flag: 4,
        subscription: Some("*".into()),
        expression_type: Some("TAG".into()),
        ..PullMessageHeader::default()
    }
}

pub(crate) fn batch(items: &[(&str, &str)]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for (properties, body) in items {
        out.put_i32((22 + body.len() + properties.len()) as i32);
        out.put_bytes(0, 12);
        out.put_i32(body.len() as i32);
        out.put_slice(body.as_bytes());
        out.put_i16(properties.len() as i16);
        out.put_slice(properties.as_bytes());
    }
    out.to_vec()
}

pub(crate) fn sent(reply: &RemotingCommand) -> SendMessageReply {
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    SendMessageReply::read(&reply.header.ext_fields).unwrap()
}

#[track_caller]
pub(crate) fn refused(reply: &RemotingCommand, code: i32, remark: &str) {
    assert_eq!(
        (reply.header.code, reply.header.remark.as_deref()),
        (code, Some(remark))
    );
}

/// The records of a pull reply.
pub(crate) fn records(reply: &RemotingCommand) -> Vec<RecordRef<'_>> {
    let mut rest = &reply.body[..];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let record = RecordRef::parse(rest).unwrap();
        record.verify_crc().unwrap();
        rest = &rest[record.total_size()..];
        records.push(record);
    }
    records
}
