//! Administration: topics, groups, the broker's own tables, the name server.

use oxmq_protocol::body::{SubscriptionGroupConfig, SubscriptionGroupList, TopicConfig, TopicConfigList};
use oxmq_protocol::requests::{CloneGroupOffsetHeader, DeleteSubscriptionGroupHeader, GroupForbiddenHeader, request};

use super::super::script::Step;
use super::{Generator, Topic, create_topic};

/// Topics that come, change and go; nobody sends to them by chance.
const CHANGING: [&str; 3] = ["@new1", "@new2", "@new3"];
const QUEUES: [i32; 5] = [1, 2, 3, 8, 0];
const PERMISSIONS: [i32; 6] = [6, 6, 2, 4, 7, 0];

pub(super) fn update_topic(generator: &mut Generator) {
    let mut topic = Topic::new(
        generator.random.pick(&CHANGING),
        generator.random.pick(&QUEUES),
        generator.random.pick(&QUEUES),
        generator.random.pick(&PERMISSIONS),
    );
    let queues = 10 + generator.next_serial() as i32;
    let random = &mut generator.random;
    let step = match random.below(10) {
        0 => {
            topic.name = random.pick(&["TBW102", "@bad topic!", "", "SELF_TEST_TOPIC"]);
            create_topic("topic-update", &topic)
        }
        1 => create_topic("topic-update", &topic).with("topicFilterType", random.pick(&["MULTI_TAG", "NO_TAG", ""])),
        2 => {
            let value = random.pick(&[
                "+message.type=NORMAL",
                "+message.type=FIFO",
                "+message.type=MIXED",
                "+message.type=x",
                "-message.type",
                "+reserve.time=100",
                "+reserve.time=-2",
                "message.type=NORMAL",
                "+cleanup.policy=DELETE",
                "+unknown=1",
                "+a",
            ]);
            create_topic("topic-update", &topic).with("attributes", value)
        }
        3 => create_topic("topic-update", &topic).with("order", "true"),
        4 => create_topic("topic-update", &topic).with("topicSysFlag", random.pick(&["1", "2", "3"])),
        5 => {
            // Other ones each time: Java changes none of them when one is as it was.
            let configs = CHANGING.map(|name| TopicConfig::new(name, queues, 6));
            Step::of_code("topic-update", 18).json(&TopicConfigList {
                topic_config_list: configs.to_vec(),
            })
        }
        _ => create_topic("topic-update", &topic),
    };
    generator.add(step);
}

pub(super) fn delete_topic(generator: &mut Generator) {
    let topic = match generator.random.below(6) {
        0 => generator.random.pick(&["", "TBW102", "@unseen"]),
        _ => generator.random.pick(&CHANGING),
    };
    generator.add(Step::of_code("topic-delete", 215).with("topic", topic));
}

pub(super) fn topic_info(generator: &mut Generator) {
    let topic = match generator.random.below(3) {
        0 => generator.random.pick(&CHANGING),
        _ => generator.any_topic().name,
    };
    let step = |code: i32| Step::of_code("topic-info", code);
    let step = match generator.random.below(6) {
        0 => step(21),
        1 => step(202).with("topic", topic),
        2 => step(305),
        3 => step(201),
        _ => step(351).with("topic", topic),
    };
    generator.add(step);
}

pub(super) fn update_group(generator: &mut Generator) {
    let random = &mut generator.random;
    let group = SubscriptionGroupConfig {
        consume_enable: !random.one_in(6),
        consume_broadcast_enable: !random.one_in(4),
        retry_max_times: random.pick(&[16, 16, 2, 0, -1]),
        ..SubscriptionGroupConfig::new(random.pick(&["@g2", "@g3", "@g4", "@bad group!", ""]))
    };
    let step = match generator.random.one_in(4) {
        true => Step::of_code("group-update", 225).json(&SubscriptionGroupList {
            group_config_list: vec![group, SubscriptionGroupConfig::new("@g5")],
        }),
        false => Step::of_code("group-update", 200).json(&group),
    };
    generator.add(step);
}

pub(super) fn delete_group(generator: &mut Generator) {
    let header = DeleteSubscriptionGroupHeader {
        group_name: generator.random.pick(&["@g3", "@g4", "@unseen"]).into(),
        clean_offset: generator.random.one_in(2),
        remove_offset: None,
    };
    // Java brings a deleted group back as a new one, by looking for it once more; so do we, for what comes later.
    let again = SubscriptionGroupConfig::new(header.group_name.clone());
    generator.add(Step::new::<request::DeleteSubscriptionGroup>("group-delete", &header));
    generator.add(Step::of_code("group-update", 200).json(&again));
}

pub(super) fn forbid(generator: &mut Generator) {
    // One topic, as Java lifts the prohibitions of the group's other topics together with the last one lifted.
    let header = GroupForbiddenHeader {
        group: generator.random.pick(&["@forbidden", "@g2"]).into(),
        topic: "@four".into(),
        readable: generator.random.pick(&[None, Some(true), Some(false)]),
    };
    generator.add(Step::new::<request::UpdateAndGetGroupForbidden>(
        "group-forbid",
        &header,
    ));
}

pub(super) fn clone_offsets(generator: &mut Generator) {
    let header = CloneGroupOffsetHeader {
        src_group: generator.any_group().into(),
        dest_group: generator.random.pick(&["@g3", "@g6"]).into(),
        // Without a topic Java copies nothing, where it means to copy everything.
        topic: Some("@four".into()),
        offline: generator.random.one_in(2),
    };
    generator.add(Step::new::<request::CloneGroupOffset>("clone-offsets", &header));
}

pub(super) fn broker_info(generator: &mut Generator) {
    let code = generator.random.pick(&[28, 26, 45]);
    generator.add(Step::of_code("broker-info", code));
}

pub(super) fn name_server(generator: &mut Generator) {
    let topic = match generator.random.below(3) {
        0 => generator.random.pick(&CHANGING),
        _ => generator.any_topic().name,
    };
    let step = |code: i32| Step::of_code("name-server", code).for_name_server();
    let step = match generator.random.below(7) {
        0 => step(106),
        1 => step(206),
        2 => step(224).with("cluster", generator.random.pick(&["DefaultCluster", "@none", ""])),
        3 => step(304),
        4 => step(105).with("topic", topic).with("acceptStandardJsonOnly", "true"),
        _ => step(105).with("topic", topic),
    };
    generator.add(step);
}

pub(super) fn kv_config(generator: &mut Generator) {
    let namespace = generator.random.pick(&["@space", "ORDER_TOPIC_CONFIG", ""]);
    let key = generator.random.pick(&["@a", "@b"]);
    let value = generator.random.pick(&["broker-a:4", "", "x"]);
    let step = |code: i32| {
        let step = Step::of_code("kv-config", code).for_name_server();
        step.with("namespace", namespace)
    };
    let step = match generator.random.below(6) {
        0 | 1 => step(100).with("key", key).with("value", value),
        2 => step(102).with("key", key),
        3 => step(219),
        _ => step(101).with("key", key),
    };
    generator.add(step);
}

pub(super) fn unknown_code(generator: &mut Generator) {
    let code = generator.random.pick(&[0, -1, 9, 7777, 32_000, 105, 103]);
    let step = Step::of_code("unknown-code", code).text("whatever");
    let step = match generator.random.one_in(3) && code != 105 && code != 103 {
        true => step.for_name_server(),
        false => step,
    };
    generator.add(step);
}
