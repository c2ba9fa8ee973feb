//! Topics, groups and settings.

use bytes::Bytes;
use oxmq_protocol::body::*;
use oxmq_protocol::requests::*;
use oxmq_protocol::{RemotingCommand, RequestCode};
use oxmq_tests::eventually;

use crate::log_lines::LogLines;
use crate::node::{Node, body, fields, json_of, topic_header};

fn topic(name: &str) -> TopicHeader {
    TopicHeader {
        topic: name.into(),
        broker_name: None,
    }
}

fn topic_config(name: &str) -> TopicConfigHeader {
    TopicConfigHeader {
        topic: name.into(),
        ..TopicConfigHeader::default()
    }
}

#[test]
fn topics_are_created_changed_listed_and_deleted() {
    let node = Node::start();
    let mut client = node.connect();
    let header = CreateTopicHeader {
        attributes: Some("+message.type=FIFO".into()),
        ..topic_header("orders", 3)
    };
    client.ok::<request::UpdateAndCreateTopic>(&header, "");
    let stored: TopicConfig = body(&client.ok::<request::GetTopicConfig>(&topic_config("orders"), ""));
    assert_eq!(
        (stored.read_queue_nums, stored.attributes["message.type"].as_str()),
        (3, "FIFO")
    );
    assert!(
        node.config_file("topics.json").contains("\"orders\""),
        "durable before the answer"
    );

    let all = client.ok::<request::GetAllTopicConfig>(&PagedConfigHeader::default(), "");
    let table: TopicConfigSerializeWrapper = body(&all);
    let total: GetAllTopicConfigReply = fields(&all);
    assert_eq!(total.total_topic_num, Some(table.topic_config_table.len() as i32));
    assert_eq!(table.data_version.counter, 1);

    let node = node.restart();
    let mut client = node.connect();
    client.ok::<request::GetTopicConfig>(&topic_config("orders"), "");
    client.ok::<request::DeleteTopicInBroker>(&topic("orders"), "");
    assert_eq!(
        client.refused::<request::GetTopicConfig>(&topic_config("orders"), ""),
        (17, "No topic in this broker. topic: orders".into())
    );
    assert!(!node.config_file("topics.json").contains("\"orders\""));
    client.ok::<request::DeleteTopicInBroker>(&topic("unknown"), "");
}

#[test]
fn bad_topics_are_refused_in_the_originals_words() {
    let node = Node::start();
    let mut client = node.connect();
    let illegal = "contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$";
    let many = CreateTopicHeader {
        read_queue_nums: i32::MAX,
        ..topic_header("orders", 1)
    };
    let attribute = |attributes: &str| CreateTopicHeader {
        attributes: Some(attributes.into()),
        ..topic_header("orders", 1)
    };
    for (header, code, remark) in [
        (
            topic_header("a b", 1),
            29,
            format!("The specified topic: a b, {illegal}"),
        ),
        (
            topic_header("../../x", 1),
            29,
            format!("The specified topic: ../../x, {illegal}"),
        ),
        (topic_header(" ", 1), 29, "The specified topic is blank.".into()),
        (
            topic_header("TBW102", 1),
            29,
            "The topic[TBW102] is conflict with system topic.".into(),
        ),
        (
            topic_header("broker-a", 1),
            29,
            "The topic[broker-a] is conflict with system topic.".into(),
        ),
        (many, 29, "The topic[orders] may have 0 to 65536 queues.".into()),
        (attribute("+no.such.key=1"), 1, "unsupported key: no.such.key".into()),
        (
            attribute("+message.type=MIXED"),
            29,
            "MIXED message type is not supported.".into(),
        ),
    ] {
        assert_eq!(
            client.refused::<request::UpdateAndCreateTopic>(&header, ""),
            (code, remark)
        );
    }
    assert_eq!(
        client.refused::<request::DeleteTopicInBroker>(&topic("SCHEDULE_TOPIC_XXXX"), ""),
        (
            29,
            "The topic[SCHEDULE_TOPIC_XXXX] is conflict with system topic.".into()
        )
    );
}

#[test]
fn an_unchanged_topic_does_not_move_the_version() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("orders", 2);
    client.create_topic("orders", 2);
    let list = TopicConfigList {
        topic_config_list: vec![TopicConfig::new("orders", 2, 6), TopicConfig::new("other", 1, 6)],
    };
    client.ok::<request::UpdateAndCreateTopicList>(&(), json_of(&list));
    let all = client.ok::<request::GetAllTopicConfig>(&PagedConfigHeader::default(), "");
    assert_eq!(body::<TopicConfigSerializeWrapper>(&all).data_version.counter, 2);
}

