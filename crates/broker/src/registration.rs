//! What this broker tells the name servers (spec: behaviour.md §2.8).
//!
//! Each name server has a task of its own, so that a dead one delays nobody. It sends everything at first, every period,
//! and after a failure; in between it sends the topics that changed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::body::{
    DataVersion, KvTable, QueueData, RegisterBrokerBody, TopicConfig, TopicConfigSerializeWrapper, TopicRouteData,
};
use oxmq_protocol::requests::{BrokerHeader, RegisterBrokerHeader, TopicHeader, request};
use oxmq_protocol::{json, perm, record};
use oxmq_remoting::{CallError, ClientConfig, RemotingClient};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout, timeout_at};

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::peers;
use crate::routes;
use crate::topics::Topics;

/// Changes that are remembered for name servers that have not heard of them. One that missed more gets everything.
const CHANGES_MAX: usize = 1024;

/// How long somebody waits for name servers to hear of a topic. They hear of it later in any case.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(3);

/// Pause after a name server could not be told.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// How long saying goodbye may take.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(3);

/// Topics that changed, for the tasks of the name servers.
pub(crate) struct Registration {
    changes: Arc<Changes>,
}

struct Changes {
    log: Mutex<ChangeLog>,
    /// Moves with every change.
    news: watch::Sender<u64>,
    /// By address: the change up to which a name server knows everything, `None` while it cannot be told.
    told: watch::Sender<BTreeMap<String, Option<u64>>>,
}

#[derive(Default)]
struct ChangeLog {
    topics: VecDeque<(u64, Arc<TopicConfig>)>,
    version: DataVersion,
    sequence: u64,
    /// Name servers that know less than this need everything.
    everything_since: u64,
}

/// What a name server has to hear.
enum News {
    Topics(DataVersion, Vec<Arc<TopicConfig>>),
    Everything,
}

impl Default for Registration {
    fn default() -> Registration {
        Registration {
            changes: Arc::new(Changes {
                // Above what a name server knows that was told nothing.
                log: Mutex::new(ChangeLog {
                    sequence: 1,
                    ..ChangeLog::default()
                }),
                news: watch::Sender::new(0),
                told: watch::Sender::default(),
            }),
        }
    }
}

impl Registration {
    /// Hears of the changes of the table from now on.
    pub(crate) fn follow(&self, topics: &Topics) {
        let changes = Arc::clone(&self.changes);
        topics.set_listener(Box::new(move |configs, version| changes.add(configs, version)));
    }

    /// Waits until every name server that can be reached knows of the changes so far, for a bounded time. Clients that
    /// are told of a topic look for its route at once, and not all of them look twice.
    pub(crate) fn announced(&self) -> impl Future<Output = ()> + use<> {
        let changes = Arc::clone(&self.changes);
        let wanted = changes.sequence();
        async move {
            let mut told = changes.told.subscribe();
            let all_know = |told: &BTreeMap<String, Option<u64>>| {
                told.values().all(|known| known.is_none_or(|known| known >= wanted))
            };
            if timeout(ANNOUNCE_TIMEOUT, told.wait_for(all_know)).await.is_err() {
                tracing::warn!("a name server takes long to hear of a topic");
            }
        }
    }

    /// Asks for a full registration with every name server.
    pub(crate) fn request(&self) {
        let mut log = self.changes.log.lock();
        log.sequence += 1;
        log.everything_since = log.sequence;
        self.changes.news.send_replace(log.sequence);
    }
}

impl Changes {
    fn add(&self, configs: &[Arc<TopicConfig>], version: DataVersion) {
        let mut log = self.log.lock();
        log.sequence += 1;
        log.version = version;
        for config in configs {
            let sequence = log.sequence;
            log.topics.push_back((sequence, Arc::clone(config)));
        }
        while log.topics.len() > CHANGES_MAX {
            if let Some((dropped, _)) = log.topics.pop_front() {
                log.everything_since = log.everything_since.max(dropped);
            }
        }
        self.news.send_replace(log.sequence);
    }

