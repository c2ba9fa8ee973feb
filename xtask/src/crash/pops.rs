//! POP under the kills: every message is acknowledged in the end, and what was acknowledged comes again only where a kill
//! took back progress that was not saved.
//!
//! Consumers live through all kills, like those of an application. They acknowledge most messages, leave some, and ask
//! for others at another time. After a kill the saved offsets say which messages must not be seen again: those before
//! them that were sent, handed out and acknowledged in time since the kill before. About all others nothing is known
//! for sure, as a pop or an acknowledgement without an answer may have been done; those are counted.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::now_ms;
use anyhow::{bail, ensure};
use oxmq_client::{ConsumeFromWhere, Message, MessageExt, Producer, SendStatus, SimpleConsumer};
use oxmq_protocol::body::ConsumerOffsetSerializeWrapper;
use oxmq_protocol::pop::ReceiptHandle;
use oxmq_protocol::{json, property};
use tokio::task::JoinSet;

pub(super) const TOPIC: &str = "CrashPops";
const GROUP: &str = "crash-pops";
const PRODUCERS: usize = 4;
const CONSUMERS: usize = 4;
const SEND_PAUSE: Duration = Duration::from_millis(2);
const POP_MAX: usize = 16;
const INVISIBLE: Duration = Duration::from_secs(2);
const INVISIBLE_CHANGED: Duration = Duration::from_millis(500);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Longer than it takes a message to come again.
const QUIET: Duration = Duration::from_secs(8);

pub(super) const BROKER_PROPERTIES: [(&str, &str); 1] = [("flushConsumerOffsetInterval", "200")];

pub(super) struct Pops {
    producer: Producer,
    consumers: JoinSet<()>,
    senders: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    /// Everything is acknowledged from now on.
    is_draining: AtomicBool,
    stop: AtomicBool,
}

impl Pops {
    pub(super) async fn start(namesrv_addr: String) -> anyhow::Result<Pops> {
        let producer = Producer::builder("crash-pops-producer")
            .name_server(namesrv_addr.clone())
            .retry_times_when_send_failed(0);
        let consumer = SimpleConsumer::builder(GROUP)
            .name_server(namesrv_addr)
            .subscribe(TOPIC, "*")
            .consume_from_where(ConsumeFromWhere::FirstOffset)
            .await_duration(Duration::from_millis(500));
        let consumer = Arc::new(consumer.start().await?);
        let shared = Arc::<Shared>::default();
        let mut consumers = JoinSet::new();
        for _ in 0..CONSUMERS {
            consumers.spawn(consume(Arc::clone(&consumer), Arc::clone(&shared)));
        }
        Ok(Pops {
            producer: producer.start().await?,
            consumers,
            senders: JoinSet::new(),
            shared,
        })
    }

    /// Sends until the broker dies.
    pub(super) fn load(&mut self) {
        self.shared.is_draining.store(false, Ordering::Relaxed);
        for _ in 0..PRODUCERS {
            let (producer, shared) = (self.producer.clone(), Arc::clone(&self.shared));
            self.senders.spawn(async move {
                loop {
                    let number = shared.seen().send();
                    match producer.send(Message::new(TOPIC, number.to_string())).await {
                        Ok(result) if result.status == SendStatus::SendOk => shared.seen().sent(number),
                        // Stored but not promised.
                        Ok(_) => {}
                        Err(_) => return,
                    }
                    tokio::time::sleep(SEND_PAUSE).await;
                }
            });
        }
    }

    /// The broker is dead and has left these files.
    pub(super) async fn ended(&mut self, store_dir: &Path) -> anyhow::Result<()> {
        self.shared.seen().killed(&saved_offsets(store_dir)?);
        while self.senders.join_next().await.is_some() {}
        self.shared.seen().check()
    }

    /// Lets the consumers acknowledge everything until nothing comes any more.
    pub(super) async fn check(&mut self) -> anyhow::Result<String> {
        self.shared.is_draining.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut quiet_since = Instant::now();
        let mut deliveries = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let seen = self.shared.seen();
            seen.check()?;
            let missing = seen.missing();
            if missing.is_some() || seen.deliveries != deliveries {
                (quiet_since, deliveries) = (Instant::now(), seen.deliveries);
            }
            if quiet_since.elapsed() >= QUIET {
                return Ok(seen.to_string());
            }
            if Instant::now() > deadline {
                match missing {
                    Some(number) => bail!(
                        "message {number} was never acknowledged: {:?}",
                        seen.stories.get(&number)
                    ),
                    None => bail!("messages come again and again that were acknowledged: {seen}"),
                }
            }
        }
    }

    pub(super) async fn shutdown(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        while self.consumers.join_next().await.is_some() {}
        self.producer.shutdown().await;
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics with it")
    }
}

