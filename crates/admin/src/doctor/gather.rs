//! Asks name servers, brokers and consumers. What cannot be asked becomes a fact as well.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use oxmq_client::{Admin, ClusterInfo};
use oxmq_protocol::body::{ConsumeStatsList, ConsumerRunningInfo, MessageQueue, OffsetWrapper, TopicRouteData};
use oxmq_protocol::requests::{GetRouteInfoHeader, QueryConsumerOffsetHeader, request};
use oxmq_protocol::topic;
use oxmq_remoting::certificate_of_server;

use super::certificate::not_after_ms;
use super::facts::{Broker, Certificate, Facts, Group, Member, NameServer, StoreDir};
use super::machine;
use crate::ask::{Ask, AskedMember};
use crate::progress::followed;
use crate::text::now_ms;

/// Topics whose routes are compared.
const ROUTES_MAX: usize = 500;
const GROUPS_MAX: usize = 500;
/// Members that are asked what they subscribe to, of all groups.
const MEMBERS_MAX: usize = 200;
const TLS_PATIENCE: Duration = Duration::from_secs(3);
const TRANSACTION_GROUP: &str = "CID_RMQ_SYS_TRANS";

#[derive(Debug, Clone)]
pub struct Examination {
    /// A folder of messages on this machine.
    pub store: Option<PathBuf>,
    /// A broker's settings file.
    pub config: Option<PathBuf>,
    /// How long to watch whether groups fall behind.
    pub watch: Duration,
}

/// Looks at the host and at the cluster.
pub async fn gather(admin: &Admin, examination: &Examination) -> Facts {
    let mut facts = Facts {
        now_ms: now_ms(),
        host: machine::host(),
        ..Facts::default()
    };
    let ask = Ask { admin: admin.clone() };
    for addr in admin.instance().name_server_addrs() {
        facts.name_servers.push(name_server(&ask, addr).await);
    }
    brokers(&ask, &mut facts).await;
    routes(&ask, &mut facts).await;
    groups(&ask, &mut facts, examination.watch).await;
    certificates_shown(&mut facts).await;
    let told = machine::config_file(examination.config.as_deref());
    let mut stores: BTreeMap<PathBuf, Option<String>> = BTreeMap::new();
    stores.extend(
        told.stores
            .into_iter()
            .chain(examination.store.clone())
            .map(|path| (path, None)),
    );
    for broker in facts.brokers.iter().filter(|broker| is_here(&broker.addr)) {
        if let Some(path) = broker.setting("storePathRootDir") {
            stores.insert(path.into(), Some(broker.addr.clone()));
        }
    }
    for (path, of) in stores {
        match machine::store_dir(&path) {
            Some(store) => facts.stores.push(StoreDir { of, ..store }),
            None => facts.not_seen.push(format!("{}: no such folder", path.display())),
        }
    }
    for path in told.certificates {
        match machine::certificate(&path) {
            Ok(certificate) => facts.certificates.push(certificate),
            Err(error) => facts.not_seen.push(error),
        }
    }
    facts
}

/// An address is one of this machine if a socket can have it.
fn is_here(addr: &str) -> bool {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    host.parse::<IpAddr>().is_ok_and(|ip| UdpSocket::bind((ip, 0)).is_ok())
}

async fn name_server(ask: &Ask, addr: &str) -> NameServer {
    let known = ask.json::<request::GetBrokerClusterInfo, ClusterInfo>(addr, &()).await;
    let (cluster, error) = match known {
        Ok(cluster) => (cluster, None),
        Err(error) => (ClusterInfo::default(), Some(error.to_string())),
    };
    NameServer {
        addr: addr.to_owned(),
        error,
        cluster,
        routes: BTreeMap::new(),
    }
}

/// Every broker that any name server knows.
async fn brokers(ask: &Ask, facts: &mut Facts) {
    let mut known = BTreeSet::new();
    for server in &facts.name_servers {
        for (name, data) in &server.cluster.broker_addr_table {
            let all = data.broker_addrs.iter();
            known.extend(all.map(|(id, addr)| (name.clone(), *id, addr.clone(), data.cluster.clone())));
        }
    }
    for (name, id, addr, cluster) in known {
        let mut broker = Broker {
            name,
            addr,
            id,
            cluster,
            ..Broker::default()
        };
        if let Err(error) = look_at(ask, &mut broker, &mut facts.not_seen).await {
            broker.error = Some(error.to_string());
        }
        facts.brokers.push(broker);
    }
}

