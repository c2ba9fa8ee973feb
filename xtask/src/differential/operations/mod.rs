//! What can happen: the table of operations, each with its weight, how it is made and how its answers are compared.
//!
//! A new operation is a row here and a function that adds its steps to the script.

mod admin;
mod consumers;
mod light;
mod pop;
mod queries;
mod reads;
mod sends;
mod transactions;

use anyhow::ensure;
use oxmq_protocol::body::SubscriptionGroupConfig;
use oxmq_protocol::requests::{CreateTopicHeader, request};

use super::answer::BodyForm;
use super::script::Step;
use crate::random::Random;

/// One row.
pub(super) struct Operation {
    pub(super) name: &'static str,
    /// How often it is chosen, relative to the others.
    weight: u32,
    make: fn(&mut Generator),
    pub(super) body: BodyForm,
    /// Asking again changes nothing, so answers may be asked for until they are equal.
    pub(super) repeatable: bool,
    /// What it reads may come late.
    pub(super) patient: bool,
    /// Parts of the answer that say nothing, as paths.
    ignored: &'static [&'static str],
}

impl Operation {
    /// One that changes something, so that its first answer counts.
    const fn change(name: &'static str, weight: u32, make: fn(&mut Generator)) -> Operation {
        Operation {
            name,
            weight,
            make,
            body: BodyForm::Json,
            repeatable: false,
            patient: false,
            ignored: &[],
        }
    }

    const fn read(name: &'static str, weight: u32, make: fn(&mut Generator), body: BodyForm) -> Operation {
        Operation {
            repeatable: true,
            body,
            ..Operation::change(name, weight, make)
        }
    }

    const fn with_messages(self) -> Operation {
        Operation {
            body: BodyForm::Messages,
            ..self
        }
    }

    const fn patient(self) -> Operation {
        Operation { patient: true, ..self }
    }

    const fn ignoring(self, ignored: &'static [&'static str]) -> Operation {
        Operation { ignored, ..self }
    }

    pub(super) fn ignores(&self, path: &str) -> bool {
        self.ignored
            .iter()
            .any(|ignored| path == *ignored || path.strip_prefix(ignored).is_some_and(|rest| rest.starts_with('.')))
    }
}

