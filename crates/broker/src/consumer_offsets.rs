//! Progress of consumer groups: committed, pull and pending reset offsets (spec: behaviour.md §5.4, storage.md §18.3).
//!
//! Owns `consumerOffset.json`. Committing touches memory only; [`ConsumerOffsets::persist`] writes the file and is
//! called every few seconds and at shutdown, never on an event loop. What holds:
//!
//! - **The last word counts.** A commit may go backwards, and beyond either end of its queue, as in the original: a pull
//!   from there is answered with the nearest offset.
//! - **A crash takes back seconds.** After it each queue has the offset of the last file that was written whole, so
//!   messages come again and none is skipped. The log is flushed between the look at the offsets and the file: after a
//!   power cut no offset passes messages that are gone, whose places others will take. Pull offsets and pending resets are gone; the reset itself is committed.
//! - **A reset wins.** From the reset until the next pull of the queue takes it, the queue's progress is the reset offset
//!   and commits of clients are ignored, because they tell of what was consumed before it. It is handed out once.
//! - **Queues, topics and groups are apart**: removing or resetting one changes no other.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use hashbrown::HashMap;
use oxmq_protocol::body::{ConsumerOffsetSerializeWrapper, DataVersion};
use oxmq_protocol::{json, topic};
use parking_lot::{Mutex, RwLock};

use crate::config_file::{ConfigFile, Unsaved};

const FILE: &str = "consumerOffset.json";
const LIGHT_FILE: &str = "lmqConsumerOffset.json";

/// Between topic and group in the file's keys. Neither can contain it; what follows a second one stays in the group
/// (`topic@group@broadcast` of the original's broker-side broadcast offsets).
const SEPARATOR: char = '@';

/// Queue id to offset.
pub type QueueOffsets = BTreeMap<i32, i64>;

/// group → topic → queue → offset. Existing entries change under the read lock.
type Table = RwLock<HashMap<String, HashMap<String, BTreeMap<i32, AtomicI64>>>>;

pub struct ConsumerOffsets {
    file: ConfigFile,
    /// Groups called `%LMQ%…` have a table of their own in the file.
    has_light_queues: bool,
    unsaved: Unsaved,
    committed: Table,
    pulled: Table,
    /// Offsets set by an administrator, waiting for the next pull of their queue.
    reset: Table,
    resets_pending: AtomicU64,
    version: Mutex<DataVersion>,
    version_step: u64,
    commits: AtomicU64,
}

impl ConsumerOffsets {
    /// Reads `consumerOffset.json` out of the files that `file` gives; a missing file is an empty table. With light
    /// queues everything is in `lmqConsumerOffset.json`, and the other file is read once, before that one exists.
    pub fn open(
        file: &dyn Fn(&str) -> ConfigFile,
        has_light_queues: bool,
        version_step: u64,
    ) -> io::Result<ConsumerOffsets> {
        let (mut file, plain) = (file(FILE), file);
        let mut stored: Option<ConsumerOffsetSerializeWrapper> = None;
        if has_light_queues {
            file = plain(LIGHT_FILE);
            stored = file.load()?;
        }
        let stored = match stored {
            Some(stored) => stored,
            None => plain(FILE).load()?.unwrap_or_default(),
        };
        let offsets = ConsumerOffsets {
            file,
            has_light_queues,
            unsaved: Unsaved::default(),
            committed: Table::default(),
            pulled: Table::default(),
            reset: Table::default(),
            resets_pending: AtomicU64::new(0),
            version: Mutex::new(stored.data_version),
            version_step: version_step.max(1),
            commits: AtomicU64::new(0),
        };
        for (key, queues) in stored.offset_table {
            let Some((topic, group)) = key.split_once(SEPARATOR) else {
                continue;
            };
            for (queue_id, offset) in queues {
                put(&offsets.committed, group, topic, queue_id, offset);
            }
        }
        for (key, offset) in stored.lmq_offset_table {
            if let Some((topic, group)) = key.split_once(SEPARATOR) {
                put(&offsets.committed, group, topic, 0, offset);
            }
        }
        Ok(offsets)
    }

    /// The group has consumed everything of the queue before `consumer_offset`.
    pub fn commit(&self, group: &str, topic: &str, queue_id: i32, consumer_offset: i64, now: i64) {
        let queue_id = self.kept_queue(group, queue_id);
        put(&self.committed, group, topic, queue_id, consumer_offset);
        if (self.commits.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.version_step) {
            self.version.lock().advance(now);
        }
        self.unsaved.mark();
    }

