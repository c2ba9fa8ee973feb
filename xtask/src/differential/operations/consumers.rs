//! Consumers: offsets, heartbeats, locks, what the broker knows of them.

use oxmq_protocol::body::{
    CheckClientRequestBody, ConsumeFromWhere, ConsumeType, ConsumerData, HeartbeatData, LockBatchRequestBody,
    MessageModel, MessageQueue, ProducerData, SubscriptionData,
};
use oxmq_protocol::requests::{
    QueryConsumerOffsetHeader, QueryCorrectionOffsetHeader, ResetOffsetHeader, UnregisterClientHeader,
    UpdateConsumerOffsetHeader, request,
};

use super::super::script::{Step, Target};
use super::{BORN_MS, Generator, RESET_GROUP};

const CLIENTS: [&str; 2] = ["@client-1", "@client-2"];

pub(super) fn update_offset(generator: &mut Generator) {
    let topic = generator.any_topic();
    let header = UpdateConsumerOffsetHeader {
        consumer_group: Some(generator.any_group().into()),
        topic: Some(topic.name.into()),
        // Java keeps offsets of any queue, also of those that no topic can have.
        queue_id: Some(generator.any_queue(&topic).clamp(0, 99)),
        commit_offset: Some(generator.any_offset()),
        ..UpdateConsumerOffsetHeader::default()
    };
    generator.add(Step::new::<request::UpdateConsumerOffset>("update-offset", &header));
}

pub(super) fn query_offset(generator: &mut Generator) {
    let topic = generator.any_topic();
    let header = QueryConsumerOffsetHeader {
        consumer_group: generator.any_group().into(),
        topic: topic.name.into(),
        queue_id: generator.any_queue(&topic),
        set_zero_if_not_found: generator.random.pick(&[None, Some(true), Some(false)]),
        ..QueryConsumerOffsetHeader::default()
    };
    generator.add(Step::new::<request::QueryConsumerOffset>("query-offset", &header));
}

pub(super) fn reset_offset(generator: &mut Generator) {
    let topic = generator.any_topic();
    let header = ResetOffsetHeader {
        group: generator.random.pick(&[RESET_GROUP, RESET_GROUP, "@unseen"]).into(),
        topic: topic.name.into(),
        queue_id: generator.random.pick(&[None, Some(-1), Some(0), Some(1), Some(9)]),
        offset: generator.random.pick(&[None, Some(-1), Some(0), Some(1), Some(1000)]),
        timestamp: generator.random.pick(&[-1, 0, BORN_MS, 4_000_000_000_000]),
        is_force: generator.random.one_in(2),
    };
    generator.add(Step::new::<request::InvokeBrokerToResetOffset>("reset-offset", &header));
}

pub(super) fn heartbeat(generator: &mut Generator) {
    let subscriptions = match generator.random.below(4) {
        0 => vec![subscription(generator, "@one")],
        _ => vec![subscription(generator, "@four"), subscription(generator, "@one")],
    };
    let consumer = ConsumerData {
        group_name: generator.any_group().into(),
        consume_type: generator.random.pick(&[ConsumeType::Passively, ConsumeType::Actively]),
        message_model: match !generator.plain && generator.random.one_in(3) {
            true => MessageModel::Broadcasting,
            false => MessageModel::Clustering,
        },
        consume_from_where: ConsumeFromWhere::FirstOffset,
        subscription_data_set: subscriptions,
        unit_mode: false,
    };
    let body = HeartbeatData {
        client_id: CLIENTS[0].into(),
        consumer_data_set: vec![consumer],
        producer_data_set: vec![ProducerData {
            group_name: "@producers".into(),
        }],
        ..HeartbeatData::default()
    };
    generator.add(Step::of_code("heartbeat", 34).json(&body));
}

pub(super) fn unregister(generator: &mut Generator) {
    let header = UnregisterClientHeader {
        client_id: CLIENTS[0].into(),
        producer_group: generator.random.one_in(4).then(|| "@producers".into()),
        consumer_group: (!generator.random.one_in(4)).then(|| generator.any_group().into()),
        ..UnregisterClientHeader::default()
    };
    generator.add(Step::new::<request::UnregisterClient>("unregister", &header));
}

pub(super) fn lock(generator: &mut Generator) {
    let body = lock_body(generator);
    generator.add(Step::of_code("lock", 41).json(&body));
}

pub(super) fn unlock(generator: &mut Generator) {
    let body = lock_body(generator);
    generator.add(Step::of_code("unlock", 42).json(&body));
}

