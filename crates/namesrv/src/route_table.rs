//! What the name server knows: brokers, their addresses, and the queues of every topic (spec: behaviour.md §1).
//!
//! Pure decisions: the time comes in as milliseconds of any steady clock, connections as numbers, and what others must
//! be told comes out as values. Two invariants hold between calls, where the original only tends towards them:
//! an address is a member of exactly one broker group while it is live and of none otherwise, and a topic
//! has an entry only for broker groups that exist, and no entry when there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use oxmq_protocol::body::{
    BrokerData, DataVersion, MASTER_ID, QueueData, TopicConfig, TopicQueueMappingInfo, TopicRouteData,
};
use oxmq_protocol::perm;
use oxmq_protocol::requests::NotifyMinBrokerIdHeader;

/// How long a broker that does not say otherwise is believed to live after it was last heard.
pub(crate) const LIVE_TIMEOUT_MS_DEFAULT: u64 = 120_000;
/// A broker cannot ask to be believed for longer than this.
const LIVE_TIMEOUT_MS_MAX: u64 = 24 * 3_600_000;

/// Bounds of the table against peers that register without end.
const NAME_BYTES_MAX: usize = 1024;
const BROKERS_MAX: usize = 100_000;
const TOPICS_MAX: usize = 5_000_000;

/// A broker's members list its group under this topic; it is never routed to an acting master.
const SYNC_BROKER_MEMBER_PREFIX: &str = "rmq_sys_SYNC_BROKER_MEMBER_";

/// A connection of a broker to this name server.
pub(crate) type ConnectionId = u64;

#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    topics: HashMap<String, Topic>,
    /// By broker name.
    groups: BTreeMap<Arc<str>, BrokerGroup>,
    /// By broker address.
    live: HashMap<Box<str>, LiveBroker>,
}

/// A topic's queues on each broker group, in the order of broker names.
#[derive(Debug, Default)]
struct Topic {
    queues: Vec<(Arc<str>, Queues)>,
    /// Of static topics: by broker name, kept while the topic lives.
    mappings: BTreeMap<String, TopicQueueMappingInfo>,
}

/// The queues of one topic on one broker group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queues {
    pub(crate) read_queue_nums: i32,
    pub(crate) write_queue_nums: i32,
    pub(crate) perm: i32,
    pub(crate) topic_sys_flag: i32,
}

/// A master and its slaves: all brokers of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BrokerGroup {
    pub(crate) cluster: String,
    pub(crate) zone_name: Option<String>,
    pub(crate) enable_acting_master: bool,
    pub(crate) addrs: BTreeMap<i64, Box<str>>,
}

#[derive(Debug)]
struct LiveBroker {
    broker_name: Arc<str>,
    heard_at_ms: u64,
    timeout_ms: u64,
    data_version: DataVersion,
    connection: ConnectionId,
    ha_server_addr: String,
    filter_servers: Vec<String>,
}

/// One registration of a broker, full or of a single topic.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) cluster: String,
    pub(crate) broker_name: String,
    pub(crate) broker_addr: String,
    pub(crate) broker_id: i64,
    pub(crate) ha_server_addr: String,
    pub(crate) zone_name: Option<String>,
    /// Absent from brokers older than 5.0.
    pub(crate) enable_acting_master: Option<bool>,
    pub(crate) timeout_ms: Option<i64>,
    pub(crate) connection: ConnectionId,
    pub(crate) data_version: DataVersion,
    pub(crate) topics: Vec<TopicConfig>,
    pub(crate) mappings: BTreeMap<String, TopicQueueMappingInfo>,
    pub(crate) filter_servers: Vec<String>,
    /// Topics of the broker that are missing here are gone.
    pub(crate) drop_missing_topics: bool,
}

/// What a registration brings about.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Registered {
    /// Of the master, told to slaves.
    pub(crate) ha_server_addr: Option<String>,
    pub(crate) master_addr: Option<String>,
    pub(crate) changes: Vec<MinBrokerIdChange>,
    /// The broker was not known under this id before.
    pub(crate) is_first: bool,
}