const OPERATIONS: &[Operation] = &[
    Operation::change("send", 180, sends::single),
    Operation::change("send-v1", 40, sends::single_v1),
    Operation::change("send-batch", 40, sends::batch),
    Operation::change("send-one-way", 15, sends::one_way),
    Operation::change("send-delayed", 10, sends::delayed).ignoring(&["fields.queueOffset"]),
    Operation::change("send-timer", 12, sends::timer).ignoring(&["fields.queueOffset", "fields.recallHandle"]),
    Operation::change("recall", 5, sends::recall),
    Operation::change("send-half", 15, transactions::half).ignoring(&["fields.queueOffset"]),
    Operation::change("end-transaction", 8, transactions::end_bad),
    // What was sent back before comes in between when its delay is over.
    Operation::change("send-to-retry-topic", 10, sends::to_retry_topic).ignoring(&["fields.queueOffset"]),
    Operation::change("send-back", 15, sends::back),
    Operation::change("send-bad", 40, sends::bad),
    Operation::change("send-too-large", 2, sends::too_large),
    Operation::read("pull", 120, reads::pull, BodyForm::Messages),
    Operation::read("pull-subscribed", 40, reads::pull_subscribed, BodyForm::Messages),
    Operation::read("pull-bad", 30, reads::pull_bad, BodyForm::Messages),
    Operation::read("pull-held", 4, reads::pull_held, BodyForm::Messages),
    Operation::read("drain", 0, |_| {}, BodyForm::Messages),
    Operation::read("drain-delayed", 0, |_| {}, BodyForm::MessagesInAnyOrder)
        .patient()
        .ignoring(&["fields", "remark"]),
    Operation::read("queue-offset", 40, queries::queue_offset, BodyForm::Text),
    Operation::read("offset-by-time", 15, queries::offset_by_time, BodyForm::Text),
    Operation::read("query-by-key", 25, queries::by_key, BodyForm::Messages)
        .ignoring(&["fields.indexLastUpdatePhyoffset", "fields.indexLastUpdateTimestamp"]),
    Operation::read("view-message", 20, queries::view, BodyForm::Messages),
    Operation::read("query-consume-queue", 6, queries::consume_queue, BodyForm::Json).ignoring(&["body.queueData"]),
    Operation::change("update-offset", 40, consumers::update_offset),
    Operation::read("query-offset", 40, consumers::query_offset, BodyForm::Text),
    Operation::change("reset-offset", 8, consumers::reset_offset),
    Operation::change("heartbeat", 25, consumers::heartbeat),
    Operation::change("unregister", 8, consumers::unregister),
    Operation::change("lock", 15, consumers::lock),
    Operation::change("unlock", 10, consumers::unlock),
    Operation::change("pop", 25, pop::pop)
        .with_messages()
        .ignoring(&["fields.reviveQid"]),
    Operation::change("pop-in-order", 12, pop::pop_in_order)
        .with_messages()
        .ignoring(&["fields.reviveQid"]),
    Operation::change("pop-bad", 8, pop::pop_bad)
        .with_messages()
        .ignoring(&["fields.reviveQid"]),
    Operation::change("ack", 25, pop::ack),
    Operation::change("change-invisible", 8, pop::change_invisible_time).ignoring(&["fields.reviveQid"]),
    Operation::change("change-in-order", 0, |_| {}).ignoring(&["fields.invisibleTime"]),
    Operation::change("batch-ack", 8, pop::batch_ack),
    Operation::read("pop-look", 12, pop::look, BodyForm::Messages),
    Operation::read("assignment", 8, pop::assignment, BodyForm::Json),
    Operation::change("request-mode", 0, |_| {}),
    Operation::read("check-client", 6, consumers::check_client, BodyForm::Text),
    Operation::read("consumer-info", 25, consumers::info, BodyForm::Json)
        .ignoring(&["body.totalDiff", "body.totalInflightDiff"]),
    Operation::change("light-send", 15, light::send),
    Operation::read("light-look", 15, light::look, BodyForm::Messages),
    Operation::change("light-commit", 5, light::commit),
    Operation::read("correct-offsets", 5, consumers::correct_offsets, BodyForm::Json),
    Operation::change("ask-client", 8, consumers::ask_client),
    Operation::change("send-reply", 12, sends::reply),
    Operation::read("pushes", 6, consumers::pushes, BodyForm::Json).patient(),
    Operation::change("topic-update", 12, admin::update_topic),
    Operation::change("topic-delete", 4, admin::delete_topic),
    Operation::read("topic-info", 20, admin::topic_info, BodyForm::Json).ignoring(&[
        "fields.totalTopicNum",
        "fields.totalGroupNum",
        "body.topicPutTps",
    ]),
    Operation::change("group-update", 8, admin::update_group),
    Operation::change("group-delete", 3, admin::delete_group),
    Operation::change("group-forbid", 4, admin::forbid),
    Operation::change("clone-offsets", 3, admin::clone_offsets),
    Operation::read("broker-info", 6, admin::broker_info, BodyForm::Text).ignoring(&["body", "fields.version"]),
    Operation::read("name-server", 10, admin::name_server, BodyForm::Json).patient(),
    Operation::change("kv-config", 6, admin::kv_config),
    Operation::read("unknown-code", 4, admin::unknown_code, BodyForm::Text),
    Operation::change("mutated", 60, mutated),
];

/// The row of this name; scripts on disk may name one that is gone.
pub(super) fn operation(name: &str) -> &'static Operation {
    let row = OPERATIONS.iter().find(|row| row.name == name);
    row.unwrap_or_else(|| panic!("no operation is called {name:?}"))
}

/// Makes the script of one actor.
pub(super) struct Generator {
    random: Random,
    script: Vec<Step>,
    topics: Vec<Topic>,
    /// Numbers bodies and keys.
    serial: usize,
    /// Messages that will have come out of a delay at the end.
    delayed: usize,
    /// Messages that held pulls have waited for.
    held: i64,
    /// Half messages.
    halves: usize,
    pops: bool,
    sends_light: bool,
    /// Messages in the topic that is popped from.
    popped: i64,
    /// Messages in the topic that is popped from in order.
    ordered: i64,
    /// Does nothing whose later effects are meant to differ: no broadcasting, as Java counts what such clients pull as
    /// progress, for those that move to a proxy; no request modes, of which we tell members at once.
    plain: bool,
    /// The binary header has no room for the codes of POP.
    speaks_json: bool,
}

/// A topic as the script so far has left it.
#[derive(Debug, Clone, Copy)]
struct Topic {
    name: &'static str,
    read_queues: i32,
    write_queues: i32,
    perm: i32,
}

