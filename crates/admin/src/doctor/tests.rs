//! A healthy cluster of two brokers and two name servers, and everything that can be wrong with it, one at a time.

use std::collections::{BTreeMap, BTreeSet};

use oxmq_protocol::body::{
    BrokerData, ClusterInfo, Connection, ConsumeType, ConsumerConnection, MessageModel, MessageQueue, OffsetWrapper,
    QueueData, SubscriptionGroupConfig, TopicConfig, TopicRouteData,
};

use super::facts::*;
use super::{Severity, judge, shown};
use crate::text::Style;

const NOW: i64 = 1_757_000_000_000;
const HOUR: i64 = 3_600_000;

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn broker(name: &str, addr: &str) -> Broker {
    Broker {
        name: name.into(),
        addr: addr.into(),
        cluster: "DefaultCluster".into(),
        runtime: texts([
            ("commitLogDiskRatio", "0.41"),
            ("commitLogDirCapacity", "Total : 100.0 GiB, Free : 59.0 GiB."),
            ("remainHowManyDataToFlush", "12.0 KiB"),
            ("dispatchBehindBytes", "0"),
            ("timerReadBehind", "0"),
            ("timerOffsetBehind", "0"),
            ("pageCacheLockTimeMills", "0"),
            ("brokerVersionDesc", "V5_5_0"),
            ("earliestMessageTimeStamp", &(NOW - 40 * HOUR).to_string()),
        ]),
        config: texts([
            ("brokerPermission", "6"),
            ("storePathRootDir", &format!("/data/{name}")),
            ("fileReservedTime", "72"),
            ("flushDiskType", "ASYNC_FLUSH"),
            ("autoCreateTopicEnable", "false"),
            ("bindAddress", "127.0.0.1"),
            ("diskMaxUsedSpaceRatio", "75"),
            ("diskSpaceCleanForciblyRatio", "0.85"),
            ("diskSpaceWarningLevelRatio", "0.9"),
        ]),
        topics: [
            "orders",
            "%RETRY%g",
            "RMQ_SYS_TRANS_HALF_TOPIC",
            "DefaultCluster",
            "broker-a",
        ]
        .map(|topic| (topic.to_owned(), TopicConfig::new(topic, 4, 6)))
        .into(),
        groups: [("g".to_owned(), SubscriptionGroupConfig::new("g"))].into(),
        clock_ahead_ms: Some(-400),
        ..Broker::default()
    }
}

fn member(client_id: &str) -> Member {
    Member {
        client_id: client_id.into(),
        consume_type: "CONSUME_PASSIVELY".into(),
        is_orderly: false,
        subscriptions: texts([("orders", "TAG *"), ("%RETRY%g", "TAG *")]),
    }
}