/// The registration is refused and changed nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("a single topic of a broker that is not registered yet")]
    SingleTopicFirst,
    #[error("a name is empty or longer than {NAME_BYTES_MAX} bytes")]
    BadName,
    #[error("the name server is full: {0}")]
    Full(&'static str),
}

/// The smallest broker id of a group changed, so that another broker leads it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MinBrokerIdChange {
    pub(crate) notice: NotifyMinBrokerIdHeader,
    /// Broker addresses to tell.
    pub(crate) to: Vec<String>,
}

/// Brokers that were not heard in time.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Expired {
    pub(crate) addrs: Vec<String>,
    /// To be closed.
    pub(crate) connections: Vec<ConnectionId>,
    pub(crate) changes: Vec<MinBrokerIdChange>,
}

impl RouteTable {
    /// Registers a broker and its topics (spec: behaviour.md §1.3).
    pub(crate) fn register(&mut self, now_ms: u64, registration: Registration) -> Result<Registered, Refused> {
        self.check(&registration)?;
        let Registration {
            broker_name,
            broker_addr,
            broker_id,
            ..
        } = &registration;
        let (broker_name, broker_addr, broker_id): (Arc<str>, _, _) =
            (broker_name.as_str().into(), broker_addr.as_str(), *broker_id);

        if self.is_stale(&registration) {
            // The state version decides which of two brokers with one id is the real one after an election.
            return Ok(Registered {
                changes: self.remove(&[broker_addr]),
                ..Registered::default()
            });
        }
        let mut changes = self.leave_other_places(&registration);

        let group = self
            .groups
            .entry(broker_name.clone())
            .or_insert_with(|| BrokerGroup::new(&registration.cluster));
        let is_first = group.addrs.get(&broker_id).is_none_or(|held| **held != *broker_addr);
        let min_id_before = group.min_id().unwrap_or(MASTER_ID);
        group.cluster.clone_from(&registration.cluster);
        group.zone_name.clone_from(&registration.zone_name);
        group.enable_acting_master = registration.enable_acting_master.unwrap_or(false);
        // A slave that became master holds its old id until here.
        group.addrs.retain(|_, held| **held != *broker_addr);
        group.addrs.insert(broker_id, broker_addr.into());
        let is_prime_slave =
            registration.enable_acting_master.is_some() && broker_id != MASTER_ID && group.min_id() == Some(broker_id);
        if broker_id < min_id_before {
            changes.push(group.min_id_arrived(&registration.ha_server_addr));
        }
        let clear_write = is_prime_slave && group.enable_acting_master;
        let master_addr = group.addrs.get(&MASTER_ID).filter(|_| broker_id != MASTER_ID).cloned();

        let known_version = self.live.get(broker_addr).map(|live| live.data_version);
        let is_changed = is_first || known_version != Some(registration.data_version);
        if broker_id == MASTER_ID || is_prime_slave {
            self.take_topics(&broker_name, &registration, is_changed, clear_write);
        }
        self.note_alive(now_ms, &broker_name, registration);

        let master = master_addr.and_then(|addr| Some((self.live.get(&addr)?.ha_server_addr.clone(), addr)));
        let (ha_server_addr, master_addr) = master.unzip();
        Ok(Registered {
            ha_server_addr,
            master_addr: master_addr.map(String::from),
            changes,
            is_first,
        })
    }

    /// A broker says goodbye.
    pub(crate) fn unregister(&mut self, broker_name: &str, broker_addr: &str) -> Vec<MinBrokerIdChange> {
        let is_member = self
            .live
            .get(broker_addr)
            .is_some_and(|live| *live.broker_name == *broker_name);
        if is_member {
            self.remove(&[broker_addr])
        } else {
            Vec::new()
        }
    }

    pub(crate) fn heartbeat(&mut self, now_ms: u64, broker_addr: &str) {
        if let Some(live) = self.live.get_mut(broker_addr) {
            live.heard_at_ms = now_ms;
        }
    }

