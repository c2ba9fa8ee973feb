//! What requests do, seen from outside.

use oxmq_protocol::body::{DataVersion, GetBrokerMemberGroupBody, KvTable, TopicList, TopicRouteData};
use oxmq_protocol::requests::*;
use oxmq_protocol::{RemotingCommand, Request, SerializeType, json, response_code};
use oxmq_tests::wait_for;

use crate::client::{Namesrv, broker, ext, fields, registration};

fn body_text(reply: &RemotingCommand) -> String {
    String::from_utf8(reply.body.to_vec()).unwrap()
}

#[test]
fn a_closed_connection_unregisters_its_broker() {
    let namesrv = Namesrv::start();
    let mut watcher = namesrv.connect();
    let mut connection = namesrv.connect();
    connection.register(&broker("a", 0), &["T", "U"], 1);
    assert_eq!(watcher.route("T").header.code, response_code::SUCCESS);
    drop(connection);
    wait_for("the topic to go", || {
        watcher.route("T").header.code == response_code::TOPIC_NOT_EXIST
    });
}

#[test]
fn a_silent_broker_is_unregistered_and_its_connection_closed() {
    let namesrv = Namesrv::start_with(|config| config.scan_not_active_broker_interval_ms = 10);
    let mut watcher = namesrv.connect();
    let mut connection = namesrv.connect();
    let header = RegisterBrokerHeader {
        heartbeat_timeout_millis: Some(50),
        ..broker("a", 0)
    };
    connection.register(&header, &["T", "U"], 1);
    wait_for("the topic to go", || {
        watcher.route("T").header.code == response_code::TOPIC_NOT_EXIST
    });
    connection.0.assert_closed();
}

#[test]
fn versions_are_compared_and_told() {
    let namesrv = Namesrv::start();
    let mut client = namesrv.connect();
    let header = BrokerHeader {
        broker_name: "a".into(),
        broker_addr: "a-0:10911".into(),
        cluster_name: "c".into(),
        broker_id: 0,
    };
    let query = |counter: i64, client: &mut crate::client::Client| {
        let version = DataVersion {
            counter,
            ..DataVersion::default()
        };
        let reply = client.call::<request::QueryDataVersion>(&header, json::to_vec(&version));
        (fields::<QueryDataVersionReply>(&reply).changed, body_text(&reply))
    };
    assert_eq!(query(5, &mut client), (true, String::new()));
    client.register(&broker("a", 0), &["T", "U"], 5);
    let ours = r#"{"counter":5,"stateVersion":0,"timestamp":0}"#.to_owned();
    assert_eq!(query(5, &mut client), (false, ours.clone()));
    assert_eq!(query(6, &mut client), (true, ours));
}

#[test]
fn a_body_that_does_not_fit_its_checksum_or_is_garbage_is_refused() {
    let namesrv = Namesrv::start();
    let mut client = namesrv.connect();
    let header = RegisterBrokerHeader {
        body_crc32: Some(1),
        ..broker("a", 0)
    };
    let reply = client.register(&header, &["T", "U"], 1);
    assert_eq!(
        (reply.header.code, reply.header.remark.as_deref()),
        (1, Some("crc32 not match"))
    );
    let reply = client.register(&broker("a", 0), &["T"], 1);
    assert_eq!(
        (reply.header.code, reply.header.remark.as_deref()),
        (1, Some("register broker failed"))
    );
    for garbage in ["{\"topicConfigSerializeWrapper\":[", "\u{78}\u{1}garbage", "null", "7"] {
        let reply = client.call::<request::RegisterBroker>(&broker("a", 0), garbage);
        assert_eq!(reply.header.code, response_code::SYSTEM_ERROR, "{garbage}");
    }
    assert_eq!(client.route("T").header.code, response_code::TOPIC_NOT_EXIST);
}

#[test]
fn compressed_registrations_count_whether_or_not_the_header_says_so() {
    let namesrv = Namesrv::start();
    let mut client = namesrv.connect();
    for (name, compressed) in [("a", true), ("b", false)] {
        let header = RegisterBrokerHeader {
            compressed,
            ..broker(name, 0)
        };
        let body = registration(&["T", "U"], 1).encode_compressed();
        assert_eq!(client.call::<request::RegisterBroker>(&header, body).header.code, 0);
    }
    let route: TopicRouteData = json::from_slice(&client.route("T").body).unwrap();
    assert_eq!(route.queue_datas.len(), 2);
}

