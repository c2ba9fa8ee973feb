//! Sends of every kind.

use oxmq_protocol::requests::{ConsumerSendMsgBackHeader, SendMessageHeader, SendMessageHeaderV2, request};
use oxmq_protocol::{Message, batch};

use super::super::script::{Call, Step};
use super::{AUTO_TOPIC, BORN_MS, DELAY_TOPIC, Generator, TAGS, Topic};

/// The longest body that the servers take, and the longest properties.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
const PROPERTIES_BYTES_MAX: usize = 32_767;

pub(super) fn single(generator: &mut Generator) {
    let header = header(generator);
    let body = body(generator);
    generator.add(Step::new::<request::SendMessageV2>("send", &header).text(body));
}

pub(super) fn single_v1(generator: &mut Generator) {
    let header = header(generator);
    let body = body(generator);
    generator.add(Step::new::<request::SendMessage>("send-v1", &SendMessageHeader::from(header)).text(body));
}

pub(super) fn one_way(generator: &mut Generator) {
    let header = header(generator);
    let body = body(generator);
    let exists = generator.topics.iter().find(|topic| topic.name == header.topic);
    if exists.is_none_or(|topic| header.queue_id >= topic.queues()) || header.queue_id < 0 {
        return;
    }
    let mut step = Step::new::<request::SendMessageV2>("send-one-way", &header).text(body);
    step.call = Call::OneWay;
    generator.add(step);
}

pub(super) fn batch(generator: &mut Generator) {
    let mut header = header(generator);
    header.batch = true;
    header.properties = generator.random.one_in(2).then(|| text(&[("WAIT", "true")]));
    let count = 1 + generator.random.below(6);
    let messages: Vec<_> = (0..count)
        .map(|_| {
            let number = generator.next_serial();
            let tag = generator.random.pick(&TAGS);
            Message::new(header.topic.clone(), format!("batched {number}"))
                .with_tags(tag)
                .with_keys(format!("k{number}"))
                .with_property("UNIQ_KEY", format!("u{number}"))
        })
        .collect();
    let mut body = batch::encode(&messages).to_vec();
    match generator.random.below(30) {
        0 => body.truncate(body.len() / 2),
        1 => body.clear(),
        2 => body.extend_from_slice(&[0; 7]),
        _ => {}
    }
    generator.add(Step::new::<request::SendBatchMessage>("send-batch", &header).hex(&body));
}

/// To a topic of its own, as nobody knows what comes between a delayed message and its neighbours.
pub(super) fn delayed(generator: &mut Generator) {
    let mut header = header(generator);
    header.topic = DELAY_TOPIC.name.into();
    header.queue_id = 0;
    let level = generator.random.pick(&["1", "1", "2", "3", "4", "99"]);
    let number = generator.next_serial();
    header.properties = Some(text(&[("UNIQ_KEY", &format!("u{number}")), ("DELAY", level)]));
    let body = body(generator);
    generator.delayed += 1;
    generator.add(Step::new::<request::SendMessageV2>("send-delayed", &header).text(body));
}

/// With a delivery time of its own.
pub(super) fn timer(generator: &mut Generator) {
    let number = generator.next_serial();
    let (name, value, arrives) = generator.random.pick(&[
        ("TIMER_DELAY_SEC", "1", true),
        ("TIMER_DELAY_SEC", "2", true),
        ("TIMER_DELAY_MS", "1500", true),
        ("TIMER_DELIVER_MS", "<now:2500>", true),
        ("TIMER_DELIVER_MS", "1", true),
        ("TIMER_DELAY_SEC", "0", true),
        ("TIMER_DELAY_SEC", "-5", true),
        ("TIMER_DELAY_SEC", "3600", false),
        ("TIMER_DELAY_SEC", "3600", false),
        ("TIMER_DELAY_SEC", "259300", false),
        ("TIMER_DELIVER_MS", "4000000000000", false),
        ("TIMER_DELIVER_MS", "9223372036854775807", false),
    ]);
    let step = plain(
        DELAY_TOPIC.name,
        &text(&[("UNIQ_KEY", &format!("u{number}")), (name, value)]),
    );
    let mut step = step.text(format!("timed {number} {value}"));
    step.operation = "send-timer".into();
    generator.add(step);
    generator.delayed += usize::from(arrives);
}

