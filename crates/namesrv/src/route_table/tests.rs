use proptest::prelude::*;

use super::*;

const CONNECTION: ConnectionId = 7;

/// A registration of `broker_name` with id and address taken from `id`, of topics `T0..` with 8 queues.
fn registration(broker_name: &str, id: i64, topics: usize) -> Registration {
    let topics = (0..topics).map(|index| TopicConfig::new(format!("T{index}"), 8, perm::READ | perm::WRITE));
    Registration {
        cluster: "c".into(),
        broker_name: broker_name.into(),
        broker_addr: format!("{broker_name}-{id}:10911"),
        broker_id: id,
        ha_server_addr: format!("{broker_name}-{id}:10912"),
        zone_name: None,
        enable_acting_master: Some(false),
        timeout_ms: None,
        connection: CONNECTION,
        data_version: version(1),
        topics: topics.collect(),
        mappings: BTreeMap::new(),
        filter_servers: Vec::new(),
        drop_missing_topics: false,
    }
}

fn acting(broker_name: &str, id: i64, topics: usize) -> Registration {
    Registration {
        enable_acting_master: Some(true),
        ..registration(broker_name, id, topics)
    }
}

fn version(counter: i64) -> DataVersion {
    DataVersion {
        counter,
        ..DataVersion::default()
    }
}

fn table(registrations: impl IntoIterator<Item = Registration>) -> RouteTable {
    let mut table = RouteTable::default();
    for registration in registrations {
        table.register(0, registration).unwrap();
    }
    table
}

