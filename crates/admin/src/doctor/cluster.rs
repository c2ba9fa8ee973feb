//! Checks of name servers and brokers.

use std::collections::{BTreeMap, BTreeSet};

use oxmq_protocol::body::{QueueData, TopicRouteData};
use oxmq_protocol::perm;

use super::facts::{Broker, Facts, NameServer};
use super::finding::{Findings, some};
use super::host::{disk, stages};
use crate::text::{bytes, bytes_max, span};

const CLOCK_AHEAD_MAX_MS: i64 = 3000;
const UNFLUSHED_MAX_BYTES: u64 = 256 << 20;
const DISPATCH_BEHIND_MAX_BYTES: f64 = 64.0 * 1024.0 * 1024.0;
const TIMER_BEHIND_MAX_S: f64 = 10.0;
const TIMER_OFFSET_BEHIND_MAX: f64 = 10_000.0;
const PAGE_CACHE_LOCK_MAX_MS: f64 = 1000.0;
const HALF_AGE_MAX_MS: i64 = 30 * 60_000;
/// Settings that producers and consumers notice when brokers of one cluster differ in them.
const COMMON_SETTINGS: [&str; 14] = [
    "flushDiskType",
    "fileReservedTime",
    "deleteWhen",
    "messageDelayLevel",
    "maxMessageSize",
    "autoCreateTopicEnable",
    "autoCreateSubscriptionGroup",
    "timerWheelEnable",
    "transactionCheckMax",
    "transactionCheckInterval",
    "enablePropertyFilter",
    "messageIndexEnable",
    "enableRetryTopicV2",
    "duplicateSendWindow",
];

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    check_name_servers(facts, findings);
    check_identities(facts, findings);
    facts
        .brokers
        .iter()
        .for_each(|broker| check_broker(facts, broker, findings));
    check_alike(facts, findings);
    check_auto_create(facts, findings);
}

fn check_name_servers(facts: &Facts, findings: &mut Findings) {
    for server in &facts.name_servers {
        if let Some(error) = &server.error {
            findings.error(
                "name-server-unreachable",
                format!("{}: {error}", server.addr),
                "clients that ask it for routes wait, or never find a topic",
                "start it (oxmq namesrv), or take it out of namesrvAddr of brokers and clients",
            );
        }
    }
    let up: Vec<&NameServer> = facts
        .name_servers
        .iter()
        .filter(|server| server.error.is_none())
        .collect();
    let addrs = |server: &NameServer| -> BTreeSet<String> {
        let brokers = server.cluster.broker_addr_table.values();
        brokers
            .flat_map(|broker| {
                broker
                    .broker_addrs
                    .iter()
                    .map(|(id, addr)| format!("{}:{id} {addr}", broker.broker_name))
            })
            .collect()
    };
    let all: BTreeSet<String> = up.iter().flat_map(|server| addrs(server)).collect();
    for server in &up {
        let known = addrs(server);
        let missing: Vec<&str> = all.difference(&known).map(String::as_str).collect();
        if !missing.is_empty() {
            findings.error(
                "broker-at-some-name-servers",
                format!("{} does not know {}", server.addr, some(missing.iter().copied())),
                "clients of this name server do not see these brokers: their messages are not consumed, or sends go elsewhere",
                "name every name server in namesrvAddr of these brokers: oxmq admin updateBrokerConfig -b BROKER -k namesrvAddr -v 'A:9876;B:9876'",
            );
        }
    }
    if all.is_empty() && !up.is_empty() {
        findings.error(
            "no-broker",
            format!("{} know no broker", some(up.iter().map(|server| server.addr.as_str()))),
            "nothing can be sent or consumed",
            "start a broker with namesrvAddr set to these name servers: oxmq broker -n HOST:PORT",
        );
    }
    let Some((first, rest)) = up.split_first() else { return };
    let differing = |other: &&NameServer| -> Vec<String> {
        let topics: BTreeSet<&String> = first.routes.keys().chain(other.routes.keys()).collect();
        let differs = |topic: &&String| first.routes.get(*topic).map(essence) != other.routes.get(*topic).map(essence);
        topics.into_iter().filter(differs).cloned().collect()
    };
    for other in rest {
        let topics = differing(other);
        if !topics.is_empty() {
            findings.warning(
                "routes-disagree",
                format!("{} and {} differ in {} topics: {}", first.addr, other.addr, topics.len(), some(topics.iter().map(String::as_str))),
                "producers and consumers see other queues, depending on the name server that they ask",
                "wait for the next registration of the brokers (30 s); if it stays so, look for brokers that cannot reach one of the two",
            );
        }
    }
}

