//! Allocation strategies against what the Java client 5.5.0 gives to the members of some groups. The file is what
//! `tests/interop/java/…/golden/Allocations.java` prints.

use oxmq_protocol::allocate::{
    AllocateAveragely, AllocateAveragelyByCircle, AllocateByConfig, AllocateByMachineRoom, AllocateConsistentHash,
    AllocateMachineRoomNearby, AllocateStrategy, MachineRoomResolver, allocate,
};
use oxmq_protocol::body::MessageQueue;
use proptest::prelude::*;

const GOLDEN: &str = include_str!("../../testdata/allocations.txt");

/// The room is the name up to a sign.
struct Rooms;

impl MachineRoomResolver for Rooms {
    fn broker_deploy_in(&self, queue: &MessageQueue) -> String {
        queue.broker_name.split('@').next().unwrap().to_owned()
    }

    fn consumer_deploy_in(&self, client_id: &str) -> String {
        client_id.split('-').next().unwrap().to_owned()
    }
}

fn strategies() -> [Box<dyn AllocateStrategy>; 7] {
    [
        Box::new(AllocateAveragely),
        Box::new(AllocateAveragelyByCircle),
        Box::new(AllocateByMachineRoom::new(["hz", "bj"])),
        Box::new(AllocateMachineRoomNearby::new(AllocateAveragely, Rooms)),
        Box::new(AllocateMachineRoomNearby::new(AllocateAveragelyByCircle, Rooms)),
        Box::new(AllocateConsistentHash::default()),
        Box::new(AllocateConsistentHash::with_virtual_nodes(3)),
    ]
}

fn queues(brokers: &str) -> Vec<MessageQueue> {
    let of_broker = |entry: &str| {
        let (broker, count) = entry.split_once('=').unwrap();
        let count: i32 = count.parse().unwrap();
        let broker = broker.to_owned();
        (0..count).map(move |id| MessageQueue::new("orders", broker.clone(), id))
    };
    brokers.split(',').flat_map(of_broker).collect()
}

fn describe(share: &[MessageQueue]) -> String {
    let names = share
        .iter()
        .map(|queue| format!("{}:{}", queue.broker_name, queue.queue_id));
    names.collect::<Vec<_>>().join(",")
}

#[test]
fn shares_are_those_of_the_java_client() {
    let strategies = strategies();
    let mut compared = 0;
    for line in GOLDEN.lines() {
        let mut parts = line.split(';');
        let (number, name) = parts.next().unwrap().split_once(' ').unwrap();
        let strategy = &*strategies[number.parse::<usize>().unwrap()];
        assert_eq!(strategy.name(), name);
        let queues = queues(parts.next().unwrap());
        let members: Vec<_> = parts.next().unwrap().split(',').map(str::to_owned).collect();
        for expected in parts {
            let (client_id, share) = expected.split_once('=').unwrap();
            let own = allocate(strategy, queues.clone(), members.clone(), client_id);
            assert_eq!(describe(&own), share, "{line}\nfor {client_id}");
            compared += 1;
        }
    }
    assert_eq!(compared, 875);
}

#[test]
fn a_configured_member_has_its_queues_whoever_else_is_there() {
    let strategy = AllocateByConfig {
        message_queues: vec![MessageQueue::new("orders", "b", 1), MessageQueue::new("bills", "b", 0)],
    };
    let own = allocate(&strategy, queues("b=4"), vec!["one".into(), "two".into()], "two");
    assert_eq!(own, [MessageQueue::new("orders", "b", 1)]);
}

proptest! {
    /// All strategies but those that leave queues out on purpose.
    #[test]
    fn every_queue_has_one_owner(
        brokers in proptest::collection::btree_map("(hz|sh|bj)@[a-c]", 1..6i32, 1..5),
        members in proptest::collection::btree_set("(hz|sh|gz)-[0-9]{1,3}", 1..9),
    ) {
        let brokers: Vec<_> = brokers.iter().map(|(name, count)| format!("{name}={count}")).collect();
        let mut queues = queues(&brokers.join(","));
        queues.sort();
        let members: Vec<_> = members.into_iter().collect();
        for strategy in strategies().iter().filter(|strategy| strategy.name() != "MACHINE_ROOM") {
            let mut all = Vec::new();
            for member in &members {
                all.extend(allocate(&**strategy, queues.clone(), members.clone(), member));
            }
            all.sort();
            prop_assert_eq!(&all, &queues, "{}", strategy.name());
        }
    }
}