    /// The same as a client says it; `false` when it is ignored for a reset that the client does not know of yet.
    pub fn commit_of_client(&self, group: &str, topic: &str, queue_id: i32, consumer_offset: i64, now: i64) -> bool {
        let is_current = self.pending_reset(group, topic, queue_id).is_none();
        if is_current {
            self.commit(group, topic, queue_id, consumer_offset, now);
        }
        is_current
    }

    pub fn commit_pull(&self, group: &str, topic: &str, queue_id: i32, consumer_offset: i64) {
        put(&self.pulled, group, topic, queue_id, consumer_offset);
    }

    /// The pending reset if there is one, else the committed offset.
    pub fn query(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        self.pending_reset(group, topic, queue_id)
            .or_else(|| self.committed(group, topic, queue_id))
    }

    pub fn committed(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        get(&self.committed, group, topic, self.kept_queue(group, queue_id))
    }

    /// Groups of light queues have one offset for a topic, whatever queue they name.
    fn kept_queue(&self, group: &str, queue_id: i32) -> i32 {
        match self.has_light_queues && topic::is_lmq(group) {
            true => 0,
            false => queue_id,
        }
    }

    pub fn pulled(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        get(&self.pulled, group, topic, queue_id)
    }

    /// Sets the offset on the server's side: committed now, and handed to the next pull of the queue.
    pub fn reset(&self, group: &str, topic: &str, queue_id: i32, consumer_offset: i64, now: i64) {
        put(&self.reset, group, topic, queue_id, consumer_offset);
        self.resets_pending.fetch_add(1, Ordering::Release);
        self.commit(group, topic, queue_id, consumer_offset, now);
    }

    pub fn pending_reset(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        if self.resets_pending.load(Ordering::Acquire) == 0 {
            return None;
        }
        get(&self.reset, group, topic, queue_id)
    }

    /// The pending reset, which counts as delivered from now on.
    pub fn take_reset(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        if self.resets_pending.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut groups = self.reset.write();
        let topics = groups.get_mut(group)?;
        let queues = topics.get_mut(topic)?;
        let offset = queues.remove(&queue_id)?.into_inner();
        if queues.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            groups.remove(group);
        }
        if groups.is_empty() {
            self.resets_pending.store(0, Ordering::Release);
        }
        Some(offset)
    }

    /// Committed offsets of the group on the topic.
    pub fn queues(&self, group: &str, topic: &str) -> QueueOffsets {
        let groups = self.committed.read();
        let queues = groups.get(group).and_then(|topics| topics.get(topic));
        queues.map(plain).unwrap_or_default()
    }

    /// Topics on which the group has an offset.
    pub fn topics_of(&self, group: &str) -> Vec<String> {
        let groups = self.committed.read();
        let topics = groups.get(group);
        topics.map_or_else(Vec::new, |topics| topics.keys().cloned().collect())
    }

    /// Every group with its topics.
    pub fn all(&self) -> Vec<(String, String, QueueOffsets)> {
        let committed = self.committed.read();
        let entries = committed.iter().flat_map(|(group, topics)| {
            let topics = topics.iter();
            topics.map(move |(topic, queues)| (group.clone(), topic.clone(), plain(queues)))
        });
        entries.collect()
    }

    /// Groups that have an offset on the topic.
    pub fn groups_of(&self, topic: &str) -> Vec<String> {
        let groups = self.committed.read();
        groups
            .iter()
            .filter(|(_, topics)| topics.contains_key(topic))
            .map(|(group, _)| group.clone())
            .collect()
    }

    /// The offsets of `from` on the topic become those of `to`, in place of what it had there; none change nothing.
    pub fn clone_group(&self, from: &str, to: &str, topic: &str) {
        let offsets = self.queues(from, topic);
        if offsets.is_empty() {
            return;
        }
        let queues = offsets
            .into_iter()
            .map(|(queue_id, offset)| (queue_id, AtomicI64::new(offset)))
            .collect();
        let mut groups = self.committed.write();
        groups.entry_ref(to).or_default().insert(topic.to_owned(), queues);
        drop(groups);
        self.unsaved.mark();
    }

    /// What QUERY_CORRECTION_OFFSET answers: per queue the smallest committed offset of all groups but the filtered
    /// ones, `i64::MAX` where it exceeds the compared group's. The filtered groups lose what they have
    /// committed, as in the original.
    pub fn correction(
        &self,
        topic: &str,
        compare_group: &str,
        filter_groups: &[&str],
        min_offset: impl Fn(i32) -> i64,
    ) -> QueueOffsets {
        for group in filter_groups {
            self.committed.write().remove(*group);
            self.unsaved.mark();
        }
        let mut smallest = QueueOffsets::new();
        for group in self.groups_of(topic) {
            for (queue_id, offset) in self.queues(&group, topic) {
                if offset >= min_offset(queue_id) {
                    let entry = smallest.entry(queue_id).or_insert(offset);
                    *entry = offset.min(*entry);
                }
            }
        }
        let compared = self.queues(compare_group, topic);
        for (queue_id, offset) in &mut smallest {
            if compared.get(queue_id).is_some_and(|own| *offset > *own) {
                *offset = i64::MAX;
            }
        }
        smallest
    }

    pub fn remove_topic(&self, topic: &str) {
        for table in [&self.committed, &self.pulled, &self.reset] {
            table.write().retain(|_, topics| {
                topics.remove(topic);
                !topics.is_empty()
            });
        }
        self.unsaved.mark();
    }

    pub fn remove_group(&self, group: &str) {
        for table in [&self.committed, &self.pulled, &self.reset] {
            table.write().remove(group);
        }
        self.unsaved.mark();
    }

    /// The body of GET_ALL_CONSUMER_OFFSET.
    pub fn to_body(&self) -> Vec<u8> {
        json::to_vec(&ConsumerOffsetSerializeWrapper {
            pull_offset_table: flat(&self.pulled),
            ..self.stored()
        })
    }

    /// Writes the file if anything changed since it was written. `flush_log` makes the messages durable that the offsets
    /// tell of.
    pub fn persist(&self, flush_log: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.unsaved.save(|| {
            let stored = self.stored();
            flush_log()?;
            self.file.save(&stored)
        })
    }

    fn stored(&self) -> ConsumerOffsetSerializeWrapper {
        let data_version = *self.version.lock();
        let groups = self.committed.read();
        let group_topic_map = groups
            .iter()
            .filter(|(group, _)| !self.has_light_queues || !topic::is_lmq(group))
            .map(|(group, topics)| (group.clone(), topics.keys().cloned().collect()))
            .collect();
        drop(groups);
        let mut offset_table = flat(&self.committed);
        let mut lmq_offset_table = BTreeMap::new();
        if self.has_light_queues {
            offset_table.retain(|key, queues| {
                let is_light = key.split_once(SEPARATOR).is_some_and(|(_, group)| topic::is_lmq(group));
                let only = queues.get(&0).filter(|_| is_light);
                lmq_offset_table.extend(only.map(|offset| (key.clone(), *offset)));
                only.is_none()
            });
        }
        ConsumerOffsetSerializeWrapper {
            data_version,
            group_topic_map,
            offset_table,
            lmq_offset_table,
            pull_offset_table: BTreeMap::new(),
        }
    }
}

