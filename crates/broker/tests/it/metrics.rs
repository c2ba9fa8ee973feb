//! What the metrics say, against what was done.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use oxmq_broker::config::{FlushDiskType, MetricsExporterType};
use oxmq_broker::{Broker, BrokerConfig};
use oxmq_protocol::body::SubscriptionGroupConfig;
use oxmq_protocol::requests::*;
use oxmq_protocol::sys_flag;
use oxmq_store::disk::SimulatedDisk;
use oxmq_tests::{DEADLINE, eventually};

use crate::crash_points::physical_offset;
use crate::log_lines::LogLines;
use crate::node::*;
use crate::pops::{handed_out, popping};
use crate::scrape::{Scrape, connect, exchange, get};

fn with_metrics(config: &mut BrokerConfig) {
    config.metrics_exporter_type = MetricsExporterType::Prom;
    config.metrics_prom_exporter_port = 0;
}

fn commit(client: &mut Client, topic: &str, queue_offset: i64) {
    let header = UpdateConsumerOffsetHeader {
        consumer_group: Some("g".into()),
        topic: Some(topic.into()),
        queue_id: Some(0),
        commit_offset: Some(queue_offset),
        ..UpdateConsumerOffsetHeader::default()
    };
    client.ok::<request::UpdateConsumerOffset>(&header, "");
}

#[test]
fn the_log_gets_metrics() {
    let lines = LogLines::of_all();
    let node = Node::start_with(|config| {
        config.broker_name = "logs-metrics".into();
        config.metrics_exporter_type = MetricsExporterType::Log;
        config.metric_logging_exporter_interval_ms = 20;
    });
    let mut client = node.connect();
    client.create_topic("t", 1);
    client.send("t", 0, "hello", &[]);
    let told = |name: &str, value: &str| {
        let lines = lines.with("node_id=\"logs-metrics\"").into_iter();
        lines
            .filter(|line| line.contains(&format!("message={name}{{")) && line.contains("topic=\"t\""))
            .any(|line| line.contains(value))
    };
    eventually(|| told("rocketmq_messages_in_total", "} 1 ") && told("rocketmq_message_size", "} count=1 sum="));
}

