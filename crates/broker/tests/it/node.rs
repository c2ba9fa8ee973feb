//! A broker on a free port and plain sockets to it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use oxmq_broker::{Broker, BrokerConfig, BrokerHandle, Environment, StartError};
use oxmq_protocol::body::{ConsumerData, HeartbeatData, MessageModel, ProducerData, SubscriptionData};
use oxmq_protocol::message::{MessageExt, decode_messages};
use oxmq_protocol::requests::*;
use oxmq_protocol::{FieldSet, RemotingCommand, Request, json};
use oxmq_store::disk::SimulatedDisk;
use oxmq_tests::{RawClient, eventually};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

/// A running broker and its folder.
pub(crate) struct Node {
    handle: Option<BrokerHandle>,
    pub(crate) dir: TempDir,
    config: BrokerConfig,
    environment: Environment,
}

impl Node {
    pub(crate) fn start() -> Node {
        Node::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut BrokerConfig)) -> Node {
        Node::start_in(Environment::default(), change)
    }

    pub(crate) fn start_in(environment: Environment, change: impl FnOnce(&mut BrokerConfig)) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        Node {
            handle: Some(Broker::start_in(config.clone(), environment.clone()).unwrap()),
            dir,
            config,
            environment,
        }
    }

    /// Stops the broker and starts it again on the same folder.
    pub(crate) fn restart(self) -> Node {
        self.restart_with(|_| {})
    }

    /// The same, with something that happens to the folder in between.
    pub(crate) fn restart_with(mut self, change: impl FnOnce(&Path)) -> Node {
        self.stop();
        change(self.dir.path());
        self.start_again();
        self
    }

    /// The same, with time that passes while the broker is away.
    pub(crate) fn restart_after(self, clock: &VirtualClock, ms: i64) -> Node {
        self.restart_with(|_| _ = clock.0.fetch_add(ms, Ordering::SeqCst))
    }

    /// Starts the broker on what a simulated disk holds after a kill or a power cut.
    pub(crate) fn go_on_with(mut self, disk: SimulatedDisk) -> Node {
        self.stop();
        self.environment.disk = Arc::new(disk);
        self.start_again();
        self
    }

    /// Starts another broker on what the files of this one hold right now: what a kill would leave.
    pub(crate) fn start_on_copy(&self) -> Node {
        Node::start_with(|config| {
            let from = Path::new(&self.config.store_path_root_dir);
            copy_folder(from, Path::new(&config.store_path_root_dir));
            *config = BrokerConfig {
                store_path_root_dir: config.store_path_root_dir.clone(),
                ..self.config.clone()
            };
        })
    }

    pub(crate) fn stop(&mut self) {
        self.handle.take().unwrap().shutdown();
    }

    /// Starts another broker in the folder of this one, which has stopped, on such a disk.
    pub(crate) fn try_on(&self, disk: &SimulatedDisk) -> Result<BrokerHandle, StartError> {
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            ..self.environment.clone()
        };
        Broker::start_in(self.config.clone(), environment)
    }

    pub(crate) fn start_again(&mut self) {
        let started = Broker::start_in(self.config.clone(), self.environment.clone());
        self.handle = Some(started.unwrap());
    }

    /// Lets time pass on the clock of this broker.
    pub(crate) fn pass(&self, clock: &VirtualClock, ms: i64) {
        clock.0.fetch_add(ms, Ordering::SeqCst);
        self.broker().look_at_clock();
    }

    pub(crate) fn broker(&self) -> &Broker {
        self.handle.as_ref().unwrap().broker()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.handle.as_ref().unwrap().local_addr()
    }

    pub(crate) fn metrics_addr(&self) -> SocketAddr {
        self.metrics_addr_if_any().unwrap()
    }

    pub(crate) fn metrics_addr_if_any(&self) -> Option<SocketAddr> {
        self.handle.as_ref().unwrap().metrics_addr()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addr())
    }

    /// A file below `config/`.
    pub(crate) fn config_file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("store/config").join(name)).unwrap()
    }
}

/// A clock that only goes when it is told to.
#[derive(Clone)]
pub(crate) struct VirtualClock(Arc<AtomicI64>);

impl VirtualClock {
    pub(crate) fn new() -> VirtualClock {
        VirtualClock(Arc::new(AtomicI64::new(1_700_000_000_000)))
    }

    pub(crate) fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    /// A machine with this clock.
    pub(crate) fn environment(&self) -> Environment {
        let clock = self.clone();
        Environment {
            clock: Arc::new(move || clock.now()),
            ..Environment::default()
        }
    }

