//! Groups as their members come, change and go.

use super::*;

fn client(connection: u64, last_update: i64) -> Client<u64> {
    Client {
        connection,
        client_id: format!("client-{connection}"),
        address: format!("127.0.0.1:{connection}"),
        language: Language::JAVA,
        version: 513,
        last_update,
        handle: connection,
    }
}

fn data(model: MessageModel, topics: &[(&str, i64)]) -> ConsumerData {
    ConsumerData {
        group_name: "g".into(),
        consume_type: ConsumeType::Passively,
        message_model: model,
        consume_from_where: ConsumeFromWhere::LastOffset,
        subscription_data_set: topics
            .iter()
            .map(|(topic, version)| SubscriptionData {
                topic: (*topic).into(),
                sub_version: *version,
                ..SubscriptionData::default()
            })
            .collect(),
        unit_mode: false,
    }
}

fn register(consumers: &Consumers<u64>, connection: u64, topics: &[(&str, i64)]) -> Option<Vec<u64>> {
    let data = data(MessageModel::Clustering, topics);
    let registered = consumers.register(data, client(connection, 0), 0, false, true);
    registered.notice.map(|notice| notice.members)
}

#[test]
fn members_are_told_when_somebody_joins_but_not_on_every_heartbeat() {
    let consumers = Consumers::default();
    assert_eq!(register(&consumers, 1, &[("t", 1)]), Some(vec![1]));
    assert_eq!(register(&consumers, 2, &[("t", 1)]), Some(vec![1, 2]));
    assert_eq!(register(&consumers, 1, &[("t", 1)]), None);
    assert_eq!(consumers.client_ids("g"), ["client-1", "client-2"]);
}

#[test]
fn topics_that_come_or_go_are_a_change_and_newer_versions_are_not() {
    let consumers = Consumers::default();
    register(&consumers, 1, &[("t", 1)]);
    assert_eq!(register(&consumers, 1, &[("t", 2)]), None);
    assert_eq!(consumers.subscription("g", "t").unwrap().sub_version, 2);
    assert_eq!(register(&consumers, 1, &[("t", 1)]), None);
    assert_eq!(consumers.subscription("g", "t").unwrap().sub_version, 2);
    assert_eq!(register(&consumers, 1, &[("t", 2), ("u", 1)]), Some(vec![1]));
    assert_eq!(register(&consumers, 1, &[("u", 1)]), Some(vec![1]));
    assert!(consumers.subscription("g", "t").is_none());
    assert_eq!(consumers.groups_of("u"), ["g"]);
}

#[test]
fn broadcasting_members_are_never_told() {
    let consumers = Consumers::default();
    let first = data(MessageModel::Broadcasting, &[("t", 1)]);
    let registered = consumers.register(first, client(1, 0), 0, false, true);
    assert_eq!(registered.notice, None);
    let second = data(MessageModel::Broadcasting, &[("t", 1)]);
    consumers.register(second, client(2, 0), 0, false, true);
    assert!(consumers.on_close(1).is_empty());
    assert_eq!(consumers.client_ids("g"), ["client-2"]);
}

#[test]
fn a_closed_connection_leaves_and_the_rest_is_told() {
    let consumers = Consumers::default();
    register(&consumers, 1, &[("t", 1)]);
    register(&consumers, 2, &[("t", 1)]);
    let notices = consumers.on_close(1);
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].members, [2]);
    assert!(consumers.on_close(1).is_empty());
    assert!(consumers.on_close(2).is_empty());
    assert!(consumers.group_info("g").is_none());
}

#[test]
fn a_producer_is_found_by_its_id_as_long_as_it_is_in_a_group() {
    let producers = Producers::default();
    producers.register("a", client(1, 0));
    producers.register("b", client(1, 0));
    producers.unregister("a", 1);
    assert_eq!(producers.find("client-1").unwrap().handle, 1);
    producers.unregister("b", 1);
    assert!(producers.find("client-1").is_none());

    let again = Client {
        client_id: "client-1".into(),
        ..client(2, 0)
    };
    producers.register("a", client(1, 0));
    producers.register("a", again);
    assert_eq!(producers.find("client-1").unwrap().handle, 2, "the last connection");
    producers.on_close(2);
    assert!(producers.find("client-1").is_none());
    producers.register("a", client(1, 0));
    assert_eq!(producers.find("client-1").unwrap().handle, 1, "its next heartbeat");
    assert!(producers.expire(CLIENT_EXPIRED_MS + 1).contains(&1));
    assert!(producers.find("client-1").is_none());
}

#[test]
fn unregistering_tells_the_rest() {
    let consumers = Consumers::default();
    register(&consumers, 1, &[("t", 1)]);
    register(&consumers, 2, &[("t", 1)]);
    assert_eq!(consumers.unregister("g", 2, true).unwrap().members, [1]);
    assert_eq!(consumers.unregister("g", 1, true), None);
    assert!(consumers.find("g", "client-1").is_none());
}

#[test]
fn a_heartbeat_without_subscriptions_keeps_them() {
    let consumers = Consumers::default();
    let full = consumers.register(
        data(MessageModel::Clustering, &[("t", 1)]),
        client(1, 0),
        9,
        false,
        true,
    );
    assert!(!full.fingerprint_changed);
    let short = consumers.register(data(MessageModel::Clustering, &[]), client(1, 0), 9, true, true);
    assert_eq!((short.notice, short.fingerprint_changed), (None, false));
    assert!(consumers.subscription("g", "t").is_some());
    let other = consumers.register(data(MessageModel::Clustering, &[]), client(2, 0), 10, true, true);
    assert!(other.fingerprint_changed);
}

#[test]
fn deferred_notices_are_one_for_each_group() {
    let consumers = Consumers::default();
    let notice = |members: &[u64]| GroupNotice {
        group: "g".to_owned(),
        members: members.to_vec(),
    };
    consumers.defer(&[notice(&[1])]);
    consumers.defer(&[notice(&[1, 2])]);
    assert_eq!(consumers.take_deferred(), [notice(&[1, 2])]);
    assert!(consumers.take_deferred().is_empty());
}

#[test]
fn silent_clients_expire() {
    let consumers = Consumers::default();
    consumers.register(data(MessageModel::Clustering, &[]), client(1, 0), 0, false, true);
    consumers.register(data(MessageModel::Clustering, &[]), client(2, 100_000), 0, false, true);
    assert_eq!(consumers.expire(CLIENT_EXPIRED_MS + 1, CLIENT_EXPIRED_MS), [1]);
    assert_eq!(consumers.client_ids("g"), ["client-2"]);

    let producers = Producers::default();
    producers.register("p", client(1, 0));
    producers.register("p", client(2, 100_000));
    assert_eq!(producers.expire(CLIENT_EXPIRED_MS + 1), [1]);
    producers.on_close(2);
    assert!(!producers.is_known("p"));
}
