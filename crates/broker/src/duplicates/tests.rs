//! Workers that stage and append, clients that repeat themselves, a log that loses its end.

use std::net::SocketAddr;

use bytes::{BufMut, BytesMut};
use oxmq_protocol::record::{self, RecordFields};
use proptest::prelude::*;

use super::*;
use crate::testing::stored;

const WINDOW_MS: i64 = 1000;

/// One record as the log has it.
struct Stored {
    topic: String,
    key: String,
    first: First,
    at_ms: i64,
    bytes: BytesMut,
}

/// A send that was staged and not appended yet.
struct Waiting {
    keys: Vec<(String, String)>,
    entered: Entered,
}

struct World {
    window: DuplicateWindow,
    log: Vec<Stored>,
    waiting: Vec<Waiting>,
    now_ms: i64,
    next_offset: i64,
}

fn host() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 10911))
}

fn encode(topic: &str, properties: &[(&str, &str)], sys_flag: i32) -> BytesMut {
    let fields = RecordFields {
        queue_id: 3,
        sys_flag,
        born_host: host(),
        ..RecordFields::new(topic.as_bytes(), b"x")
    };
    stored(&fields, properties)
}

fn batch_body(keys: &[String]) -> BytesMut {
    let mut out = BytesMut::new();
    for key in keys {
        let properties = format!("UNIQ_KEY\u{1}{key}\u{2}");
        out.put_i32((22 + 1 + properties.len()) as i32);
        out.put_bytes(0, 12);
        out.put_i32(1);
        out.put_u8(b'x');
        out.put_i16(properties.len() as i16);
        out.put_slice(properties.as_bytes());
    }
    out
}

impl World {
    fn new(count_max: usize) -> World {
        World {
            window: DuplicateWindow::new(WINDOW_MS, count_max),
            log: Vec::new(),
            waiting: Vec::new(),
            now_ms: 1_000_000,
            next_offset: 0,
        }
    }

    /// A worker gets a send; more than one key makes it a batch.
    fn send(&mut self, topic: &str, keys: &[String]) {
        let mut entered = Entered::new();
        let verdict = match keys {
            [key] => self
                .window
                .enter(topic.as_bytes(), key.as_bytes(), 0, &mut entered, self.now_ms),
            _ => self
                .window
                .enter_batch(topic.as_bytes(), &batch_body(keys), &mut entered, self.now_ms),
        };
        match verdict {
            Verdict::Store => {
                let keys = keys.iter().map(|key| (topic.to_owned(), key.clone())).collect();
                self.waiting.push(Waiting { keys, entered });
            }
            Verdict::Duplicate(prints) => {
                assert!(entered.is_empty());
                for (print, key) in prints.iter().zip(keys) {
                    match self.window.look_up(*print, self.now_ms) {
                        Known::Stored(first) => {
                            assert_eq!(first, self.first_of(topic, key), "not the place of the first")
                        }
                        Known::Pending => assert!(self.is_waiting(topic, key), "nobody stores it"),
                        Known::No => panic!("a duplicate of nothing"),
                    }
                }
            }
        }
    }

    fn is_waiting(&self, topic: &str, key: &str) -> bool {
        let mut keys = self.waiting.iter().flat_map(|waiting| &waiting.keys);
        keys.any(|(of, name)| of == topic && name == key)
    }

    /// The place of the key that is within the window; the last one, as a key may have had to go for others.
    fn first_of(&self, topic: &str, key: &str) -> First {
        let mut stored = self.log.iter().rev();
        let found =
            stored.find(|stored| stored.topic == topic && stored.key == key && stored.at_ms >= self.now_ms - WINDOW_MS);
        found.expect("the log has it").first
    }

