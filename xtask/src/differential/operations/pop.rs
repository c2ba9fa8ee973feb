//! POP: pop, acknowledgements, invisible times, and what a broker shares out.
//!
//! Invisible times are longer than a run, so that nothing comes back by surprise.

use oxmq_protocol::requests::{
    AckMessageHeader, ChangeInvisibleTimeHeader, NotificationHeader, PeekMessageHeader, PollingInfoHeader,
    PopMessageHeader, request,
};

use super::super::script::Step;
use super::sends::{plain, text};
use super::{GROUPS, Generator, REFUSED_GROUP, Topic, create_topic};

const TOPIC: Topic = Topic::new("@pop", 1, 1, 6);
const ORDERED_TOPIC: Topic = Topic::new("@ordered", 1, 1, 6);
const ORDERED_GROUP: &str = "@ordered-poppers";
const INVISIBLE_MS: i64 = 600_000;
const GROUP: &str = "@poppers";
/// Ahead of time, as a busy machine must not let a request be too late.
const BORN: &str = "<now:10000>";

/// Some messages, and when both servers have them a pop of a few.
pub(super) fn pop(generator: &mut Generator) {
    if !begin(generator) {
        return;
    }
    for _ in 0..1 + generator.random.below(4) {
        let number = generator.next_serial();
        let tag = generator.random.pick(&["eu", "us"]);
        let properties = text(&[("TAGS", tag), ("UNIQ_KEY", &format!("u{number}"))]);
        generator.add(plain(TOPIC.name, &properties).text(format!("popped {number}")));
        generator.popped += 1;
    }
    let mut settled = super::reads::drain("drain", TOPIC.name, 0, generator.popped - 1);
    settled.messages_min = 1;
    generator.add(settled);
    let mut header = header(generator);
    if generator.random.one_in(12) {
        header.max_msg_nums = generator.random.pick(&[33, 0, -1]);
        if header.max_msg_nums < 0 {
            // Java stumbles before it keeps where the group begins.
            header.consumer_group = REFUSED_GROUP.into();
        }
    }
    if generator.random.one_in(4) {
        header.exp_type = Some("TAG".into());
        header.exp = Some(generator.random.pick(&["eu", "*", "us || eu"]).into());
    }
    let step = Step::new::<request::PopMessage>("pop", &header);
    generator.add(step.with("bornTime", BORN));
}

/// A queue in order: what is popped blocks it until it is acknowledged.
pub(super) fn pop_in_order(generator: &mut Generator) {
    if !generator.speaks_json {
        return;
    }
    if generator.ordered == 0 {
        generator.add(create_topic("topic-update", &ORDERED_TOPIC));
        generator.topics.push(ORDERED_TOPIC);
    }
    let number = generator.next_serial();
    let properties = text(&[("UNIQ_KEY", &format!("u{number}"))]);
    for part in 0..1 + generator.random.below(3) {
        generator.add(plain(ORDERED_TOPIC.name, &properties).text(format!("ordered {number} {part}")));
        generator.ordered += 1;
    }
    let mut settled = super::reads::drain("drain", ORDERED_TOPIC.name, 0, generator.ordered - 1);
    settled.messages_min = 1;
    generator.add(settled);
    for _ in 0..1 + generator.random.below(3) {
        let header = PopMessageHeader {
            consumer_group: ORDERED_GROUP.into(),
            topic: ORDERED_TOPIC.name.into(),
            order: Some(true),
            max_msg_nums: generator.random.pick(&[1, 2, 32]),
            attempt_id: generator
                .random
                .pick(&[None, Some("@first"), Some("@second")])
                .map(str::to_owned),
            ..header(generator)
        };
        let step = Step::new::<request::PopMessage>("pop-in-order", &header);
        generator.add(step.with("bornTime", BORN));
    }
    for _ in 0..generator.random.below(6) {
        let index = generator.random.below(4);
        let step = match generator.random.one_in(5) {
            true => {
                let header = ChangeInvisibleTimeHeader {
                    consumer_group: ORDERED_GROUP.into(),
                    topic: ORDERED_TOPIC.name.into(),
                    invisible_time: INVISIBLE_MS,
                    ..ChangeInvisibleTimeHeader::default()
                };
                Step::new::<request::ChangeMessageInvisibleTime>("change-in-order", &header)
            }
            false => {
                let header = AckMessageHeader {
                    consumer_group: ORDERED_GROUP.into(),
                    topic: ORDERED_TOPIC.name.into(),
                    ..AckMessageHeader::default()
                };
                Step::new::<request::AckMessage>("ack", &header)
            }
        };
        let step = step.with("extraInfo", format!("<orderedhandle:{index}>"));
        generator.add(step.with("offset", format!("<orderedpopped:{index}>")));
    }
}

/// What has to be refused, or at least done in the same way.
pub(super) fn pop_bad(generator: &mut Generator) {
    if !begin(generator) {
        return;
    }
    let mut header = header(generator);
    let mut born_time = BORN;
    match generator.random.below(7) {
        0 => header.topic = "@nowhere".into(),
        1 => header.queue_id = generator.random.pick(&[1, 99, i32::MAX]),
        2 => header.topic = "@writeonly".into(),
        3 => born_time = "1700000000000",
        4 => header.exp_type = Some("SQL92".into()),
        5 => header.max_msg_nums = 33,
        _ => header.consumer_group = "@bad group!".into(),
    }
    if header.exp_type.is_some() {
        header.exp = Some("price >".into());
    }
    let step = Step::new::<request::PopMessage>("pop-bad", &header);
    generator.add(step.with("bornTime", born_time));
}

