//! Servers to talk to, and eyes on what must not happen.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Once;

use bytes::Bytes;
use oxmq_broker::{Broker, BrokerConfig, BrokerHandle};
use oxmq_namesrv::{NamesrvConfig, NamesrvHandle};
use oxmq_protocol::requests::{CreateTopicHeader, GetRouteInfoHeader, SendMessageHeader, request as row};
use oxmq_protocol::{RemotingCommand, Request, SerializeType, response_code};
pub(crate) use oxmq_tests::{RawClient, anonymous_bytes, encode, raise_files_limit, wait_for};
use parking_lot::Mutex;
use tempfile::TempDir;

pub(crate) const BOTH: [SerializeType; 2] = [SerializeType::Json, SerializeType::RocketMq];

/// A name server and a broker with their own folder.
pub(crate) struct System {
    pub(crate) namesrv: NamesrvHandle,
    broker: Option<BrokerHandle>,
    config: BrokerConfig,
    pub(crate) dir: TempDir,
    /// Around it, so that what has climbed out of it is no other program's.
    _above: TempDir,
}

impl System {
    pub(crate) fn start() -> System {
        System::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut BrokerConfig)) -> System {
        watch_panics();
        let above = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir_in(&above).unwrap();
        let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let namesrv = oxmq_namesrv::start(NamesrvConfig {
            bind_address: "127.0.0.1".into(),
            listen_port: 0,
            server_worker_threads: 1,
            kv_config_path: file("kvConfig.json"),
            config_store_path: file("namesrv.properties"),
            ..NamesrvConfig::default()
        })
        .unwrap();
        let mut config = BrokerConfig {
            broker_name: "broker-a".into(),
            broker_ip1: "127.0.0.1".into(),
            broker_ip2: "127.0.0.1".into(),
            bind_address: "127.0.0.1".into(),
            listen_port: 0,
            namesrv_addr: Some(namesrv.local_addr().to_string()),
            store_path_root_dir: file("store"),
            mapped_file_size_commit_log: 16 * 1024 * 1024,
            ..BrokerConfig::default()
        };
        change(&mut config);
        let broker = Broker::start(config.clone()).unwrap();
        config.listen_port = broker.local_addr().port();
        let system = System {
            namesrv,
            broker: Some(broker),
            config,
            dir,
            _above: above,
        };
        system.assert_registered();
        system
    }

    /// A broker that has started is known to its name server.
    fn assert_registered(&self) {
        let response =
            RawClient::connect(self.namesrv.local_addr()).call(&command::<row::GetBrokerClusterInfo>(&(), b""));
        let addr = format!("\"{}\"", self.broker_addr());
        assert!(String::from_utf8_lossy(&response.body).contains(&addr));
    }

    /// Stops the broker in order and starts it again.
    pub(crate) fn restart_broker(&mut self) {
        self.broker.take().unwrap().shutdown();
        self.broker = Some(Broker::start(self.config.clone()).unwrap());
    }

    /// One more broker at the same name server.
    pub(crate) fn another_broker(&self, name: &str) -> BrokerHandle {
        let root = self.dir.path().join(name);
        Broker::start(BrokerConfig {
            broker_name: name.into(),
            listen_port: 0,
            store_path_root_dir: root.to_str().unwrap().to_owned(),
            ..self.config.clone()
        })
        .unwrap()
    }

    pub(crate) fn broker(&self) -> &BrokerHandle {
        self.broker.as_ref().unwrap()
    }

    pub(crate) fn broker_addr(&self) -> SocketAddr {
        self.broker().local_addr()
    }

    pub(crate) fn connect(&self) -> RawClient {
        RawClient::connect(self.broker_addr())
    }

    pub(crate) fn create_topic(&self, topic: &str, queues: i32) {
        self.create_topic_on(self.broker(), topic, queues);
    }

    pub(crate) fn create_topic_on(&self, broker: &BrokerHandle, topic: &str, queues: i32) {
        let header = CreateTopicHeader {
            topic: topic.into(),
            default_topic: Some("TBW102".into()),
            read_queue_nums: queues,
            write_queue_nums: queues,
            perm: 6,
            topic_filter_type: "SINGLE_TAG".into(),
            ..CreateTopicHeader::default()
        };
        let mut client = RawClient::connect(broker.local_addr());
        let response = client.call(&command::<row::UpdateAndCreateTopic>(&header, b""));
        assert_eq!(response.header.code, 0, "{:?}", response.header.remark);
        assert!(self.has_route(topic), "no route for the topic that was just created");
    }

    /// Whether the name server knows the topic now.
    pub(crate) fn has_route(&self, topic: &str) -> bool {
        let header = GetRouteInfoHeader {
            topic: topic.into(),
            ..GetRouteInfoHeader::default()
        };
        let mut client = RawClient::connect(self.namesrv.local_addr());
        is_success(&client.call(&command::<row::GetRouteInfoByTopic>(&header, b"")))
    }

    /// The servers work for somebody else, and nothing has panicked in them.
    pub(crate) fn assert_serves(&self, topic: &str) {
        let response = self.connect().call(&send(topic, b"still there"));
        assert_eq!(response.header.code, 0, "{:?}", response.header.remark);
        let response =
            RawClient::connect(self.namesrv.local_addr()).call(&command::<row::GetBrokerClusterInfo>(&(), b""));
        assert_eq!(response.header.code, 0, "{:?}", response.header.remark);
        assert_eq!(panics(), [""; 0]);
    }
}

pub(crate) fn command<R: Request>(header: &R::Header, body: &[u8]) -> RemotingCommand {
    RemotingCommand::request::<R>(header, Bytes::copy_from_slice(body))
}

pub(crate) fn send(topic: &str, body: &[u8]) -> RemotingCommand {
    let header = SendMessageHeader {
        producer_group: "test-producer".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        ..SendMessageHeader::default()
    };
    command::<row::SendMessage>(&header, body)
}

/// Reproducible choices.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Panics in threads of the servers, which have names; those of tests are named after them.
pub(crate) fn panics() -> Vec<String> {
    PANICS.lock().clone()
}

fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            if let Some(name) = thread.name().filter(|name| !name.contains("::")) {
                PANICS.lock().push(format!("{name}: {info}"));
            }
            print(info);
        }));
    });
}

/// Every file and folder below this one.
pub(crate) fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            found.push(entry.path().to_str().unwrap().to_owned());
        }
    }
    found
}

pub(crate) fn is_success(response: &RemotingCommand) -> bool {
    response.header.code == response_code::SUCCESS
}
