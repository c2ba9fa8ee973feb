//! Pulls with every flag, inside the queue and beyond its ends.

use oxmq_protocol::requests::{PullMessageHeader, request};
use oxmq_protocol::sys_flag::pull::{COMMIT_OFFSET, LITE_PULL, SUBSCRIPTION, SUSPEND};

use super::super::script::{Call, Step};
use super::sends::text;
use super::{COMMITTING_GROUPS, Generator, REFUSED_GROUP, Topic};

const EXPRESSIONS: [(&str, &str); 14] = [
    ("TAG", "*"),
    ("TAG", "eu"),
    ("TAG", "eu || vip"),
    ("TAG", "||"),
    ("TAG", " eu||"),
    ("TAG", "ä"),
    ("", "*"),
    ("", "eu"),
    ("", ""),
    ("SQL92", "price > 50"),
    ("SQL92", "price between 10 and 60 and TAGS is not null"),
    ("SQL92", "TAGS in ('eu', 'us') or price is null"),
    ("SQL92", "TAGS startswith 'v'"),
    ("SQL92", "not (price < 3.5)"),
];
const WRONG_EXPRESSIONS: [(&str, &str); 4] = [
    ("SQL92", "price >"),
    ("SQL92", "price = 'a' and ("),
    ("SQL92", ""),
    ("OTHER", "x"),
];

pub(super) fn pull(generator: &mut Generator) {
    let mut header = header(generator);
    header.sys_flag = SUBSCRIPTION;
    let (kind, expression) = match generator.random.below(3) {
        0 if generator.random.one_in(4) => {
            header.consumer_group = REFUSED_GROUP.into();
            generator.random.pick(&WRONG_EXPRESSIONS)
        }
        0 => generator.random.pick(&EXPRESSIONS),
        _ => EXPRESSIONS[0],
    };
    header.expression_type = Some(kind.into());
    header.subscription = Some(expression.into());
    if generator.random.one_in(3) && COMMITTING_GROUPS.contains(&&*header.consumer_group) {
        header.sys_flag |= COMMIT_OFFSET;
    }
    add(generator, "pull", header);
}

/// With the subscription that the group's heartbeat has brought, if it has.
pub(super) fn pull_subscribed(generator: &mut Generator) {
    let mut header = header(generator);
    header.sub_version = generator.random.pick(&[0, 1, 5, 100]);
    if generator.random.one_in(3) && COMMITTING_GROUPS.contains(&&*header.consumer_group) {
        header.sys_flag = COMMIT_OFFSET;
    }
    add(generator, "pull-subscribed", header);
}

pub(super) fn pull_bad(generator: &mut Generator) {
    let mut header = header(generator);
    header.sys_flag = SUBSCRIPTION;
    header.expression_type = Some("TAG".into());
    header.subscription = Some("*".into());
    match generator.random.below(6) {
        0 => header.max_msg_nums = generator.random.pick(&[0, -1, 33, 1000, i32::MAX]),
        1 => header.subscription = None,
        2 => header.topic = "@bad topic!".into(),
        3 => header.consumer_group = generator.random.pick(&["", "@bad group!", "@unseen"]).into(),
        4 => header.sys_flag = !(SUSPEND | COMMIT_OFFSET),
        _ => header.queue_id = generator.random.pick(&[-1, 5, 8, i32::MAX]),
    }
    add(generator, "pull-bad", header);
}

/// Waits at the end of the queue until a message comes.
pub(super) fn pull_held(generator: &mut Generator) {
    let topic = Topic::new("@held", 1, 1, 6);
    let sent = generator.held;
    generator.held += 1;
    if sent == 0 {
        generator.add(super::create_topic("topic-update", &topic));
    }
    let expression = generator.random.pick(&["*", "eu || us || vip", "SQL"]);
    let pull = PullMessageHeader {
        consumer_group: "@g1".into(),
        topic: topic.name.into(),
        queue_offset: sent,
        max_msg_nums: 32,
        sys_flag: SUBSCRIPTION | SUSPEND,
        suspend_timeout_millis: 15_000,
        subscription: Some(if expression == "SQL" { "TAGS = 'eu'" } else { expression }.into()),
        expression_type: Some(if expression == "SQL" { "SQL92" } else { "TAG" }.into()),
        ..PullMessageHeader::default()
    };
    let mut pull = Step::new::<request::PullMessage>("pull-held", &pull);
    pull.call = Call::Overlap;
    generator.add(pull);
    let number = generator.next_serial();
    let send = super::sends::plain(
        topic.name,
        &text(&[("TAGS", "eu"), ("UNIQ_KEY", &format!("u{number}"))]),
    );
    generator.add(send.text(format!("awaited {number}")));
}

/// Everything of a queue from an offset on, as much as one answer holds.
pub(super) fn drain(operation: &str, topic: &str, queue_id: i32, queue_offset: i64) -> Step {
    let header = PullMessageHeader {
        consumer_group: "@g1".into(),
        topic: topic.into(),
        queue_id,
        queue_offset,
        max_msg_nums: 32,
        sys_flag: SUBSCRIPTION,
        subscription: Some("*".into()),
        expression_type: Some("TAG".into()),
        ..PullMessageHeader::default()
    };
    Step::new::<request::PullMessage>(operation, &header)
}

fn header(generator: &mut Generator) -> PullMessageHeader {
    let topic = generator.any_topic();
    PullMessageHeader {
        consumer_group: generator.any_group().into(),
        topic: topic.name.into(),
        queue_id: generator.any_queue(&topic),
        queue_offset: generator.any_offset(),
        max_msg_nums: generator.random.pick(&[1, 3, 32]),
        commit_offset: generator.random.below(6) as i64,
        ..PullMessageHeader::default()
    }
}

fn add(generator: &mut Generator, operation: &str, mut header: PullMessageHeader) {
    let step = if generator.random.one_in(4) {
        header.sys_flag |= LITE_PULL;
        Step::new::<request::LitePullMessage>(operation, &header)
    } else {
        Step::new::<request::PullMessage>(operation, &header)
    };
    generator.add(step);
}