async fn consume(consumer: Arc<SimpleConsumer>, shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        // An error means that there is no broker for a while.
        for mut message in consumer.receive(POP_MAX, INVISIBLE).await.unwrap_or_default() {
            consume_one(&consumer, &shared, &mut message).await;
        }
    }
}

async fn consume_one(consumer: &SimpleConsumer, shared: &Shared, message: &mut MessageExt) {
    let Some(number) = std::str::from_utf8(&message.body)
        .ok()
        .and_then(|body| body.parse().ok())
    else {
        return shared.seen().wrong = Some(format!("a message that no producer sent: {message:?}"));
    };
    let visible_at = visible_at(message);
    let times = shared.seen().delivered(number, Handed::of(message));
    let does_all = times > 1 || shared.is_draining.load(Ordering::Relaxed);
    match number % 21 {
        0 | 7 if !does_all => {}
        // Whether that was done or not, it comes again.
        14 if !does_all => drop(consumer.change_invisible_duration(message, INVISIBLE_CHANGED).await),
        _ => match consumer.ack(message).await {
            Ok(()) => shared.seen().acked(number, now_ms() < visible_at),
            Err(_) => shared.seen().perhaps_acked(number),
        },
    }
}

/// Until then nobody else gets the message.
fn visible_at(message: &MessageExt) -> i64 {
    let handle = message.message.properties.get(property::POP_CK);
    let handle = handle.and_then(|handle| ReceiptHandle::parse(handle).ok());
    handle.map_or(0, |handle| handle.pop_time + handle.invisible_time)
}

/// What the consumers know of all messages. A plain struct: what happens goes in, what is wrong comes out.
#[derive(Default)]
struct Seen {
    stories: HashMap<u64, Story>,
    /// Kills so far.
    kills: u32,
    deliveries: u64,
    came_after_ack: u64,
    settled: u64,
    wrong: Option<String>,
}

#[derive(Debug, Default)]
struct Story {
    is_sent: bool,
    sent_after_kills: u32,
    deliveries: u32,
    is_acked: bool,
    /// An acknowledgement had no answer: it may have been done.
    is_perhaps_acked: bool,
    certain: Certain,
}

/// Where a message lay that was handed out.
#[derive(Debug, Clone, Copy)]
struct Handed {
    queue_id: i32,
    queue_offset: i64,
    reconsume_times: i32,
}

impl Handed {
    fn of(message: &MessageExt) -> Handed {
        Handed {
            queue_id: message.queue_id,
            queue_offset: message.queue_offset,
            reconsume_times: message.reconsume_times,
        }
    }
}

/// Whether a message may be seen again after it was acknowledged.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Certain {
    #[default]
    Nothing,
    /// Handed out once since it was sent, without a kill.
    HandedOut { queue_id: i32, queue_offset: i64 },
    /// And acknowledged in time.
    Acked { queue_id: i32, queue_offset: i64 },
    /// And behind the saved offset when the broker was killed.
    Settled,
}

impl Seen {
    /// The number of the next message.
    fn send(&mut self) -> u64 {
        let number = self.stories.len() as u64;
        let story = Story {
            sent_after_kills: self.kills,
            ..Story::default()
        };
        self.stories.insert(number, story);
        number
    }

    fn sent(&mut self, number: u64) {
        self.story(number).is_sent = true;
    }

    fn story(&mut self, number: u64) -> &mut Story {
        self.stories.entry(number).or_default()
    }

    /// How often the message was seen, this time included.
    fn delivered(&mut self, number: u64, message: Handed) -> u32 {
        let kills = self.kills;
        self.deliveries += 1;
        let story = self.story(number);
        story.deliveries += 1;
        let (times, is_acked, before) = (story.deliveries, story.is_acked, story.certain);
        story.certain = match times == 1 && message.reconsume_times == 0 && story.sent_after_kills == kills {
            true => Certain::HandedOut {
                queue_id: message.queue_id,
                queue_offset: message.queue_offset,
            },
            false => Certain::Nothing,
        };
        self.came_after_ack += u64::from(is_acked);
        if matches!(before, Certain::Acked { .. } | Certain::Settled) {
            self.wrong = Some(format!(
                "message {number} came again after {kills} kills and {before:?}: {message:?}"
            ));
        }
        times
    }