/// What of a route has to be the same everywhere.
fn essence(route: &TopicRouteData) -> BTreeSet<QueueData> {
    route.queue_datas.iter().cloned().collect()
}

fn check_identities(facts: &Facts, findings: &mut Findings) {
    let mut by_addr: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut by_store: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    let mut has_master: BTreeMap<&str, bool> = BTreeMap::new();
    for broker in &facts.brokers {
        by_addr.entry(&broker.addr).or_default().insert(&broker.name);
        *has_master.entry(&broker.name).or_default() |= broker.is_master();
        let host = broker
            .addr
            .rsplit_once(':')
            .map_or(broker.addr.as_str(), |(host, _)| host);
        if let Some(store) = broker.setting("storePathRootDir") {
            by_store.entry((host, store)).or_default().insert(&broker.addr);
        }
    }
    for (addr, names) in by_addr.into_iter().filter(|(_, names)| names.len() > 1) {
        findings.error(
            "broker-names-at-one-address",
            format!("{addr} is registered as {}", some(names)),
            "clients send for one and reach the other: codes 17 and lost offsets",
            "give each broker its own listenPort and brokerIP1; a name that was changed goes with: oxmq admin wipeWritePerm -b OLD, then stop and start the broker",
        );
    }
    for ((host, store), brokers) in by_store.into_iter().filter(|(_, brokers)| brokers.len() > 1) {
        findings.error(
            "store-shared",
            format!("{} of {host} have the same storePathRootDir {store}", some(brokers)),
            "two brokers in one folder destroy each other's files; a lock keeps the second out only while both see it",
            "give each broker its own storePathRootDir",
        );
    }
    for (name, _) in has_master.into_iter().filter(|(_, has_master)| !has_master) {
        findings.error(
            "no-master",
            format!("{name} has slaves only: no broker with brokerId 0 is registered"),
            "its queues take no messages",
            "start the master, or look at brokerId in its settings",
        );
    }
    for server in &facts.name_servers {
        let mut clusters: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (cluster, names) in &server.cluster.cluster_addr_table {
            names.iter().for_each(|name| {
                clusters.entry(name).or_default().insert(cluster);
            });
        }
        for (name, clusters) in clusters.into_iter().filter(|(_, clusters)| clusters.len() > 1) {
            findings.error(
                "broker-name-in-clusters",
                format!("{}: {name} belongs to {}", server.addr, some(clusters)),
                "brokers with one name are one broker to clients: they overwrite each other's addresses",
                "give one of them another brokerName",
            );
        }
    }
}