    /// A machine with this clock and such a disk.
    pub(crate) fn with_disk(&self, disk: &SimulatedDisk) -> Environment {
        Environment {
            disk: Arc::new(disk.clone()),
            ..self.environment()
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
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

fn config(dir: &Path) -> BrokerConfig {
    BrokerConfig {
        broker_name: "broker-a".into(),
        broker_ip1: "127.0.0.1".into(),
        broker_ip2: "127.0.0.1".into(),
        bind_address: "127.0.0.1".into(),
        namesrv_addr: None,
        listen_port: 0,
        workers: 2,
        store_path_root_dir: dir.join("store").to_string_lossy().into_owned(),
        mapped_file_size_commit_log: 16 << 20,
        max_hash_slot_num: 10_000,
        max_index_num: 40_000,
        ..BrokerConfig::default()
    }
}

pub(crate) struct Client(pub(crate) RawClient);

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Client {
        Client(RawClient::connect(addr))
    }

    pub(crate) fn call<R: Request>(&mut self, header: &R::Header, body: impl Into<Bytes>) -> RemotingCommand {
        self.exchange(RemotingCommand::request::<R>(header, body.into()))
    }

    /// A call that must succeed.
    pub(crate) fn ok<R: Request>(&mut self, header: &R::Header, body: impl Into<Bytes>) -> RemotingCommand {
        let reply = self.call::<R>(header, body);
        assert_eq!(reply.header.code, 0, "{:?}", reply.header);
        reply
    }

    /// Code and remark of a call that is refused.
    pub(crate) fn refused<R: Request>(&mut self, header: &R::Header, body: impl Into<Bytes>) -> (i32, String) {
        let reply = self.call::<R>(header, body);
        (reply.header.code, reply.header.remark.unwrap_or_default())
    }

    pub(crate) fn exchange(&mut self, request: RemotingCommand) -> RemotingCommand {
        self.0.call(&request)
    }

    pub(crate) fn write(&mut self, command: &RemotingCommand) {
        self.0.send(command);
    }

    /// The next request of the broker.
    pub(crate) fn next_inbound(&mut self) -> RemotingCommand {
        if self.0.inbound.is_empty() {
            let command = self.0.receive();
            assert!(!command.header.is_response());
            return command;
        }
        self.0.inbound.remove(0)
    }

    /// The next reply, to a request that was only written.
    pub(crate) fn read_reply(&mut self) -> RemotingCommand {
        loop {
            let command = self.0.receive();
            if command.header.is_response() {
                return command;
            }
            self.0.inbound.push(command);
        }
    }

    pub(crate) fn create_topic(&mut self, topic: &str, queue_nums: i32) {
        self.ok::<request::UpdateAndCreateTopic>(&topic_header(topic, queue_nums), "");
    }

    /// Sends to one queue; the answer is the queue offset and the offset message id.
    pub(crate) fn send(
        &mut self,
        topic: &str,
        queue_id: i32,
        body: &str,
        properties: &[(&str, &str)],
    ) -> SendMessageReply {
        let header = SendMessageHeader {
            producer_group: "p".into(),
            topic: topic.into(),
            default_topic: "TBW102".into(),
            default_topic_queue_nums: 4,
            queue_id,
            born_timestamp: 1,
            properties: Some(text(properties)),
            ..SendMessageHeader::default()
        };
        let reply = self.ok::<request::SendMessage>(&header, body.to_owned());
        fields(&reply)
    }

    /// What one pull without waiting finds.
    pub(crate) fn pull(&mut self, group: &str, topic: &str, queue_id: i32, queue_offset: i64) -> Vec<MessageExt> {
        let header = PullMessageHeader {
            consumer_group: group.into(),
            topic: topic.into(),
            queue_id,
            queue_offset,
            max_msg_nums: 32,
            sys_flag: oxmq_protocol::sys_flag::pull::SUBSCRIPTION,
            subscription: Some("*".into()),
            ..PullMessageHeader::default()
        };
        let reply = self.call::<request::PullMessage>(&header, "");
        match reply.header.code {
            0 => decode_messages(&reply.body, true).unwrap(),
            19..=21 => Vec::new(),
            _ => panic!("{:?}", reply.header),
        }
    }

    /// Pulls until there are messages.
    pub(crate) fn pull_some(&mut self, group: &str, topic: &str, queue_id: i32, queue_offset: i64) -> Vec<MessageExt> {
        let mut found = Vec::new();
        eventually(|| {
            found = self.pull(group, topic, queue_id, queue_offset);
            !found.is_empty()
        });
        found
    }

    pub(crate) fn heart_beat(&mut self, data: &HeartbeatData) -> HeartBeatReply {
        fields(&self.ok::<request::HeartBeat>(&(), json_of(data)))
    }
}

/// A heartbeat of a clustering push consumer.
pub(crate) fn consumer(client_id: &str, group: &str, topics: &[&str]) -> HeartbeatData {
    let subscriptions = topics
        .iter()
        .map(|topic| SubscriptionData::parse(topic, "*", 1).unwrap());
    HeartbeatData {
        client_id: client_id.into(),
        consumer_data_set: vec![ConsumerData {
            group_name: group.into(),
            message_model: MessageModel::Clustering,
            consume_type: oxmq_protocol::body::ConsumeType::Passively,
            subscription_data_set: subscriptions.collect(),
            ..ConsumerData::default()
        }],
        ..HeartbeatData::default()
    }
}

pub(crate) fn producer(client_id: &str, group: &str) -> HeartbeatData {
    HeartbeatData {
        client_id: client_id.into(),
        producer_data_set: vec![ProducerData {
            group_name: group.into(),
        }],
        ..HeartbeatData::default()
    }
}

pub(crate) fn topic_header(topic: &str, queue_nums: i32) -> CreateTopicHeader {
    CreateTopicHeader {
        topic: topic.into(),
        default_topic: Some("TBW102".into()),
        read_queue_nums: queue_nums,
        write_queue_nums: queue_nums,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".into(),
        ..CreateTopicHeader::default()
    }
}

/// A typed header read from a reply.
pub(crate) fn fields<F: FieldSet>(reply: &RemotingCommand) -> F {
    F::read(&reply.header.ext_fields).unwrap()
}

pub(crate) fn body<T: DeserializeOwned>(reply: &RemotingCommand) -> T {
    json::from_slice(&reply.body).unwrap()
}

pub(crate) fn json_of(body: &impl Serialize) -> Vec<u8> {
    json::to_vec(body)
}

fn text(properties: &[(&str, &str)]) -> String {
    properties
        .iter()
        .map(|(name, value)| format!("{name}\u{1}{value}\u{2}"))
        .collect()
}