    /// The version of the broker's topics as it is known here.
    pub(crate) fn data_version(&self, broker_addr: &str) -> Option<DataVersion> {
        self.live.get(broker_addr).map(|live| live.data_version)
    }

    /// Drops every broker that was not heard for its timeout.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Expired {
        let overdue = |live: &LiveBroker| live.heard_at_ms.saturating_add(live.timeout_ms) < now_ms;
        let overdue = self.live.iter().filter(|(_, live)| overdue(live));
        let (addrs, connections): (Vec<String>, Vec<ConnectionId>) =
            overdue.map(|(addr, live)| (addr.to_string(), live.connection)).unzip();
        let changes = self.remove(&addrs);
        Expired {
            addrs,
            connections,
            changes,
        }
    }

    /// Drops the brokers that registered over this connection: a broker container shares one.
    pub(crate) fn connection_closed(&mut self, connection: ConnectionId) -> Vec<MinBrokerIdChange> {
        let of_connection = self.live.iter().filter(|(_, live)| live.connection == connection);
        let addrs: Vec<String> = of_connection.map(|(addr, _)| addr.to_string()).collect();
        self.remove(&addrs)
    }

    /// Where a topic's queues are, or nothing when no broker has it. `acting_master`: where the master is gone and a
    /// slave leads, show that slave as master.
    pub(crate) fn route(&self, topic: &str, acting_master: bool) -> Option<TopicRouteData> {
        let Topic { queues, mappings } = self.topics.get(topic)?;
        let acting_master = acting_master && !topic.starts_with(SYNC_BROKER_MEMBER_PREFIX);
        let mut route = TopicRouteData {
            topic_queue_mapping_by_broker: (!mappings.is_empty()).then(|| mappings.clone()),
            ..TopicRouteData::default()
        };
        for (broker_name, queues) in queues {
            let group = self
                .groups
                .get(broker_name)
                .expect("a topic's entries are of groups that exist");
            let mut broker = group.to_broker_data(broker_name);
            for addr in group.addrs.values() {
                if let Some(live) = self.live.get(addr).filter(|live| !live.filter_servers.is_empty()) {
                    route
                        .filter_server_table
                        .insert(addr.to_string(), live.filter_servers.clone());
                }
            }
            if acting_master && !perm::is_writeable(queues.perm) {
                relabel_acting_master(&mut broker);
            }
            route.broker_datas.push(broker);
            route.queue_datas.push(queues.to_queue_data(broker_name));
        }
        Some(route)
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = (&Arc<str>, &BrokerGroup)> {
        self.groups.iter()
    }

    pub(crate) fn group(&self, broker_name: &str) -> Option<&BrokerGroup> {
        self.groups.get(broker_name)
    }

    /// Cluster names with the names of their brokers.
    pub(crate) fn clusters(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut clusters: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, group) in &self.groups {
            clusters.entry(&group.cluster).or_default().insert(name);
        }
        clusters
    }

    pub(crate) fn topics(&self) -> BTreeSet<String> {
        self.topics.keys().cloned().collect()
    }

    pub(crate) fn topics_of_cluster(&self, cluster: &str) -> BTreeSet<String> {
        let in_cluster = |name: &Arc<str>| self.groups.get(name).is_some_and(|group| group.cluster == cluster);
        self.topics_where(|topic| topic.queues.iter().any(|(name, _)| in_cluster(name)))
    }

    /// Topics whose system flags fit, judged by the first broker as in the original.
    pub(crate) fn topics_by_flag(&self, fits: impl Fn(i32) -> bool) -> BTreeSet<String> {
        self.topics_where(|topic| {
            topic
                .queues
                .first()
                .is_some_and(|(_, queues)| fits(queues.topic_sys_flag))
        })
    }

    /// Takes the write permission from every topic of a broker name. Returns how many there are.
    pub(crate) fn wipe_write_permission(&mut self, broker_name: &str) -> i32 {
        self.change_permissions(broker_name, |perm| perm & !perm::WRITE)
    }

    /// Gives read and write permission, and no other, to every topic of a broker name.
    pub(crate) fn add_write_permission(&mut self, broker_name: &str) -> i32 {
        self.change_permissions(broker_name, |_| perm::READ | perm::WRITE)
    }

    /// Forgets a topic, everywhere or on the brokers of one cluster.
    pub(crate) fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        let Some(cluster) = cluster else {
            self.topics.remove(topic);
            return;
        };
        if let Some(entry) = self.topics.get_mut(topic) {
            let groups = &self.groups;
            entry
                .queues
                .retain(|(name, _)| groups.get(name).is_some_and(|group| group.cluster != cluster));
            if entry.queues.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// Adds one topic on some brokers, or does nothing if one of them is unknown (code 217).
    pub(crate) fn register_topic(&mut self, topic: &str, queues: Vec<QueueData>) {
        let known = |data: QueueData| {
            let (name, _) = self.groups.get_key_value(data.broker_name.as_str())?;
            Some((name.clone(), Queues::from(data)))
        };
        let named: Option<Vec<(Arc<str>, Queues)>> = queues.into_iter().map(known).collect();
        for (name, queues) in named.unwrap_or_default() {
            self.put_queues(topic, &name, queues);
        }
    }

    fn check(&self, registration: &Registration) -> Result<(), Refused> {
        let names = [
            &registration.cluster,
            &registration.broker_name,
            &registration.broker_addr,
        ];
        if names.iter().any(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
            return Err(Refused::BadName);
        }
        let group = self.groups.get(registration.broker_name.as_str());
        let is_known = group.is_some_and(|group| group.addrs.contains_key(&registration.broker_id));
        if !is_known && registration.topics.len() == 1 {
            return Err(Refused::SingleTopicFirst);
        }
        if self.live.len() >= BROKERS_MAX && !self.live.contains_key(registration.broker_addr.as_str()) {
            return Err(Refused::Full("brokers"));
        }
        if self.topics.len() + registration.topics.len() > TOPICS_MAX {
            return Err(Refused::Full("topics"));
        }
        Ok(())
    }

    /// Whether another broker holds the id with a newer state.
    fn is_stale(&self, registration: &Registration) -> bool {
        let group = self.groups.get(registration.broker_name.as_str());
        let holder = group.and_then(|group| group.addrs.get(&registration.broker_id));
        holder.is_some_and(|holder| {
            **holder != *registration.broker_addr
                && self
                    .live
                    .get(holder)
                    .is_some_and(|live| live.data_version.state_version > registration.data_version.state_version)
        })
    }

    /// An address that was known under another broker name leaves it, and another address that held
    /// the id goes.
    fn leave_other_places(&mut self, registration: &Registration) -> Vec<MinBrokerIdChange> {
        let addr = registration.broker_addr.as_str();
        let moved = self
            .live
            .get(addr)
            .is_some_and(|live| *live.broker_name != *registration.broker_name);
        let changes = if moved { self.remove(&[addr]) } else { Vec::new() };
        if let Some(group) = self.groups.get(registration.broker_name.as_str())
            && let Some(replaced) = group.addrs.get(&registration.broker_id)
            && **replaced != *addr
        {
            self.live.remove(replaced);
        }
        changes
    }

    fn take_topics(
        &mut self,
        broker_name: &Arc<str>,
        registration: &Registration,
        is_changed: bool,
        clear_write: bool,
    ) {
        // One topic alone is an incremental registration, which says nothing about the others.
        if registration.drop_missing_topics && registration.mappings.is_empty() && registration.topics.len() != 1 {
            let named: BTreeSet<&str> = registration
                .topics
                .iter()
                .map(|topic| topic.topic_name.as_str())
                .collect();
            self.retain_queues(|topic, (name, _)| name != broker_name || named.contains(topic));
        }
        for topic in &registration.topics {
            if !is_changed && self.queues(&topic.topic_name, broker_name).is_some() {
                continue;
            }
            let mut queues = Queues::of(topic);
            if clear_write {
                queues.perm &= !perm::WRITE;
            }
            self.put_queues(&topic.topic_name, broker_name, queues);
        }
        if is_changed {
            for (topic, mapping) in &registration.mappings {
                if let Some(topic) = self.topics.get_mut(topic.as_str()) {
                    topic.mappings.insert(mapping.bname.clone(), mapping.clone());
                }
            }
        }
    }

    fn note_alive(&mut self, now_ms: u64, broker_name: &Arc<str>, registration: Registration) {
        let timeout_ms = registration.timeout_ms.map_or(LIVE_TIMEOUT_MS_DEFAULT, |timeout| {
            u64::try_from(timeout).unwrap_or(0).min(LIVE_TIMEOUT_MS_MAX)
        });
        let live = LiveBroker {
            broker_name: broker_name.clone(),
            heard_at_ms: now_ms,
            timeout_ms,
            data_version: registration.data_version,
            connection: registration.connection,
            ha_server_addr: registration.ha_server_addr,
            filter_servers: registration.filter_servers,
        };
        self.live.insert(registration.broker_addr.into(), live);
    }

    /// Removes brokers and everything that stood only because of them.
    fn remove<A: AsRef<str>>(&mut self, addrs: &[A]) -> Vec<MinBrokerIdChange> {
        // Groups that lose a member, with their first address before.
        let mut touched: BTreeMap<Arc<str>, Box<str>> = BTreeMap::new();
        for addr in addrs.iter().map(AsRef::as_ref) {
            let Some(LiveBroker { broker_name, .. }) = self.live.remove(addr) else {
                continue;
            };
            let group = self
                .groups
                .get_mut(&broker_name)
                .expect("a live broker is a member of its group");
            let (_, first) = group.addrs.first_key_value().expect("a group has a member");
            touched.entry(broker_name.clone()).or_insert_with(|| first.clone());
            group.addrs.retain(|_, held| **held != *addr);
        }
        if touched.is_empty() {
            return Vec::new();
        }
        self.groups.retain(|_, group| !group.addrs.is_empty());
        let changes = touched.iter().filter_map(|(name, first_before)| {
            let group = self.groups.get(name).filter(|group| group.enable_acting_master)?;
            let is_new = !group.addrs.values().any(|addr| addr == first_before);
            is_new.then(|| group.min_id_left(first_before))
        });
        let changes = changes.collect();
        let groups = &self.groups;
        self.topics.retain(|_, topic| {
            topic.queues.retain_mut(|(name, queues)| {
                if !touched.contains_key(name) {
                    return true;
                }
                let Some(group) = groups.get(name) else { return false };
                if group.enable_acting_master && !group.addrs.contains_key(&MASTER_ID) {
                    queues.perm &= !perm::WRITE;
                }
                true
            });
            !topic.queues.is_empty()
        });
        changes
    }

    fn queues(&self, topic: &str, broker_name: &Arc<str>) -> Option<&Queues> {
        let queues = &self.topics.get(topic)?.queues;
        let at = queues.binary_search_by(|(name, _)| name.cmp(broker_name)).ok()?;
        Some(&queues[at].1)
    }

    fn put_queues(&mut self, topic: &str, broker_name: &Arc<str>, queues: Queues) {
        if topic.is_empty() || topic.len() > NAME_BYTES_MAX {
            return;
        }
        let entry = self.topics.entry_ref(topic).or_default();
        match entry.queues.binary_search_by(|(name, _)| name.cmp(broker_name)) {
            Ok(at) => entry.queues[at].1 = queues,
            Err(at) => entry.queues.insert(at, (broker_name.clone(), queues)),
        }
    }

    fn retain_queues(&mut self, keep: impl Fn(&str, &(Arc<str>, Queues)) -> bool) {
        self.topics.retain(|topic, entry| {
            entry.queues.retain(|queues| keep(topic, queues));
            !entry.queues.is_empty()
        });
    }

    fn topics_where(&self, fits: impl Fn(&Topic) -> bool) -> BTreeSet<String> {
        let fitting = self.topics.iter().filter(|(_, topic)| fits(topic));
        fitting.map(|(name, _)| name.clone()).collect()
    }

    fn change_permissions(&mut self, broker_name: &str, change: impl Fn(i32) -> i32) -> i32 {
        let all = self.topics.values_mut().flat_map(|topic| &mut topic.queues);
        let mut count = 0;
        for (_, queues) in all.filter(|(name, _)| **name == *broker_name) {
            queues.perm = change(queues.perm);
            count += 1;
        }
        count
    }
}