/// A timer message is taken back.
pub(super) fn recall(generator: &mut Generator) {
    let number = generator.next_serial();
    let properties = text(&[("UNIQ_KEY", &format!("u{number}")), ("TIMER_DELAY_SEC", "3600")]);
    let mut send = plain(DELAY_TOPIC.name, &properties).text(format!("recalled {number}"));
    send.operation = "send-timer".into();
    generator.add(send);
    let step = Step::of_code("recall", 370)
        .with("producerGroup", "@producers")
        .with("topic", DELAY_TOPIC.name);
    let handle = generator.random.pick(&[
        "<recall:0>",
        "<recall:0>",
        "<recall:1>",
        "",
        "not a handle",
        "djEgYSBiIDEgYw==",
    ]);
    generator.add(step.with("recallHandle", handle));
}

pub(super) fn to_retry_topic(generator: &mut Generator) {
    let mut header = header(generator);
    header.topic = format!("%RETRY%{}", generator.any_group());
    header.queue_id = 0;
    header.reconsume_times = Some(generator.random.pick(&[0, 1, 3, 16, 17, 40]));
    header.max_reconsume_times = generator.random.pick(&[None, Some(3), Some(16)]);
    let body = body(generator);
    generator.add(Step::new::<request::SendMessageV2>("send-to-retry-topic", &header).text(body));
}

/// A message that could not be consumed goes back.
pub(super) fn back(generator: &mut Generator) {
    let group = generator.any_group();
    let index = generator.random.below(4);
    let header = ConsumerSendMsgBackHeader {
        group: group.into(),
        delay_level: generator.random.pick(&[-1, 0, 0, 1, 2]),
        origin_msg_id: Some(format!("<id:{index}>")),
        origin_topic: Some("@four".into()),
        max_reconsume_times: generator.random.pick(&[None, Some(0), Some(16)]),
        ..ConsumerSendMsgBackHeader::default()
    };
    let offset = match generator.random.below(12) {
        0 => "999999999999".to_owned(),
        1 => "-1".to_owned(),
        _ => format!("<phy:{index}>"),
    };
    generator.add(Step::new::<request::ConsumerSendMsgBack>("send-back", &header).with("offset", offset));
}

/// The reply to a request that was sent as a message.
pub(super) fn reply(generator: &mut Generator) {
    let mut header = header(generator);
    header.topic = "@one".into();
    header.queue_id = 0;
    // Java stores replies without them, so that nobody knows that a body is compressed.
    header.sys_flag = 0;
    let number = generator.next_serial();
    let unique = format!("u{number}");
    let mut entries = vec![
        ("UNIQ_KEY", &*unique),
        ("MSG_TYPE", "reply"),
        ("CORRELATION_ID", &*unique),
    ];
    match generator.random.below(6) {
        0 => {}
        1 => entries.push(("REPLY_TO_CLIENT", "@nobody")),
        _ => entries.push(("REPLY_TO_CLIENT", "@client-1")),
    }
    header.properties = Some(text(&entries));
    let body = body(generator);
    let step = match generator.random.one_in(2) {
        true => Step::new::<request::SendReplyMessage>("send-reply", &SendMessageHeader::from(header)),
        false => Step::new::<request::SendReplyMessageV2>("send-reply", &header),
    };
    generator.add(step.text(body));
}

/// What has to be refused, or at least done in the same way.
pub(super) fn bad(generator: &mut Generator) {
    let mut header = header(generator);
    let mut text_body = body(generator);
    header.queue_id = header.queue_id.max(0);
    match generator.random.below(12) {
        0 => text_body.clear(),
        1 => header.topic = String::new(),
        2 => header.topic = "@bad topic!".into(),
        3 => header.topic = format!("@{}", "x".repeat(116)),
        4 => header.topic = format!("@{}", "x".repeat(300)),
        5 => header.topic = "SCHEDULE_TOPIC_XXXX".into(),
        6 => header.topic = "RMQ_SYS_TRANS_HALF_TOPIC".into(),
        7 => header.default_topic = "@missing".into(),
        8 => header.properties = Some("no separators at all".into()),
        9 => header.properties = Some("name\u{1}\u{2}\u{1}value\u{2}\u{2}a\u{1}b\u{1}c".into()),
        10 => {
            let bytes = generator.random.pick(&[
                100,
                PROPERTIES_BYTES_MAX - 100,
                PROPERTIES_BYTES_MAX,
                PROPERTIES_BYTES_MAX + 1,
            ]);
            header.properties = Some(text(&[("UNIQ_KEY", "u"), ("long", &"p".repeat(bytes))]));
        }
        _ => header.queue_id = generator.random.pick(&[4, 5, 100, i32::MAX]),
    }
    // A topic that did not exist gets its queues from whoever sends first.
    generator.add(Step::new::<request::SendMessageV2>("send-bad", &header).text(text_body));
}