#[test]
fn traffic_is_counted_as_it_was() {
    let node = Node::start_with(|config| {
        with_metrics(config);
        config.metrics_label = "zone:\"z\\1\"".into();
    });
    let mut client = node.connect();
    client.create_topic("orders", 1);
    client.heart_beat(&consumer("c", "g", &["orders"]));
    client.heart_beat(&producer("p", "pg"));
    commit(&mut client, "orders", 0);
    for number in 0..9 {
        client.send("orders", 0, &"x".repeat(100 * number + 1), &[]);
    }
    client.send("orders", 0, &"x".repeat(5000), &[]);
    client.send("orders", 0, "in order", &[("__SHARDINGKEY", "k")]);
    let got = client.pull("g", "orders", 0, 0);
    assert_eq!(got.len(), 11);
    let sizes: Vec<f64> = got.iter().map(|message| message.store_size as f64).collect();
    commit(&mut client, "orders", 4);

    let scrape = node.scrape();
    let common = scrape.common();
    for (name, value) in [
        ("cluster", "DefaultCluster"),
        ("node_type", "broker"),
        ("node_id", "broker-a"),
        ("otel_scope_name", "broker-meter"),
        ("zone", "\"z\\1\""),
    ] {
        assert_eq!(common.get(name).map(String::as_str), Some(value), "{name}");
    }
    let normal = [("topic", "orders"), ("message_type", "normal"), ("is_system", "false")];
    let fifo = [("topic", "orders"), ("message_type", "fifo")];
    assert_eq!(scrape.value("rocketmq_messages_in_total", &normal), 10.0);
    assert_eq!(
        scrape.value("rocketmq_throughput_in_total", &normal),
        sizes[..10].iter().sum::<f64>()
    );
    assert_eq!(scrape.value("rocketmq_messages_in_total", &fifo), 1.0);
    assert_eq!(scrape.value("rocketmq_throughput_in_total", &fifo), sizes[10]);
    assert_eq!(
        scrape.value("rocketmq_message_size_sum", &normal),
        sizes[..10].iter().sum::<f64>()
    );
    for bound in [1024.0, 4096.0, 524_288.0, 4_194_304.0] {
        let expected = sizes[..10].iter().filter(|size| **size <= bound).count() as f64;
        let bound = format!("{bound:?}");
        let class = [&normal[..], &[("le", bound.as_str())]].concat();
        assert_eq!(
            scrape.value("rocketmq_message_size_bucket", &class),
            expected,
            "{bound}"
        );
    }
    let out = [("topic", "orders"), ("consumer_group", "g"), ("is_system", "false")];
    assert_eq!(scrape.value("rocketmq_messages_out_total", &out), 11.0);
    assert_eq!(
        scrape.value("rocketmq_throughput_out_total", &out),
        sizes.iter().sum::<f64>()
    );

    let group = [
        ("consumer_group", "g"),
        ("topic", "orders"),
        ("is_retry", "false"),
        ("is_system", "false"),
    ];
    assert_eq!(scrape.value("rocketmq_consumer_lag_messages", &group), 7.0);
    assert_eq!(scrape.value("rocketmq_consumer_inflight_messages", &group), 7.0);
    assert_eq!(scrape.value("rocketmq_consumer_ready_messages", &group), 0.0);
    let latency = scrape.value("rocketmq_consumer_lag_latency_milliseconds", &group);
    assert!((0.0..DEADLINE.as_millis() as f64).contains(&latency), "{latency}");
    assert_eq!(
        scrape.value("rocketmq_consumer_queueing_latency_milliseconds", &group),
        0.0
    );

    let of_client = [("language", "java"), ("protocol_type", "remoting")];
    assert_eq!(scrape.value("rocketmq_producer_connections", &of_client), 1.0);
    let of_consumer = [
        &of_client[..],
        &[
            ("consumer_group", "g"),
            ("consume_mode", "push"),
            ("is_system", "false"),
        ],
    ]
    .concat();
    assert_eq!(scrape.value("rocketmq_consumer_connections", &of_consumer), 1.0);
    assert_eq!(scrape.value("rocketmq_broker_permission", &[]), 6.0);
    assert_eq!(scrape.all("rocketmq_processor_watermark", &[]).len(), 12);
    let topics = scrape.value("rocketmq_topic_number", &[]);
    client.create_topic("more", 1);
    client.ok::<request::UpdateAndCreateSubscriptionGroup>(&(), json_of(&SubscriptionGroupConfig::new("new")));
    let groups = scrape.value("rocketmq_consumer_group_number", &[]);
    let scrape = node.scrape();
    assert_eq!(scrape.value("rocketmq_topic_number", &[]), topics + 1.0);
    assert_eq!(scrape.value("rocketmq_consumer_group_number", &[]), groups + 1.0);
    let created = [("invocation_status", "success"), ("is_system", "false")];
    assert_eq!(
        scrape.value("rocketmq_topic_create_execution_time_milliseconds_count", &created),
        2.0
    );
    let created = [("invocation_status", "success")];
    assert_eq!(
        scrape.value(
            "rocketmq_consumer_group_create_execution_time_milliseconds_count",
            &created
        ),
        1.0
    );
}