#[test]
fn missing_header_fields_are_an_error_and_unknown_codes_are_not_supported() {
    let namesrv = Namesrv::start();
    let mut client = namesrv.connect();
    let mut request = RemotingCommand::request::<request::GetBrokerClusterInfo>(&(), Default::default());
    request.header.code = 105;
    assert_eq!(
        client.send(&request, SerializeType::RocketMq).header.code,
        response_code::SYSTEM_ERROR
    );
    for code in [10, 34, 7777, -1] {
        request.header.code = code;
        let reply = client.send(&request, SerializeType::Json);
        assert_eq!(reply.header.code, response_code::REQUEST_CODE_NOT_SUPPORTED);
        assert_eq!(reply.header.remark, Some(format!(" request type {code} not supported")));
    }
}

#[test]
fn a_zone_sees_its_own_brokers() {
    let namesrv = Namesrv::start();
    let mut client = namesrv.connect();
    for (name, zone) in [("a", "east"), ("b", "west")] {
        let header = RegisterBrokerHeader {
            zone_name: Some(zone.into()),
            ..broker(name, 0)
        };
        client.register(&header, &["T", "U"], 1);
    }
    let mut ask = |mode: &str, zone: &str| {
        let header = GetRouteInfoHeader {
            topic: "T".into(),
            accept_standard_json_only: None,
        };
        let mut request = RemotingCommand::request::<request::GetRouteInfoByTopic>(&header, Default::default());
        for (name, value) in ext(&[("__ZONE_MODE", mode), ("__ZONE_NAME", zone)]).iter() {
            request.header.ext_fields.set(name, value);
        }
        let route: TopicRouteData = json::from_slice(&client.send(&request, SerializeType::Json).body).unwrap();
        let brokers = route
            .broker_datas
            .iter()
            .map(|broker| broker.broker_name.clone())
            .collect::<String>();
        let queues = route
            .queue_datas
            .iter()
            .map(|queues| queues.broker_name.clone())
            .collect::<String>();
        assert_eq!(brokers, queues);
        brokers
    };
    assert_eq!(ask("true", "WEST"), "b");
    assert_eq!(ask("true", "north"), "");
    assert_eq!(ask("true", " "), "ab");
    assert_eq!(ask("false", "west"), "ab");
}

#[test]
fn lists_name_topics_brokers_and_members() {
    let namesrv = Namesrv::start();
    let mut client = namesrv.connect();
    client.register(&broker("a", 0), &["T", "U"], 1);
    client.register(&broker("a", 1), &["T", "U"], 1);
    let list = |reply: RemotingCommand| -> TopicList { json::from_slice(&reply.body).unwrap() };
    let names = |list: &TopicList| list.topic_list.iter().cloned().collect::<Vec<_>>().join(" ");
    let all = list(client.call::<request::GetAllTopicListFromNameserver>(&(), ""));
    assert_eq!(names(&all), "T U");
    let cluster = ClusterHeader {
        cluster: Some("c".into()),
    };
    assert_eq!(
        names(&list(client.call::<request::GetTopicsByCluster>(&cluster, ""))),
        "T U"
    );
    let system = list(client.call::<request::GetSystemTopicListFromNs>(&(), ""));
    assert_eq!(
        (names(&system), system.broker_addr.as_deref()),
        ("a c".into(), Some("a-0:10911"))
    );
    assert_eq!(names(&list(client.call::<request::GetUnitTopicList>(&(), ""))), "");

    let member = |broker_name: &str| BrokerMemberGroupHeader {
        cluster_name: "c".into(),
        broker_name: broker_name.into(),
    };
    let reply = client.call::<request::GetBrokerMemberGroup>(&member("a"), "");
    let expected =
        r#"{"brokerMemberGroup":{"brokerAddrs":{0:"a-0:10911",1:"a-1:10911"},"brokerName":"a","cluster":"c"}}"#;
    assert_eq!(body_text(&reply), expected);
    let reply = client.call::<request::GetBrokerMemberGroup>(&member("unknown"), "");
    let group: GetBrokerMemberGroupBody = json::from_slice(&reply.body).unwrap();
    assert!(group.broker_member_group.broker_addrs.is_empty());
}