async fn look_at(ask: &Ask, broker: &mut Broker, not_seen: &mut Vec<String>) -> Result<(), oxmq_client::ClientError> {
    let addr = &broker.addr;
    let before = now_ms();
    broker.runtime = ask.admin.broker_runtime_info(addr).await?.table;
    let here = (before + now_ms()) / 2;
    broker.clock_ahead_ms = broker_clock(&broker.runtime).map(|there| there - here);
    let mut refused = |what: &str, error: oxmq_client::ClientError| not_seen.push(format!("{addr}: {what}: {error}"));
    match ask.admin.broker_config(addr).await {
        Ok(config) => {
            broker.config = config
                .into_iter()
                .map(|property| (property.key, property.value))
                .collect()
        }
        Err(error) => refused("settings", error),
    }
    if !broker.is_master() {
        return Ok(());
    }
    match ask.admin.all_topic_configs_on(addr).await {
        Ok(topics) => broker.topics = topics.topic_config_table,
        Err(error) => refused("topics", error),
    }
    match ask.admin.all_group_configs_on(addr).await {
        Ok(groups) => broker.groups = groups.subscription_group_table,
        Err(error) => refused("groups", error),
    }
    match oldest_half(ask, broker).await {
        Ok(oldest) => broker.oldest_half_ms = oldest,
        Err(error) => refused("transactions", error),
    }
    Ok(())
}

/// What a broker's clock shows, in the middle of its second: when it was started and how long ago that is,
/// `[ 0 days, 1 hours, 2 minutes, 3 seconds ]`.
fn broker_clock(runtime: &BTreeMap<String, String>) -> Option<i64> {
    let started: i64 = runtime.get("bootTimestamp")?.parse().ok()?;
    let numbers = runtime
        .get("runtime")?
        .split(|c: char| !c.is_ascii_digit())
        .filter(|text| !text.is_empty());
    let numbers: Vec<i64> = numbers.filter_map(|text| text.parse().ok()).collect();
    let [days, hours, minutes, seconds] = numbers[..] else {
        return None;
    };
    let seconds = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
    Some(started + seconds * 1000 + 500)
}

/// The half message that the check of transactions comes to next. A check appends it anew, but when it was born stays.
async fn oldest_half(ask: &Ask, broker: &Broker) -> Result<Option<i64>, oxmq_client::ClientError> {
    let queue = MessageQueue::new(topic::TRANS_HALF_TOPIC, &broker.name, 0);
    if !broker.topics.contains_key(topic::TRANS_HALF_TOPIC) {
        return Ok(None);
    }
    let header = QueryConsumerOffsetHeader {
        consumer_group: TRANSACTION_GROUP.into(),
        topic: queue.topic.clone(),
        queue_id: 0,
        ..QueryConsumerOffsetHeader::default()
    };
    let checked = ask.call::<request::QueryConsumerOffset>(&broker.addr, &header).await;
    let Ok(checked) = checked else { return Ok(None) };
    let read = ask.read(&broker.addr, &queue, checked.fields.offset.max(0)).await?;
    let halves = read.into_iter().flat_map(|(messages, _)| messages);
    // Those that are ended and not passed yet are younger than the one that holds them up.
    Ok(halves.map(|half| half.born_timestamp).next())
}

async fn routes(ask: &Ask, facts: &mut Facts) {
    let topics: Vec<String> = facts.topics().into_iter().take(ROUTES_MAX).map(str::to_owned).collect();
    for server in facts.name_servers.iter_mut().filter(|server| server.error.is_none()) {
        for topic in followed("routes", &topics) {
            let header = GetRouteInfoHeader {
                topic: topic.clone(),
                accept_standard_json_only: Some(true),
            };
            // A name server without the topic refuses.
            if let Ok(route) = ask
                .json::<request::GetRouteInfoByTopic, TopicRouteData>(&server.addr, &header)
                .await
            {
                server.routes.insert(topic.clone(), route);
            }
        }
    }
}

type Offsets = BTreeMap<String, BTreeMap<MessageQueue, OffsetWrapper>>;