#[test]
fn groups_are_created_listed_forbidden_and_deleted() {
    let node = Node::start();
    let mut client = node.connect();
    let config = SubscriptionGroupConfig {
        retry_max_times: 3,
        ..SubscriptionGroupConfig::new("g")
    };
    client.ok::<request::UpdateAndCreateSubscriptionGroup>(&(), json_of(&config));
    let list = SubscriptionGroupList {
        group_config_list: vec![SubscriptionGroupConfig::new("h"), SubscriptionGroupConfig::new("i")],
    };
    client.ok::<request::UpdateAndCreateSubscriptionGroupList>(&(), json_of(&list));
    assert_eq!(
        client.refused::<request::UpdateAndCreateSubscriptionGroup>(
            &(),
            json_of(&SubscriptionGroupConfig::new("bad group!"))
        ),
        (
            29,
            "The specified group: bad group!, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$".into()
        )
    );
    let forbid = GroupForbiddenHeader {
        group: "g".into(),
        topic: "orders".into(),
        readable: Some(false),
    };
    let answer: GroupForbidden = body(&client.ok::<request::UpdateAndGetGroupForbidden>(&forbid, ""));
    assert!(!answer.readable);

    let node = node.restart();
    let mut client = node.connect();
    let group = |name: &str| GroupHeader { group: name.into() };
    let stored: SubscriptionGroupConfig = body(&client.ok::<request::GetSubscriptionGroupConfig>(&group("g"), ""));
    assert_eq!(stored.retry_max_times, 3);
    let all = client.ok::<request::GetAllSubscriptionGroupConfig>(&PagedGroupHeader::default(), "");
    let all: SubscriptionGroupWrapper = body(&all);
    assert!(all.subscription_group_table.contains_key("i") && all.forbidden_table["g"]["orders"] == 4);
    let delete = DeleteSubscriptionGroupHeader {
        group_name: "g".into(),
        clean_offset: true,
        remove_offset: None,
    };
    client.ok::<request::DeleteSubscriptionGroup>(&delete, "");
    let new: SubscriptionGroupConfig = body(&client.ok::<request::GetSubscriptionGroupConfig>(&group("g"), ""));
    assert_eq!(new.retry_max_times, 16, "looking for a group makes one");
    assert_eq!(
        client
            .refused::<request::GetSubscriptionGroupConfig>(&group("a b"), "")
            .0,
        26
    );
}

#[test]
fn settings_are_shown_and_changed_within_limits() {
    let node = Node::start();
    let mut client = node.connect();
    client.ok::<request::UpdateBrokerConfig>(&(), "autoCreateTopicEnable=false\nnoSuchSetting=1\n");
    let shown = client.ok::<request::GetBrokerConfig>(&(), "");
    let text = String::from_utf8(shown.body.to_vec()).unwrap();
    assert!(
        text.contains("autoCreateTopicEnable=false\n") && text.contains("brokerName=broker-a\n"),
        "{text}"
    );
    let reply: GetBrokerConfigReply = fields(&shown);
    assert!(reply.version.starts_with("{\"counter\":0"), "{}", reply.version);
    for forbidden in [
        "configBlackList=x",
        "brokerConfigPath=/etc/passwd",
        "storePathRootDir=/",
    ] {
        let refused = client.refused::<request::UpdateBrokerConfig>(&(), forbidden);
        assert_eq!(
            refused,
            (16, "Can not update config in black list.".into()),
            "{forbidden}"
        );
    }
    assert_eq!(
        client
            .refused::<request::UpdateBrokerConfig>(&(), "maxMessageSize=many")
            .0,
        1
    );
    client.ok::<request::UpdateBrokerConfig>(&(), "brokerPermission=4\n");
    let all = client.ok::<request::GetAllTopicConfig>(&PagedConfigHeader::default(), "");
    assert_eq!(body::<TopicConfigSerializeWrapper>(&all).data_version.counter, 1);
}

#[test]
fn runtime_information_has_every_key_of_the_original() {
    let node = Node::start();
    let mut client = node.connect();
    client.send("orders", 0, "x", &[("DELAY", "1")]);
    let table: KvTable = body(&client.ok::<request::GetBrokerRuntimeInfo>(&(), ""));
    for key in
        "bootTimestamp runtime brokerVersionDesc brokerActive startAcceptSendRequestTimeStamp putMessageEntireTimeMax \
        putMessageTimesTotal putMessageFailedTimes putMessageSizeTotal putMessageDistributeTime putMessageAverageSize \
        getMessageEntireTimeMax putTps getFoundTps getMissTps getTotalTps getTransferredTps putLatency99 putLatency999 \
        msgPutTotalYesterdayMorning msgPutTotalTodayMorning msgPutTotalTodayNow msgGetTotalYesterdayMorning \
        msgGetTotalTodayMorning msgGetTotalTodayNow commitLogDiskRatio consumeQueueDiskRatio commitLogMinOffset \
        commitLogMaxOffset commitLogDirCapacity earliestMessageTimeStamp dispatchMaxBuffer dispatchBehindBytes \
        pageCacheLockTimeMills remainTransientStoreBufferNumbs remainHowManyDataToFlush scheduleMessageOffset_1 \
        timerReadBehind timerOffsetBehind timerCongestNum timerEnqueueTps timerDequeueTps sendThreadPoolQueueSize \
        sendThreadPoolQueueCapacity sendThreadPoolQueueHeadWaitTimeMills pullThreadPoolQueueSize \
        pullThreadPoolQueueCapacity litePullThreadPoolQueueSize queryThreadPoolQueueSize ackThreadPoolQueueSize \
        EndTransactionQueueSize EndTransactionThreadPoolQueueCapacity"
            .split_whitespace()
    {
        assert!(table.table.contains_key(key), "{key}");
    }
    assert_eq!(table.table["brokerVersionDesc"], "V5_5_0");
}