    fn sequence(&self) -> u64 {
        self.log.lock().sequence
    }

    /// What a name server that knows everything up to `known` has to hear, and what it knows then.
    fn since(&self, known: u64) -> (u64, News) {
        let log = self.log.lock();
        if known < log.everything_since {
            return (log.sequence, News::Everything);
        }
        let mut latest = BTreeMap::new();
        for (_, config) in log.topics.iter().filter(|(sequence, _)| *sequence > known) {
            latest.insert(config.topic_name.as_str(), Arc::clone(config));
        }
        (log.sequence, News::Topics(log.version, latest.into_values().collect()))
    }
}

/// The name servers that are being informed.
pub(crate) struct NameServers {
    client: RemotingClient,
    addrs: Vec<String>,
}

/// Starts a task for each name server of the settings, on the current thread.
pub(crate) fn start(broker: &Arc<Broker>) -> NameServers {
    let client = RemotingClient::new(ClientConfig::default(), None);
    let addrs = name_server_addrs(broker.config().namesrv_addr.as_deref().unwrap_or_default());
    // All of them know nothing yet, which is something to wait for.
    let told = addrs.iter().map(|addr| (addr.clone(), Some(0))).collect();
    broker.registration.changes.told.send_replace(told);
    for addr in &addrs {
        let registrar = Registrar {
            broker: Arc::clone(broker),
            client: client.clone(),
            addr: addr.clone(),
            known: None,
        };
        spawn_local(registrar.run());
    }
    spawn_local(routes::answer(Arc::clone(broker), client.clone(), addrs.clone()));
    spawn_local(peers::serve(Arc::clone(broker), client.clone(), addrs.clone()));
    NameServers { client, addrs }
}

impl NameServers {
    pub(crate) async fn unregister(&self, broker: &Broker) {
        let header = broker_header(&broker.config());
        let deadline = Instant::now() + UNREGISTER_TIMEOUT;
        let calls = self.addrs.iter().map(|addr| {
            let (client, addr, header) = (self.client.clone(), addr.clone(), header.clone());
            spawn_local(async move {
                let call = client.call::<request::UnregisterBroker>(&addr, &header, Bytes::new(), UNREGISTER_TIMEOUT);
                if let Err(error) = call.await {
                    tracing::warn!(name_server = addr, %error, "cannot unregister");
                }
            })
        });
        for call in calls.collect::<Vec<_>>() {
            if timeout_at(deadline, call).await.is_err() {
                tracing::warn!("a name server does not answer in time");
            }
        }
        self.client.shutdown().await;
    }
}

/// The task of one name server.
struct Registrar {
    broker: Arc<Broker>,
    client: RemotingClient,
    addr: String,
    /// The changes it knows of; `None` before it has everything.
    known: Option<u64>,
}

impl Registrar {
    async fn run(mut self) {
        let mut news = self.broker.registration.changes.news.subscribe();
        loop {
            let start = Instant::now();
            self.register_all().await;
            // Changes that came meanwhile, then those that come until the period is over.
            loop {
                news.mark_unchanged();
                self.register_changes().await;
                self.note_told();
                let pause = match self.known {
                    Some(_) => period(&self.broker.config()),
                    None => RETRY_PERIOD,
                };
                match timeout_at(start + pause, news.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => break,
                }
            }
        }
    }

    fn note_told(&self) {
        let told = &self.broker.registration.changes.told;
        told.send_if_modified(|told| told.insert(self.addr.clone(), self.known) != Some(self.known));
    }

    /// Everything, unless the name server has it and that is enough.
    async fn register_all(&mut self) {
        let config = Arc::clone(&self.broker.config());
        if self.known.is_some() && !config.force_register && self.is_up_to_date(&config).await {
            return;
        }
        let sequence = self.broker.registration.changes.sequence();
        let (version, topics) = self.broker.topics.snapshot();
        let piece = match config.enable_split_registration {
            true => config.split_registration_size,
            false => topics.len().max(1),
        };
        self.known = Some(sequence);
        for topics in topics.chunks(piece) {
            if !self.register(&config, version, topics).await {
                return;
            }
        }
    }