#[test]
fn answers_are_counted_by_code_and_outcome() {
    let node = Node::start_with(with_metrics);
    let mut client = node.connect();
    client.create_topic("orders", 1);
    for _ in 0..25 {
        client.send("orders", 0, "x", &[]);
    }
    client.pull("g", "orders", 0, 0);
    client.pull("g", "orders", 0, 25);
    let unknown = SendMessageHeader {
        producer_group: "p".into(),
        topic: "unknown".into(),
        default_topic: "no".into(),
        ..SendMessageHeader::default()
    };
    client.refused::<request::SendMessage>(&unknown, "x");
    let held = PullMessageHeader {
        consumer_group: "g".into(),
        topic: "orders".into(),
        queue_offset: 25,
        max_msg_nums: 1,
        sys_flag: sys_flag::pull::SUBSCRIPTION | sys_flag::pull::SUSPEND,
        suspend_timeout_millis: 30,
        subscription: Some("*".into()),
        ..PullMessageHeader::default()
    };
    client.call::<request::PullMessage>(&held, "");

    let scrape = node.scrape();
    let count = |request, response, waited| {
        let labels = [
            ("request_code", request),
            ("response_code", response),
            ("is_long_polling", waited),
            ("result", "success"),
            ("protocol_type", "remoting"),
        ];
        scrape.value("rocketmq_rpc_latency_milliseconds_count", &labels)
    };
    assert_eq!(count("send_message", "success", "false"), 25.0);
    assert_eq!(count("send_message", "topic_not_exist", "false"), 1.0);
    assert_eq!(count("pull_message", "success", "false"), 1.0);
    assert_eq!(count("pull_message", "pull_not_found", "false"), 1.0);
    assert_eq!(count("pull_message", "pull_not_found", "true"), 1.0);
    assert_eq!(count("update_and_create_topic", "success", "false"), 1.0);
    let held = [("request_code", "pull_message"), ("is_long_polling", "true")];
    let early = [&held[..], &[("le", "10.0")]].concat();
    assert_eq!(scrape.value("rocketmq_rpc_latency_milliseconds_bucket", &early), 0.0);
    let took = scrape.value("rocketmq_rpc_latency_milliseconds_sum", &held);
    assert!(took >= 30.0, "{took}");
    let bounds = [1.0, 3.0, 5.0, 7.0, 10.0, 100.0, 1000.0, 2000.0, 3000.0];
    assert_eq!(scrape.bounds("rocketmq_rpc_latency_milliseconds"), bounds);
}

#[test]
fn sends_that_wait_for_the_disk_are_counted_when_they_are_answered() {
    let node = Node::start_with(|config| {
        with_metrics(config);
        config.flush_disk_type = FlushDiskType::SyncFlush;
    });
    let mut client = node.connect();
    client.create_topic("orders", 1);
    for _ in 0..5 {
        client.send("orders", 0, "x", &[]);
    }
    client.send("made-by-this", 0, "x", &[("WAIT", "false")]);
    let sends = [("request_code", "send_message"), ("response_code", "success")];
    assert_eq!(
        node.scrape().value("rocketmq_rpc_latency_milliseconds_count", &sends),
        6.0
    );
}

#[test]
fn the_store_is_measured() {
    let node = Node::start_with(with_metrics);
    let mut client = node.connect();
    assert!(
        node.scrape()
            .all("rocketmq_storage_message_reserve_time_milliseconds", &[])
            .is_empty()
    );
    client.create_topic("orders", 1);
    client.send("orders", 0, "x", &[]);
    let disk = [("storage_type", "local"), ("storage_medium", "disk")];
    let scrape = node.scrape();
    let used = scrape.value("rocketmq_storage_size_bytes", &disk);
    let space = rustix::fs::statvfs(node.dir.path()).unwrap();
    let expected = ((space.f_blocks - space.f_bfree) * space.f_frsize) as f64;
    assert!((used - expected).abs() < 4e9, "{used} {expected}");
    let age = scrape.value("rocketmq_storage_message_reserve_time_milliseconds", &disk);
    assert!((0.0..DEADLINE.as_millis() as f64).contains(&age), "{age}");
    eventually(|| {
        let scrape = node.scrape();
        scrape.value("rocketmq_storage_flush_behind_bytes", &disk) == 0.0
            && scrape.value("rocketmq_storage_dispatch_behind_bytes", &disk) == 0.0
    });
}

