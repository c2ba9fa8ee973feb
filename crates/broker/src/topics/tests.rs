//! What creates topics, what changes them, and what of them survives.

use std::path::Path;

use super::*;

fn open(folder: &Path) -> Topics {
    Topics::open(ConfigFile::in_folder(folder, "topics.json"), &config()).unwrap()
}

fn config() -> BrokerConfig {
    BrokerConfig {
        broker_name: "broker-a".into(),
        ..BrokerConfig::default()
    }
}

fn send<'a>(topic: &'a str, default_topic: &'a str, queue_nums: i32) -> CreateOnSend<'a> {
    CreateOnSend {
        topic,
        default_topic,
        default_topic_queue_nums: queue_nums,
        unit_mode: false,
    }
}

fn changes(topic: &str, queue_nums: i32, attributes: &[(&str, &str)]) -> TopicConfig {
    let attributes = attributes.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    TopicConfig {
        attributes: attributes.collect(),
        ..TopicConfig::new(topic, queue_nums, 6)
    }
}

#[test]
fn a_new_broker_has_the_system_topics_of_java() {
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    for (name, queues, perm) in [
        ("TBW102", 8, 7),
        ("BenchmarkTest", 1024, 6),
        ("DefaultCluster", 16, 7),
        ("broker-a", 1, 7),
        ("SCHEDULE_TOPIC_XXXX", 18, 6),
        ("DefaultCluster_REPLY_TOPIC", 1, 6),
        ("rmq_sys_REVIVE_LOG_DefaultCluster", 8, 6),
        ("rmq_sys_SYNC_BROKER_MEMBER_broker-a", 1, 1),
        ("rmq_sys_wheel_timer", 1, 6),
    ] {
        let topic = topics.get(name).unwrap();
        assert_eq!(
            (topic.read_queue_nums, topic.write_queue_nums, topic.perm),
            (queues, queues, perm),
            "{name}"
        );
        assert!(topics.is_system_topic(name), "{name}");
    }
    assert_eq!(topics.data_version().counter, 0);
    assert!(!topics.is_system_topic("orders"));
    assert!(
        topics
            .system_topics()
            .contains(&"TRANS_CHECK_MAX_TIME_TOPIC".to_owned())
    );
}

#[test]
fn a_send_creates_its_topic_from_the_default_topic() {
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    let before = topics.generation();
    let created = topics.create_on_send(&send("orders", "TBW102", 4), true, 9).unwrap();
    assert_eq!(
        (created.read_queue_nums, created.write_queue_nums, created.perm),
        (4, 4, 6)
    );
    assert_ne!(topics.generation(), before);
    assert_eq!((topics.data_version().counter, topics.data_version().timestamp), (1, 9));
    let wide = topics.create_on_send(&send("wide", "TBW102", 400), true, 9).unwrap();
    assert_eq!(wide.read_queue_nums, 8);
    let none = topics.create_on_send(&send("none", "TBW102", -3), true, 9).unwrap();
    assert_eq!(none.read_queue_nums, 0);
    assert!(
        topics.create_on_send(&send("x", "orders", 4), true, 9).is_none(),
        "not inheritable"
    );
    assert!(topics.create_on_send(&send("x", "unknown", 4), true, 9).is_none());
    assert!(topics.create_on_send(&send("x", "TBW102", 4), false, 9).is_none());
    let retry = topics.create_on_send(&send("%RETRY%g", "unknown", 4), true, 9).unwrap();
    assert_eq!((retry.read_queue_nums, retry.perm), (1, 6));
}

#[test]
fn units_are_flagged() {
    let unit = |topic| CreateOnSend {
        unit_mode: true,
        ..send(topic, "TBW102", 4)
    };
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    assert_eq!(
        topics.create_on_send(&unit("orders"), true, 1).unwrap().topic_sys_flag,
        1
    );
    assert_eq!(
        topics
            .create_on_send(&unit("%RETRY%g"), true, 1)
            .unwrap()
            .topic_sys_flag,
        2
    );
    assert_eq!(topics.ensure_retry_topic("h", 1, None, true, 1).topic_sys_flag, 2);
}

#[test]
fn topics_survive_a_restart_with_members_of_newer_versions() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"{"dataVersion":{"counter":7,"stateVersion":0,"timestamp":1757000000123},"newMember":{"a":1},
        "topicConfigTable":{"OrderTopic":{"attributes":{"message.type":"NORMAL"},"order":false,"perm":6,
        "readQueueNums":8,"topicFilterType":"SINGLE_TAG","topicName":"OrderTopic","topicSysFlag":0,
        "writeQueueNums":8,"colour":"red"},"../x":{"topicName":"../x"}}}"#;
    std::fs::write(folder.path().join("topics.json"), text).unwrap();
    let topics = open(folder.path());
    assert_eq!(topics.data_version().counter, 7);
    assert_eq!(topics.get("OrderTopic").unwrap().attributes["message.type"], "NORMAL");
    assert!(topics.get("../x").is_none());
    topics
        .update(vec![changes("orders", 3, &[("+message.type", "FIFO")])], 5)
        .unwrap();
    topics.persist().unwrap();

    let topics = open(folder.path());
    assert_eq!(topics.data_version().counter, 8);
    assert_eq!(topics.get("orders").unwrap().read_queue_nums, 3);
    let written = std::fs::read_to_string(folder.path().join("topics.json")).unwrap();
    assert!(
        written.contains(r#""colour":"red""#) && written.contains(r#""newMember":{"a":1}"#),
        "{written}"
    );
}

#[test]
fn a_retry_topic_follows_heartbeats_only() {
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    assert!(topics.ensure_retry_topic("g", 2, Some(true), false, 1).order);
    assert!(topics.ensure_retry_topic("g", 2, None, false, 1).order);
    assert_eq!(topics.data_version().counter, 1);
    let changed = topics.ensure_retry_topic("g", 5, Some(false), false, 1);
    assert_eq!((changed.order, changed.read_queue_nums), (false, 2));
}

#[test]
fn a_list_is_changed_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    let bad = vec![changes("a", 1, &[]), changes("b", 1, &[("+no.such.key", "1")])];
    assert_eq!(
        topics.update(bad, 1).unwrap_err().to_string(),
        "unsupported key: no.such.key"
    );
    assert!(topics.get("a").is_none());
    assert_eq!(topics.data_version().counter, 0);
    topics
        .update(vec![changes("a", 1, &[]), changes("b", 2, &[])], 1)
        .unwrap();
    assert_eq!(topics.data_version().counter, 1);
}

#[test]
fn the_listener_hears_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    let heard = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let sink = Arc::clone(&heard);
    topics.set_listener(Box::new(move |configs, version| {
        sink.lock().push((configs[0].topic_name.clone(), version.counter));
    }));
    topics.ensure_dlq_topic("g", 1);
    topics.ensure_dlq_topic("g", 1);
    topics.mark_ordered(["%DLQ%g", "unknown"].into_iter(), 1);
    topics.mark_ordered(["%DLQ%g"].into_iter(), 1);
    assert!(topics.is_order_topic("%DLQ%g"));
    assert_eq!(*heard.lock(), [("%DLQ%g".to_owned(), 1), ("%DLQ%g".to_owned(), 2)]);
}

#[test]
fn deleting_counts_as_a_change_only_if_the_topic_existed() {
    let folder = tempfile::tempdir().unwrap();
    let topics = open(folder.path());
    topics.ensure_dlq_topic("g", 1);
    assert!(topics.delete("%DLQ%g", 2));
    assert!(!topics.delete("%DLQ%g", 2));
    assert_eq!(topics.data_version().counter, 2);
}
