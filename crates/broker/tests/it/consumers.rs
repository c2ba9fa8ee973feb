//! Heartbeats, members of groups, locks, and requests that members answer.

use oxmq_protocol::body::*;
use oxmq_protocol::requests::*;
use oxmq_protocol::{RemotingCommand, RequestCode};
use oxmq_tests::eventually;

use crate::node::{Client, Node, body, consumer, json_of, producer};

fn group(name: &str) -> ConsumerGroupHeader {
    ConsumerGroupHeader {
        consumer_group: name.into(),
        broker_name: None,
    }
}

fn is_notice(command: &RemotingCommand, group: &str) -> bool {
    command.header.code == RequestCode::NotifyConsumerIdsChanged.code()
        && command.header.is_oneway()
        && command.header.ext_fields.get("consumerGroup") == Some(group)
}

fn ids(client: &mut Client, name: &str) -> Vec<String> {
    let reply = client.call::<request::GetConsumerListByGroup>(&group(name), "");
    match reply.header.code {
        0 => {
            let mut ids = body::<ConsumerIdList>(&reply).consumer_id_list;
            ids.sort();
            ids
        }
        _ => Vec::new(),
    }
}

#[test]
fn members_learn_of_those_who_come_and_go() {
    let node = Node::start();
    let (mut first, mut second) = (node.connect(), node.connect());
    assert_eq!(
        first.refused::<request::GetConsumerListByGroup>(&group("g"), ""),
        (1, "no consumer for this group, g".into())
    );
    let answer = first.heart_beat(&consumer("c1", "g", &["orders"]));
    assert_eq!(
        (answer.is_support_heart_beat_v2, answer.is_sub_change),
        (Some(true), Some(true))
    );
    assert!(is_notice(&first.next_inbound(), "g"));
    second.heart_beat(&consumer("c2", "g", &["orders"]));
    assert!(is_notice(&first.next_inbound(), "g"));
    assert!(is_notice(&second.next_inbound(), "g"));
    assert_eq!(ids(&mut first, "g"), ["c1", "c2"]);
    first.heart_beat(&consumer("c1", "g", &["orders"]));
    drop(second);
    assert!(is_notice(&first.next_inbound(), "g"));
    assert_eq!(ids(&mut first, "g"), ["c1"]);
    assert!(first.0.inbound.is_empty(), "a repeated heartbeat changes nothing");
    let leave = UnregisterClientHeader {
        client_id: "c1".into(),
        consumer_group: Some("g".into()),
        ..UnregisterClientHeader::default()
    };
    first.ok::<request::UnregisterClient>(&leave, "");
    assert_eq!(ids(&mut first, "g"), [""; 0]);
}

#[test]
fn a_heartbeat_creates_the_group_and_its_retry_topic() {
    let node = Node::start();
    let mut client = node.connect();
    client.heart_beat(&consumer("c1", "g", &["orders"]));
    let topic = TopicConfigHeader {
        topic: "%RETRY%g".into(),
        ..TopicConfigHeader::default()
    };
    client.ok::<request::GetTopicConfig>(&topic, "");
    client.ok::<request::GetSubscriptionGroupConfig>(&GroupHeader { group: "g".into() }, "");
    eventually(|| node.dir.path().join("store/config/subscriptionGroup.json").exists());
}