/// The offset that QUERY_CONSUMER_OFFSET answers for a group without one. `Some(0)` when the queue still starts at its
/// first message and that message is still in memory, so that a new group on a small new topic misses nothing.
pub fn offset_of_a_new_group(
    set_zero_if_not_found: Option<bool>,
    min_offset: i64,
    first_in_memory: bool,
) -> Option<i64> {
    (set_zero_if_not_found != Some(false) && min_offset <= 0 && first_in_memory).then_some(0)
}

fn get(table: &Table, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
    let groups = table.read();
    let offset = groups.get(group)?.get(topic)?.get(&queue_id)?;
    Some(offset.load(Ordering::Relaxed))
}

fn put(table: &Table, group: &str, topic: &str, queue_id: i32, value: i64) {
    let groups = table.read();
    let known = groups.get(group).and_then(|topics| topics.get(topic)?.get(&queue_id));
    if let Some(offset) = known {
        offset.store(value, Ordering::Relaxed);
        return;
    }
    drop(groups);
    let mut groups = table.write();
    let queues = groups.entry_ref(group).or_default().entry_ref(topic).or_default();
    queues.insert(queue_id, AtomicI64::new(value));
}

fn plain(queues: &BTreeMap<i32, AtomicI64>) -> QueueOffsets {
    queues
        .iter()
        .map(|(queue_id, offset)| (*queue_id, offset.load(Ordering::Relaxed)))
        .collect()
}

/// The table under the file's keys.
fn flat(table: &Table) -> BTreeMap<String, QueueOffsets> {
    let groups = table.read();
    let mut all = BTreeMap::new();
    for (group, topics) in groups.iter() {
        for (topic, queues) in topics {
            all.insert(format!("{topic}{SEPARATOR}{group}"), plain(queues));
        }
    }
    all
}

#[cfg(test)]
mod tests;
