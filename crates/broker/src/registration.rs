//! What this broker tells the name servers (spec: behaviour.md §2.8).
//!
//! Each name server has a task of its own, so that a dead one delays nobody. It sends everything at first, every period,
//! and after a failure; in between it sends the topics that changed. A large table goes in pieces ([`pieces`]), and when
//! the name server has it already, not every period.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::body::{
    DataVersion, KvTable, QueueData, RegisterBrokerBody, TopicConfig, TopicConfigSerializeWrapper, TopicRouteData,
};
use oxmq_protocol::requests::{BrokerHeader, RegisterBrokerHeader, TopicHeader, request};
use oxmq_protocol::{json, perm, record};
use oxmq_remoting::{CallError, ClientConfig, RemotingClient, TlsConfig};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout, timeout_at};

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::peers;
use crate::routes;
use crate::topics::Topics;

/// Changes that are remembered for name servers that have not heard of them: 16 bytes each, as the table holds the topics.
/// One that missed more gets everything.
const CHANGES_MAX: usize = 65_536;

/// What a registration may take up of time for each topic, where only `forceRegister` asks for it: with more than 15,000
/// topics it is not due every 30 seconds any more. Whether the name server has them is asked every period.
const FORCED_PER_TOPIC: Duration = Duration::from_millis(2);

/// Topics of one piece come to about so many bytes. Servers of the original take no frame above 16 MiB.
const PIECE_BYTES_MAX: usize = 4 << 20;

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
        let first = log.topics.partition_point(|(sequence, _)| *sequence <= known);
        for (_, config) in log.topics.range(first..) {
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
    let client_config = ClientConfig {
        tls: TlsConfig::of(&**broker.config()).client(),
        credentials: broker.access.inner_credentials.clone(),
        ..ClientConfig::default()
    };
    let client = RemotingClient::new(client_config, None);
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
            registered: None,
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
    /// When it was told everything last, and how many topics that were.
    registered: Option<(Instant, usize)>,
}

