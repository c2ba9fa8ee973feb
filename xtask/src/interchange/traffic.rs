//! Generated messages of every kind that a version has, and what was promised about each.
//!
//! A body says in words which message it is; no two are alike. What is promised of messages that wait is in `waiting` and
//! `transactions`.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use oxmq_protocol::body::SubscriptionGroupConfig;
use oxmq_protocol::message_id::UniqueIds;
use oxmq_protocol::properties::Properties;
use oxmq_protocol::{Message, perm, property, sys_flag};

use super::snapshot::{COMPACTED, Snapshot};
use super::transactions::{Answerer, Transactions};
use super::version::Version;
use super::waiting::Waiting;
use super::wire::{Sent, Wire};
use crate::now_ms;
use crate::random::Random;

const PLAIN: &str = "Plain";
const PLAIN_QUEUES: i32 = 4;
const ORDERED: &str = "Ordered";
const ORDERED_QUEUES: i32 = 3;
const LIGHT: &str = "Light";
const BATCHES: &str = "Batches";
const COMMITTERS: &str = "committers";
const RETRIERS: &str = "retriers";
const LIGHT_QUEUES: [&str; 3] = ["%LMQ%first", "%LMQ%second", "%LMQ%third"];
/// From so long ahead on for the same time.
const DUE_SOON_MS: i64 = 1200;
const DUE_SOON_STEP_MS: usize = 90;
const STEPS_MIN: usize = 60;
const STEPS_MAX: usize = 140;
const BODY_MAX: usize = 3000;

pub(super) struct Traffic {
    version: Version,
    random: Random,
    ids: UniqueIds,
    next_number: u64,
    acknowledged: Vec<Acknowledged>,
    committed: BTreeMap<(&'static str, i32), i64>,
    pub(super) waiting: Waiting,
    pub(super) transactions: Transactions,
}

/// The broker said that this message lies there.
struct Acknowledged {
    topic: String,
    sent: Sent,
    message: Message,
}

impl Traffic {
    pub(super) fn new(version: Version, seed: u64) -> Traffic {
        Traffic {
            version,
            random: Random::new(seed),
            ids: UniqueIds::new([127, 0, 0, 1].into(), std::process::id(), seed as u32, 0),
            next_number: 0,
            acknowledged: Vec::new(),
            committed: BTreeMap::new(),
            waiting: Waiting::default(),
            transactions: Transactions::default(),
        }
    }

    pub(super) fn light_queues(&self) -> Vec<String> {
        let has = self.version.has_light_queues();
        LIGHT_QUEUES
            .iter()
            .filter(|_| has)
            .map(|name| (*name).to_owned())
            .collect()
    }

    pub(super) fn count(&self) -> usize {
        self.acknowledged.len()
    }

    /// Topics and groups that are there from the beginning.
    pub(super) async fn prepare(&self, wire: &Wire) -> anyhow::Result<()> {
        let read_write = perm::READ | perm::WRITE;
        for (topic, queues, is_ordered) in [
            (PLAIN, PLAIN_QUEUES, false),
            (ORDERED, ORDERED_QUEUES, true),
            (LIGHT, 1, false),
            (Waiting::TOPIC, 2, false),
            (Transactions::TOPIC, 2, false),
            // Otherwise it cannot be read.
            (&format!("%DLQ%{RETRIERS}"), 1, false),
        ] {
            wire.create_topic(topic, queues, read_write, is_ordered, "").await?;
        }
        if self.version.is_5() {
            wire.create_topic(BATCHES, 2, read_write, false, "+queue.type=BatchCQ")
                .await?;
            wire.create_topic(COMPACTED, 1, read_write, false, "+cleanup.policy=COMPACTION")
                .await?;
        }
        for group in [COMMITTERS, RETRIERS] {
            wire.create_group(&SubscriptionGroupConfig::new(group)).await?;
        }
        Ok(())
    }