#[test]
fn lists_can_be_disabled() {
    let namesrv = Namesrv::start_with(|config| {
        config.enable_all_topic_list = false;
        config.enable_topic_list = false;
    });
    let mut client = namesrv.connect();
    let cluster = ClusterHeader {
        cluster: Some("c".into()),
    };
    for reply in [
        client.call::<request::GetAllTopicListFromNameserver>(&(), ""),
        client.call::<request::GetTopicsByCluster>(&cluster, ""),
        client.call::<request::GetUnitTopicList>(&(), ""),
        client.call::<request::GetHasUnitSubTopicList>(&(), ""),
        client.call::<request::GetHasUnitSubUnunitTopicList>(&(), ""),
    ] {
        assert_eq!(
            (reply.header.code, reply.header.remark.as_deref()),
            (1, Some("disable"))
        );
    }
}

#[test]
fn routes_wait_until_brokers_had_time() {
    let namesrv = Namesrv::start_with(|config| config.need_wait_for_service = true);
    let mut client = namesrv.connect();
    let reply = client.route("T");
    assert_eq!(
        (reply.header.code, reply.header.remark.as_deref()),
        (1, Some("name server not ready"))
    );
    update(&mut client, "waitSecondsForService=0");
    assert_eq!(client.route("T").header.code, response_code::TOPIC_NOT_EXIST);
}

fn update(client: &mut crate::client::Client, properties: &str) -> i32 {
    client
        .call::<request::UpdateNamesrvConfig>(&(), properties.to_owned())
        .header
        .code
}

#[test]
fn settings_are_saved_and_paths_cannot_be_changed() {
    let namesrv = Namesrv::start_with(|config| config.config_black_list = "enableTopicList".into());
    let mut client = namesrv.connect();
    for refused in [
        "kvConfigPath=/tmp/x",
        "listenPort=1",
        "bindAddress=::",
        "configBlackList=",
        "enableTopicList=false",
    ] {
        assert_eq!(update(&mut client, refused), response_code::NO_PERMISSION, "{refused}");
    }
    assert_eq!(
        update(&mut client, "scanNotActiveBrokerInterval=soon"),
        response_code::SYSTEM_ERROR
    );
    assert_eq!(
        update(&mut client, "orderMessageEnable=true\nunknown=1"),
        response_code::SUCCESS
    );
    let shown = body_text(&client.call::<request::GetNamesrvConfig>(&(), ""));
    assert!(
        shown.contains("\norderMessageEnable=true\n") && !shown.contains("unknown"),
        "{shown}"
    );
    let saved = std::fs::read_to_string(namesrv.dir.path().join("namesrv.properties")).unwrap();
    assert!(saved.contains("\norderMessageEnable=true\n"), "{saved}");
}

#[test]
fn order_configuration_goes_to_clients_and_brokers() {
    let namesrv = Namesrv::start_with(|config| config.order_message_enable = true);
    let mut client = namesrv.connect();
    let put = PutKvConfigHeader {
        namespace: Some("ORDER_TOPIC_CONFIG".into()),
        key: Some("T".into()),
        value: Some("a:8".into()),
    };
    assert_eq!(client.call::<request::PutKvConfig>(&put, "").header.code, 0);
    let reply = client.register(&broker("a", 0), &["T", "U"], 1);
    let table: KvTable = json::from_slice(&reply.body).unwrap();
    assert_eq!(table.table["T"], "a:8");
    let orders = |reply: RemotingCommand| {
        json::from_slice::<TopicRouteData>(&reply.body)
            .unwrap()
            .order_topic_conf
    };
    assert_eq!(orders(client.route("T")).as_deref(), Some("a:8"));
    assert_eq!(orders(client.route("U")), None);

    let nameless = PutKvConfigHeader { key: None, ..put };
    let reply = client.call::<request::PutKvConfig>(&nameless, "");
    assert_eq!(
        (reply.header.code, reply.header.remark.as_deref()),
        (1, Some("namespace or key is null"))
    );
}