fn healthy() -> Facts {
    let brokers = [
        broker("broker-a", "127.0.0.1:10911"),
        broker("broker-b", "127.0.0.1:10921"),
    ];
    let data = |broker: &Broker| BrokerData {
        broker_name: broker.name.clone(),
        cluster: broker.cluster.clone(),
        broker_addrs: [(0, broker.addr.clone())].into(),
        ..BrokerData::default()
    };
    let queues = |broker: &Broker| QueueData {
        broker_name: broker.name.clone(),
        perm: 6,
        read_queue_nums: 4,
        write_queue_nums: 4,
        ..QueueData::default()
    };
    let route = TopicRouteData {
        queue_datas: brokers.iter().map(queues).collect(),
        ..TopicRouteData::default()
    };
    let name_server = |addr: &str| NameServer {
        addr: addr.into(),
        cluster: ClusterInfo {
            broker_addr_table: brokers
                .iter()
                .map(|broker| (broker.name.clone(), data(broker)))
                .collect(),
            cluster_addr_table: [(
                "DefaultCluster".into(),
                brokers.iter().map(|broker| broker.name.clone()).collect(),
            )]
            .into(),
        },
        routes: [("orders".to_owned(), route.clone())].into(),
        ..NameServer::default()
    };
    let queue = |broker: &str, queue_id| {
        let offsets = OffsetWrapper {
            broker_offset: 5000,
            consumer_offset: 4990,
            last_timestamp: NOW - 500,
            pull_offset: 4995,
        };
        (MessageQueue::new("orders", broker, queue_id), offsets)
    };
    let connections = ["c1", "c2"].map(|id| Connection {
        client_id: id.into(),
        ..Connection::default()
    });
    Facts {
        now_ms: NOW,
        host: Host {
            memory_bytes: Some(16 << 30),
            swap_total_bytes: Some(0),
            swap_used_bytes: Some(0),
            swappiness: Some(60),
            dirty_ratio: Some(20),
            dirty_background_ratio: Some(10),
            max_map_count: Some(262_144),
            is_clock_synchronized: Some(true),
            brokers: vec![BrokerProcess {
                pid: 7,
                files_limit: Some(65_536),
                open_files: Some(200),
            }],
        },
        stores: vec![StoreDir {
            path: "/data/broker-a".into(),
            total_bytes: 100 << 30,
            free_bytes: 59 << 30,
            files_total: 1_000_000,
            files_free: 900_000,
            mount: Some(Mount {
                point: "/data".into(),
                file_system: "ext4".into(),
                options: ["rw", "relatime"].map(str::to_owned).to_vec(),
            }),
            files: 300,
            of: Some("127.0.0.1:10911".into()),
        }],
        certificates: vec![Certificate {
            of: "/x/server.pem".into(),
            not_after_ms: NOW + 300 * 24 * HOUR,
        }],
        name_servers: vec![name_server("127.0.0.1:9876"), name_server("127.0.0.1:9886")],
        groups: vec![Group {
            name: "g".into(),
            connection: Some(ConsumerConnection {
                connection_set: BTreeSet::from(connections),
                consume_type: ConsumeType::Passively,
                message_model: MessageModel::Clustering,
                ..ConsumerConnection::default()
            }),
            members: ["c1", "c2"].map(member).to_vec(),
            queues: [queue("broker-a", 0), queue("broker-a", 1), queue("broker-b", 0)].into(),
            lag_before: Some(20),
        }],
        brokers: brokers.to_vec(),
        ..Facts::default()
    }
}

#[test]
fn nothing_is_wrong_with_a_healthy_cluster() {
    let facts = healthy();
    assert_eq!(judge(&facts), []);
    let text = shown(&facts, &[], &Style::of_stdout());
    assert!(
        text.ends_with("healthy: 2 name servers, 2 brokers, 1 topic, 1 group, 1 store here\n"),
        "{text}"
    );
}

/// One thing is changed and one kind of finding is there, with these words.
#[track_caller]
fn check<T>(check: &str, severity: Severity, says: &str, change: impl FnOnce(&mut Facts) -> T) {
    let mut facts = healthy();
    let _ = change(&mut facts);
    let findings = judge(&facts);
    let kinds: BTreeSet<&str> = findings.iter().map(|finding| finding.check).collect();
    assert_eq!(kinds, BTreeSet::from([check]), "{findings:#?}");
    assert!(
        findings.iter().any(|finding| finding.seen.contains(says)),
        "{says:?} is not in {findings:#?}"
    );
    assert_eq!(findings[0].severity, severity);
    assert!(
        findings
            .iter()
            .all(|finding| !finding.why.is_empty() && !finding.fix.is_empty())
    );
}

use Severity::{Advice, Error, Warning};

/// Rows of what is found, how bad it is, what is said, and what was changed.
macro_rules! found {
    ($( $check:literal $severity:ident $says:literal: $change:expr; )*) => {
        $( check($check, $severity, $says, $change); )*
    };
}

fn options(facts: &mut Facts, more: &[&str]) {
    let mount = facts.stores[0].mount.as_mut().unwrap();
    mount.options.extend(more.iter().map(|option| (*option).to_owned()));
}

#[test]
fn disks() {
    let free = |percent: u64| move |facts: &mut Facts| facts.stores[0].free_bytes = (percent << 30) + 1;
    found! {
        "disk-full" Warning "20.0 GiB are free: files are deleted before fileReservedTime": free(20);
        "disk-full" Error "files are deleted whether or not they are consumed": free(12);
        "disk-full" Error "messages are refused": free(4);
    }
    let of_broker = |facts: &mut Facts| {
        facts.brokers[1]
            .runtime
            .insert("commitLogDiskRatio".into(), "0.92".into());
    };
    found! {
        "disk-full" Error "broker-b (127.0.0.1:10921): 92 % of the disk is used, 59.0 GiB are free": of_broker;
    }
    let own_stage = |facts: &mut Facts| {
        facts.brokers[0]
            .config
            .insert("diskMaxUsedSpaceRatio".into(), "40".into());
    };
    found! {
        "disk-full" Warning "(stages 40, 85, 90 %)": own_stage;
        "inodes-nearly-used" Warning "40000 of 1000000": |facts| facts.stores[0].files_free = 40_000;
    }
}