impl Queues {
    fn of(topic: &TopicConfig) -> Queues {
        Queues {
            read_queue_nums: topic.read_queue_nums,
            write_queue_nums: topic.write_queue_nums,
            perm: topic.perm,
            topic_sys_flag: topic.topic_sys_flag,
        }
    }

    fn to_queue_data(self, broker_name: &str) -> QueueData {
        QueueData {
            broker_name: broker_name.to_owned(),
            perm: self.perm,
            read_queue_nums: self.read_queue_nums,
            topic_sys_flag: self.topic_sys_flag,
            write_queue_nums: self.write_queue_nums,
        }
    }
}

impl From<QueueData> for Queues {
    fn from(data: QueueData) -> Queues {
        Queues {
            read_queue_nums: data.read_queue_nums,
            write_queue_nums: data.write_queue_nums,
            perm: data.perm,
            topic_sys_flag: data.topic_sys_flag,
        }
    }
}

impl BrokerGroup {
    fn new(cluster: &str) -> BrokerGroup {
        BrokerGroup {
            cluster: cluster.to_owned(),
            zone_name: None,
            enable_acting_master: false,
            addrs: BTreeMap::new(),
        }
    }

    fn min_id(&self) -> Option<i64> {
        self.addrs.keys().next().copied()
    }