#[test]
fn brokers_are_told_when_the_smallest_id_of_their_group_changes() {
    let namesrv = Namesrv::start_with(|config| config.notify_min_broker_id_changed = true);
    let mut client = namesrv.connect();
    // The slave's address is a listener of this test.
    let slave = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let acting = |id: i64, addr: String| RegisterBrokerHeader {
        broker_addr: addr,
        enable_acting_master: Some(true),
        ..broker("a", id)
    };
    client.register(&acting(1, slave.local_addr().unwrap().to_string()), &["T", "U"], 1);
    client.register(&acting(0, "a-0:10911".into()), &["T", "U"], 1);
    let (mut socket, _) = slave.accept().unwrap();
    let mut received = Vec::new();
    let notice = loop {
        if let Some((frame, _)) = oxmq_protocol::Frame::peek(&received).unwrap() {
            break RemotingCommand::decode(frame).unwrap();
        }
        let mut chunk = [0; 4096];
        let bytes = std::io::Read::read(&mut socket, &mut chunk).unwrap();
        assert!(bytes > 0);
        received.extend_from_slice(&chunk[..bytes]);
    };
    assert_eq!(notice.header.code, request::NotifyMinBrokerIdChange::CODE.code());
    assert!(notice.header.is_oneway());
    let header: NotifyMinBrokerIdHeader = fields(&notice);
    assert_eq!(
        (header.min_broker_id, header.min_broker_addr.as_deref()),
        (Some(0), Some("a-0:10911"))
    );
    assert_eq!(header.ha_broker_addr.as_deref(), Some("a-0:10912"));
}

#[test]
fn the_standard_dialect_is_for_those_who_ask() {
    let namesrv = Namesrv::start();
    let mut client = namesrv.connect();
    client.register(&broker("é", 0), &["T", "U"], 1);
    let mut ask = |version: i32, standard: Option<bool>| {
        let header = GetRouteInfoHeader {
            topic: "T".into(),
            accept_standard_json_only: standard,
        };
        let mut request = RemotingCommand::request::<request::GetRouteInfoByTopic>(&header, Default::default());
        request.header.version = version;
        body_text(&client.send(&request, SerializeType::Json))
    };
    let relaxed = "{\"brokerDatas\":[{\"brokerAddrs\":{0:\"é-0:10911\"}";
    let standard = "{\"brokerDatas\":[{\"brokerAddrs\":{\"0\":\"\\u00e9-0:10911\"}";
    for (version, asked, expected) in [
        (400, None, relaxed),
        (400, Some(false), relaxed),
        (400, Some(true), standard),
        (401, None, standard),
        (513, Some(false), standard),
    ] {
        let body = ask(version, asked);
        assert!(
            body.to_lowercase().starts_with(&expected.to_lowercase()),
            "{version} {asked:?}: {body}"
        );
    }
}

#[test]
fn a_hundred_thousand_topics_are_routed() {
    let namesrv = Namesrv::start();
    let mut client = namesrv.connect();
    let names: Vec<String> = (0..100_000).map(|index| format!("topic-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in ["a", "b"] {
        assert_eq!(client.register(&broker(name, 0), &names, 1).header.code, 0);
    }
    for name in names.iter().step_by(997) {
        let route: TopicRouteData = json::from_slice(&client.route(name).body).unwrap();
        assert_eq!(route.broker_datas.len(), 2);
    }
    let all = client.call::<request::GetAllTopicListFromNameserver>(&(), "");
    let all: TopicList = json::from_slice(&all.body).unwrap();
    assert_eq!(all.topic_list.len(), names.len());
}

#[test]
fn shutdown_closes_connections_and_frees_the_port() {
    let namesrv = Namesrv::start();
    let addr = namesrv.handle.local_addr();
    let mut client = namesrv.connect();
    client.register(&broker("a", 0), &["T", "U"], 1);
    namesrv.handle.shutdown();
    client.0.assert_closed();
    assert!(std::net::TcpListener::bind(addr).is_ok());
}