pub(super) fn too_large(generator: &mut Generator) {
    let header = header(generator);
    let bytes = BODY_BYTES_MAX + generator.random.below(2);
    let mut step = Step::new::<request::SendMessageV2>("send-too-large", &header);
    step.body = super::super::script::Body::Fill(bytes);
    generator.add(step);
}

fn header(generator: &mut Generator) -> SendMessageHeaderV2 {
    let topic = match generator.random.below(30) {
        0 => Topic::new(AUTO_TOPIC, 4, 4, 6),
        _ => generator.any_topic(),
    };
    let queue_id = match generator.any_queue(&topic) {
        // The broker's choice is its own where there are several.
        queue_id if queue_id < 0 && topic.write_queues != 1 => 0,
        queue_id => queue_id,
    };
    SendMessageHeaderV2 {
        producer_group: "@producers".into(),
        topic: topic.name.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: generator.random.pick(&[4, 4, 4, 1, 16]),
        queue_id,
        sys_flag: generator.random.pick(&[0, 0, 0, 1, 2]),
        born_timestamp: BORN_MS + generator.random.below(1000) as i64,
        flag: generator.random.pick(&[0, 0, 7, -1, i32::MAX]),
        properties: Some(properties(generator)),
        reconsume_times: generator.random.pick(&[None, Some(0), Some(0), Some(2)]),
        unit_mode: generator.random.one_in(10),
        ..SendMessageHeaderV2::default()
    }
}

fn body(generator: &mut Generator) -> String {
    let number = generator.next_serial();
    match generator.random.below(20) {
        0 => format!("{number} {}", "long ".repeat(2000)),
        1 => format!("{number} ünïcödé ✓"),
        _ => format!("body {number}"),
    }
}

/// Of an ordinary message; each of them may be missing.
fn properties(generator: &mut Generator) -> String {
    let number = generator.next_serial();
    let mut entries = Vec::new();
    if !generator.random.one_in(8) {
        entries.push(("UNIQ_KEY", format!("u{number}")));
    }
    if !generator.random.one_in(4) {
        entries.push(("TAGS", generator.random.pick(&TAGS).to_owned()));
    }
    if !generator.random.one_in(3) {
        let second = generator.random.below(5);
        // Java finds a message twice that has a key twice.
        let second = if second == number { second + 5 } else { second };
        entries.push(("KEYS", format!("k{number} k{second}")));
    }
    if generator.random.one_in(2) {
        entries.push(("price", generator.random.below(100).to_string()));
    }
    match generator.random.below(12) {
        0 => entries.push(("WAIT", "false".into())),
        1 => entries.push(("empty", String::new())),
        2 => entries.push(("MSG_REGION", "elsewhere".into())),
        3 => entries.push(("POP_CK", "forged".into())),
        4 => entries.push(("RETRY_TOPIC", "@four".into())),
        _ => {}
    }
    let mut text = text(
        &entries
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect::<Vec<_>>(),
    );
    if generator.random.one_in(3) {
        text.pop();
    }
    text
}

pub(super) fn text(entries: &[(&str, &str)]) -> String {
    entries
        .iter()
        .map(|(name, value)| format!("{name}\u{1}{value}\u{2}"))
        .collect()
}

/// A message to queue 0 with these properties.
pub(super) fn plain(topic: &str, properties: &str) -> Step {
    let header = SendMessageHeaderV2 {
        producer_group: "@producers".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        born_timestamp: BORN_MS,
        properties: Some(properties.to_owned()),
        ..SendMessageHeaderV2::default()
    };
    Step::new::<request::SendMessageV2>("send", &header)
}