#[test]
fn mounts() {
    let kind =
        |name: &'static str| move |facts: &mut Facts| facts.stores[0].mount.as_mut().unwrap().file_system = name.into();
    found! {
        "store-read-only" Error "/data (ext4) is mounted read-only": |facts| options(facts, &["ro"]);
        "store-on-network" Warning "which is nfs4": kind("nfs4");
        "store-in-memory" Error "which is tmpfs": kind("tmpfs");
        "mount-without-barriers" Error "nobarrier": |facts| options(facts, &["barrier=0"]);
        "mount-writeback" Warning "data=writeback": |facts| options(facts, &["data=writeback"]);
        "mount-sync" Warning "mounted with sync": |facts| options(facts, &["sync"]);
        "mount-atime" Advice "strictatime": |facts| options(facts, &["strictatime"]);
    }
}

#[test]
fn memory_limits_and_clock() {
    found! {
        "dirty-ratio" Warning "is 80 %, up to 12.8 GiB": |facts| facts.host.dirty_ratio = Some(80);
        "dirty-background-ratio" Warning "is 60 %": |facts| facts.host.dirty_background_ratio = Some(60);
    }
    let swap = |used: u64, swappiness| {
        move |facts: &mut Facts| {
            facts.host.swap_total_bytes = Some(4 << 30);
            facts.host.swap_used_bytes = Some(used);
            facts.host.swappiness = Some(swappiness);
        }
    };
    found! {
        "swap-in-use" Warning "1.0 GiB of 4.0 GiB": swap(1 << 30, 1);
        "swappiness" Advice "vm.swappiness is 60": swap(0, 60);
        "max-map-count" Error "has 70000 files, vm.max_map_count is 65530":
            |facts| { facts.host.max_map_count = Some(65_530); facts.stores[0].files = 70_000; };
        "open-files-limit" Warning "may open 1024 files (200 are open)":
            |facts| facts.host.brokers[0].files_limit = Some(1024);
        "open-files" Error "has 900 of 1024 files open":
            |facts| facts.host.brokers[0] = BrokerProcess { pid: 7, files_limit: Some(1024), open_files: Some(900), };
        "clock-not-synchronized" Warning "nothing keeps": |facts| facts.host.is_clock_synchronized = Some(false);
        "clock-differs" Warning "broker-a is 10 s behind": |facts| facts.brokers[0].clock_ahead_ms = Some(-10_400);
    }
}

#[test]
fn settings_and_certificates() {
    let problem = |kind| {
        move |facts: &mut Facts| {
            facts.config = vec![ConfigProblem {
                line: 3,
                key: "flushDisktype".into(),
                kind,
                text: "what".into(),
            }];
        }
    };
    found! {
        "config-wrong" Error "line 3: flushDisktype: what": problem(ConfigProblemKind::Wrong);
        "config-unknown" Warning "line 3": problem(ConfigProblemKind::Unknown);
        "config-without-effect" Advice "line 3": problem(ConfigProblemKind::WithoutEffect);
    }
    let expires = |days: i64| move |facts: &mut Facts| facts.certificates[0].not_after_ms = NOW + days * 24 * HOUR;
    found! {
        "certificate-expiry" Warning "/x/server.pem expires 2025-09-24T15:33:20.000Z, in 20 d": expires(20);
        "certificate-expiry" Error "in 6 d": expires(6);
        "certificate-expiry" Error "expired 2025-09-02T15:33:20.000Z, 2 d ago": expires(-2);
    }
}

#[test]
fn name_servers() {
    found! {
        "name-server-unreachable" Error "127.0.0.1:9886: refused":
            |facts| facts.name_servers[1].error = Some("refused".into());
        "broker-at-some-name-servers" Error "127.0.0.1:9886 does not know broker-b:0 127.0.0.1:10921":
            |facts| facts.name_servers[1].cluster.broker_addr_table.remove("broker-b");
        "routes-disagree" Warning "differ in 1 topics: orders":
            |facts| facts.name_servers[1].routes.get_mut("orders").unwrap().queue_datas.pop();
        "no-broker" Error "know no broker": |facts| {
            facts
                .name_servers
                .iter_mut()
                .for_each(|server| server.cluster = ClusterInfo::default());
            facts.brokers.clear();
            facts.groups.clear();
        };
        "broker-name-in-clusters" Error "broker-a belongs to DefaultCluster, Other": |facts| {
            let clusters = &mut facts.name_servers[0].cluster.cluster_addr_table;
            clusters.insert("Other".into(), BTreeSet::from(["broker-a".to_owned()]));
        };
    }
}