#[test]
fn transactions_are_counted() {
    let clock = VirtualClock::new();
    let node = Node::start_in(clock.environment(), with_metrics);
    let mut client = node.connect();
    client.create_topic("orders", 1);
    let tran = [("TRAN_MSG", "true"), ("PGROUP", "pg")];
    let halves: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|body| {
            client
                .offer(
                    "orders",
                    body,
                    &[&tran[..], &[("UNIQ_KEY", body)]].concat(),
                    sys_flag::TRANSACTION_PREPARED,
                )
                .unwrap()
        })
        .collect();
    let topic = [("topic", "orders")];
    assert_eq!(node.scrape().value("rocketmq_half_messages", &topic), 3.0);
    node.pass(&clock, 70_000);
    assert_eq!(client.end(&halves[0], sys_flag::TRANSACTION_COMMIT).0, 0);
    assert_eq!(client.end(&halves[1], sys_flag::TRANSACTION_ROLLBACK).0, 0);
    let scrape = node.scrape();
    assert_eq!(scrape.value("rocketmq_half_messages", &topic), 1.0);
    assert_eq!(scrape.value("rocketmq_commit_messages_total", &topic), 1.0);
    assert_eq!(scrape.value("rocketmq_rollback_messages_total", &topic), 1.0);
    assert_eq!(
        scrape.value("rocketmq_finish_message_latency_milliseconds_sum", &topic),
        70.0
    );
    let within = |bound| {
        scrape.value(
            "rocketmq_finish_message_latency_milliseconds_bucket",
            &[("topic", "orders"), ("le", bound)],
        )
    };
    assert_eq!((within("60.0"), within("600.0")), (0.0, 1.0));
    // They lie in the half topic, whose messages are all transactional.
    let half = [
        ("topic", "RMQ_SYS_TRANS_HALF_TOPIC"),
        ("message_type", "transaction"),
        ("is_system", "true"),
    ];
    assert_eq!(scrape.value("rocketmq_messages_in_total", &half), 3.0);
}

#[test]
fn messages_that_wait_are_counted() {
    let clock = VirtualClock::new();
    let node = Node::start_in(clock.environment(), with_metrics);
    let mut client = node.connect();
    client.create_topic("orders", 1);
    let offer = |client: &mut Client, properties: &[(&str, &str)]| client.offer("orders", "x", properties, 0).unwrap();
    for seconds in ["2", "100", "4000"] {
        offer(&mut client, &[("TIMER_DELAY_SEC", seconds)]);
    }
    offer(&mut client, &[("DELAY", "1")]);
    let topic = [("topic", "orders")];
    let timing = |scrape: &Scrape| {
        scrape
            .all("rocketmq_timing_messages", &topic)
            .first()
            .map(|(_, value)| *value)
    };
    eventually(|| timing(&node.scrape()) == Some(3.0));
    let scrape = node.scrape();
    assert_eq!(scrape.value("rocketmq_timer_enqueue_total", &topic), 3.0);
    assert_eq!(scrape.value("rocketmq_timer_enqueue_lag", &[]), 0.0);
    assert_eq!(scrape.value("rocketmq_timer_dequeue_lag", &[]), 3.0);
    for (bound, expected) in [
        ("5", 1.0),
        ("60", 0.0),
        ("300", 1.0),
        ("3600", 0.0),
        ("14400", 1.0),
        ("86400", 0.0),
    ] {
        let due = [("timer_bound_s", bound)];
        assert_eq!(
            scrape.value("rocketmq_timer_message_snapshot", &due),
            expected,
            "{bound}"
        );
    }
    let within = |bound| {
        scrape.value(
            "rocketmq_delay_message_latency_seconds_bucket",
            &[("topic", "orders"), ("le", bound)],
        )
    };
    assert_eq!(
        (within("60.0"), within("600.0"), within("3600.0"), within("43200.0")),
        (1.0, 2.0, 2.0, 3.0)
    );
    let waits = |topic| [("topic", topic), ("message_type", "delay"), ("is_system", "true")];
    assert_eq!(
        scrape.value("rocketmq_messages_in_total", &waits("rmq_sys_wheel_timer")),
        3.0
    );
    assert_eq!(
        scrape.value("rocketmq_messages_in_total", &waits("SCHEDULE_TOPIC_XXXX")),
        1.0
    );

    node.pass(&clock, 3000);
    eventually(|| client.pull("g", "orders", 0, 0).len() == 2);
    eventually(|| {
        let scrape = node.scrape();
        let delivered = scrape.all("rocketmq_timer_dequeue_total", &topic);
        let by_level = scrape.all(
            "rocketmq_messages_in_total",
            &[("topic", "orders"), ("message_type", "delay")],
        );
        timing(&scrape) == Some(2.0)
            && delivered.first().is_some_and(|(_, count)| *count == 1.0)
            && by_level.first().is_some_and(|(_, count)| *count == 1.0)
    });
    let read = [
        ("topic", "SCHEDULE_TOPIC_XXXX"),
        ("consumer_group", "SCHEDULE_CONSUMER"),
        ("is_system", "true"),
    ];
    assert_eq!(node.scrape().value("rocketmq_messages_out_total", &read), 1.0);
}