    async fn register_changes(&mut self) {
        let Some(known) = self.known else { return };
        match self.broker.registration.changes.since(known) {
            (sequence, News::Topics(version, topics)) => {
                self.known = Some(sequence);
                if topics.is_empty() {
                    return;
                }
                let config = Arc::clone(&self.broker.config());
                // The other way to announce a topic has no place for mappings.
                let is_static = |topic: &Arc<TopicConfig>| self.broker.static_topics.get(&topic.topic_name).is_some();
                match config.enable_single_topic_register && !topics.iter().any(is_static) {
                    true => self.announce(&config, &topics).await,
                    false => {
                        self.register(&config, version, &topics).await;
                    }
                }
            }
            (_, News::Everything) => self.register_all().await,
        }
    }

    /// Whether it worked. If not, the next attempt tells everything.
    async fn register(&mut self, config: &BrokerConfig, version: DataVersion, topics: &[Arc<TopicConfig>]) -> bool {
        let body = RegisterBrokerBody {
            filter_server_list: Vec::new(),
            topic_config_serialize_wrapper: TopicConfigSerializeWrapper {
                data_version: version,
                topic_config_table: registered_table(topics, config.broker_permission),
                topic_queue_mapping_info_map: (self.broker.static_topics)
                    .infos(topics.iter().map(|topic| topic.topic_name.as_str())),
                ..TopicConfigSerializeWrapper::default()
            },
        };
        let body = match config.compressed_register {
            true => body.encode_compressed(),
            false => body.encode(),
        };
        let header = RegisterBrokerHeader {
            broker_name: config.broker_name.clone(),
            broker_addr: config.broker_addr(),
            cluster_name: config.broker_cluster_name.clone(),
            ha_server_addr: config.ha_addr(),
            broker_id: config.broker_id,
            heartbeat_timeout_millis: None,
            enable_acting_master: Some(false),
            compressed: config.compressed_register,
            body_crc32: Some(record::body_crc(&body) as i32),
            zone_name: None,
        };
        let timeout = Duration::from_millis(config.register_broker_timeout_ms);
        let call = self
            .client
            .call::<request::RegisterBroker>(&self.addr, &header, body.into(), timeout);
        match call.await {
            Ok(reply) => {
                self.follow_order_table(&reply.body);
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    /// Topics that the name server says are ordered.
    fn follow_order_table(&self, body: &[u8]) {
        if body.is_empty() {
            return;
        }
        match json::from_slice::<KvTable>(body) {
            Ok(order) => {
                let topics = order.table.keys().map(String::as_str);
                self.broker.topics.mark_ordered(topics, self.broker.now_ms());
            }
            Err(error) => tracing::warn!(name_server = self.addr, %error, "its table of ordered topics is unreadable"),
        }
    }

    async fn announce(&mut self, config: &BrokerConfig, topics: &[Arc<TopicConfig>]) {
        for topic in topics {
            let route = TopicRouteData {
                queue_datas: vec![QueueData {
                    broker_name: config.broker_name.clone(),
                    perm: topic.perm & config.broker_permission,
                    read_queue_nums: topic.read_queue_nums,
                    topic_sys_flag: topic.topic_sys_flag,
                    write_queue_nums: topic.write_queue_nums,
                }],
                ..TopicRouteData::default()
            };
            let header = TopicHeader {
                topic: topic.topic_name.clone(),
                broker_name: None,
            };
            let body = json::to_vec(&route).into();
            let timeout = Duration::from_millis(config.register_broker_timeout_ms);
            let call = self
                .client
                .call::<request::RegisterTopicInNamesrv>(&self.addr, &header, body, timeout);
            if let Err(error) = call.await {
                return self.failed(&error);
            }
        }
    }

    async fn is_up_to_date(&self, config: &BrokerConfig) -> bool {
        let version = json::to_vec(&self.broker.topics.data_version()).into();
        let timeout = Duration::from_millis(config.register_broker_timeout_ms);
        let header = broker_header(config);
        let call = self
            .client
            .call::<request::QueryDataVersion>(&self.addr, &header, version, timeout);
        call.await.is_ok_and(|reply| !reply.fields.changed)
    }

    fn failed(&mut self, error: &CallError) {
        if self.known.take().is_some() {
            tracing::warn!(name_server = self.addr, %error, "cannot register");
        }
    }
}

fn broker_header(config: &BrokerConfig) -> BrokerHeader {
    BrokerHeader {
        broker_name: config.broker_name.clone(),
        broker_addr: config.broker_addr(),
        cluster_name: config.broker_cluster_name.clone(),
        broker_id: config.broker_id,
    }
}

/// The topics as name servers see them: a broker that lacks a permission lacks it for every topic.
fn registered_table(topics: &[Arc<TopicConfig>], broker_permission: i32) -> BTreeMap<String, TopicConfig> {
    let restricted = !perm::is_readable(broker_permission) || !perm::is_writeable(broker_permission);
    let registered = |topic: &Arc<TopicConfig>| {
        let mut topic = TopicConfig::clone(topic);
        if restricted {
            topic.perm &= broker_permission;
        }
        (topic.topic_name.clone(), topic)
    };
    topics.iter().map(registered).collect()
}

fn period(config: &BrokerConfig) -> Duration {
    Duration::from_millis(config.register_name_server_period_ms.clamp(10_000, 60_000))
}

/// `host:port;host:port`
fn name_server_addrs(list: &str) -> Vec<String> {
    let addrs = list.split([';', ',']).map(str::trim).filter(|addr| !addr.is_empty());
    addrs.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, queue_nums: i32) -> Arc<TopicConfig> {
        Arc::new(TopicConfig::new(name, queue_nums, 6))
    }

    fn names(news: News) -> Option<Vec<String>> {
        match news {
            News::Topics(_, topics) => Some(topics.iter().map(|topic| topic.topic_name.clone()).collect()),
            News::Everything => None,
        }
    }

    #[test]
    fn a_name_server_hears_what_it_does_not_know() {
        let registration = Registration::default();
        let changes = &registration.changes;
        changes.add(&[topic("a", 1)], DataVersion::default());
        let (known, _) = changes.since(0);
        changes.add(&[topic("b", 1), topic("c", 1)], DataVersion::default());
        changes.add(&[topic("b", 2)], DataVersion::default());
        let (_, news) = changes.since(known);
        assert!(matches!(&news, News::Topics(_, topics) if topics[0].read_queue_nums == 2));
        assert_eq!(names(news), Some(vec!["b".into(), "c".into()]));
        assert_eq!(names(changes.since(changes.sequence()).1), Some(vec![]));
    }

    #[test]
    fn one_that_missed_too_much_gets_everything() {
        let registration = Registration::default();
        let changes = &registration.changes;
        let before = changes.sequence();
        for index in 0..=CHANGES_MAX {
            changes.add(&[topic(&format!("t{index}"), 1)], DataVersion::default());
        }
        assert_eq!(names(changes.since(before).1), None);
        assert_eq!(
            names(changes.since(before + 1).1).map(|names| names.len()),
            Some(CHANGES_MAX)
        );
        let known = changes.sequence();
        registration.request();
        assert_eq!(names(changes.since(known).1), None);
    }

    #[test]
    fn name_servers_are_listed_with_semicolons() {
        assert_eq!(name_server_addrs(" a:1; b:2;;"), ["a:1", "b:2"]);
        assert!(name_server_addrs("").is_empty());
    }

    #[test]
    fn a_broker_without_a_permission_lacks_it_for_every_topic() {
        let topics = [topic("t", 1)];
        assert_eq!(registered_table(&topics, 4)["t"].perm, 4);
        assert_eq!(registered_table(&topics, 6)["t"].perm, 6);
    }
}