    /// What a phase does: topics and groups of its own, messages of every kind in any order, consumers that move on.
    pub(super) async fn round(&mut self, wire: &Wire, phase: usize) -> anyhow::Result<()> {
        let own = format!("Phase-{phase}");
        let queues = 1 + self.random.below(20) as i32;
        let attributes = match self.version.is_5() {
            true => "+message.type=NORMAL",
            false => "",
        };
        wire.create_topic(
            &own,
            queues,
            perm::READ | perm::WRITE,
            self.random.one_in(2),
            attributes,
        )
        .await?;
        wire.create_topic(&format!("Closed-{phase}"), 2, perm::READ, false, "")
            .await?;
        let mut group = SubscriptionGroupConfig::new(format!("group-{phase}"));
        group.retry_max_times = self.random.below(20) as i32;
        group.retry_queue_nums = 1 + self.random.below(4) as i32;
        group.consume_broadcast_enable = self.random.one_in(2);
        group.which_broker_when_consume_slowly = self.random.below(3) as i64;
        wire.create_group(&group).await?;
        self.send_plain(wire, &own, 0).await?;

        let steps = STEPS_MIN + self.random.below(STEPS_MAX - STEPS_MIN);
        for step in 0..steps {
            // Each kind at least once, then at random.
            let kind = match step < 16 {
                true => step,
                false => self.random.below(16),
            };
            self.step(wire, kind).await?;
        }
        Ok(())
    }

    /// A transaction whose producer will be asked.
    pub(super) async fn ask_about_one(&mut self, answerer: &Answerer) -> anyhow::Result<()> {
        let (message, _) = self.message(Transactions::TOPIC);
        self.transactions.ask_me(answerer, message).await
    }

    async fn step(&mut self, wire: &Wire, kind: usize) -> anyhow::Result<()> {
        let queue_id = self.random.below(PLAIN_QUEUES as usize) as i32;
        match kind {
            0..=3 => self.send_plain(wire, PLAIN, queue_id).await,
            4 => self.send_plain(wire, ORDERED, queue_id % ORDERED_QUEUES).await,
            5 => self.send_batch(wire, PLAIN, queue_id).await,
            6 | 7 => self.send_delayed(wire).await,
            8 => self.send_back(wire, queue_id).await,
            9 => self.commit(wire, queue_id).await,
            10 | 11 => {
                let (message, _) = self.message(Transactions::TOPIC);
                self.transactions.begin(wire, &mut self.random, message).await
            }
            12 if self.version.has_light_queues() => self.send_light(wire).await,
            13 if self.version.is_5() => self.send_timed(wire).await,
            14 if self.version.is_5() => self.send_batch(wire, BATCHES, queue_id % 2).await,
            15 if self.version.is_5() => self.send_compacted(wire).await,
            _ => Ok(()),
        }
    }

    /// A message with any of the properties that a producer sets, and what it says first in its body.
    fn message(&mut self, topic: &str) -> (Message, String) {
        let random = &mut self.random;
        let number = self.next_number;
        self.next_number += 1;
        let name = format!("{topic}/{number}/");
        let mut body = name.clone().into_bytes();
        let filler = match random.below(4) {
            0 => 0,
            1 => random.below(20),
            _ => random.below(BODY_MAX),
        };
        body.extend((0..filler).map(|_| random.below(256) as u8));
        let mut message =
            Message::new(topic, body).with_property(property::UNIQUE_CLIENT_MESSAGE_ID, self.ids.next(now_ms()));
        if random.one_in(2) {
            message = message.with_tags(random.pick(&["red", "green", "blau & grün", "✓"]));
        }
        if random.one_in(2) {
            let keys = (0..=random.below(3)).map(|part| format!("key-{number}-{part}"));
            message = message.with_keys(keys.collect::<Vec<_>>().join(" "));
        }
        if random.one_in(4) {
            message = message.with_property("colour", "blau/grün ✓");
        }
        if random.one_in(8) {
            message = message.with_property("long", "x".repeat(1 + random.below(2000)));
        }
        if random.one_in(8) {
            message = message.with_property(property::WAIT_STORE_MSG_OK, "false");
        }
        message.flag = random.pick(&[0, 0, 7, -1]);
        (message, name)
    }