#[test]
fn popped_messages_are_counted() {
    let clock = VirtualClock::new();
    let node = Node::start_in(clock.environment(), with_metrics);
    let mut client = node.connect();
    client.create_topic("orders", 1);
    let mut heartbeat = consumer("c", "g", &["orders"]);
    heartbeat.consumer_data_set[0].consume_type = oxmq_protocol::body::ConsumeType::Pop;
    client.heart_beat(&heartbeat);
    for number in 0..5 {
        client.send("orders", 0, &number.to_string(), &[]);
    }
    let header = PopMessageHeader {
        max_msg_nums: 3,
        ..popping("orders")
    };
    let popped = handed_out(&mut client, &header);
    assert_eq!(popped.len(), 3);
    assert_eq!(client.ack("orders", &popped[0].1).0, 0);
    let scrape = node.scrape();
    let out = [
        ("topic", "orders"),
        ("consumer_group", "g"),
        ("is_retry", "false"),
        ("is_system", "false"),
    ];
    assert_eq!(scrape.value("rocketmq_messages_out_total", &out), 3.0);
    assert_eq!(scrape.value("rocketmq_consumer_inflight_messages", &out), 2.0);
    assert_eq!(scrape.value("rocketmq_consumer_ready_messages", &out), 2.0);
    assert_eq!(scrape.value("rocketmq_consumer_lag_messages", &out), 4.0);
    let records = |kind| {
        let labels = [
            ("topic", "orders"),
            ("consumer_group", "g"),
            ("revive_message_type", kind),
            ("put_status", "PUT_OK"),
        ];
        scrape.value("rocketmq_pop_revive_in_message_total", &labels)
    };
    assert_eq!((records("CK"), records("ACK")), (1.0, 1.0));
    assert_eq!(
        scrape.value("rocketmq_consumer_connections", &[("consume_mode", "pop")]),
        1.0
    );

    // What nobody acknowledged comes again.
    node.pass(&clock, 70_000);
    eventually(|| {
        let scrape = node.scrape();
        let again = scrape.all("rocketmq_pop_revive_retry_messages_total", &[("put_status", "PUT_OK")]);
        again.iter().map(|(_, count)| count).sum::<f64>() == 2.0
    });
    let scrape = node.scrape();
    let read: f64 = scrape
        .all("rocketmq_pop_revive_out_message_total", &[("topic", "orders")])
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert_eq!(read, 2.0);
    let again = [("consumer_group", "g"), ("topic", "orders"), ("is_retry", "true")];
    assert_eq!(scrape.value("rocketmq_consumer_ready_messages", &again), 2.0);
    assert_eq!(scrape.all("rocketmq_pop_revive_lag_milliseconds", &[]).len(), 8);
}

#[test]
fn what_is_given_up_is_counted() {
    let node = Node::start_with(with_metrics);
    let mut client = node.connect();
    let sent = client.send("orders", 0, "x", &[]);
    let back = ConsumerSendMsgBackHeader {
        offset: physical_offset(&sent),
        group: "g".into(),
        delay_level: -1,
        ..ConsumerSendMsgBackHeader::default()
    };
    client.ok::<request::ConsumerSendMsgBack>(&back, "");
    let scrape = node.scrape();
    let dead = [("consumer_group", "g"), ("topic", "orders"), ("is_system", "false")];
    assert_eq!(scrape.value("rocketmq_send_to_dlq_messages_total", &dead), 1.0);
    assert!(
        scrape
            .all("rocketmq_messages_in_total", &[("topic", "%DLQ%g")])
            .is_empty()
    );
}

