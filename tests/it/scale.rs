//! Many topics and queues, as far as that shows without a clock.

use std::fs;
use std::path::Path;

use oxmq_protocol::body::{TopicConfig, TopicConfigList};
use oxmq_protocol::json;
use oxmq_protocol::requests::{SendMessageHeader, request as row};

use crate::support::*;

/// Open files of consume queues, and some of the log, the index and the tables.
const OPEN_FILES_MAX: usize = 512 + 64;
const MAPPED_FILES_MAX: usize = 4;

fn create(system: &System, topics: impl Iterator<Item = String>, queues: i32) {
    let list = TopicConfigList {
        topic_config_list: topics.map(|topic| TopicConfig::new(topic, queues, 6)).collect(),
    };
    let response = (system.connect()).call(&command::<row::UpdateAndCreateTopicList>(&(), &json::to_vec(&list)));
    assert!(is_success(&response), "{:?}", response.header.remark);
}

/// Files below `dir` that this process has open, and that it has mapped.
fn files_of(dir: &Path) -> (usize, usize) {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let open = open.filter(|fd| fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|path| path.starts_with(dir)));
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let dir = dir.to_str().unwrap();
    (open.count(), maps.lines().filter(|line| line.contains(dir)).count())
}

#[test]
fn more_topics_than_fit_into_a_frame_are_registered() {
    let mut system = System::start();
    // Some 400 bytes each, so that all of them come to twice what is registered at once.
    let name = |number: usize| format!("{}{number:06}", "Many".repeat(28));
    for from in (0..24_000).step_by(8_000) {
        create(&system, (from..from + 8_000).map(name), 4);
    }
    let all_known = |system: &System| {
        for number in (0..24_000).step_by(1_000).chain([23_999]) {
            wait_for("a route", || system.has_route(&name(number)));
        }
    };
    all_known(&system);
    system.restart_broker();
    all_known(&system);
    let changed = (0..10).map(|number| format!("Late{number}"));
    create(&system, changed, 4);
    wait_for("a route", || system.has_route("Late9"));
}

#[test]
fn files_that_are_open_do_not_grow_with_the_queues() {
    const QUEUES: i32 = 50;
    let mut system = System::start();
    create(&system, (0..20).map(|number| format!("Wide{number}")), QUEUES);
    let send_to_all = |system: &System| {
        let mut client = system.connect();
        for number in 0..20 {
            for queue_id in 0..QUEUES {
                let header = SendMessageHeader {
                    producer_group: "test-producer".into(),
                    topic: format!("Wide{number}"),
                    default_topic: "TBW102".into(),
                    queue_id,
                    ..SendMessageHeader::default()
                };
                let response = client.call(&command::<row::SendMessage>(&header, b"one"));
                assert!(is_success(&response), "{:?}", response.header.remark);
            }
        }
    };
    let check = |system: &System| {
        let dir = system.dir.path().canonicalize().unwrap();
        let (open, mapped) = files_of(&dir);
        assert!(
            open <= OPEN_FILES_MAX && mapped <= MAPPED_FILES_MAX,
            "{open} open, {mapped} mapped"
        );
    };
    for _ in 0..2 {
        send_to_all(&system);
        check(&system);
        // Its stop writes all entries out, and its start opens what it needs.
        system.restart_broker();
        check(&system);
    }
    let queues = system.broker().broker().store.queues_of("Wide19");
    assert!(queues.iter().all(|queue| queue.max_offset() == 2));
    check(&system);
}
