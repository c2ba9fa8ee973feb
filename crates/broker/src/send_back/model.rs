//! A whole group by a virtual clock: messages fail, wait, come again and die, and their consumer crashes at any step.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use oxmq_protocol::record::{self, RecordFields, RecordRef};
use oxmq_protocol::{delay_level, properties, version};
use proptest::prelude::*;

use super::{Destination, destination, first_topic, max_reconsume_times, properties_back};

const TOPIC: &str = "orders";
const RETRY_TOPIC: &str = "%RETRY%g";
/// What documentation promises for attempts that are left to the broker, in seconds.
const WAITS: [u64; 16] = [
    10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200,
];

/// What a consumer does with the next message of one of its two queues.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Succeeds,
    /// And sends it back with this level.
    Fails(i32),
    /// The broker has stored it, the consumer does not live to hear it.
    FailsAndCrashes(i32),
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Consume { from_retry_topic: bool, outcome: Outcome },
    Commit,
    Crash,
    Wait { seconds: u64 },
}

#[derive(Clone)]
struct Stored {
    number: u8,
    record: Vec<u8>,
}

impl Stored {
    fn record(&self) -> RecordRef<'_> {
        RecordRef::parse(&self.record).unwrap()
    }

    fn property(&self, name: &str) -> Option<String> {
        let record = self.record();
        let found = properties::find(record.properties(), name);
        found.map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// A queue, how far its group is, and how far the broker knows it to be.
#[derive(Default)]
struct Queue {
    messages: Vec<Stored>,
    next: usize,
    committed: usize,
}

#[derive(Default)]
struct World {
    now: u64,
    first: Queue,
    retry: Queue,
    /// By due time, then by arrival: as the delay levels keep it.
    waiting: BTreeMap<(u64, usize), Stored>,
    arrivals: usize,
    dead: Vec<Stored>,
    consumed: BTreeSet<u8>,
    deliveries: BTreeMap<u8, usize>,
    has_crashed: bool,
}

fn store(number: u8, topic: &str, reconsume_times: i32, properties: &[u8]) -> Stored {
    let body = [number];
    let fields = RecordFields {
        reconsume_times,
        ..RecordFields::new(topic.as_bytes(), &body)
    };
    let mut record = BytesMut::new();
    record::encode(&mut record, &fields, |out| out.extend_from_slice(properties)).unwrap();
    Stored {
        number,
        record: record.to_vec(),
    }
}

impl World {
    fn with_messages(count: u8) -> World {
        let mut world = World::default();
        for number in 0..count {
            let mut text = BytesMut::new();
            properties::write(&mut text, b"KEYS", number.to_string().as_bytes());
            world.first.messages.push(store(number, TOPIC, 0, &text));
        }
        world
    }

    fn run(&mut self, step: Step, max_times: i32) {
        match step {
            Step::Consume {
                from_retry_topic,
                outcome,
            } => self.consume(from_retry_topic, outcome, max_times),
            Step::Commit => {
                for queue in [&mut self.first, &mut self.retry] {
                    queue.committed = queue.next;
                }
            }
            Step::Crash => self.crash(),
            Step::Wait { seconds } => self.wait(seconds),
        }
    }

    fn consume(&mut self, from_retry_topic: bool, outcome: Outcome, max_times: i32) {
        let queue = match from_retry_topic {
            true => &mut self.retry,
            false => &mut self.first,
        };
        let Some(message) = queue.messages.get(queue.next).cloned() else {
            return;
        };
        *self.deliveries.entry(message.number).or_default() += 1;
        match outcome {
            Outcome::Succeeds => drop(self.consumed.insert(message.number)),
            Outcome::Fails(level) | Outcome::FailsAndCrashes(level) => self.send_back(&message, level, max_times),
        }
        if matches!(outcome, Outcome::FailsAndCrashes(_)) {
            return self.crash();
        }
        match from_retry_topic {
            true => self.retry.next += 1,
            false => self.first.next += 1,
        }
    }

    /// What the handler of request 36 does.
    fn send_back(&mut self, message: &Stored, level: i32, max_times: i32) {
        let record = message.record();
        let times = record.reconsume_times();
        let destination = destination(times, level, max_times);
        assert_eq!(first_topic(&record), TOPIC.as_bytes());
        let text = properties_back(&record, &format!("ID-{}", message.number), destination);
        let back = |topic| store(message.number, topic, times + 1, &text);
        match destination {
            Destination::DeadLetters => self.dead.push(back("%DLQ%g")),
            Destination::Retry { delay_level } => {
                let levels = delay_level::parse(delay_level::DEFAULT).unwrap();
                let wait = levels[(delay_level as usize).clamp(1, levels.len()) - 1] / 1000;
                if level == 0 {
                    assert_eq!(wait, WAITS[(times as usize).min(WAITS.len() - 1)]);
                }
                self.arrivals += 1;
                self.waiting.insert((self.now + wait, self.arrivals), back(RETRY_TOPIC));
            }
        }
    }

    fn crash(&mut self) {
        self.has_crashed = true;
        for queue in [&mut self.first, &mut self.retry] {
            queue.next = queue.committed;
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += seconds;
        let later = self.waiting.split_off(&(self.now + 1, 0));
        let due = std::mem::replace(&mut self.waiting, later);
        self.retry.messages.extend(due.into_values());
    }

    fn is_settled(&self) -> bool {
        let is_done = |queue: &Queue| queue.next == queue.messages.len();
        is_done(&self.first) && is_done(&self.retry) && self.waiting.is_empty()
    }

    fn check(&self, max_times: i32) {
        for message in self
            .retry
            .messages
            .iter()
            .chain(self.waiting.values())
            .chain(&self.dead)
        {
            let origin = format!("ID-{}", message.number);
            assert_eq!(message.property("RETRY_TOPIC").as_deref(), Some(TOPIC));
            assert_eq!(message.property("ORIGIN_MESSAGE_ID"), Some(origin));
            assert_eq!(message.property("KEYS"), Some(message.number.to_string()));
            assert_eq!(message.record().body(), [message.number]);
        }
        for message in self.retry.messages.iter().chain(self.waiting.values()) {
            assert!((1..=max_times).contains(&message.record().reconsume_times()));
        }
        for message in &self.dead {
            assert!((1..=max_times + 1).contains(&message.record().reconsume_times()));
        }
    }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Succeeds),
        8 => Just(Outcome::Fails(0)),
        3 => (-1..25i32).prop_map(Outcome::Fails),
        1 => (-1..25i32).prop_map(Outcome::FailsAndCrashes),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), outcome()).prop_map(|(from_retry_topic, outcome)| Step::Consume { from_retry_topic, outcome }),
        2 => Just(Step::Commit),
        1 => Just(Step::Crash),
        4 => prop_oneof![Just(1u64), Just(15), Just(600), Just(7200)].prop_map(|seconds| Step::Wait { seconds }),
    ]
}

proptest! {
    #[test]
    fn every_message_is_consumed_or_a_dead_letter(
        steps in prop::collection::vec(step(), 0..120),
        count in 1..4u8,
        of_group in 0..=16i32,
        of_client in prop::option::of(0..=16i32),
    ) {
        let max_times = max_reconsume_times(of_group, of_client, version::V5_5_0);
        let mut world = World::with_messages(count);
        for step in steps {
            world.run(step, max_times);
            world.check(max_times);
        }
        while !world.is_settled() {
            for from_retry_topic in [false, true] {
                let outcome = Outcome::Fails(0);
                world.run(Step::Consume { from_retry_topic, outcome }, max_times);
            }
            world.run(Step::Wait { seconds: 7200 }, max_times);
        }
        world.check(max_times);
        for number in 0..count {
            let dead = world.dead.iter().filter(|message| message.number == number).count();
            let consumed = usize::from(world.consumed.contains(&number));
            prop_assert!(dead + consumed > 0, "{number} is lost");
            if !world.has_crashed {
                prop_assert_eq!(dead + consumed, 1, "{} ends once", number);
                prop_assert!(world.deliveries[&number] <= max_times as usize + 1);
            }
        }
    }
}