#[test]
fn connections_are_shown() {
    let node = Node::start();
    let mut client = node.connect();
    client.heart_beat(&consumer("c1", "g", &["orders"]));
    client.heart_beat(&producer("c1", "p"));
    let shown: ConsumerConnection = body(&client.ok::<request::GetConsumerConnectionList>(&group("g"), ""));
    let connection = shown.connection_set.first().unwrap();
    assert_eq!(
        (connection.client_id.as_str(), connection.language.as_str()),
        ("c1", "JAVA")
    );
    assert_eq!(
        connection.client_addr,
        client.0.socket.local_addr().unwrap().to_string()
    );
    assert!(shown.subscription_table.contains_key("orders"));
    assert_eq!(
        client.refused::<request::GetConsumerConnectionList>(&group("none"), ""),
        (206, "the consumer group[none] not online".into())
    );
    let producers = |name: &str| ProducerGroupHeader {
        producer_group: name.into(),
    };
    let shown: ProducerConnection = body(&client.ok::<request::GetProducerConnectionList>(&producers("p"), ""));
    assert_eq!(shown.connection_set.len(), 1);
    assert_eq!(
        client.refused::<request::GetProducerConnectionList>(&producers("none"), ""),
        (1, "the producer group[none] not exist".into())
    );
    let all: ProducerTableInfo = body(&client.ok::<request::GetAllProducerInfo>(&(), ""));
    assert!(all.data["p"][0].remote_ip.starts_with("/127.0.0.1:"));
    let subscription = TopicGroupHeader {
        topic: Some("orders".into()),
        group: "g".into(),
    };
    let shown: QuerySubscriptionBody = body(&client.ok::<request::QuerySubscriptionByConsumer>(&subscription, ""));
    assert_eq!(shown.subscription_data.unwrap().sub_string, "*");
}

#[test]
fn fingerprints_ask_for_a_full_heartbeat_only_after_a_change() {
    let node = Node::start();
    let mut client = node.connect();
    let full = HeartbeatData {
        heartbeat_fingerprint: 11,
        ..consumer("c1", "g", &["orders"])
    };
    assert_eq!(client.heart_beat(&full).is_sub_change, Some(false));
    let mut short = full.clone();
    short.without_sub = true;
    short.consumer_data_set[0].subscription_data_set.clear();
    assert_eq!(client.heart_beat(&short).is_sub_change, Some(false));
    let connections: ConsumerConnection = body(&client.ok::<request::GetConsumerConnectionList>(&group("g"), ""));
    assert!(connections.subscription_table.contains_key("orders"));
    short.heartbeat_fingerprint = 12;
    assert_eq!(client.heart_beat(&short).is_sub_change, Some(true));
}

#[test]
fn queues_are_locked_for_one_client() {
    let node = Node::start();
    let mut client = node.connect();
    let request = |client_id: &str| LockBatchRequestBody {
        client_id: client_id.into(),
        consumer_group: "g".into(),
        mq_set: vec![MessageQueue::new("orders", "broker-a", 0)],
        only_this_broker: false,
    };
    let mut lock = |client_id| {
        let reply = client.ok::<request::LockBatchMq>(&(), json_of(&request(client_id)));
        body::<LockBatchResponseBody>(&reply).lock_ok_mq_set.len()
    };
    assert_eq!((lock("a"), lock("b"), lock("a")), (1, 0, 1));
    client.ok::<request::UnlockBatchMq>(&(), json_of(&request("a")));
    let reply = client.ok::<request::LockBatchMq>(&(), json_of(&request("b")));
    assert_eq!(body::<LockBatchResponseBody>(&reply).lock_ok_mq_set.len(), 1);
}

#[test]
fn a_member_answers_through_the_broker() {
    let node = Node::start();
    let (mut member, mut admin) = (node.connect(), node.connect());
    member.heart_beat(&consumer("c1", "g", &["orders"]));
    let asked = std::thread::spawn(move || {
        let header = GetConsumerRunningInfoHeader {
            consumer_group: "g".into(),
            client_id: "c1".into(),
            jstack_enable: false,
        };
        let answer = admin.ok::<request::GetConsumerRunningInfo>(&header, "");
        assert_eq!(answer.body, "{\"jstack\":\"here\"}");
        let nobody = GetConsumerRunningInfoHeader {
            client_id: "nobody".into(),
            ..header
        };
        assert_eq!(
            admin.refused::<request::GetConsumerRunningInfo>(&nobody, ""),
            (1, "The Consumer <g> <nobody> not online".into())
        );
    });
    let mut request = member.next_inbound();
    if is_notice(&request, "g") {
        request = member.next_inbound();
    }
    assert_eq!(request.header.code, 307);
    assert_eq!(request.header.ext_fields.get("clientId"), Some("c1"));
    let answer = RemotingCommand::response(request.header.opaque, 0, None).with_body("{\"jstack\":\"here\"}");
    member.write(&answer);
    asked.join().unwrap();
}