pub(super) fn check_client(generator: &mut Generator) {
    let body = CheckClientRequestBody {
        client_id: CLIENTS[0].into(),
        group: generator.any_group().into(),
        subscription_data: subscription(generator, "@four"),
        ..CheckClientRequestBody::default()
    };
    generator.add(Step::of_code("check-client", 46).json(&body));
}

/// What the broker tells about groups.
pub(super) fn info(generator: &mut Generator) {
    let group = generator.any_group();
    let topic = generator.any_topic().name;
    let step = |code: i32| Step::of_code("consumer-info", code);
    let step = match generator.random.below(16) {
        0 => step(38).with("consumerGroup", group),
        1 => step(203).with("consumerGroup", group),
        2 => step(204).with("producerGroup", "@producers"),
        3 => step(208).with("consumerGroup", group).with("topic", topic),
        4 => step(208).with("consumerGroup", group),
        5 => step(300).with("topic", topic),
        14 => step(345).with("group", group),
        13 => step(317).with("isOrder", "false"),
        9..=12 => step(300).with("topic", "@four"),
        6 => step(343).with("group", group),
        7 => step(345).with("group", group).with("topic", topic),
        8 => step(352).with("group", group),
        _ => step(43),
    };
    generator.add(step);
}

/// The slowest offsets of a topic. Without groups to leave out, as those would lose theirs.
pub(super) fn correct_offsets(generator: &mut Generator) {
    if !generator.plain {
        return;
    }
    let header = QueryCorrectionOffsetHeader {
        filter_groups: generator
            .random
            .pick(&[None, Some(""), Some("@nobody")])
            .map(str::to_owned),
        compare_group: generator.any_group().into(),
        topic: generator.any_topic().name.into(),
    };
    generator.add(Step::new::<request::QueryCorrectionOffset>("correct-offsets", &header));
}

/// What the broker has to ask a consumer for.
pub(super) fn ask_client(generator: &mut Generator) {
    let (group, random) = (generator.any_group(), &mut generator.random);
    let client = random.pick(&[CLIENTS[0], CLIENTS[0], CLIENTS[1]]);
    let step = |code| Step::of_code("ask-client", code);
    let step = match random.below(3) {
        0 => step(307)
            .with("consumerGroup", group)
            .with("clientId", client)
            .with("jstackEnable", "false"),
        1 => {
            let id = random.pick(&["<id:0>", "<id:1>", "<id:2>", "no id", ""]);
            let step = step(309).with("consumerGroup", group).with("clientId", client);
            let step = match random.one_in(2) {
                true => step.with("topic", "@four"),
                false => step,
            };
            step.with("msgId", id).with("brokerName", "broker-a")
        }
        _ => {
            let client = random.pick(&["", client]);
            step(223)
                .with("group", group)
                .with("topic", "@four")
                .with("clientAddr", client)
        }
    };
    generator.add(step);
}

/// What the broker has asked of the actor, which must be the same once all of it has arrived.
pub(super) fn pushes(generator: &mut Generator) {
    if !generator.plain {
        return;
    }
    let mut step = Step::of_code("pushes", 0);
    step.to = Target::Pushes;
    generator.add(step);
}

fn lock_body(generator: &mut Generator) -> LockBatchRequestBody {
    let mq_set = (0..generator.random.below(4))
        .map(|queue_id| MessageQueue::new("@four", "broker-a", queue_id as i32))
        .collect();
    LockBatchRequestBody {
        client_id: generator.random.pick(&CLIENTS).into(),
        consumer_group: generator.any_group().into(),
        mq_set,
        only_this_broker: generator.random.one_in(2),
    }
}

fn subscription(generator: &mut Generator, topic: &str) -> SubscriptionData {
    let version = generator.random.pick(&[1, 2, 5, 50]);
    match generator.random.below(6) {
        0 => sql(topic, "price > 20", version),
        1 => sql(topic, "price > ", version),
        2 => SubscriptionData::parse(topic, "eu || us", version).unwrap_or_default(),
        _ => SubscriptionData::parse(topic, "*", version).unwrap_or_default(),
    }
}

fn sql(topic: &str, expression: &str, sub_version: i64) -> SubscriptionData {
    SubscriptionData {
        topic: topic.into(),
        sub_string: expression.into(),
        expression_type: "SQL92".into(),
        sub_version,
        ..SubscriptionData::default()
    }
}
