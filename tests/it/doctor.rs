//! `oxmq doctor` at a cluster that is well, and at one with which something is wrong.

use std::time::Duration;

use oxmq_admin::doctor::facts::{Facts, Host};
use oxmq_admin::doctor::{Examination, Finding, Severity, gather, judge};
use oxmq_broker::BrokerConfig;
use oxmq_client::{
    Admin, ConsumeFromWhere, ConsumeStatus, Message, Producer, PushConsumer, SubscriptionGroupConfig, TopicConfig,
};
use oxmq_namesrv::NamesrvConfig;
use oxmq_tests::{Authority, DEADLINE};

use crate::support::*;

const CLUSTER: &str = "DefaultCluster";
const TOPIC: &str = "Examined";
const GROUP: &str = "examined";

/// Looks at everything but what this machine brings along: a full disk is no fault of the servers.
async fn facts(admin: &Admin, examination: &Examination) -> Facts {
    let mut facts = gather(admin, examination).await;
    facts.host = Host::default();
    for store in &mut facts.stores {
        (store.free_bytes, store.files_free) = (store.total_bytes, store.files_total);
        store.mount = None;
    }
    for broker in &mut facts.brokers {
        broker.runtime.insert("commitLogDiskRatio".into(), "0.5".into());
    }
    facts
}

async fn examine(admin: &Admin) -> Vec<Finding> {
    let at_once = Examination {
        store: None,
        config: None,
        watch: Duration::ZERO,
    };
    let facts = facts(admin, &at_once).await;
    assert_eq!(facts.not_seen, [""; 0]);
    judge(&facts)
}

fn checks(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.check).collect()
}

async fn admin(name_server: String) -> Admin {
    Admin::connect(name_server).await.unwrap()
}

fn push(system: &System, tags: &str) -> oxmq_client::PushConsumerBuilder {
    let consumer = PushConsumer::builder(GROUP).name_server(system.namesrv.local_addr().to_string());
    let consumer = consumer
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .subscribe(TOPIC, tags);
    consumer.concurrent(|_| async { ConsumeStatus::Success })
}

#[tokio::test]
async fn a_healthy_cluster_raises_no_alarm() {
    let system = System::start();
    let admin = admin(system.namesrv.local_addr().to_string()).await;
    assert_eq!(examine(&admin).await, [], "without topics and clients");
    system.create_topic(TOPIC, 2);
    let producer = Producer::builder("p")
        .name_server(system.namesrv.local_addr().to_string())
        .start()
        .await
        .unwrap();
    for _ in 0..10 {
        producer.send(Message::new(TOPIC, "x")).await.unwrap();
    }
    producer
        .send(Message::new(TOPIC, "x").with_delay_level(18))
        .await
        .unwrap();
    producer
        .send(Message::new(TOPIC, "x").with_delay(Duration::from_secs(3600)))
        .await
        .unwrap();
    let consumers = [
        push(&system, "*").start().await.unwrap(),
        push(&system, "*").start().await.unwrap(),
    ];
    assert_eq!(examine(&admin).await, []);
    for consumer in consumers {
        consumer.shutdown().await;
    }
    let store = system.dir.path().join("store");
    let examination = Examination {
        store: Some(store),
        config: None,
        watch: Duration::ZERO,
    };
    let facts = facts(&admin, &examination).await;
    assert_eq!(facts.stores.len(), 1, "named and found are the same");
    assert!(facts.stores[0].files > 3, "{:?}", facts.stores);
    assert!(
        facts.certificates.len() == 2,
        "those that both servers have made: {:?}",
        facts.certificates
    );
    assert!(
        facts.brokers[0].clock_ahead_ms.is_some_and(|ahead| ahead.abs() < 3000),
        "{:?}",
        facts.brokers[0].clock_ahead_ms
    );
    assert_eq!(judge(&facts), []);
}

