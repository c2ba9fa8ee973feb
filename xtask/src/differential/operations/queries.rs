//! Offsets of queues, and messages by key, by place and by time.

use oxmq_protocol::requests::{QueryConsumeQueueHeader, QueryMessageHeader, QueueHeader, SearchOffsetHeader, request};

use super::super::script::Step;
use super::Generator;

pub(super) fn queue_offset(generator: &mut Generator) {
    let topic = generator.any_topic();
    let header = QueueHeader {
        topic: topic.name.into(),
        queue_id: generator.any_queue(&topic),
        committed: generator.random.pick(&[None, Some(true), Some(false)]),
        ..QueueHeader::default()
    };
    let step = match generator.random.below(4) {
        0 => Step::new::<request::GetMinOffset>("queue-offset", &header),
        1 => Step::new::<request::GetEarliestMsgStoreTime>("queue-offset", &header),
        _ => Step::new::<request::GetMaxOffset>("queue-offset", &header),
    };
    generator.add(step);
}

/// Times at which surely all or no message was stored: the servers store at different moments.
pub(super) fn offset_by_time(generator: &mut Generator) {
    let topic = generator.any_topic();
    let boundary = generator
        .random
        .pick(&[None, Some("LOWER"), Some("UPPER"), Some("lower"), Some("x")]);
    let header = SearchOffsetHeader {
        topic: topic.name.into(),
        queue_id: generator.any_queue(&topic),
        timestamp: generator
            .random
            .pick(&[0, -1, 1, 1_700_000_000_000, 4_000_000_000_000, i64::MAX, i64::MIN]),
        boundary_type: boundary.map(str::to_owned),
        ..SearchOffsetHeader::default()
    };
    generator.add(Step::new::<request::SearchOffsetByTimestamp>("offset-by-time", &header));
}

pub(super) fn by_key(generator: &mut Generator) {
    let number = generator.random.below(generator.serial + 1);
    let is_unique = generator.random.one_in(3);
    let key = match (is_unique, generator.random.below(8)) {
        (_, 0) => "unknown".to_owned(),
        (true, _) => format!("u{number}"),
        (false, 1..=4) => format!("k{number}"),
        (false, _) => format!("k{}", number % 5),
    };
    let header = QueryMessageHeader {
        topic: generator.any_topic().name.into(),
        key,
        max_num: generator.random.pick(&[1, 5, 32, 64, 0, -1]),
        begin_timestamp: generator.random.pick(&[0, 0, 0, 4_000_000_000_000]),
        end_timestamp: generator.random.pick(&[i64::MAX, i64::MAX, i64::MAX, 1]),
        unique_key_query: is_unique,
        ..QueryMessageHeader::default()
    };
    generator.add(Step::new::<request::QueryMessage>("query-by-key", &header));
}

pub(super) fn view(generator: &mut Generator) {
    let offset = match generator.random.below(10) {
        0 => generator
            .random
            .pick(&["-1", "99999999999", "9223372036854775807"])
            .to_owned(),
        _ => format!("<phy:{}>", generator.random.below(8)),
    };
    let step = Step::of_code("view-message", 33).with("offset", offset);
    let step = match generator.random.one_in(2) {
        true => step.with("topic", "@four"),
        false => step,
    };
    generator.add(step);
}

pub(super) fn consume_queue(generator: &mut Generator) {
    let topic = generator.any_topic();
    let group = generator.random.one_in(2).then(|| generator.any_group().to_owned());
    let header = QueryConsumeQueueHeader {
        topic: topic.name.into(),
        queue_id: generator.any_queue(&topic),
        index: generator.any_offset(),
        count: generator.random.pick(&[1, 5, 32, 0, -1]),
        consumer_group: group,
    };
    generator.add(Step::new::<request::QueryConsumeQueue>("query-consume-queue", &header));
}