    /// A worker ends its turn: the oldest staged send is appended, or the append fails.
    fn append(&mut self, succeeds: bool) {
        if self.waiting.is_empty() {
            return;
        }
        let Waiting { keys, entered } = self.waiting.remove(0);
        if !succeeds {
            return self.window.withdraw(&entered);
        }
        let mut firsts = Vec::new();
        for (topic, key) in keys {
            let mut bytes = encode(&topic, &[("UNIQ_KEY", &key)], 0);
            let queue_offset = self.log.len() as i64;
            record::patch(&mut bytes, queue_offset, self.next_offset, self.now_ms);
            let first = First {
                physical_offset: self.next_offset,
                len: bytes.len() as u32,
                queue_id: 3,
                queue_offset,
                timer_out_ms: 0,
            };
            firsts.push(first);
            self.next_offset += bytes.len() as i64;
            let at_ms = self.now_ms;
            self.log.push(Stored {
                topic,
                key,
                first,
                at_ms,
                bytes,
            });
        }
        self.window.settle(&entered, |number| firsts[number]);
    }

    /// The process ends; the log keeps all but its last `lost` records.
    fn crash(&mut self, lost: usize, count_max: usize) {
        self.waiting.clear();
        self.log.truncate(self.log.len().saturating_sub(lost));
        self.next_offset = self.log.last().map_or(0, |last| last.first.end_offset());
        self.window = DuplicateWindow::new(WINDOW_MS, count_max);
        for stored in self.log.iter().filter(|stored| stored.at_ms >= self.now_ms - WINDOW_MS) {
            self.window.recover(&RecordRef::parse(&stored.bytes).unwrap());
        }
    }

    /// No message is in the log twice within the window.
    fn check(&self) {
        for (index, stored) in self.log.iter().enumerate() {
            let same = |other: &&Stored| other.topic == stored.topic && other.key == stored.key;
            if let Some(again) = self.log[index + 1..].iter().find(same) {
                // Between entering and appending time may pass.
                let apart = again.at_ms - stored.at_ms;
                assert!(
                    apart + STEP_MS_MAX >= WINDOW_MS,
                    "{} stored twice within {apart} ms",
                    stored.key
                );
            }
        }
    }
}

/// Time moves only while nothing is staged, or by less than this.
const STEP_MS_MAX: i64 = 300;

#[derive(Debug, Clone)]
enum Step {
    Send { topic: bool, key: u8 },
    Batch { first: u8 },
    Append { succeeds: bool },
    Wait { ms: i64 },
    Kill,
    PowerCut { lost: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), 0u8..6).prop_map(|(topic, key)| Step::Send { topic, key }),
        2 => (0u8..4).prop_map(|first| Step::Batch { first }),
        6 => prop::bool::weighted(0.9).prop_map(|succeeds| Step::Append { succeeds }),
        2 => (1..STEP_MS_MAX).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Kill),
        1 => (1usize..4).prop_map(|lost| Step::PowerCut { lost }),
    ]
}

fn topic_of(topic: bool) -> &'static str {
    if topic { "a" } else { "b" }
}

proptest! {
    #[test]
    fn what_is_sent_again_is_stored_once(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(1_000_000);
        for step in steps {
            match step {
                Step::Send { topic, key } => world.send(topic_of(topic), &[format!("single-{key}")]),
                // Batches of the same messages: their parts are not sent alone.
                Step::Batch { first } => {
                    let keys: Vec<_> = (0..3).map(|item| format!("batch-{first}-{item}")).collect();
                    world.send("a", &keys);
                }
                Step::Append { succeeds } => world.append(succeeds),
                Step::Wait { ms } => {
                    while !world.waiting.is_empty() {
                        world.append(true);
                    }
                    world.now_ms += ms;
                }
                Step::Kill => world.crash(0, 1_000_000),
                // Whole sends are lost; a batch of which a part is left is stored anew, which is documented.
                Step::PowerCut { lost } => {
                    let mut kept = world.log.len().saturating_sub(lost);
                    while kept > 0 && kept < world.log.len() && world.log[kept].key.starts_with("batch")
                        && !world.log[kept].key.ends_with("-0") {
                        kept -= 1;
                    }
                    world.crash(world.log.len() - kept, 1_000_000);
                }
            }
            world.check();
        }
    }

    #[test]
    fn the_window_never_grows_beyond_its_bound(keys in prop::collection::vec(0u16..2000, 1..2000)) {
        let mut world = World::new(64 * 4);
        for key in keys {
            world.send("a", &[key.to_string()]);
            world.append(true);
            world.now_ms += 1;
        }
        for shard in &world.window.shards {
            let shard = shard.lock();
            prop_assert!(shard.slots.len() <= 4 && shard.numbers.len() <= shard.slots.len());
        }
    }
}