    fn acked(&mut self, number: u64, in_time: bool) {
        let story = self.story(number);
        story.is_acked = true;
        story.certain = match story.certain {
            Certain::HandedOut { queue_id, queue_offset } if in_time => Certain::Acked { queue_id, queue_offset },
            _ => Certain::Nothing,
        };
    }

    fn perhaps_acked(&mut self, number: u64) {
        self.story(number).is_perhaps_acked = true;
    }

    /// `saved`: the offsets of the queues.
    fn killed(&mut self, saved: &HashMap<i32, i64>) {
        self.kills += 1;
        for story in self.stories.values_mut() {
            story.certain = match story.certain {
                Certain::Acked { queue_id, queue_offset }
                    if saved.get(&queue_id).is_some_and(|to| queue_offset < *to) =>
                {
                    self.settled += 1;
                    Certain::Settled
                }
                Certain::Settled => Certain::Settled,
                _ => Certain::Nothing,
            };
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        self.wrong.as_ref().map_or(Ok(()), |wrong| bail!("{wrong}"))
    }

    /// A message that was stored, and certainly not acknowledged yet.
    fn missing(&self) -> Option<u64> {
        let open = |(_, story): &(&u64, &Story)| story.is_sent && !story.is_acked && !story.is_perhaps_acked;
        self.stories.iter().find(open).map(|(number, _)| *number)
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let acked = self.stories.values().filter(|story| story.is_acked).count();
        let open = self
            .stories
            .values()
            .filter(|story| story.is_perhaps_acked && !story.is_acked);
        write!(
            out,
            "{acked} messages were popped and acknowledged, {} perhaps, and none is left; of {} deliveries {} came after \
             an acknowledgement, none of them for the {} messages whose offsets had been saved",
            open.count(),
            self.deliveries,
            self.came_after_ack,
            self.settled
        )
    }
}

/// The offsets of the group as they were saved last.
fn saved_offsets(store_dir: &Path) -> anyhow::Result<HashMap<i32, i64>> {
    let file = store_dir.join("config/consumerOffset.json");
    let stored = [file.clone(), file.with_extension("json.bak")]
        .iter()
        .filter_map(|path| std::fs::read(path).ok())
        .find_map(|bytes| json::from_slice::<ConsumerOffsetSerializeWrapper>(&bytes).ok());
    let Some(stored) = stored else {
        ensure!(!file.exists(), "{} cannot be read", file.display());
        return Ok(HashMap::new());
    };
    let queues = stored.offset_table.get(&format!("{TOPIC}@{GROUP}"));
    Ok(queues
        .into_iter()
        .flatten()
        .map(|(queue_id, offset)| (*queue_id, *offset))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(queue_offset: i64) -> Handed {
        Handed {
            queue_id: 0,
            queue_offset,
            reconsume_times: 0,
        }
    }

    #[test]
    fn what_is_saved_must_not_come_again_and_what_is_not_may() {
        let mut seen = Seen::default();
        for (number, queue_offset) in [(0, 5), (1, 6)] {
            assert_eq!(seen.send(), number);
            seen.sent(number);
            assert_eq!(seen.delivered(number, message(queue_offset)), 1);
            seen.acked(number, true);
        }
        seen.killed(&HashMap::from([(0, 6)]));
        seen.delivered(1, message(6));
        assert!(seen.check().is_ok());
        seen.delivered(0, message(5));
        assert!(seen.check().is_err());
        assert_eq!((seen.settled, seen.came_after_ack, seen.missing()), (1, 2, None));
    }

    #[test]
    fn without_a_kill_nothing_comes_again_that_was_acknowledged_in_time() {
        let mut seen = Seen::default();
        for number in [0, 1] {
            seen.send();
            seen.delivered(number, message(number as i64));
            seen.acked(number, number == 0);
        }
        seen.delivered(1, message(1));
        assert!(seen.check().is_ok(), "it was acknowledged too late");
        seen.delivered(0, message(0));
        assert!(seen.check().is_err());
    }
}
