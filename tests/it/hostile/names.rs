//! Names that are no names, above all those that would become paths.

use oxmq_protocol::requests::{
    ConsumerSendMsgBackHeader, CreateTopicHeader, PullMessageHeader, PutKvConfigHeader, UpdateConsumerOffsetHeader,
    request as row,
};

use crate::support::*;

const BAD_TOPICS: [&str; 14] = [
    "../../x",
    "..",
    ".",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a b",
    "",
    "a\u{0}",
    "a\n",
    "тема",
    "%RETRY%../../x",
    "%DLQ%/x",
    "a*",
];

#[test]
fn illegal_topics_are_refused_and_touch_no_file() {
    let system = System::start();
    let mut client = system.connect();
    let long = "x".repeat(300);
    for topic in BAD_TOPICS.iter().copied().chain([long.as_str()]) {
        let response = client.call(&send(topic, b"x"));
        assert!(!is_success(&response), "send to {topic:?}");
        let create = CreateTopicHeader {
            topic: topic.into(),
            default_topic: Some("TBW102".into()),
            read_queue_nums: 1,
            write_queue_nums: 1,
            perm: 6,
            topic_filter_type: "SINGLE_TAG".into(),
            ..CreateTopicHeader::default()
        };
        let response = client.call(&command::<row::UpdateAndCreateTopic>(&create, b""));
        assert!(!is_success(&response), "create {topic:?}");
        let pull = PullMessageHeader {
            consumer_group: topic.into(),
            topic: topic.into(),
            max_msg_nums: 1,
            sys_flag: 4,
            subscription: Some("*".into()),
            ..PullMessageHeader::default()
        };
        let response = client.call(&command::<row::PullMessage>(&pull, b""));
        assert!(!is_success(&response), "pull from {topic:?}");
        let commit = UpdateConsumerOffsetHeader {
            consumer_group: Some(topic.into()),
            topic: Some(topic.into()),
            queue_id: Some(0),
            commit_offset: Some(1),
            ..UpdateConsumerOffsetHeader::default()
        };
        client.call(&command::<row::UpdateConsumerOffset>(&commit, b""));
        let back = ConsumerSendMsgBackHeader {
            group: topic.into(),
            origin_topic: Some(topic.into()),
            ..ConsumerSendMsgBackHeader::default()
        };
        client.call(&command::<row::ConsumerSendMsgBack>(&back, b""));
        let put = PutKvConfigHeader {
            namespace: Some(topic.into()),
            key: Some(topic.into()),
            value: Some(topic.into()),
        };
        RawClient::connect(system.namesrv.local_addr()).call(&command::<row::PutKvConfig>(&put, b""));
    }
    system.broker().broker().save_tables().unwrap();
    let outside: Vec<String> = files_below(system.dir.path())
        .into_iter()
        .filter(|path| path.contains("passwd") || path.ends_with("/x") || path.ends_with("/a"))
        .collect();
    assert_eq!(outside, [""; 0]);
    assert!(!system.dir.path().with_file_name("x").exists());
    system.assert_serves("Names");
}
