//! Light queues (LMQ): what sends with INNER_MULTI_DISPATCH put into them.

use oxmq_protocol::requests::{
    PullMessageHeader, QueryConsumerOffsetHeader, QueueHeader, UpdateConsumerOffsetHeader, request,
};
use oxmq_protocol::sys_flag::pull::SUBSCRIPTION;

use super::super::script::Step;
use super::sends::{plain, text};
use super::{GROUPS, Generator, Topic, create_topic};

pub(super) const QUEUES: [&str; 2] = ["%LMQ%@a", "%LMQ%@b"];

const TOPIC: Topic = Topic::new("@light", 2, 2, 6);

/// To a topic of its own: nobody sends one of these back.
pub(super) fn send(generator: &mut Generator) {
    if !generator.sends_light {
        generator.sends_light = true;
        generator.add(create_topic("topic-update", &TOPIC));
    }
    let number = generator.next_serial();
    let queues = generator.random.pick(&[
        "%LMQ%@a",
        "%LMQ%@a,%LMQ%@b",
        "%LMQ%@b,%LMQ%@a",
        "%LMQ%@b,",
        "@four",
        "",
        " ",
    ]);
    let tag = generator.random.pick(&["eu", "us"]);
    let properties = text(&[
        ("UNIQ_KEY", &format!("u{number}")),
        ("TAGS", tag),
        ("INNER_MULTI_DISPATCH", queues),
    ]);
    let mut step = plain(TOPIC.name, &properties).text(format!("light {number}"));
    step.operation = "light-send".into();
    let queue_id = generator.random.below(2);
    generator.add(step.with("e", queue_id));
}

/// Pulls, offsets of the queue and offsets of consumers.
pub(super) fn look(generator: &mut Generator) {
    let queue = generator.random.pick(&QUEUES);
    let group = generator.random.pick(&[GROUPS[0], queue]);
    let queue_id = match generator.random.one_in(20) {
        true => 1,
        false => 0,
    };
    let step = match generator.random.below(4) {
        0 => {
            let header = QueueHeader {
                topic: queue.into(),
                queue_id,
                ..QueueHeader::default()
            };
            match generator.random.one_in(3) {
                true => Step::new::<request::GetMinOffset>("light-look", &header),
                false => Step::new::<request::GetMaxOffset>("light-look", &header),
            }
        }
        1 => {
            let header = QueryConsumerOffsetHeader {
                consumer_group: group.into(),
                topic: queue.into(),
                queue_id,
                ..QueryConsumerOffsetHeader::default()
            };
            Step::new::<request::QueryConsumerOffset>("light-look", &header)
        }
        _ => {
            let expression = generator.random.pick(&["*", "*", "eu"]);
            let header = PullMessageHeader {
                consumer_group: group.into(),
                topic: queue.into(),
                queue_id,
                queue_offset: generator.any_offset(),
                max_msg_nums: generator.random.pick(&[1, 32]),
                sys_flag: SUBSCRIPTION,
                subscription: Some(expression.into()),
                expression_type: Some("TAG".into()),
                ..PullMessageHeader::default()
            };
            Step::new::<request::PullMessage>("light-look", &header)
        }
    };
    generator.add(step);
}

pub(super) fn commit(generator: &mut Generator) {
    let queue = generator.random.pick(&QUEUES);
    let header = UpdateConsumerOffsetHeader {
        consumer_group: Some(queue.into()),
        topic: Some(queue.into()),
        queue_id: Some(0),
        commit_offset: Some(generator.random.below(9) as i64),
        ..UpdateConsumerOffsetHeader::default()
    };
    generator.add(Step::new::<request::UpdateConsumerOffset>("light-commit", &header));
}