fn check_broker(facts: &Facts, broker: &Broker, findings: &mut Findings) {
    let name = &broker.name;
    if let Some(error) = &broker.error {
        findings.error(
            "broker-unreachable",
            format!("{name} is registered at {}: {error}", broker.addr),
            "clients are sent to an address where nobody answers",
            "start the broker; if it is reachable from elsewhere only, correct brokerIP1",
        );
        return;
    }
    // A disk that is seen from here is judged by what is seen.
    let is_seen = facts.stores.iter().any(|store| store.of.as_ref() == Some(&broker.addr));
    let ratio = broker
        .number("commitLogDiskRatio")
        .filter(|ratio| *ratio >= 0.0 && !is_seen);
    if let Some(ratio) = ratio {
        let capacity = broker.runtime.get("commitLogDirCapacity");
        let free = capacity.and_then(|text| text.split("Free : ").nth(1)).unwrap_or("?");
        let what = format!("{name} ({})", broker.addr);
        disk(
            &what,
            ratio * 100.0,
            free.trim_end_matches('.'),
            stages(Some(broker)),
            findings,
        );
    }
    if let Some(bits) = broker.setting_number("brokerPermission").map(|bits| bits as i32) {
        let missing = [(perm::READ, "read"), (perm::WRITE, "written")];
        let missing: Vec<&str> = missing
            .iter()
            .filter(|(bit, _)| bits & bit == 0)
            .map(|(_, what)| *what)
            .collect();
        if !missing.is_empty() {
            findings.warning(
                "broker-permission",
                format!(
                    "{name} cannot be {}: brokerPermission is {}",
                    missing.join(" nor "),
                    perm::text(bits)
                ),
                "every topic of the broker is closed that way; meant for brokers that are to be stopped",
                format!(
                    "oxmq admin updateBrokerConfig -b {} -k brokerPermission -v 6",
                    broker.addr
                ),
            );
        }
    }
    check_progress(broker, findings);
    if let Some(ahead) = broker.clock_ahead_ms.filter(|ahead| ahead.abs() > CLOCK_AHEAD_MAX_MS) {
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        findings.warning(
            "clock-differs",
            format!("the clock of {name} is {} {way} the one here", span(ahead.abs())),
            "delays, timers, POP and searches by time are off by as much; signed requests may be refused",
            "timedatectl set-ntp true on both hosts",
        );
    }
    if let Some(oldest) = broker
        .oldest_half_ms
        .filter(|oldest| facts.now_ms - oldest > HALF_AGE_MAX_MS)
    {
        findings.warning(
            "half-messages-age",
            format!("{name}: the oldest open transaction was begun {} ago", span(facts.now_ms - oldest)),
            "its producer group is not there to be asked, or always answers unknown; after transactionCheckMax checks it is given up",
            format!("oxmq admin producer -b {} shows the producers that are connected", broker.addr),
        );
    }
    check_access(broker, findings);
}

fn check_progress(broker: &Broker, findings: &mut Findings) {
    let name = &broker.name;
    let unflushed = broker
        .runtime
        .get("remainHowManyDataToFlush")
        .and_then(|text| bytes_max(text));
    if let Some(unflushed) = unflushed.filter(|unflushed| *unflushed > UNFLUSHED_MAX_BYTES) {
        findings.warning(
            "flush-behind",
            format!("{name}: {} are not on disk yet", bytes(unflushed)),
            "a power cut takes them; the disk is slower than what is sent",
            "look at the disk (iostat -x 1); spread the topics over more brokers",
        );
    }
    if let Some(behind) = broker
        .number("dispatchBehindBytes")
        .filter(|behind| *behind > DISPATCH_BEHIND_MAX_BYTES)
    {
        findings.warning(
            "dispatch-behind",
            format!(
                "{name}: consume queues are {} behind the commit log",
                bytes(behind as u64)
            ),
            "messages that were acknowledged are not yet in consumers' reach",
            "look at the disk (iostat -x 1) and at the broker's log",
        );
    }
    let behind = (broker.number("timerReadBehind"), broker.number("timerOffsetBehind"));
    if behind.0.is_some_and(|s| s > TIMER_BEHIND_MAX_S) || behind.1.is_some_and(|count| count > TIMER_OFFSET_BEHIND_MAX)
    {
        findings.warning(
            "timer-behind",
            format!("{name}: timers are {} s and {} messages behind", behind.0.unwrap_or(0.0), behind.1.unwrap_or(0.0)),
            "messages with a delivery time come late, and so do popped messages that come again",
            format!("oxmq admin brokerStatus -b {} shows timerReadBehind and timerCongestNum; see timerStopDequeue and timerStopEnqueue", broker.addr),
        );
    }
    if let Some(ms) = broker
        .number("pageCacheLockTimeMills")
        .filter(|ms| *ms > PAGE_CACHE_LOCK_MAX_MS)
    {
        findings.error(
            "append-hangs",
            format!("{name}: an append is under way for {ms:.0} ms"),
            "all sends of the broker wait behind it",
            "look at the disk (iostat -x 1, dmesg)",
        );
    }
}

