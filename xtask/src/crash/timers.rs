//! Delayed messages under the kills: each is delivered once and not before its time, and not at all when it was
//! recalled.
//!
//! A message says in its body before which time nobody may see it. What it waits for follows from its number: a delay
//! level, a delay of its own, a time, or a time from which it is taken back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use oxmq_client::{Message, MessageExt, Producer, SendResult, SendStatus};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::read_topic;
use crate::now_ms;

pub(super) const TOPIC: &str = "CrashTimers";
const PRODUCERS: usize = 8;
/// Delays beyond a round, so that most messages meet a kill while they wait.
const DELAY_MAX_MS: u64 = 6000;
/// What is recalled is not due before the recall can have been noticed.
const RECALL_DELAY_MS: u64 = 4000;
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long something that comes twice is waited for.
const QUIET: Duration = Duration::from_secs(2);

pub(super) const BROKER_PROPERTIES: [(&str, &str); 2] =
    [("recallMessageEnable", "true"), ("timerFlushIntervalMs", "100")];

pub(super) struct Timers {
    namesrv_addr: String,
    producer: Producer,
    next_number: Arc<AtomicU64>,
    promises: mpsc::UnboundedReceiver<Promise>,
    promise: mpsc::UnboundedSender<Promise>,
    running: JoinSet<()>,
    delivered: HashSet<u64>,
    recalled: HashSet<u64>,
    /// A recall that was not answered may have been done.
    open: HashSet<u64>,
}

/// What the broker has said of a message.
#[derive(Debug, Clone, Copy)]
enum Promise {
    Delivered(u64),
    Recalled(u64),
    Either(u64),
}

impl Timers {
    pub(super) async fn start(namesrv_addr: String) -> anyhow::Result<Timers> {
        let producer = Producer::builder("crash-timers")
            .name_server(namesrv_addr.clone())
            // One that is sent again would be another message.
            .retry_times_when_send_failed(0);
        let (promise, promises) = mpsc::unbounded_channel();
        Ok(Timers {
            namesrv_addr,
            producer: producer.start().await?,
            next_number: Arc::default(),
            promises,
            promise,
            running: JoinSet::new(),
            delivered: HashSet::new(),
            recalled: HashSet::new(),
            open: HashSet::new(),
        })
    }

    /// Sends until the broker dies.
    pub(super) fn load(&mut self) {
        for _ in 0..PRODUCERS {
            let (producer, next_number) = (self.producer.clone(), Arc::clone(&self.next_number));
            let promise = self.promise.clone();
            self.running.spawn(async move {
                loop {
                    let number = next_number.fetch_add(1, Ordering::Relaxed);
                    match producer.send(message(number, now_ms())).await {
                        Ok(result) if result.status == SendStatus::SendOk => {
                            let promised = after_send(&producer, number, result).await;
                            // An error means that the run is over.
                            let _ = promise.send(promised);
                        }
                        // Stored but not promised.
                        Ok(_) => {}
                        Err(_) => return,
                    }
                }
            });
        }
    }

    /// Waits for the producers to notice that the broker is dead.
    pub(super) async fn ended(&mut self) {
        while self.running.join_next().await.is_some() {}
    }

    /// Waits until all messages are there, and wants each once and none too early.
    pub(super) async fn check(&mut self) -> anyhow::Result<String> {
        while let Ok(promise) = self.promises.try_recv() {
            match promise {
                Promise::Delivered(number) => self.delivered.insert(number),
                Promise::Recalled(number) => self.recalled.insert(number),
                Promise::Either(number) => self.open.insert(number),
            };
        }
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut quiet_since = None;
        let mut known = 0;
        loop {
            let found = self.read().await?;
            let missing = self.delivered.iter().find(|number| !found.contains(number));
            if missing.is_some() || found.len() > known {
                (quiet_since, known) = (None, found.len());
            }
            if let Some(number) = missing {
                ensure!(Instant::now() < deadline, "timer message {number} is lost");
            } else if quiet_since.get_or_insert_with(Instant::now).elapsed() >= QUIET {
                return Ok(format!(
                    "{} timer messages were delivered, each once and none early; {} were recalled",
                    found.len(),
                    self.recalled.len()
                ));
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn read(&self) -> anyhow::Result<HashSet<u64>> {
        let messages = read_topic(&self.namesrv_addr, TOPIC).await?;
        let mut found = HashMap::new();
        for message in &messages {
            let (number, not_before) = read_body(message).context("a message that no producer sent")?;
            let at = message.store_timestamp;
            ensure!(
                at >= not_before,
                "timer message {number} came at {at}, not before {not_before}"
            );
            ensure!(
                !self.recalled.contains(&number),
                "timer message {number} was recalled, and is there"
            );
            if let Some(before) = found.insert(number, at) {
                anyhow::bail!("timer message {number} came at {before} and again at {at}");
            }
        }
        Ok(found.into_keys().collect())
    }

    pub(super) async fn shutdown(&self) {
        self.producer.shutdown().await;
    }
}

fn is_recalled(number: u64) -> bool {
    number.is_multiple_of(8)
}

fn message(number: u64, now: i64) -> Message {
    let delay_ms = match number % 4 {
        0 if is_recalled(number) => RECALL_DELAY_MS,
        1 => 1000,
        _ => number.wrapping_mul(2_654_435_761) % DELAY_MAX_MS,
    };
    let not_before = now + delay_ms as i64;
    let message = Message::new(TOPIC, format!("{number}/{not_before}"));
    match number % 4 {
        1 => message.with_delay_level(1),
        2 => message.with_delay(Duration::from_millis(delay_ms)),
        _ => message.with_deliver_at(not_before),
    }
}

async fn after_send(producer: &Producer, number: u64, sent: SendResult) -> Promise {
    let Some(handle) = sent.recall_handle.filter(|_| is_recalled(number)) else {
        return Promise::Delivered(number);
    };
    match producer.recall_message(TOPIC, &handle).await {
        Ok(_) => Promise::Recalled(number),
        Err(_) => Promise::Either(number),
    }
}

fn read_body(message: &MessageExt) -> Option<(u64, i64)> {
    let (number, not_before) = std::str::from_utf8(&message.body).ok()?.split_once('/')?;
    Some((number.parse().ok()?, not_before.parse().ok()?))
}