#[test]
fn a_topic_that_a_send_created_is_on_disk_soon() {
    let node = Node::start_with(|config| config.flush_consumer_offset_interval_ms = 3_600_000);
    let mut client = node.connect();
    client.send("created", 0, "x", &[]);
    let path = node.dir.path().join("store/config/topics.json");
    eventually(|| std::fs::read_to_string(&path).is_ok_and(|text| text.contains("\"created\"")));
}

/// Nothing is in RocksDB here: answered as by a broker of the original that has none.
#[test]
fn requests_about_a_rocksdb_find_none() {
    let node = Node::start();
    let mut client = node.connect();
    let reply = client.ok::<request::CheckRocksdbCqWriteProgress>(&CheckRocksdbCqWriteHeader::default(), "");
    assert_eq!(&reply.body[..], br#"{"checkStatus":2}"#);
    let tables = |tables: &str| ExportRocksdbConfigHeader {
        config_type: tables.into(),
    };
    client.ok::<request::ExportRocksdbConfigToJson>(&tables("topics;subscriptionGroups;"), "");
    let refused = client.refused::<request::ExportRocksdbConfigToJson>(&tables("topics;odd"), "");
    assert_eq!(refused, (1, "Unknown config type: odd".to_owned()));
    let engine = |engine: &str| SwitchTimerEngineHeader {
        engine: Some(engine.into()),
    };
    let reply = client.ok::<request::SwitchTimerEngine>(&engine("F"), "");
    assert_eq!(reply.header.remark.as_deref(), Some("switch timer engine success"));
    for (wrong, why) in [
        ("R", "timerRocksDBEnable must be configured true when broker start"),
        ("X", "param error"),
    ] {
        let refused = client.refused::<request::SwitchTimerEngine>(&engine(wrong), "");
        assert_eq!(refused, (29, why.to_owned()));
    }
}

/// What changes something, done or refused, and what it was that should have changed; no secrets.
#[test]
fn each_administrative_change_is_a_line_of_the_audit_log() {
    use RequestCode as Code;
    let lines = LogLines::of_all();
    let node = Node::start();
    let mut client = node.connect();
    let changes = [
        Code::CloneGroupOffset,
        Code::InvokeBrokerToResetOffset,
        Code::ResumeCheckHalfMessage,
        Code::UpdateAndCreateTopic,
        Code::UpdateAndCreateTopicList,
        Code::UpdateAndCreateStaticTopic,
        Code::DeleteTopicInBroker,
        Code::UpdateAndCreateSubscriptionGroup,
        Code::UpdateAndCreateSubscriptionGroupList,
        Code::DeleteSubscriptionGroup,
        Code::UpdateAndGetGroupForbidden,
        Code::UpdateBrokerConfig,
        Code::CleanExpiredConsumeQueue,
        Code::DeleteExpiredCommitLog,
        Code::CleanUnusedTopic,
        Code::UpdateColdDataFlowCtrConfig,
        Code::RemoveColdDataFlowCtrConfig,
        Code::SetCommitLogReadMode,
        Code::SwitchTimerEngine,
        Code::SetMessageRequestMode,
        Code::AuthCreateUser,
        Code::AuthUpdateUser,
        Code::AuthDeleteUser,
        Code::AuthCreateAcl,
        Code::AuthUpdateAcl,
        Code::AuthDeleteAcl,
        // With groups to delete offsets of.
        Code::QueryCorrectionOffset,
    ];
    for code in changes {
        let mark = format!("audit-{}", code.code());
        let mut command =
            RemotingCommand::request::<request::GetBrokerRuntimeInfo>(&(), Bytes::from_static(b"password=till-42\n"));
        command.header.code = code.code();
        command.header.ext_fields.set("filterGroups", mark.as_str());
        client.exchange(command);
        let told = lines.with(&format!("filterGroups={mark}"));
        assert_eq!(told.len(), 1, "{code:?}: {told:?}");
        assert!(told[0].contains(&format!("request={code:?}")), "{told:?}");
        assert!(!told[0].contains("till-42"), "{told:?}");
    }
    let group = r#"{"groupName":"audited-group","consumeEnable":false}"#;
    client.ok::<request::UpdateAndCreateSubscriptionGroup>(&(), group);
    assert_eq!(lines.with("audited-group").len(), 1, "what a body says is told");
}