#[tokio::test]
async fn topics_and_groups_that_are_set_up_badly() {
    let system = System::start();
    let admin = admin(system.namesrv.local_addr().to_string()).await;
    let write_only = TopicConfig::new("WriteOnly", 2, 2);
    let unread = TopicConfig {
        read_queue_nums: 1,
        ..TopicConfig::new("Unread", 4, 6)
    };
    for config in [&write_only, &unread, &TopicConfig::new(TOPIC, 1, 6)] {
        admin.create_topic(CLUSTER, config).await.unwrap();
    }
    assert_eq!(checks(&examine(&admin).await), ["queues-not-read", "topic-permission"]);
    let name_server = system.namesrv.local_addr().to_string();
    admin.wipe_write_perm(&name_server, "broker-a").await.unwrap();
    assert!(checks(&examine(&admin).await).contains(&"write-permission-wiped"));
    admin.add_write_perm(&name_server, "broker-a").await.unwrap();

    let producer = Producer::builder("p").name_server(name_server).start().await.unwrap();
    let batch = vec![Message::new(TOPIC, "x"); 500];
    let first = producer.send_batch(batch.clone()).await.unwrap();
    for _ in 0..2 {
        producer.send_batch(batch.clone()).await.unwrap();
    }
    let disabled = SubscriptionGroupConfig {
        consume_enable: false,
        ..SubscriptionGroupConfig::new(GROUP)
    };
    admin
        .create_group(CLUSTER, &SubscriptionGroupConfig::new(GROUP))
        .await
        .unwrap();
    admin.reset_offset_by_queue(GROUP, &first.queue, 0).await.unwrap();
    admin.create_group(CLUSTER, &disabled).await.unwrap();
    let findings = examine(&admin).await;
    let seen = |check: &str| {
        findings
            .iter()
            .find(|finding| finding.check == check)
            .map(|finding| finding.seen.as_str())
    };
    assert_eq!(
        seen("lag-without-consumer"),
        Some("examined is 1500 messages behind, in Examined"),
        "{findings:#?}"
    );
    assert_eq!(
        seen("group-disabled"),
        Some("examined may not consume on broker-a (consumeEnable=false)")
    );
}

#[tokio::test]
async fn members_that_disagree() {
    let system = System::start();
    system.create_topic(TOPIC, 2);
    let admin = admin(system.namesrv.local_addr().to_string()).await;
    let one = push(&system, "eu").start().await.unwrap();
    let other = push(&system, "us")
        .orderly(|_| async { oxmq_client::ConsumeOrderlyStatus::Success })
        .start()
        .await
        .unwrap();
    let started = std::time::Instant::now();
    loop {
        let findings = examine(&admin).await;
        let found = checks(&findings);
        if found == ["subscriptions-differ", "consume-modes-differ"] {
            break;
        }
        assert!(started.elapsed() < DEADLINE, "{findings:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    one.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn brokers_that_differ_and_name_servers_that_disagree() {
    let system = System::start();
    let other = system.another_broker("broker-b");
    system.create_topic(TOPIC, 2);
    let file = |name: &str| system.dir.path().join(name).to_str().unwrap().to_owned();
    let empty = oxmq_namesrv::start(NamesrvConfig {
        bind_address: "127.0.0.1".into(),
        listen_port: 0,
        server_worker_threads: 1,
        kv_config_path: file("other-kv.json"),
        config_store_path: file("other-namesrv.properties"),
        ..NamesrvConfig::default()
    })
    .unwrap();
    let nobody = "127.0.0.1:1";
    let admin = admin(format!(
        "{};{};{nobody}",
        system.namesrv.local_addr(),
        empty.local_addr()
    ))
    .await;
    let settings = [("fileReservedTime", "24")];
    admin
        .update_broker_config(&other.local_addr().to_string(), &settings)
        .await
        .unwrap();
    let findings = examine(&admin).await;
    let expected = [
        "name-server-unreachable",
        "broker-at-some-name-servers",
        "routes-disagree",
        "settings-differ",
        "auto-create-topic",
        "topic-on-some-masters",
    ];
    assert_eq!(checks(&findings), expected, "{findings:#?}");
    assert!(
        findings[3].seen.contains("fileReservedTime is 24"),
        "{}",
        findings[3].seen
    );
    other.shutdown();
    empty.shutdown();
}

#[tokio::test]
async fn a_certificate_that_has_expired() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = Authority::new("root")
        .issue_expired("localhost")
        .write(dir.path(), "old");
    let config = dir.path().join("broker.conf");
    let text = format!("tls.test.mode.enable=false\ntls.server.certPath={certificate}\ntls.server.keyPath={key}\n");
    std::fs::write(&config, text).unwrap();
    let system = System::start_with(|config| {
        *config = BrokerConfig {
            tls_test_mode_enable: false,
            tls_server_cert_path: Some(certificate.clone()),
            tls_server_key_path: Some(key.clone()),
            ..config.clone()
        };
    });
    let admin = admin(system.namesrv.local_addr().to_string()).await;
    let examination = Examination {
        store: None,
        config: Some(config),
        watch: Duration::ZERO,
    };
    let findings = judge(&facts(&admin, &examination).await);
    assert_eq!(checks(&findings), ["certificate-expiry"; 2], "{findings:#?}");
    assert_eq!(findings[0].severity, Severity::Error);
    let of = |what: &str| {
        findings
            .iter()
            .any(|finding| finding.seen.contains(&format!("{what} expired 2020-01-01")))
    };
    assert!(
        of(&certificate) && of(&format!("127.0.0.1:{}", system.broker_addr().port())),
        "{findings:#?}"
    );
}