    /// The same, or with a property that the clients of the original refuse, as it has no value.
    fn raw_message(&mut self, topic: &str) -> Message {
        let (message, _) = self.message(topic);
        match self.random.one_in(4) {
            true => message.with_property("nothing", ""),
            false => message,
        }
    }

    async fn send_plain(&mut self, wire: &Wire, topic: &str, queue_id: i32) -> anyhow::Result<()> {
        let message = self.raw_message(topic);
        let sys_flag = self.random.pick(&[0, 0, sys_flag::MULTI_TAGS]);
        let sent = wire.send(&message, queue_id, sys_flag).await?;
        self.acknowledge(topic, sent, message);
        Ok(())
    }

    pub(super) async fn send_plain_anywhere(&mut self, wire: &Wire) -> anyhow::Result<()> {
        let queue_id = self.random.below(PLAIN_QUEUES as usize) as i32;
        self.send_plain(wire, PLAIN, queue_id).await
    }

    async fn send_batch(&mut self, wire: &Wire, topic: &str, queue_id: i32) -> anyhow::Result<()> {
        let count = 1 + self.random.below(6);
        let messages: Vec<Message> = (0..count).map(|_| self.raw_message(topic)).collect();
        let sent = wire.send_batch(&messages, queue_id).await?;
        // A queue of batches has one record for all of them.
        if topic != BATCHES {
            let first = messages.into_iter().next().context("a batch has messages")?;
            self.acknowledge(topic, sent, first);
        }
        Ok(())
    }

    async fn send_light(&mut self, wire: &Wire) -> anyhow::Result<()> {
        let (message, _) = self.message(LIGHT);
        let count = 1 + self.random.below(LIGHT_QUEUES.len());
        let message = message.with_property(property::INNER_MULTI_DISPATCH, LIGHT_QUEUES[..count].join(","));
        wire.send(&message, 0, 0).await?;
        if self.random.one_in(4) {
            let (_, max) = wire.bounds(LIGHT_QUEUES[0], 0).await?;
            wire.commit(COMMITTERS, LIGHT_QUEUES[0], 0, max).await?;
        }
        Ok(())
    }

    async fn send_compacted(&mut self, wire: &Wire) -> anyhow::Result<()> {
        let (message, _) = self.message(COMPACTED);
        let key = format!("compacted-{}", self.random.below(5));
        let message = message.with_keys(key);
        let sent = wire.send(&message, 0, 0).await?;
        self.acknowledge(COMPACTED, sent, message);
        Ok(())
    }

    async fn send_delayed(&mut self, wire: &Wire) -> anyhow::Result<()> {
        let (message, name) = self.message(Waiting::TOPIC);
        let level = self.random.pick(&[1, 2, 2, 3, 3, 4]);
        let due = now_ms() + Waiting::delay_ms(level);
        wire.send(&message.with_delay_level(level), 0, 0).await?;
        self.waiting.add(Waiting::TOPIC, name, due);
        Ok(())
    }

    async fn send_timed(&mut self, wire: &Wire) -> anyhow::Result<()> {
        let (message, name) = self.message(Waiting::TOPIC);
        let seconds = self.random.pick(&[1, 3, 5, 9, 3600]);
        let due = now_ms() + seconds * 1000;
        let message = match self.random.below(3) {
            0 => message.with_property(property::TIMER_DELAY_SEC, seconds.to_string()),
            1 => message.with_property(property::TIMER_DELAY_MS, (seconds * 1000).to_string()),
            _ => message.with_property(property::TIMER_DELIVER_MS, due.to_string()),
        };
        wire.send(&message, 1, 0).await?;
        self.waiting.add(Waiting::TOPIC, name, due);
        Ok(())
    }