/// `broker=perm[id:addr …]` for each broker of the topic.
fn shown(table: &RouteTable, topic: &str, acting_master: bool) -> String {
    let Some(route) = table.route(topic, acting_master) else {
        return "no route".into();
    };
    let brokers = route
        .broker_datas
        .iter()
        .zip(&route.queue_datas)
        .map(|(broker, queues)| {
            assert_eq!(broker.broker_name, queues.broker_name);
            let addrs = broker
                .broker_addrs
                .iter()
                .map(|(id, addr)| format!("{id}:{}", addr.trim_end_matches(":10911")));
            format!(
                "{}={}[{}]",
                broker.broker_name,
                queues.perm,
                addrs.collect::<Vec<_>>().join(" ")
            )
        });
    brokers.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_route_names_masters_and_slaves_of_every_broker() {
    let table = table([
        registration("b", 0, 2),
        registration("a", 0, 1 + 1),
        registration("a", 1, 2),
    ]);
    assert_eq!(shown(&table, "T1", false), "a=6[0:a-0 1:a-1] b=6[0:b-0]");
    assert_eq!(shown(&table, "T2", false), "no route");
    assert_eq!(table.topics_of_cluster("c").len(), 2);
    assert_eq!(table.topics_of_cluster("d").len(), 0);
}

#[test]
fn a_slave_learns_where_its_master_is() {
    let mut table = table([registration("a", 0, 2)]);
    let answer = table.register(0, registration("a", 1, 2)).unwrap();
    assert_eq!(answer.master_addr.as_deref(), Some("a-0:10911"));
    assert_eq!(answer.ha_server_addr.as_deref(), Some("a-0:10912"));
    let answer = table.register(0, registration("a", 0, 2)).unwrap();
    assert_eq!((answer.master_addr, answer.ha_server_addr), (None, None));
}

#[test]
fn topics_of_a_slave_without_acting_master_count_only_where_it_leads() {
    let old = Registration {
        enable_acting_master: None,
        ..registration("old", 1, 2)
    };
    let table = table([old, registration("new", 1, 2), registration("new", 2, 3)]);
    assert_eq!(shown(&table, "T0", false), "new=6[1:new-1 2:new-2]");
    assert_eq!(shown(&table, "T2", false), "no route");
}

#[test]
fn a_single_topic_needs_a_full_registration_before_it() {
    let mut table = RouteTable::default();
    assert_eq!(
        table.register(0, registration("a", 0, 1)),
        Err(Refused::SingleTopicFirst)
    );
    assert!(table.group("a").is_none(), "a refused broker leaves no trace");

    table.register(0, registration("a", 0, 3)).unwrap();
    let one = Registration {
        topics: vec![TopicConfig::new("new", 4, 6)],
        data_version: version(2),
        drop_missing_topics: true,
        ..registration("a", 0, 0)
    };
    table.register(0, one).unwrap();
    assert_eq!(table.topics().len(), 4, "an incremental registration drops nothing");
    assert_eq!(table.data_version("a-0:10911"), Some(version(2)));
}

#[test]
fn the_same_version_changes_no_queues_but_adds_unknown_topics() {
    let mut table = table([registration("a", 0, 2)]);
    assert_eq!(table.wipe_write_permission("a"), 2);
    table.delete_topic("T1", None);
    table.register(0, registration("a", 0, 2)).unwrap();
    assert_eq!(shown(&table, "T0", false), "a=4[0:a-0]", "the wiped permission stays");
    assert_eq!(shown(&table, "T1", false), "a=6[0:a-0]");

    let changed = Registration {
        data_version: version(2),
        ..registration("a", 0, 2)
    };
    table.register(0, changed).unwrap();
    assert_eq!(shown(&table, "T0", false), "a=6[0:a-0]");
    table.wipe_write_permission("a");
    assert_eq!(table.add_write_permission("a"), 2);
    assert_eq!(shown(&table, "T0", false), "a=6[0:a-0]");
}

#[test]
fn missing_topics_are_dropped_where_that_is_wanted() {
    let mut table = table([registration("a", 0, 4), registration("b", 0, 4)]);
    let fewer = Registration {
        drop_missing_topics: true,
        ..registration("a", 0, 2)
    };
    table.register(0, fewer).unwrap();
    assert_eq!(shown(&table, "T1", false), "a=6[0:a-0] b=6[0:b-0]");
    assert_eq!(shown(&table, "T3", false), "b=6[0:b-0]");
}

#[test]
fn an_old_state_does_not_take_an_id_from_a_new_one() {
    let with_state = |addr: &str, state_version| Registration {
        broker_addr: addr.into(),
        data_version: DataVersion {
            state_version,
            ..version(1)
        },
        ..registration("a", 0, 2)
    };
    let mut table = table([with_state("new:1", 2)]);
    table.register(0, with_state("old:1", 1)).unwrap();
    assert_eq!(shown(&table, "T0", false), "a=6[0:new:1]");
    assert_eq!(table.data_version("old:1"), None);
    table.register(0, with_state("newer:1", 2)).unwrap();
    assert_eq!(shown(&table, "T0", false), "a=6[0:newer:1]");
    assert_eq!(
        table.data_version("new:1"),
        None,
        "the replaced broker is not believed to live"
    );
}

#[test]
fn a_slave_that_becomes_master_leaves_its_old_id() {
    let mut table = table([acting("a", 0, 2), acting("a", 1, 2)]);
    table.unregister("a", "a-0:10911");
    let promoted = Registration {
        broker_addr: "a-1:10911".into(),
        ..acting("a", 0, 2)
    };
    let answer = table.register(0, promoted).unwrap();
    assert_eq!(
        shown(&table, "T0", false),
        "a=6[0:a-1]",
        "writeable again without a new data version"
    );
    assert_eq!(answer.changes[0].to, ["a-1:10911"]);
}

#[test]
fn an_address_under_a_new_name_leaves_the_old_one() {
    let mut table = table([registration("a", 0, 2)]);
    let renamed = Registration {
        broker_addr: "a-0:10911".into(),
        ..registration("b", 0, 2)
    };
    table.register(0, renamed).unwrap();
    assert_eq!(shown(&table, "T0", false), "b=6[0:a-0]");
}

#[test]
fn a_silent_broker_expires_after_its_timeout_and_takes_its_topics_with_it() {
    let hasty = Registration {
        timeout_ms: Some(10_000),
        connection: 8,
        ..registration("b", 0, 3)
    };
    let mut table = table([registration("a", 0, 2), hasty]);
    assert_eq!(table.expire(10_000), Expired::default());
    let expired = table.expire(10_001);
    assert_eq!(
        (expired.addrs, expired.connections),
        (vec!["b-0:10911".to_owned()], vec![8])
    );
    assert_eq!(table.topics().len(), 2);

    table.heartbeat(100_000, "a-0:10911");
    table.heartbeat(100_000, "unknown:1");
    assert_eq!(table.expire(220_000), Expired::default());
    table.expire(220_001);
    assert_eq!(shown(&table, "T0", false), "no route");
    assert!(table.topics().is_empty() && table.clusters().is_empty());
}

#[test]
fn a_closed_connection_takes_all_its_brokers_and_no_others() {
    let other = Registration {
        connection: 8,
        ..registration("b", 0, 2)
    };
    let mut table = table([registration("a", 0, 2), registration("a", 1, 2), other]);
    table.connection_closed(CONNECTION);
    assert_eq!(shown(&table, "T0", false), "b=6[0:b-0]");

    // The broker registered again over a new connection before the old one was seen to close.
    let again = Registration {
        connection: 9,
        ..registration("b", 0, 2)
    };
    table.register(0, again).unwrap();
    table.connection_closed(8);
    assert_eq!(shown(&table, "T0", false), "b=6[0:b-0]");
}

#[test]
fn unregistering_needs_the_name_the_address_has() {
    let mut table = table([registration("a", 0, 2), registration("b", 0, 2)]);
    table.unregister("a", "b-0:10911");
    table.unregister("nobody", "nowhere");
    assert_eq!(shown(&table, "T0", false), "a=6[0:a-0] b=6[0:b-0]");
    table.unregister("a", "a-0:10911");
    assert_eq!(shown(&table, "T0", false), "b=6[0:b-0]");
}

#[test]
fn without_a_master_the_group_is_read_only_and_shown_with_an_acting_one() {
    let mut table = table([acting("a", 0, 2), acting("a", 1, 2), acting("a", 2, 2)]);
    let changes = table.unregister("a", "a-0:10911");
    assert_eq!(shown(&table, "T0", false), "a=4[1:a-1 2:a-2]");
    assert_eq!(shown(&table, "T0", true), "a=4[0:a-1 2:a-2]");

    let [change] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    assert_eq!(change.to, ["a-1:10911", "a-2:10911"]);
    assert_eq!(change.notice.min_broker_id, Some(1));
    assert_eq!(change.notice.min_broker_addr.as_deref(), Some("a-1:10911"));
    assert_eq!(change.notice.offline_broker_addr.as_deref(), Some("a-0:10911"));

    // The prime slave registers: its topics stay read-only. Then the master returns.
    let slave = Registration {
        data_version: version(2),
        ..acting("a", 1, 2)
    };
    assert_eq!(table.register(0, slave).unwrap().changes, []);
    assert_eq!(shown(&table, "T0", true), "a=4[0:a-1 2:a-2]");
    let answer = table.register(0, acting("a", 0, 2)).unwrap();
    assert_eq!(shown(&table, "T0", true), "a=6[0:a-0 1:a-1 2:a-2]");
    let [change] = answer.changes.as_slice() else {
        panic!("{answer:?}")
    };
    assert_eq!(change.to, ["a-1:10911", "a-2:10911"]);
    assert_eq!(change.notice.min_broker_id, Some(0));
    assert_eq!(change.notice.ha_broker_addr.as_deref(), Some("a-0:10912"));
}

#[test]
fn the_member_topic_is_never_routed_to_an_acting_master() {
    let topic = "rmq_sys_SYNC_BROKER_MEMBER_a";
    let mut slave = acting("a", 1, 2);
    slave.topics.push(TopicConfig::new(topic, 1, 6));
    assert_eq!(shown(&table([slave]), topic, true), "a=4[1:a-1]");
}

#[test]
fn leaving_slaves_are_not_announced() {
    let mut table = table([
        acting("a", 0, 2),
        acting("a", 1, 2),
        registration("b", 0, 2),
        registration("b", 1, 2),
    ]);
    assert_eq!(table.unregister("a", "a-1:10911"), []);
    assert_eq!(
        table.unregister("b", "b-0:10911"),
        [],
        "only groups with acting masters are told"
    );
}

#[test]
fn topics_are_deleted_by_cluster() {
    let elsewhere = Registration {
        cluster: "d".into(),
        ..registration("b", 0, 2)
    };
    let mut table = table([registration("a", 0, 2), elsewhere]);
    table.delete_topic("T0", Some("d"));
    assert_eq!(shown(&table, "T0", false), "a=6[0:a-0]");
    table.delete_topic("T0", Some("c"));
    assert_eq!(table.topics(), BTreeSet::from(["T1".to_owned()]));
    table.delete_topic("T1", None);
    table.delete_topic("T1", Some("c"));
    assert!(table.topics().is_empty());
}

#[test]
fn a_topic_is_added_on_known_brokers_or_not_at_all() {
    let queues = |broker_name: &str| QueueData {
        broker_name: broker_name.into(),
        perm: 6,
        read_queue_nums: 4,
        topic_sys_flag: 2,
        write_queue_nums: 4,
    };
    let mut table = table([registration("a", 0, 2)]);
    table.register_topic("one", vec![queues("a"), queues("unknown")]);
    table.register_topic("none", vec![]);
    assert_eq!(table.topics().len(), 2);
    table.register_topic("one", vec![queues("a")]);
    assert_eq!(shown(&table, "one", false), "a=6[0:a-0]");
    assert_eq!(
        table.topics_by_flag(|flag| flag & 2 != 0),
        BTreeSet::from(["one".to_owned()])
    );
}

#[test]
fn names_without_end_are_refused() {
    let mut table = RouteTable::default();
    for broker_name in [String::new(), "x".repeat(NAME_BYTES_MAX + 1)] {
        let refused = table.register(0, registration(&broker_name, 0, 2));
        assert_eq!(refused, Err(Refused::BadName));
    }
    let eternal = Registration {
        timeout_ms: Some(i64::MAX),
        ..registration("a", 0, 2)
    };
    table.register(0, eternal).unwrap();
    assert_eq!(table.expire(LIVE_TIMEOUT_MS_MAX + 1).addrs.len(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Register {
        broker: u8,
        id: i64,
        addr: u8,
        topics: usize,
        version: i64,
        acting: Option<bool>,
        drop_missing: bool,
    },
    Unregister {
        broker: u8,
        addr: u8,
    },
    Heartbeat {
        addr: u8,
    },
    Close {
        addr: u8,
    },
    Pass {
        ms: u64,
    },
    Delete {
        topic: u8,
        cluster: Option<u8>,
    },
    Add {
        topic: u8,
        broker: u8,
    },
    Wipe {
        broker: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (broker, addr, topic) = (0..3u8, 0..6u8, 0..5u8);
    let register = (
        broker.clone(),
        0..3i64,
        addr.clone(),
        0..5usize,
        0..3i64,
        any::<Option<bool>>(),
        any::<bool>(),
    );
    prop_oneof![
        6 => register.prop_map(|(broker, id, addr, topics, version, acting, drop_missing)| {
            Step::Register { broker, id, addr, topics, version, acting, drop_missing }
        }),
        1 => (broker.clone(), addr.clone()).prop_map(|(broker, addr)| Step::Unregister { broker, addr }),
        1 => addr.clone().prop_map(|addr| Step::Heartbeat { addr }),
        1 => addr.prop_map(|addr| Step::Close { addr }),
        1 => (0..100_000u64).prop_map(|ms| Step::Pass { ms }),
        1 => (topic.clone(), proptest::option::of(0..2u8)).prop_map(|(topic, cluster)| Step::Delete { topic, cluster }),
        1 => (topic, broker.clone()).prop_map(|(topic, broker)| Step::Add { topic, broker }),
        1 => broker.prop_map(|broker| Step::Wipe { broker }),
    ]
}

/// Takes a step at a virtual time. A broker's connection has the number of its address, its cluster that of its name.
fn take(table: &mut RouteTable, now_ms: &mut u64, step: Step) {
    match step {
        Step::Register {
            broker,
            id,
            addr,
            topics,
            version: counter,
            acting,
            drop_missing,
        } => {
            let registration = Registration {
                cluster: format!("c{}", broker % 2),
                broker_addr: format!("{addr}"),
                enable_acting_master: acting,
                connection: addr.into(),
                data_version: version(counter),
                drop_missing_topics: drop_missing,
                ..registration(&format!("b{broker}"), id, topics)
            };
            // A refused registration must leave the table whole too.
            let _ = table.register(*now_ms, registration);
        }
        Step::Unregister { broker, addr } => drop(table.unregister(&format!("b{broker}"), &format!("{addr}"))),
        Step::Heartbeat { addr } => table.heartbeat(*now_ms, &format!("{addr}")),
        Step::Close { addr } => {
            table.connection_closed(addr.into());
            assert!(
                table.data_version(&format!("{addr}")).is_none(),
                "no broker outlives its connection"
            );
        }
        Step::Pass { ms } => {
            *now_ms += ms;
            table.expire(*now_ms);
            let overdue = |live: &LiveBroker| live.heard_at_ms + live.timeout_ms < *now_ms;
            assert!(!table.live.values().any(overdue));
        }
        Step::Delete { topic, cluster } => {
            let cluster = cluster.map(|cluster| format!("c{cluster}"));
            table.delete_topic(&format!("T{topic}"), cluster.as_deref());
        }
        Step::Add { topic, broker } => {
            let queues = QueueData {
                broker_name: format!("b{broker}"),
                ..QueueData::default()
            };
            table.register_topic(&format!("T{topic}"), vec![queues]);
        }
        Step::Wipe { broker } => drop(table.wipe_write_permission(&format!("b{broker}"))),
    }
}

fn check_invariants(table: &RouteTable) {
    for (name, group) in table.groups() {
        assert!(!group.addrs.is_empty(), "{name} has no member");
        for addr in group.addrs.values() {
            assert_eq!(
                table.live.get(addr).map(|live| &live.broker_name),
                Some(name),
                "{addr} is dead or elsewhere"
            );
        }
    }
    let members: usize = table.groups().map(|(_, group)| group.addrs.len()).sum();
    assert_eq!(members, table.live.len(), "a live broker is a member once");
    for topic in table.topics() {
        for acting_master in [false, true] {
            let route = table
                .route(&topic, acting_master)
                .expect("a topic without brokers is gone");
            assert!(!route.broker_datas.is_empty());
            let addrs = route
                .broker_datas
                .iter()
                .flat_map(|broker| broker.broker_addrs.values());
            for addr in addrs {
                assert!(
                    table.live.contains_key(addr.as_str()),
                    "{topic} names the dead broker {addr}"
                );
            }
            let names = route.queue_datas.iter().map(|queues| &queues.broker_name);
            assert!(names.is_sorted_by(|a, b| a < b));
        }
    }
}

proptest! {
    #[test]
    fn no_route_names_a_dead_broker_whatever_happens(steps in proptest::collection::vec(step(), 1..60)) {
        let mut table = RouteTable::default();
        let mut now_ms = 0;
        for step in steps {
            take(&mut table, &mut now_ms, step);
            check_invariants(&table);
        }
    }
}
