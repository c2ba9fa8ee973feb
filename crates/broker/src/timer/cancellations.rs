//! Which messages of the present slot are cancelled.
//!
//! A message is cancelled by another one in the same slot that names its unique key. Of the keys only hashes are kept, of
//! 128 bits each. Where there are more cancellations than memory is to hold, those are looked for that concern the
//! messages which are due next, at most `timerCurrentMessagesMax` at a time.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{properties, property};
use oxmq_store::RecordReader;
use oxmq_store::timer::{Due, TimerStore};

use crate::broker::Broker;
use crate::waiting::Origin;

#[derive(Default)]
pub(super) struct Cancellations {
    hashers: [RandomState; 2],
    keys: HashSet<KeyHash>,
    /// The slot, and how many cancellations of it were read.
    read: (i64, usize),
    /// With too many cancellations: the messages that `keys` is known for, by their physical offsets.
    looked_for: HashSet<i64>,
    reader: RecordReader,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct KeyHash(u64, u64);

impl Cancellations {
    /// Gets to know everything that may cancel messages which are due.
    pub(super) fn read(
        &mut self,
        broker: &Broker,
        store: &mut TimerStore,
        now: i64,
        due: &[Due],
    ) -> Result<(), String> {
        let Some(cancels) = store.cancels() else {
            self.keys.clear();
            self.read = (0, 0);
            return Ok(());
        };
        let read = (cancels.slot, cancels.count);
        let is_cut = cancels.known.len() < cancels.count;
        let is_known =
            self.read == read && (!is_cut || due.iter().all(|due| self.looked_for.contains(&due.physical_offset)));
        if is_known {
            return Ok(());
        }
        self.keys.clear();
        self.looked_for.clear();
        match is_cut {
            false => {
                for (physical_offset, size) in cancels.known {
                    let key = self.key_of(broker, *physical_offset, *size, cancelled_key)?;
                    self.keys.extend(key);
                }
            }
            true => self.look_for(broker, store, now)?,
        }
        self.read = read;
        Ok(())
    }

    /// Reads all messages that are due, and all cancellations, and keeps those that belong together.
    fn look_for(&mut self, broker: &Broker, store: &mut TimerStore, now: i64) -> Result<(), String> {
        let config = broker.config();
        let with_topic = config.append_topic_for_timer_delete_key;
        let due = store
            .due(now, config.timer_current_messages_max)
            .map_err(|error| error.to_string())?;
        let mut wanted = HashSet::new();
        for due in &due {
            let own_key = |record: &RecordRef<'_>| {
                let origin = Origin::of(record).ok()?;
                own_key(origin.topic.as_bytes(), record.properties(), with_topic)
            };
            wanted.extend(self.key_of(broker, due.physical_offset, due.size, own_key)?);
            self.looked_for.insert(due.physical_offset);
        }
        let mut failed = None;
        let mut tell = |physical_offset, size| match self.key_of(broker, physical_offset, size, cancelled_key) {
            Ok(key) => self.keys.extend(key.filter(|key| wanted.contains(key))),
            Err(error) => failed = Some(error),
        };
        store.each_cancel(&mut tell).map_err(|error| error.to_string())?;
        failed.map_or(Ok(()), Err)
    }

    /// Whether a message with these properties is cancelled.
    pub(super) fn concern(&self, broker: &Broker, topic: &[u8], properties_text: &[u8]) -> bool {
        if self.keys.is_empty() {
            return false;
        }
        let with_topic = broker.config().append_topic_for_timer_delete_key;
        own_key(topic, properties_text, with_topic).is_some_and(|key| self.keys.contains(&self.hash(&key)))
    }

    fn hash(&self, key: &[u8]) -> KeyHash {
        let [first, second] = &self.hashers;
        KeyHash(first.hash_one(key), second.hash_one(key))
    }

    /// The key that `key` finds in a message of the log.
    fn key_of(
        &mut self,
        broker: &Broker,
        physical_offset: i64,
        size: i32,
        key: impl FnOnce(&RecordRef<'_>) -> Option<Vec<u8>>,
    ) -> Result<Option<KeyHash>, String> {
        let record = broker.store.record_in(&mut self.reader, physical_offset, size, true);
        let key = record
            .map_err(|error| error.to_string())?
            .and_then(|record| key(&record));
        Ok(key.map(|key| self.hash(&key)))
    }
}

/// What names the message that this one cancels.
fn cancelled_key(record: &RecordRef<'_>) -> Option<Vec<u8>> {
    properties::find(record.properties(), property::TIMER_DEL_UNIQKEY).map(<[u8]>::to_vec)
}

/// What names a message that may be cancelled.
fn own_key(topic: &[u8], properties_text: &[u8], with_topic: bool) -> Option<Vec<u8>> {
    let key = properties::find(properties_text, property::UNIQUE_CLIENT_MESSAGE_ID)?;
    Some(match with_topic {
        true => [topic, b"+", key].concat(),
        false => key.to_vec(),
    })
}