/// Whoever reaches a broker without access control may read, send and delete everything.
fn check_access(broker: &Broker, findings: &mut Findings) {
    let is_on = |key: &str| broker.setting(key) == Some("true");
    let asks_for_certificates = broker.setting("tls.server.mode") == Some("enforcing")
        && broker.setting("tls.server.need.client.auth") == Some("require");
    let is_guarded = is_on("aclEnable") || is_on("authenticationEnabled") || asks_for_certificates;
    let bound = broker.setting("bindAddress").unwrap_or("0.0.0.0");
    if broker.config.is_empty() || is_guarded || is_loopback(bound) {
        return;
    }
    findings.warning(
        "open-to-the-network",
        format!(
            "{} listens on {bound} and lets in everybody (no aclEnable, no authenticationEnabled, no certificates of clients)",
            broker.name
        ),
        "whoever reaches the port can read, send, delete and change settings",
        "switch access control on, or listen on the loopback (bindAddress=127.0.0.1), or keep others out by a firewall",
    );
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Brokers of one cluster should have one version and the same settings.
fn check_alike(facts: &Facts, findings: &mut Findings) {
    let clusters: BTreeSet<&str> = facts.masters().map(|broker| broker.cluster.as_str()).collect();
    for cluster in clusters {
        let members = || {
            facts
                .brokers
                .iter()
                .filter(|broker| broker.cluster == cluster && broker.error.is_none())
        };
        let told = |value: &dyn Fn(&Broker) -> Option<String>| {
            let mut by_value: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for broker in members() {
                if let Some(value) = value(broker) {
                    by_value.entry(value).or_default().push(&broker.addr);
                }
            }
            let text = by_value
                .iter()
                .map(|(value, brokers)| format!("{value} ({})", some(brokers.iter().copied())));
            (by_value.len() > 1).then(|| text.collect::<Vec<_>>().join(", "))
        };
        if let Some(versions) = told(&|broker| broker.runtime.get("brokerVersionDesc").cloned()) {
            findings.warning(
                "versions-differ",
                format!("{cluster}: brokers have the versions {versions}"),
                "what one broker can do another refuses; meant for the time of an upgrade",
                "finish the upgrade",
            );
        }
        for key in COMMON_SETTINGS {
            if let Some(values) = told(&|broker| broker.config.get(key).cloned()) {
                findings.warning(
                    "settings-differ",
                    format!("{cluster}: {key} is {values}"),
                    "the same message is treated differently, depending on the broker that it happens to reach",
                    format!(
                        "oxmq admin updateBrokerConfig -c {cluster} -k {key} -v VALUE, or edit broker.conf and restart"
                    ),
                );
            }
        }
    }
}

fn check_auto_create(facts: &Facts, findings: &mut Findings) {
    let creating: Vec<&Broker> = facts
        .masters()
        .filter(|broker| broker.setting("autoCreateTopicEnable") == Some("true"))
        .collect();
    // On a single broker it does what one expects.
    if facts.masters().count() < 2 || creating.is_empty() {
        return;
    }
    findings.warning(
        "auto-create-topic",
        format!("{} create topics that somebody sends to (autoCreateTopicEnable)", some(creating.iter().map(|broker| broker.name.as_str()))),
        "a topic comes to be on the broker that the first message happens to reach, with 8 queues at most and none elsewhere; a typing error makes a topic, too",
        "create topics with oxmq admin updateTopic -c CLUSTER -t TOPIC, and set autoCreateTopicEnable=false",
    );
}