impl Registrar {
    async fn run(mut self) {
        let mut news = self.broker.registration.changes.news.subscribe();
        loop {
            let start = Instant::now();
            self.renew().await;
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
    async fn renew(&mut self) {
        let config = Arc::clone(&self.broker.config());
        let is_forced =
            config.force_register && (self.registered).is_none_or(|(at, topics)| is_forced_again(at.elapsed(), topics));
        if self.known.is_none() || is_forced || !self.is_up_to_date(&config).await {
            self.register_all(&config).await;
        }
    }

    async fn register_all(&mut self, config: &Arc<BrokerConfig>) {
        let sequence = self.broker.registration.changes.sequence();
        let (version, topics) = self.broker.topics.snapshot();
        self.known = Some(sequence);
        for (version, topics) in pieces(version, &topics, topics_max(config)) {
            if !self.register(config, version, topics).await {
                return;
            }
        }
        self.registered = Some((Instant::now(), topics.len()));
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
                        for (version, topics) in pieces(version, &topics, topics_max(&config)) {
                            if !self.register(&config, version, topics).await {
                                return;
                            }
                        }
                    }
                }
            }
            (_, News::Everything) => {
                let config = Arc::clone(&self.broker.config());
                self.register_all(&config).await;
            }
        }
    }

    /// Whether it worked. If not, the next attempt tells everything.
    async fn register(
        &mut self,
        config: &Arc<BrokerConfig>,
        version: DataVersion,
        topics: &[Arc<TopicConfig>],
    ) -> bool {
        // Thousands of topics take a while to write down, and this thread has a clock to follow.
        let (broker, config) = (Arc::clone(&self.broker), Arc::clone(config));
        let topics = topics.to_vec();
        let body = tokio::task::spawn_blocking({
            let config = Arc::clone(&config);
            move || registration_body(&broker, &config, version, &topics)
        });
        let Ok(body) = body.await else {
            // It panicked, or the broker stops.
            self.known = None;
            return false;
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

fn registration_body(
    broker: &Broker,
    config: &BrokerConfig,
    version: DataVersion,
    topics: &[Arc<TopicConfig>],
) -> Vec<u8> {
    let body = RegisterBrokerBody {
        filter_server_list: Vec::new(),
        topic_config_serialize_wrapper: TopicConfigSerializeWrapper {
            data_version: version,
            topic_config_table: registered_table(topics, config.broker_permission),
            topic_queue_mapping_info_map: broker
                .static_topics
                .infos(topics.iter().map(|topic| topic.topic_name.as_str())),
            ..TopicConfigSerializeWrapper::default()
        },
    };
    match config.compressed_register {
        true => body.encode_compressed(),
        false => body.encode(),
    }
}

/// Whether everything is told again to a name server that has it, so long after it was told so many topics.
fn is_forced_again(since: Duration, topics: usize) -> bool {
    since >= FORCED_PER_TOPIC.saturating_mul(u32::try_from(topics).unwrap_or(u32::MAX))
}

/// Topics of one piece, if the settings say.
fn topics_max(config: &BrokerConfig) -> usize {
    match config.enable_split_registration {
        true => config.split_registration_size,
        false => usize::MAX,
    }
}

type Piece<'a> = (DataVersion, &'a [Arc<TopicConfig>]);

/// The pieces of a registration, each with its version. A version that a name server knows is no news to older ones: each
/// piece has one of its own, and the last the table's, so that whoever got a part only is told everything again.
fn pieces(version: DataVersion, topics: &[Arc<TopicConfig>], topics_max: usize) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, topic) in topics.iter().enumerate() {
        let attributes = topic.attributes.iter().map(|(key, value)| key.len() + value.len() + 6);
        let topic_bytes = 160 + 2 * topic.topic_name.len() + attributes.sum::<usize>();
        if at > start && (at - start >= topics_max || bytes + topic_bytes > PIECE_BYTES_MAX) {
            pieces.push(&topics[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += topic_bytes;
    }
    pieces.push(&topics[start..]);
    let left = (0..pieces.len() as i64).rev();
    let versioned = pieces.into_iter().zip(left).map(|(piece, left)| match left {
        0 => (version, piece),
        // No real version has such a time.
        left => (
            DataVersion {
                timestamp: -left,
                ..version
            },
            piece,
        ),
    });
    versioned.collect()
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
    }

    #[test]
    fn a_large_table_goes_in_pieces_that_are_all_news() {
        let version = DataVersion::at(1_700_000_000_000);
        let topics: Vec<_> = (0..100_000).map(|number| topic(&format!("topic{number}"), 8)).collect();
        let of_bytes = pieces(version, &topics, usize::MAX);
        let of_topics = pieces(version, &topics, 800);
        assert_eq!(of_topics.len(), 125);
        for pieces in [&of_bytes, &of_topics] {
            assert!(pieces.iter().flat_map(|(_, topics)| *topics).eq(&topics));
            let versions: std::collections::HashSet<_> = pieces.iter().map(|(version, _)| version.timestamp).collect();
            assert_eq!(versions.len(), pieces.len());
            assert_eq!(pieces.last().unwrap().0, version);
        }
        for (version, topics) in of_bytes {
            let body = TopicConfigSerializeWrapper {
                data_version: version,
                topic_config_table: registered_table(topics, 6),
                ..TopicConfigSerializeWrapper::default()
            };
            assert!(json::to_vec(&body).len() <= PIECE_BYTES_MAX);
        }
        assert_eq!(pieces(version, &[], usize::MAX), [(version, &[][..])]);
    }

    #[test]
    fn a_large_table_is_not_forced_upon_a_name_server_every_period() {
        let period = Duration::from_secs(30);
        assert!(is_forced_again(period, 15_000));
        assert!(!is_forced_again(period, 100_000));
        assert!(is_forced_again(period * 7, 100_000));
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