impl Topic {
    const fn new(name: &'static str, read_queues: i32, write_queues: i32, perm: i32) -> Topic {
        Topic {
            name,
            read_queues,
            write_queues,
            perm,
        }
    }

    fn queues(&self) -> i32 {
        self.read_queues.max(self.write_queues)
    }
}

/// Those that exist from the start.
const TOPICS: [Topic; 6] = [
    Topic::new("@four", 4, 4, 6),
    Topic::new("@one", 1, 1, 6),
    Topic::new("@grown", 3, 5, 6),
    Topic::new("@shrunk", 5, 2, 6),
    Topic::new("@readonly", 2, 2, 4),
    Topic::new("@writeonly", 2, 2, 2),
];
const DELAY_TOPIC: Topic = Topic::new("@delay", 1, 1, 6);
/// Exists from the first send on.
const AUTO_TOPIC: &str = "@auto";
const MISSING_TOPIC: &str = "@missing";
const GROUPS: [&str; 3] = ["@g1", "@g2", "@g3"];
/// Of these the pulls that commit: where a reset waits to be handed out, Java lets the pull commit over it, and we do not.
const COMMITTING_GROUPS: [&str; 2] = ["@g1", "@g2"];
const RESET_GROUP: &str = "@g3";
/// Whose pulls we refuse where Java goes on and remembers them.
const REFUSED_GROUP: &str = "@refused";
const TAGS: [&str; 4] = ["eu", "us", "vip", "ä"];
const BORN_MS: i64 = 1_700_000_000_000;

/// A script of so many operations, set-up and random ones, and at the end a look at every message.
pub(super) fn script(seed: u64, actor: usize, operations: usize, only: Option<&str>) -> anyhow::Result<Vec<Step>> {
    let weight = |row: &Operation| match only {
        Some(name) if !row.name.starts_with(name) && !matches!(row.name, "send" | "pull") => 0,
        _ => row.weight,
    };
    ensure!(
        OPERATIONS
            .iter()
            .any(|row| only.is_none_or(|name| row.name.starts_with(name))),
        "no operation is called {only:?}"
    );
    let mut generator = Generator {
        random: Random::new(seed.wrapping_mul(1_000_003).wrapping_add(actor as u64)),
        script: Vec::new(),
        topics: TOPICS.to_vec(),
        serial: 0,
        delayed: 0,
        held: 0,
        halves: 0,
        pops: false,
        popped: 0,
        sends_light: false,
        ordered: 0,
        plain: actor % 4 >= 2,
        speaks_json: actor.is_multiple_of(2),
    };
    generator.set_up();
    while generator.script.len() < operations {
        let row = generator.random.weighted(OPERATIONS.iter().map(weight));
        (OPERATIONS[row].make)(&mut generator);
    }
    generator.drain();
    Ok(generator.script)
}

impl Generator {
    fn add(&mut self, step: Step) {
        self.script.push(step);
    }

    fn set_up(&mut self) {
        for topic in TOPICS.into_iter().chain([DELAY_TOPIC]) {
            self.add(create_topic("topic-update", &topic));
        }
        self.add(Step::of_code("group-update", 200).json(&SubscriptionGroupConfig::new(REFUSED_GROUP)));
        for group in GROUPS {
            self.add(Step::of_code("group-update", 200).json(&SubscriptionGroupConfig::new(group)));
            // With one queue there is no choice of where a message that goes back ends up.
            let mut topic = create_topic("topic-update", &Topic::new("", 1, 1, 6));
            topic.fields.insert("topic".into(), format!("%RETRY%{group}"));
            self.add(topic);
        }
    }

    /// Reads every queue from its start, so that nothing can be lost unnoticed.
    fn drain(&mut self) {
        for topic in self.topics.clone() {
            for queue_id in 0..topic.queues() {
                self.add(reads::drain("drain", topic.name, queue_id, 0));
            }
        }
        for (number, left) in (0..self.delayed).step_by(32).enumerate() {
            let mut step = reads::drain("drain-delayed", DELAY_TOPIC.name, 0, left as i64);
            step.messages_min = (self.delayed - number * 32).min(32);
            self.add(step);
        }
        for queue in light::QUEUES {
            self.add(reads::drain("drain", queue, 0, 0));
        }
        consumers::pushes(self);
        for group in GROUPS {
            for kind in ["%RETRY%", "%DLQ%"] {
                self.add(reads::drain("drain-delayed", &format!("{kind}{group}"), 0, 0));
            }
        }
    }