#[test]
fn families_can_be_switched_off_and_bounded() {
    let node = Node::start_with(|config| {
        with_metrics(config);
        config.enable_remoting_metrics = false;
        config.enable_message_store_metrics = false;
        config.enable_pop_metrics = false;
        config.enable_connection_metrics = false;
        config.enable_transaction_metrics = false;
        config.enable_stats_metrics = false;
        config.enable_lag_and_dlq_metrics = false;
        config.metrics_otel_cardinality_limit = 3;
    });
    let mut client = node.connect();
    client.heart_beat(&consumer("c", "g", &["t-1"]));
    for number in 0..10 {
        client.send(&format!("t-{number}"), 0, "x", &[]);
    }
    let scrape = node.scrape();
    let families: Vec<_> = scrape.families.keys().collect();
    let requests = [
        "rocketmq_message_size",
        "rocketmq_messages_in_total",
        "rocketmq_throughput_in_total",
    ];
    assert_eq!(families, requests);
    let counted = scrape.all("rocketmq_messages_in_total", &[]);
    assert_eq!(counted.len(), 3);
    assert_eq!(
        scrape.value("rocketmq_messages_in_total", &[("otel_metric_overflow", "true")]),
        8.0
    );
}

#[test]
fn nobody_listens_unless_metrics_are_asked_for() {
    for kind in [
        MetricsExporterType::Disable,
        MetricsExporterType::OtlpGrpc,
        MetricsExporterType::Log,
    ] {
        let node = Node::start_with(|config| {
            with_metrics(config);
            config.metrics_exporter_type = kind;
        });
        assert!(node.metrics_addr_if_any().is_none());
    }
}

#[test]
fn a_broker_is_ready_when_it_serves_and_not_when_its_store_has_failed() {
    let (clock, disk) = (VirtualClock::new(), SimulatedDisk::new());
    let node = Node::start_in(clock.with_disk(&disk), |config| {
        with_metrics(config);
        config.flush_disk_type = FlushDiskType::SyncFlush;
    });
    let addr = node.metrics_addr();
    assert_eq!(get(addr, "/livez").status, 200);
    assert_eq!(get(addr, "/readyz").status, 200);
    let mut client = node.connect();
    client.create_topic("t", 1);
    assert!(client.offer("t", "safe", &[], 0).is_some());
    disk.fail_sync(&node.dir.path().join(format!("store/commitlog/{:020}", 0)));
    assert!(client.offer("t", "lost", &[], 0).is_none());
    let ready = get(addr, "/readyz");
    assert_eq!(ready.status, 503);
    assert!(
        ready.body.starts_with("the store takes no more messages: "),
        "{}",
        ready.body
    );
    assert_eq!(get(addr, "/livez").status, 200);
    assert_eq!(node.scrape().value("rocketmq_broker_permission", &[]), 6.0);
}

/// A free port that nobody takes meanwhile: outgoing connections have higher ones, and those of brokers are even.
fn odd_port() -> u16 {
    let first = 11_001 + 2 * (std::process::id() % 10_000) as u16;
    let mut ports = (first..32_768).step_by(2);
    ports
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

#[test]
fn health_is_told_without_metrics_too() {
    let port = odd_port();
    let node = Node::start_with(|config| config.health_port = port);
    let addr = node.metrics_addr();
    assert_eq!(addr.port(), port);
    assert_eq!(
        ["/livez", "/readyz", "/metrics"].map(|path| get(addr, path).status),
        [200, 200, 404]
    );
}

#[test]
fn a_broker_that_recovers_is_alive_and_says_how_far_it_is() {
    let (clock, disk) = (VirtualClock::new(), SimulatedDisk::new());
    let port = odd_port();
    let mut node = Node::start_in(clock.with_disk(&disk), |config| {
        with_metrics(config);
        config.metrics_prom_exporter_port = port;
    });
    let mut client = node.connect();
    client.create_topic("t", 1);
    client.offer("t", "x", &[], 0).unwrap();
    node.stop();
    let log = node.dir.path().join(format!("store/commitlog/{:020}", 0));
    disk.hold_reads(&log);
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| node.try_on(&disk));
        assert!(disk.wait_for_held_reads(1, DEADLINE));
        let ready = get(addr, "/readyz");
        assert_eq!(ready.status, 503);
        assert!(
            ready.body.starts_with("starting: ") || ready.body.starts_with("recovering: "),
            "{}",
            ready.body
        );
        assert_eq!(get(addr, "/livez").status, 200);
        assert_eq!(get(addr, "/metrics").status, 503);
        disk.release_reads();
        let handle: oxmq_broker::BrokerHandle = starting.join().unwrap().unwrap();
        assert_eq!(get(addr, "/readyz").status, 200);
        handle.shutdown();
    });
    assert!(
        std::net::TcpStream::connect(addr).is_err(),
        "the endpoint outlives the broker"
    );
}