pub(super) fn ack(generator: &mut Generator) {
    if !begin(generator) {
        return;
    }
    let index = generator.random.below(6);
    let header = AckMessageHeader {
        consumer_group: GROUP.into(),
        topic: TOPIC.name.into(),
        ..AckMessageHeader::default()
    };
    let step = Step::new::<request::AckMessage>("ack", &header);
    let step = step
        .with("extraInfo", format!("<handle:{index}>"))
        .with("offset", format!("<popped:{index}>"));
    let step = match generator.random.below(8) {
        0 => step.with("extraInfo", "0"),
        1 => step.with("extraInfo", "0 <now:0> 600000 99 0 broker-a 0 0"),
        2 => step.with("extraInfo", "a b c d e f g h"),
        3 => step.with("offset", 1_000_000),
        4 => step.with("queueId", 7),
        _ => step,
    };
    generator.add(step);
}

pub(super) fn change_invisible_time(generator: &mut Generator) {
    if !begin(generator) {
        return;
    }
    let index = generator.random.below(6);
    let header = ChangeInvisibleTimeHeader {
        consumer_group: GROUP.into(),
        topic: TOPIC.name.into(),
        invisible_time: INVISIBLE_MS,
        ..ChangeInvisibleTimeHeader::default()
    };
    let step = Step::new::<request::ChangeMessageInvisibleTime>("change-invisible", &header);
    let step = step
        .with("extraInfo", format!("<handle:{index}>"))
        .with("offset", format!("<popped:{index}>"));
    let step = match generator.random.below(6) {
        0 => step.with("extraInfo", "0 0"),
        1 => step.with("offset", 1_000_000),
        2 => step.with("queueId", 7),
        _ => step,
    };
    generator.add(step);
}

pub(super) fn batch_ack(generator: &mut Generator) {
    if !begin(generator) {
        return;
    }
    let index = generator.random.below(4);
    let bits = generator.random.pick(&["AQ==", "Aw==", "", "/w=="]);
    let body = format!(
        "{{\"acks\":[{{\"b\":\"{bits}\",\"c\":\"{GROUP}\",\"it\":{INVISIBLE_MS},\"pt\":<poptime:{index}>,\"q\":0,\"r\":\"0\",\
         \"rq\":<revive:{index}>,\"so\":<start:{index}>,\"t\":\"{}\"}}],\"brokerName\":\"broker-a\"}}",
        TOPIC.name
    );
    let step = Step::of_code("batch-ack", 200_151);
    let step = match generator.random.below(6) {
        0 => step,
        1 => step.text("{\"acks\":[]}"),
        _ => step.text(body),
    };
    generator.add(step);
}

/// Looks that take nothing away.
pub(super) fn look(generator: &mut Generator) {
    if !begin(generator) {
        return;
    }
    let (topic, group) = match generator.random.below(6) {
        0 => ("@nowhere", GROUP),
        1 => ("@four", GROUPS[0]),
        _ => (TOPIC.name, GROUP),
    };
    let step = match generator.random.below(3) {
        0 => {
            let header = NotificationHeader {
                consumer_group: group.into(),
                topic: topic.into(),
                queue_id: 0,
                ..NotificationHeader::default()
            };
            Step::new::<request::Notification>("pop-look", &header).with("bornTime", BORN)
        }
        1 => {
            let header = PeekMessageHeader {
                consumer_group: group.into(),
                topic: topic.into(),
                max_msg_nums: generator.random.pick(&[1, 3, 32]),
                ..PeekMessageHeader::default()
            };
            Step::new::<request::PeekMessage>("pop-look", &header)
        }
        _ => {
            let header = PollingInfoHeader {
                consumer_group: group.into(),
                topic: topic.into(),
                ..PollingInfoHeader::default()
            };
            Step::new::<request::PollingInfo>("pop-look", &header)
        }
    };
    generator.add(step);
}

/// Which queues a consumer gets, and how it shall ask for messages.
pub(super) fn assignment(generator: &mut Generator) {
    let group = generator.any_group();
    let topic = generator.random.pick(&["@four", "@one", "@shrunk", "@nowhere"]);
    let step = match generator.random.below(3) {
        0 if !generator.plain => {
            let mode = generator.random.pick(&["PULL", "POP"]);
            let topic = generator.random.pick(&["@four", "@one", "@nowhere", "%RETRY%@g1"]);
            let share = generator.random.pick(&[0, 1, -1, 4]);
            Step::of_code("request-mode", 401).text(format!(
                "{{\"consumerGroup\":\"{group}\",\"mode\":\"{mode}\",\"popShareQueueNum\":{share},\"topic\":\"{topic}\"}}"
            ))
        }
        _ => {
            let strategy = generator.random.pick(&["AVG", "AVG_BY_CIRCLE", "OTHER"]);
            let model = generator.random.pick(&["CLUSTERING", "CLUSTERING", "BROADCASTING"]);
            Step::of_code("assignment", 400).text(format!(
                "{{\"clientId\":\"@client-1\",\"consumerGroup\":\"{group}\",\"messageModel\":\"{model}\",\
                 \"strategyName\":\"{strategy}\",\"topic\":\"{topic}\"}}"
            ))
        }
    };
    generator.add(step);
}

/// False for an actor whose header cannot carry the codes.
fn begin(generator: &mut Generator) -> bool {
    if generator.speaks_json && !generator.pops {
        generator.pops = true;
        generator.add(create_topic("topic-update", &TOPIC));
    }
    generator.speaks_json
}

fn header(generator: &mut Generator) -> PopMessageHeader {
    PopMessageHeader {
        consumer_group: GROUP.into(),
        topic: TOPIC.name.into(),
        queue_id: 0,
        max_msg_nums: generator.random.pick(&[1, 2, 8, 32]),
        invisible_time: INVISIBLE_MS,
        poll_time: 0,
        order: Some(false),
        ..PopMessageHeader::default()
    }
}