    /// Timers that are due one after the other from now on. Those of a second that is not over are the ones that a stop and a
    /// start must not confuse.
    pub(super) async fn send_due_soon(&mut self, wire: &Wire) -> anyhow::Result<()> {
        let now = now_ms();
        for due in (now + DUE_SOON_MS..now + 2 * DUE_SOON_MS).step_by(DUE_SOON_STEP_MS) {
            let (message, name) = self.message(Waiting::TOPIC);
            let message = message.with_property(property::TIMER_DELIVER_MS, due.to_string());
            wire.send(&message, 1, 0).await?;
            self.waiting.add(Waiting::TOPIC, name, due);
        }
        Ok(())
    }

    /// A message of another phase or of this one could not be consumed.
    async fn send_back(&mut self, wire: &Wire, queue_id: i32) -> anyhow::Result<()> {
        let (message, name) = self.message(PLAIN);
        let sent = wire.send(&message, queue_id, 0).await?;
        let level = self.random.pick(&[-1, 1, 2, 3]);
        let due = now_ms() + Waiting::delay_ms(level.max(0) as u32);
        wire.send_back(RETRIERS, PLAIN, &sent, level).await?;
        let topic = match level {
            -1 => format!("%DLQ%{RETRIERS}"),
            _ => format!("%RETRY%{RETRIERS}"),
        };
        self.waiting.add(&topic, name, due);
        self.acknowledge(PLAIN, sent, message);
        Ok(())
    }

    async fn commit(&mut self, wire: &Wire, queue_id: i32) -> anyhow::Result<()> {
        let (_, max) = wire.bounds(PLAIN, queue_id).await?;
        let offset = self.random.below(max as usize + 1) as i64;
        wire.commit(COMMITTERS, PLAIN, queue_id, offset).await?;
        self.committed.insert((PLAIN, queue_id), offset);
        Ok(())
    }

    fn acknowledge(&mut self, topic: &str, sent: Sent, message: Message) {
        self.acknowledged.push(Acknowledged {
            topic: topic.to_owned(),
            sent,
            message,
        });
    }

    /// Whether everything that was committed is in the files.
    pub(super) fn is_saved(&self, saved: impl Fn(&str, &str, i32) -> Option<i64>) -> bool {
        let mut committed = self.committed.iter();
        committed.all(|((topic, queue_id), offset)| saved(COMMITTERS, topic, *queue_id) == Some(*offset))
    }

    /// Every message that was acknowledged is where the broker said that it was, with what it was sent with.
    pub(super) fn check(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let shown = |ack: &&Acknowledged| ack.topic != COMPACTED || snapshot.of_topic(COMPACTED).next().is_some();
        for Acknowledged { topic, sent, message } in self.acknowledged.iter().filter(shown) {
            let found = snapshot.at(topic, sent.queue_id, sent.queue_offset);
            let found = found.with_context(|| format!("{topic} {sent:?} was acknowledged, and is not there"))?;
            let is_there = topic == COMPACTED || found.physical_offset() == sent.physical_offset;
            ensure!(
                is_there && found.body() == message.body,
                "{topic} {sent:?} was acknowledged, and there is {found:?}"
            );
            let properties = Properties::decode(found.properties());
            for (name, value) in message
                .properties
                .iter()
                .filter(|(name, _)| *name != property::WAIT_STORE_MSG_OK)
            {
                // The original keeps an empty value in a message of a batch and drops it otherwise; no reader sees it.
                let wanted = Some(value).filter(|value| !value.is_empty());
                ensure!(
                    properties.get(name) == wanted,
                    "property {name} of {topic} {sent:?} was {value:?}, and is {:?}",
                    properties.get(name)
                );
            }
        }
        Ok(())
    }
}