#[test]
fn brokers() {
    let runtime = |key: &'static str, value: &'static str| {
        move |facts: &mut Facts| {
            facts.brokers[0].runtime.insert(key.into(), value.into());
        }
    };
    let config = |key: &'static str, value: &'static str| {
        move |facts: &mut Facts| {
            facts.brokers[0].config.insert(key.into(), value.into());
        }
    };
    found! {
        "broker-unreachable" Error "broker-b is registered at 127.0.0.1:10921: refused":
            |facts| facts.brokers[1].error = Some("refused".into());
        "broker-names-at-one-address" Error "127.0.0.1:10911 is registered as broker-a, broker-b":
            |facts| facts.brokers[1].addr = facts.brokers[0].addr.clone();
        "store-shared" Error "have the same storePathRootDir /data/broker-b":
            config("storePathRootDir", "/data/broker-b");
        "no-master" Error "broker-b has slaves only": |facts| facts.brokers[1].id = 1;
        "broker-permission" Warning "broker-a cannot be written": config("brokerPermission", "4");
        "flush-behind" Warning "512.1 MiB are not on disk": runtime("remainHowManyDataToFlush", "512.0 MiB");
        "dispatch-behind" Warning "95.4 MiB behind": runtime("dispatchBehindBytes", "100000000");
        "timer-behind" Warning "timers are 60 s": runtime("timerReadBehind", "60");
        "timer-behind" Warning "50000 messages": runtime("timerOffsetBehind", "50000");
        "append-hangs" Error "under way for 2500 ms": runtime("pageCacheLockTimeMills", "2500");
        "versions-differ" Warning "V4_9_8 (127.0.0.1:10911), V5_5_0 (127.0.0.1:10921)":
            runtime("brokerVersionDesc", "V4_9_8");
        "settings-differ" Warning "flushDiskType is ASYNC_FLUSH (127.0.0.1:10921), SYNC_FLUSH":
            config("flushDiskType", "SYNC_FLUSH");
        "half-messages-age" Warning "was begun 3 h ago": |facts| facts.brokers[0].oldest_half_ms = Some(NOW - 3 * HOUR);
        "open-to-the-network" Warning "listens on 0.0.0.0": config("bindAddress", "0.0.0.0");
        "auto-create-topic" Warning "broker-a, broker-b create topics": |facts| {
            for broker in &mut facts.brokers {
                broker.config.insert("autoCreateTopicEnable".into(), "true".into());
            }
        };
    }
}

#[test]
fn whoever_asks_for_a_name_is_not_open_to_the_network() {
    for (key, value) in [("aclEnable", "true"), ("authenticationEnabled", "true")] {
        let mut facts = healthy();
        for broker in &mut facts.brokers {
            broker.config.insert("bindAddress".into(), "0.0.0.0".into());
            broker.config.insert(key.into(), value.into());
        }
        assert_eq!(judge(&facts), []);
    }
}

#[test]
fn a_single_broker_may_create_topics() {
    let mut facts = healthy();
    facts.brokers.pop();
    facts.name_servers.iter_mut().for_each(|server| {
        server.cluster.broker_addr_table.remove("broker-b");
    });
    facts.brokers[0]
        .config
        .insert("autoCreateTopicEnable".into(), "true".into());
    assert_eq!(judge(&facts), []);
}

fn topic(facts: &mut Facts) -> &mut TopicConfig {
    facts.brokers[0].topics.get_mut("orders").unwrap()
}