#[test]
fn strange_requests_are_refused() {
    let node = Node::start_with(with_metrics);
    let addr = node.metrics_addr();
    let status = |request: &[u8]| exchange(addr, request).map(|answer| answer.status);
    assert_eq!(
        status(b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"),
        Some(405)
    );
    assert_eq!(status(b"GET /metrics/../secret HTTP/1.1\r\n\r\n"), Some(404));
    assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), Some(404));
    assert_eq!(status(b"HEAD /livez HTTP/1.1\r\n\r\n"), Some(200));
    assert_eq!(
        status(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n"),
        Some(400)
    );
    assert_eq!(status(b"GET /metrics\r\n\r\n"), Some(400));
    let long = [b"GET /".to_vec(), vec![b'x'; 1 << 20], b" HTTP/1.1\r\n\r\n".to_vec()].concat();
    assert!(matches!(status(&long), None | Some(400..=431)), "a line of a mebibyte");
    let mut many = b"GET /livez HTTP/1.1\r\n".to_vec();
    (0..1000).for_each(|number| many.extend(format!("x-{number}: y\r\n").into_bytes()));
    many.extend(b"\r\n");
    assert!(matches!(status(&many), None | Some(400..=431)), "a thousand headers");
    assert_eq!(get(addr, "/livez").status, 200);
}

#[test]
fn a_head_without_end_is_not_kept() {
    let node = Node::start_with(with_metrics);
    let mut socket = connect(node.metrics_addr());
    socket.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    let line = [b"x: ".to_vec(), vec![b'y'; 1021], b"\r\n".to_vec()].concat();
    let sent = (0..64 << 10).take_while(|_| socket.write_all(&line).is_ok()).count();
    assert!(sent < 64 << 10, "64 MiB of headers were taken");
}

#[test]
fn silent_connections_hold_up_neither_brokers_nor_others_for_long() {
    let node = Node::start_with(with_metrics);
    let addr = node.metrics_addr();
    let mut silent: Vec<_> = (0..200).map(|_| connect(addr)).collect();
    let mut client = node.connect();
    client.create_topic("orders", 1);
    for _ in 0..100 {
        client.send("orders", 0, "x", &[]);
    }
    // Those beyond the limit are closed at once, the others when their time is over.
    let mut byte = [0];
    for socket in &mut silent {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let ended = socket.read(&mut byte);
        let why = ended.as_ref().err().map(std::io::Error::kind);
        assert!(
            !matches!(why, Some(std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)),
            "{ended:?}"
        );
    }
    eventually(|| exchange(addr, b"GET /livez HTTP/1.1\r\n\r\n").is_some_and(|answer| answer.status == 200));
}

#[test]
fn clients_that_do_not_read_hold_nobody_up() {
    let node = Node::start_with(with_metrics);
    let addr = node.metrics_addr();
    let deaf: Vec<_> = (0..30)
        .map(|_| {
            let mut socket = connect(addr);
            socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
            socket
        })
        .collect();
    let scrapes = (0..4).map(|_| std::thread::spawn(move || get(addr, "/metrics").body));
    for scrape in scrapes.collect::<Vec<_>>() {
        Scrape::parse(&scrape.join().unwrap());
    }
    drop(deaf);
    assert_eq!(node.scrape().value("rocketmq_broker_permission", &[]), 6.0);
}

#[test]
fn a_port_in_use_refuses_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        metrics_exporter_type: MetricsExporterType::Prom,
        metrics_prom_exporter_host: "127.0.0.1".into(),
        metrics_prom_exporter_port: taken.local_addr().unwrap().port(),
        broker_ip1: "127.0.0.1".into(),
        bind_address: "127.0.0.1".into(),
        listen_port: 0,
        store_path_root_dir: dir.path().to_string_lossy().into_owned(),
        ..BrokerConfig::default()
    };
    let refused = Broker::start(config).err().unwrap().to_string();
    assert!(refused.starts_with("metrics: cannot listen on 127.0.0.1:"), "{refused}");
}