    /// A broker with a smaller id registered: the others are told, or itself when it is alone.
    fn min_id_arrived(&self, ha_server_addr: &str) -> MinBrokerIdChange {
        let mut to = self.members();
        if to.len() > 1 {
            to.remove(0);
        }
        self.min_id_change(None, Some(ha_server_addr.to_owned()), to)
    }

    /// The broker with the smallest id left: the rest are told.
    fn min_id_left(&self, offline_addr: &str) -> MinBrokerIdChange {
        self.min_id_change(Some(offline_addr.to_owned()), None, self.members())
    }

    fn min_id_change(&self, offline: Option<String>, ha: Option<String>, to: Vec<String>) -> MinBrokerIdChange {
        let min = self.addrs.first_key_value();
        let notice = NotifyMinBrokerIdHeader {
            min_broker_id: min.map(|(id, _)| *id),
            broker_name: None,
            min_broker_addr: min.map(|(_, addr)| addr.to_string()),
            offline_broker_addr: offline,
            ha_broker_addr: ha,
        };
        MinBrokerIdChange { notice, to }
    }

    /// Addresses in the order of ids.
    fn members(&self) -> Vec<String> {
        self.addrs.values().map(|addr| addr.to_string()).collect()
    }

    pub(crate) fn to_broker_data(&self, broker_name: &str) -> BrokerData {
        BrokerData {
            broker_addrs: self.addrs.iter().map(|(id, addr)| (*id, addr.to_string())).collect(),
            broker_name: broker_name.to_owned(),
            cluster: self.cluster.clone(),
            enable_acting_master: self.enable_acting_master,
            zone_name: self.zone_name.clone(),
        }
    }
}

/// Shows the slave that leads as the master that is missing.
fn relabel_acting_master(broker: &mut BrokerData) {
    if !broker.enable_acting_master || broker.master().is_some() {
        return;
    }
    if let Some((_, addr)) = broker.broker_addrs.pop_first() {
        broker.broker_addrs.insert(MASTER_ID, addr);
    }
}

#[cfg(test)]
mod tests;
