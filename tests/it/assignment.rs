//! Any broker deals the queues of all brokers to the members of a group.

use oxmq_protocol::body::{
    ConsumeType, ConsumerData, HeartbeatData, MessageModel, MessageRequestMode, QueryAssignmentRequestBody,
    QueryAssignmentResponseBody, SetMessageRequestModeRequestBody, SubscriptionData,
};
use oxmq_protocol::json;
use oxmq_protocol::requests::request as row;

use crate::support::*;

const TOPIC: &str = "Dealt";
const GROUP: &str = "dealt-to";
const MEMBERS: [&str; 2] = ["first", "second"];

fn heartbeat(client_id: &str) -> HeartbeatData {
    HeartbeatData {
        client_id: client_id.into(),
        consumer_data_set: vec![ConsumerData {
            group_name: GROUP.into(),
            message_model: MessageModel::Clustering,
            consume_type: ConsumeType::Passively,
            subscription_data_set: SubscriptionData::parse(TOPIC, "*", 1).into_iter().collect(),
            ..ConsumerData::default()
        }],
        ..HeartbeatData::default()
    }
}

/// What a member is dealt: broker and queue, and how to read it.
fn dealt(client: &mut RawClient, client_id: &str) -> Vec<(String, i32, MessageRequestMode)> {
    let query = QueryAssignmentRequestBody {
        client_id: client_id.into(),
        consumer_group: GROUP.into(),
        message_model: MessageModel::Clustering,
        strategy_name: "AVG".into(),
        topic: TOPIC.into(),
    };
    let response = client.call(&command::<row::QueryAssignment>(&(), &json::to_vec(&query)));
    assert_eq!(response.header.code, 0, "{:?}", response.header.remark);
    let assigned: QueryAssignmentResponseBody = json::from_slice(&response.body).unwrap();
    let assigned = assigned.message_queue_assignments.unwrap().into_iter();
    let mut dealt: Vec<_> = assigned
        .map(|one| (one.message_queue.broker_name, one.message_queue.queue_id, one.mode))
        .collect();
    dealt.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    dealt
}

#[test]
fn the_queues_of_all_brokers_are_dealt_by_each_of_them() {
    let system = System::start();
    let other = system.another_broker("broker-b");
    system.create_topic(TOPIC, 2);
    system.create_topic_on(&other, TOPIC, 3);
    // A connection of each member to each broker.
    let brokers = [system.broker_addr(), other.local_addr()];
    let mut clients = brokers.map(|broker| MEMBERS.map(|_| RawClient::connect(broker)));
    for clients in &mut clients {
        for (client, member) in clients.iter_mut().zip(MEMBERS) {
            let beat = command::<row::HeartBeat>(&(), &json::to_vec(&heartbeat(member)));
            assert!(is_success(&client.call(&beat)));
        }
    }
    let mut by_pull: Vec<_> = (0..2)
        .map(|queue| ("broker-a".to_owned(), queue, MessageRequestMode::Pull))
        .collect();
    by_pull.extend((0..3).map(|queue| ("broker-b".to_owned(), queue, MessageRequestMode::Pull)));
    for [first, second] in &mut clients {
        let (first, second) = (dealt(first, MEMBERS[0]), dealt(second, MEMBERS[1]));
        assert_eq!((first.len(), second.len()), (3, 2));
        assert_eq!([first, second].concat(), by_pull);
    }
    let mode = SetMessageRequestModeRequestBody {
        consumer_group: GROUP.into(),
        mode: MessageRequestMode::Pop,
        pop_share_queue_num: 0,
        topic: TOPIC.into(),
    };
    let by_pop = ["broker-a", "broker-b"].map(|broker| (broker.to_owned(), -1, MessageRequestMode::Pop));
    for [first, second] in &mut clients {
        let set = command::<row::SetMessageRequestMode>(&(), &json::to_vec(&mode));
        assert!(is_success(&first.call(&set)));
        for (client, member) in [(first, MEMBERS[0]), (second, MEMBERS[1])] {
            assert_eq!(dealt(client, member), by_pop);
        }
    }
    other.shutdown();
}