    fn next_serial(&mut self) -> usize {
        self.serial += 1;
        self.serial
    }

    /// Mostly one that exists.
    fn any_topic(&mut self) -> Topic {
        match self.random.below(40) {
            0 => Topic::new(MISSING_TOPIC, 0, 0, 0),
            1 => Topic::new(AUTO_TOPIC, 4, 4, 6),
            _ => {
                let index = self.random.below(self.topics.len());
                self.topics[index]
            }
        }
    }

    /// Mostly one that the topic has.
    fn any_queue(&mut self, topic: &Topic) -> i32 {
        match self.random.below(40) {
            0 => self.random.pick(&[-1, 5, 99, i32::MAX, i32::MIN]),
            _ => self.random.below(topic.queues().max(1) as usize) as i32,
        }
    }

    fn any_group(&mut self) -> &'static str {
        match self.random.below(30) {
            0 => "@unseen",
            _ => self.random.pick(&GROUPS),
        }
    }

    /// A queue offset: mostly within a young queue, now and then beyond either end.
    fn any_offset(&mut self) -> i64 {
        match self.random.below(10) {
            0 => self.random.pick(&[-1, -100, i64::MIN, i64::MAX, 1 << 40, 1000]),
            1..=4 => 0,
            _ => self.random.below(12) as i64,
        }
    }
}

fn create_topic(operation: &str, topic: &Topic) -> Step {
    let header = CreateTopicHeader {
        topic: topic.name.into(),
        default_topic: Some("TBW102".into()),
        read_queue_nums: topic.read_queues,
        write_queue_nums: topic.write_queues,
        perm: topic.perm,
        topic_filter_type: "SINGLE_TAG".into(),
        topic_sys_flag: Some(0),
        ..CreateTopicHeader::default()
    };
    Step::new::<request::UpdateAndCreateTopic>(operation, &header)
}

/// Any other operation with one of its fields gone or filled with something that it should not hold.
fn mutated(generator: &mut Generator) {
    const VALUES: [&str; 8] = ["", " ", "abc", "-1", "1.5", "99999999999", "true", "@x\u{1}"];
    /// Nothing comes into being under them.
    const WRONG_NAMES: [&str; 4] = ["", " ", "@x\u{1}", "@a b"];
    /// What a send cannot do without, and what is no number.
    const SEND_FIELDS: [&str; 8] = ["e", "f", "g", "h", "queueId", "sysFlag", "bornTimestamp", "flag"];
    let names: Vec<_> = TOPICS.iter().map(|topic| topic.name).chain(GROUPS).collect();
    let before = generator.script.len();
    // A change is refused by us for what Java does not look at, and would leave the two in different states.
    let row = generator.random.weighted(OPERATIONS.iter().map(|row| match row.name {
        "pull-held" | "pop-look" | "assignment" | "pushes" | "light-look" => 0,
        "send" | "send-v1" | "send-batch" => row.weight,
        _ if row.repeatable => row.weight,
        _ => 0,
    }));
    (OPERATIONS[row].make)(generator);
    for mut step in generator.script.split_off(before) {
        let random = &mut generator.random;
        let is_send = step.operation.starts_with("send");
        // What we refuse must not be what makes Java create or remember something.
        for value in step.fields.values_mut() {
            if value.starts_with('@') && !names.contains(&value.as_str()) {
                *value = if is_send { "@four" } else { "@g1" }.to_owned();
            }
        }
        if let Some(flags) = step.fields.get_mut("sysFlag").filter(|_| !is_send) {
            *flags = "4".to_owned();
            step.fields.insert("consumerGroup".into(), REFUSED_GROUP.into());
        }
        let mut fields: Vec<_> = step.fields.keys().cloned().collect();
        fields.retain(|field| !is_send || SEND_FIELDS.contains(&&**field));
        if !fields.is_empty() {
            let name = &fields[random.below(fields.len())];
            if !is_send && random.one_in(3) {
                step.fields.remove(name);
            } else {
                let is_name = step.fields.get(name).is_some_and(|value| value.starts_with('@'));
                let from = match (is_send, is_name) {
                    (true, _) => &["abc", "1.5", "99999999999"][..],
                    (false, true) => &WRONG_NAMES[..],
                    (false, false) => &VALUES[..],
                };
                step.fields.insert(name.clone(), random.pick(from).to_owned());
            }
        }
        generator.add(step);
    }
}