#[test]
fn topics() {
    found! {
        "topic-permission" Warning "orders cannot be sent to on broker-a: its permission is R--":
            |facts| topic(facts).perm = 4;
        "topic-permission" Warning "cannot be consumed": |facts| topic(facts).perm = 2;
        "queues-not-read" Error "4 write queues and 2 read queues": |facts| topic(facts).read_queue_nums = 2;
        "queues-not-written" Advice "4 read queues and 2 write queues": |facts| topic(facts).write_queue_nums = 2;
        "topic-on-some-masters" Warning "orders is on 1 of 2 masters of DefaultCluster, not on broker-a":
            |facts| facts.brokers[0].topics.remove("orders");
        "topic-types-differ" Warning "orders is FIFO on broker-a, unspecified on broker-b":
            |facts| topic(facts).attributes.insert("message.type".into(), "FIFO".into());
        "write-permission-wiped" Warning "not to send to 1 topics of broker-a: orders": |facts| {
            for server in &mut facts.name_servers {
                server.routes.get_mut("orders").unwrap().queue_datas[0].perm = 4;
            }
        };
    }
}

fn lag(facts: &mut Facts, count: i64, before: i64) {
    let group = &mut facts.groups[0];
    group
        .queues
        .values_mut()
        .for_each(|offsets| offsets.consumer_offset = offsets.broker_offset);
    group.queues.values_mut().next().unwrap().consumer_offset -= count;
    group.lag_before = Some(before);
}

#[test]
fn groups() {
    found! {
        "subscriptions-differ" Error "orders: TAG * (c1); orders: TAG eu (c2)":
            |facts| facts.groups[0].members[1].subscriptions = texts([("orders", "TAG eu")]);
        "consume-modes-differ" Error "CONSUME_PASSIVELY orderly (c2)":
            |facts| facts.groups[0].members[1].is_orderly = true;
        "lag-grows" Warning "g is 3000 messages behind, and growing, in orders, with 2 members":
            |facts| lag(facts, 3000, 2000);
        "lag" Advice "g is 3000 messages behind, in orders": |facts| lag(facts, 3000, 3500);
        "lag-without-consumer" Warning "g is 3000 messages behind, in orders":
            |facts| { lag(facts, 3000, 3000); facts.groups[0].connection = None; };
        "lag-without-consumer" Error "and growing":
            |facts| { lag(facts, 3000, 2000); facts.groups[0].connection = None; };
    }
    let last = |hours: i64| {
        move |facts: &mut Facts| {
            facts.groups[0].queues.values_mut().next().unwrap().last_timestamp = NOW - hours * HOUR;
        }
    };
    found! {
        "unread-messages-deleted" Error "g has consumed orders@broker-a:0 until": last(41);
        "lag-near-retention" Error "g is 39 h behind in orders@broker-a:0, and messages are kept for 48 h": |facts| {
            last(39)(facts);
            facts.brokers.iter_mut().for_each(|broker| {
                broker.config.insert("fileReservedTime".into(), "48".into());
            });
        };
        "group-disabled" Warning "g may not consume on broker-b": |facts| {
            let groups = facts
                .brokers
                .iter_mut()
                .map(|broker| broker.groups.get_mut("g").unwrap());
            groups.for_each(|group| group.retry_max_times = 16);
            facts.brokers[1].groups.get_mut("g").unwrap().consume_enable = false;
            facts.brokers[0].groups.remove("g");
        };
        "group-settings-differ" Warning "g has different settings on its 2 brokers":
            |facts| facts.brokers[1].groups.get_mut("g").unwrap().retry_max_times = 3;
        "idle-members" Advice "g has 4 members for 3 queues": |facts| {
            let connection = facts.groups[0].connection.as_mut().unwrap();
            let more = ["c3", "c4"].map(|id| Connection {
                client_id: id.into(),
                ..Connection::default()
            });
            connection.connection_set.extend(more);
        };
        "pop-behind" Warning "20000 records":
            |facts| { lag(facts, 20_000, 20_000); facts.groups[0].name = "CID_RMQ_SYS_REVIVE_GROUP".into(); };
    }
}

#[test]
fn what_was_not_seen_is_told() {
    let mut facts = healthy();
    facts.not_seen.push("/x: no such folder".into());
    topic(&mut facts).perm = 4;
    let text = shown(&facts, &judge(&facts), &Style::of_stdout());
    let expected = "WARNING topic-permission: orders cannot be sent to on broker-a: its permission is R--\n  why: ";
    assert!(text.starts_with(expected), "{text}");
    assert!(
        text.contains("  do:  oxmq admin updateTopicPerm -t orders -b 127.0.0.1:10911 -p 6\n"),
        "{text}"
    );
    assert!(
        text.contains("not looked at: /x: no such folder\n0 errors, 1 warning, 0 pieces of advice: "),
        "{text}"
    );
}