#[test]
fn the_oldest_go_first_when_there_are_too_many_and_that_is_counted() {
    let window = DuplicateWindow::new(WINDOW_MS, 1);
    let mut entered = Entered::new();
    for key in 0..1000 {
        let verdict = window.enter(b"t", format!("{key}").as_bytes(), 0, &mut entered, 5);
        assert!(matches!(verdict, Verdict::Store));
    }
    let kept: usize = window.shards.iter().map(|shard| shard.lock().slots.len()).sum();
    assert!(kept <= SHARDS);
    assert_eq!(window.forgotten(), 1000 - kept as u64);
    let last = window.enter(b"t", b"999", 0, &mut entered, 5);
    assert!(matches!(last, Verdict::Duplicate(_)));
}

#[test]
fn topic_and_attempt_belong_to_the_key() {
    let window = DuplicateWindow::new(WINDOW_MS, 100);
    let mut entered = Entered::new();
    for (topic, times) in [("a", 0), ("b", 0), ("%RETRY%g", 1), ("%RETRY%g", 2)] {
        let verdict = window.enter(topic.as_bytes(), b"K", times, &mut entered, 5);
        assert!(matches!(verdict, Verdict::Store), "{topic} {times}");
    }
    assert!(matches!(
        window.enter(b"b", b"K", 0, &mut entered, 6),
        Verdict::Duplicate(_)
    ));
    window.withdraw(&entered);
    assert!(matches!(window.enter(b"b", b"K", 0, &mut entered, 6), Verdict::Store));
}

#[test]
fn records_tell_what_was_sent() {
    let sent = |topic: &str, properties: &[(&str, &str)], sys_flag| {
        let mut bytes = encode(topic, properties, sys_flag);
        record::patch(&mut bytes, 9, 700, 5);
        let record = RecordRef::parse(&bytes).unwrap();
        Sent::of_record(&record).map(|sent| {
            (
                String::from_utf8_lossy(sent.topic).into_owned(),
                sent.first.queue_id,
                sent.first.queue_offset,
                sent.first.timer_out_ms,
            )
        })
    };
    let (key, real) = (
        ("UNIQ_KEY", "K"),
        [("UNIQ_KEY", "K"), ("REAL_TOPIC", "t"), ("REAL_QID", "1")],
    );
    assert_eq!(sent("t", &[key], 0), Some(("t".into(), 3, 9, 0)));
    assert_eq!(sent("t", &[], 0), None, "no key");
    assert_eq!(sent("SCHEDULE_TOPIC_XXXX", &real, 0), Some(("t".into(), 1, 9, 0)));
    assert_eq!(sent("RMQ_SYS_TRANS_HALF_TOPIC", &real, 0), Some(("t".into(), 1, 9, 0)));
    let timer = [&real[..], &[("TIMER_OUT_MS", "77")]].concat();
    assert_eq!(sent("rmq_sys_wheel_timer", &timer, 0), Some(("t".into(), 1, 9, 77)));
    assert_eq!(sent("t", &real, 0), None, "a delayed message whose time has come");
    assert_eq!(
        sent("t", &[key, ("TIMER_OUT_MS", "77")], 0),
        None,
        "the same of the wheel"
    );
    assert_eq!(
        sent("t", &[key], sys_flag::TRANSACTION_COMMIT),
        None,
        "a committed transaction"
    );
}