/// Where every group is, by its name.
async fn offsets(ask: &Ask, facts: &Facts) -> (Offsets, Vec<String>) {
    let (mut offsets, mut failures) = (Offsets::new(), Vec::new());
    for broker in facts.masters() {
        let all: ConsumeStatsList = match ask.admin.broker_consume_stats(&broker.addr, false).await {
            Ok(all) => all,
            Err(error) => {
                failures.push(format!("{}: consumer offsets: {error}", broker.addr));
                continue;
            }
        };
        for (group, stats) in all.consume_stats_list.into_iter().flatten() {
            let queues = stats.into_iter().flat_map(|stats| stats.offset_table);
            offsets.entry(group).or_default().extend(queues);
        }
    }
    (offsets, failures)
}

async fn groups(ask: &Ask, facts: &mut Facts, watch: Duration) {
    let (mut before, failures) = offsets(ask, facts).await;
    facts.not_seen.extend(failures);
    tokio::time::sleep(watch).await;
    let (mut after, _) = offsets(ask, facts).await;
    let names: BTreeSet<String> = facts
        .masters()
        .flat_map(|broker| broker.groups.keys())
        .chain(after.keys())
        .cloned()
        .collect();
    if names.len() > GROUPS_MAX {
        facts.not_seen.push(format!(
            "{} groups beyond the first {GROUPS_MAX}",
            names.len() - GROUPS_MAX
        ));
    }
    let masters: Vec<String> = facts.masters().map(|broker| broker.addr.clone()).collect();
    let mut asked = Vec::new();
    for name in names.into_iter().take(GROUPS_MAX) {
        let queues_of = |offsets: &mut Offsets| offsets.remove(&name).unwrap_or_default();
        let earlier = Group {
            queues: queues_of(&mut before),
            ..Group::default()
        };
        let mut group = Group {
            queues: queues_of(&mut after),
            lag_before: Some(earlier.lag()),
            ..Group::default()
        };
        group.name = name;
        let mut seen_by = None;
        for addr in &masters {
            // A group that is not online is refused.
            if let Ok(connection) = ask.admin.consumer_connections_on(addr, &group.name).await
                && connection.connection_set.len() > group.members_online()
            {
                (group.connection, seen_by) = (Some(connection), Some(addr));
            }
        }
        // One member agrees with itself.
        if let (Some(connection), Some(addr)) = (&group.connection, seen_by)
            && connection.connection_set.len() > 1
        {
            asked.extend(connection.connection_set.iter().map(|member| AskedMember {
                group: group.name.clone(),
                client_id: member.client_id.clone(),
                addr: addr.clone(),
            }));
        }
        facts.groups.push(group);
    }
    asked.truncate(MEMBERS_MAX);
    // Brokers know one subscription a group: members tell themselves what they subscribe to.
    for (one, told) in ask.members(asked).await {
        if let Some(group) = facts.groups.iter_mut().find(|group| group.name == one.group) {
            group.members.push(member(&one.client_id, told));
        }
    }
}

fn member(client_id: &str, told: ConsumerRunningInfo) -> Member {
    let property = |name: &str| told.properties.get(name).cloned().unwrap_or_default();
    let subscriptions = told.subscription_set.into_iter();
    Member {
        client_id: client_id.to_owned(),
        consume_type: property("PROP_CONSUME_TYPE"),
        is_orderly: property("PROP_CONSUMEORDERLY") == "true",
        subscriptions: subscriptions
            .map(|one| (one.topic, format!("{} {}", one.expression_type, one.sub_string)))
            .collect(),
    }
}

/// What servers show whoever connects; those without TLS show nothing.
async fn certificates_shown(facts: &mut Facts) {
    let servers = facts
        .name_servers
        .iter()
        .filter(|server| server.error.is_none())
        .map(|server| &server.addr);
    let brokers = facts
        .brokers
        .iter()
        .filter(|broker| broker.error.is_none())
        .map(|broker| &broker.addr);
    let addrs: BTreeSet<String> = servers.chain(brokers).cloned().collect();
    for addr in addrs {
        let shown = certificate_of_server(&addr, TLS_PATIENCE).await;
        if let Some(not_after_ms) = shown.ok().and_then(|der| not_after_ms(&der)) {
            facts.certificates.push(Certificate { of: addr, not_after_ms });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_broker_is_told_by_its_running_time() {
        let runtime = |text: &str| {
            let pairs = [("bootTimestamp", "1000"), ("runtime", text)];
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
        };
        let day = broker_clock(&runtime("[ 1 days, 2 hours, 3 minutes, 4 seconds ]"));
        assert_eq!(day, Some(1000 + (((24 + 2) * 60 + 3) * 60 + 4) * 1000 + 500));
        assert_eq!(broker_clock(&runtime("soon")), None);
    }
}
