//! Everything that a broker shows: its tables, the bounds of every queue, and every stored record, byte by byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use oxmq_protocol::body::{ConsumerOffsetSerializeWrapper, OffsetTable};
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{json, properties, property, topic};
use tokio::task::JoinSet;

use super::version::Version;
use super::wire::{Table, Wire};
use crate::random::Random;

/// A topic of which the original shows a copy that it has made, with other physical offsets.
pub(super) const COMPACTED: &str = "Compacted";
/// Records that are asked for by id and keys.
const LOOKUPS_MAX: usize = 400;
const LOOKUPS_AT_ONCE: usize = 8;
/// The index is written behind the log.
const INDEX_TIMEOUT: Duration = Duration::from_secs(60);
/// Their offsets go on without anybody's help.
const INTERNAL_GROUPS: &str = "CID_RMQ_SYS_";

pub(super) struct Snapshot {
    topics: Table,
    groups: Table,
    offsets: ConsumerOffsetSerializeWrapper,
    queues: BTreeMap<(String, i32), Queue>,
}

struct Queue {
    min: i64,
    max: i64,
    records: Vec<Bytes>,
}

/// The consumer offsets that a broker has left in its files.
pub(super) struct SavedOffsets(ConsumerOffsetSerializeWrapper);

impl Snapshot {
    /// Light queues stand in no table. The original does not show what others have stored in a topic that it compacts.
    pub(super) async fn read(wire: &Wire, light_queues: &[String], with_compacted: bool) -> anyhow::Result<Snapshot> {
        let topics = wire.topics().await?;
        let mut queues = BTreeMap::new();
        let light = light_queues.iter().map(|name| (name.clone(), 1));
        let known = topics.iter().map(|(name, config)| {
            let count = |field: &str| config[field].as_i64().unwrap_or(0) as i32;
            (name.clone(), count("readQueueNums").max(count("writeQueueNums")))
        });
        let is_shown = |name: &str| name != topic::BENCHMARK_TOPIC && (name != COMPACTED || with_compacted);
        for (topic, count) in known.chain(light).filter(|(name, _)| is_shown(name)) {
            for queue_id in 0..count {
                let queue = read_queue(wire, &topic, queue_id)
                    .await
                    .with_context(|| format!("queue {queue_id} of {topic}"))?;
                queues.insert((topic.clone(), queue_id), queue);
            }
        }
        Ok(Snapshot {
            topics,
            groups: wire.groups().await?,
            offsets: wire.consumer_offsets().await?,
            queues,
        })
    }

    pub(super) fn records(&self) -> impl Iterator<Item = RecordRef<'_>> {
        let records = self.queues.values().flat_map(|queue| &queue.records);
        records.filter_map(|bytes| RecordRef::parse(bytes).ok())
    }

    pub(super) fn of_topic(&self, topic: &str) -> impl Iterator<Item = RecordRef<'_>> {
        self.records().filter(move |record| record.topic() == topic.as_bytes())
    }

    /// What is left of it when the log begins at this physical offset.
    pub(super) fn trimmed(mut self, log_begin: i64) -> Snapshot {
        for queue in self.queues.values_mut() {
            let old = queue
                .records
                .iter()
                .take_while(|bytes| is_before(bytes, log_begin))
                .count();
            queue.records.drain(..old);
            queue.min = first_queue_offset(&queue.records).unwrap_or(queue.max);
        }
        self
    }

    /// The first queue offset of each queue.
    pub(super) fn minima(&self) -> impl Iterator<Item = (&str, i32, i64)> {
        let queues = self.queues.iter();
        queues.map(|((topic, queue_id), queue)| (topic.as_str(), *queue_id, queue.min))
    }

    /// The stored record at this place of a queue.
    pub(super) fn at(&self, topic: &str, queue_id: i32, queue_offset: i64) -> Option<RecordRef<'_>> {
        let queue = self.queues.get(&(topic.to_owned(), queue_id))?;
        let records = queue.records.iter().filter_map(|bytes| RecordRef::parse(bytes).ok());
        records.into_iter().find(|record| record.queue_offset() == queue_offset)
    }

    /// Everything that was shown before is shown still, at its place. `by` is the broker that shows it now.
    pub(super) fn check_keeps(&self, before: &Snapshot, by: Version) -> anyhow::Result<()> {
        let both = |(topic, _): &(String, i32)| topic != COMPACTED || self.queues.contains_key(&(topic.clone(), 0));
        for ((topic, queue_id), queue) in before.queues.iter().filter(|(key, _)| both(key)) {
            let now = self.queues.get(&(topic.clone(), *queue_id));
            let check = || {
                let now = now.context("it is gone")?;
                ensure!(now.min == queue.min, "minimum {} has become {}", queue.min, now.min);
                ensure!(now.max >= queue.max, "maximum {} has become {}", queue.max, now.max);
                for (at, record) in queue.records.iter().enumerate() {
                    let found = now.records.get(at).context("records are missing at the end")?;
                    ensure!(found == record, "record {at}:\n  {record:?} has become\n  {found:?}");
                }
                Ok(())
            };
            check().with_context(|| format!("queue {queue_id} of {topic}"))?;
        }
        keeps_table(&before.topics, &self.topics, by).context("topics")?;
        keeps_table(&before.groups, &self.groups, by).context("groups")
    }

    /// No consumer goes on elsewhere than where the files say.
    pub(super) fn check_offsets(&self, saved: &SavedOffsets) -> anyhow::Result<()> {
        for (name, queues) in &saved.0.offset_table {
            let is_internal = name.contains(INTERNAL_GROUPS);
            for (queue_id, offset) in queues {
                let now = self.offsets.offset_table.get(name).and_then(|now| now.get(queue_id));
                ensure!(
                    now == Some(offset) || is_internal && now > Some(offset),
                    "{name} was at {offset} of queue {queue_id}, and is at {now:?}"
                );
            }
        }
        for (name, offset) in &saved.0.lmq_offset_table {
            let now = self.offsets.lmq_offset_table.get(name);
            ensure!(now == Some(offset), "{name} was at {offset}, and is at {now:?}");
        }
        Ok(())
    }

    /// Asks for some of the records by offset id, by unique id and by their keys. The index is asked for those from
    /// `indexed_from` on. How many were asked for.
    pub(super) async fn check_lookups(
        &self,
        wire: &Wire,
        random: &mut Random,
        indexed_from: i64,
    ) -> anyhow::Result<usize> {
        // Half messages are stored again with each check; there can be more with one key than an answer holds.
        let is_looked_up = |name: &str| name != COMPACTED && name != topic::TRANS_HALF_TOPIC;
        let queues = self.queues.iter().filter(|((topic, _), _)| is_looked_up(topic));
        let mut records: Vec<&Bytes> = queues.flat_map(|(_, queue)| &queue.records).collect();
        while records.len() > LOOKUPS_MAX {
            records.swap_remove(random.below(records.len()));
        }
        let mut running = JoinSet::new();
        for record in &records {
            if running.len() >= LOOKUPS_AT_ONCE {
                running.join_next().await.context("a lookup runs")???;
            }
            running.spawn(look_up(wire.clone(), Bytes::clone(record), indexed_from));
        }
        while let Some(looked_up) = running.join_next().await {
            looked_up??;
        }
        Ok(records.len())
    }

    /// The highest physical offset of all records.
    pub(super) fn last_physical_offset(&self) -> i64 {
        let offsets = self.records().map(|record| record.physical_offset());
        offsets.max().unwrap_or(0)
    }
}

async fn read_queue(wire: &Wire, topic: &str, queue_id: i32) -> anyhow::Result<Queue> {
    let (min, max) = wire.bounds(topic, queue_id).await?;
    let mut queue = Queue {
        min,
        max,
        records: Vec::new(),
    };
    let mut next = min;
    while next < max {
        let pulled = wire.pull(topic, queue_id, next).await?;
        let (records, then) = pulled.with_context(|| format!("nothing at {next} of {min} to {max}"))?;
        ensure!(then > next, "the next offset after {next} is {then}");
        for record in records {
            queue.records.push(match topic {
                COMPACTED => without_physical_offset(&record),
                _ => record,
            });
        }
        next = then;
    }
    Ok(queue)
}

fn is_before(record: &[u8], physical_offset: i64) -> bool {
    RecordRef::parse(record).is_ok_and(|record| record.physical_offset() < physical_offset)
}

fn first_queue_offset(records: &[Bytes]) -> Option<i64> {
    let first = RecordRef::parse(records.first()?).ok()?;
    Some(first.queue_offset())
}

fn without_physical_offset(record: &[u8]) -> Bytes {
    let mut record = record.to_vec();
    record[28..36].fill(0);
    record.into()
}

async fn look_up(wire: Wire, bytes: Bytes, indexed_from: i64) -> anyhow::Result<()> {
    let record = RecordRef::parse(&bytes)?;
    let at = record.physical_offset();
    let viewed = wire.view(at).await.with_context(|| format!("view at {at}"))?;
    ensure!(
        viewed == bytes,
        "the record at {at}:\n  {bytes:?} is viewed as\n  {viewed:?}"
    );
    if at < indexed_from {
        return Ok(());
    }
    let text = |name: &str| {
        let value = properties::find(record.properties(), name);
        value.map_or(String::new(), |value| String::from_utf8_lossy(value).into_owned())
    };
    let unique = text(property::UNIQUE_CLIENT_MESSAGE_ID);
    let keys = text(property::KEYS);
    let keys = keys.split(' ').map(|key| (key, false));
    let topic = std::str::from_utf8(record.topic())?;
    for (key, is_unique) in keys.chain([(&*unique, true)]).filter(|(key, _)| !key.is_empty()) {
        let deadline = Instant::now() + INDEX_TIMEOUT;
        while !wire.query(topic, key, is_unique).await?.contains(&bytes) {
            ensure!(
                Instant::now() < deadline,
                "the index does not find the record at {at} by {key:?} of {topic}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// A broker of an older version does not know every field, and each has topics of its own.
fn keeps_table(before: &Table, now: &Table, by: Version) -> anyhow::Result<()> {
    for (name, config) in before.iter().filter(|(name, _)| !is_brokers_own(name)) {
        let found = now.get(name).with_context(|| format!("{name} is gone"))?;
        for (field, value) in config.as_object().context("a configuration is an object")? {
            let is_unknown = found.get(field).is_none() && !by.is_5();
            ensure!(
                found[field] == *value || is_unknown,
                "{field} of {name} was {value}, and is {}",
                found[field]
            );
        }
    }
    Ok(())
}

/// Brokers set these up anew at each start, each in its way.
fn is_brokers_own(topic: &str) -> bool {
    let is_named = [topic::AUTO_CREATE_TOPIC, topic::SELF_TEST_TOPIC, topic::SCHEDULE_TOPIC].contains(&topic);
    is_named || topic.starts_with("RMQ_SYS_") || topic.starts_with("rmq_sys_")
}

impl SavedOffsets {
    pub(super) fn load(store_dir: &Path, version: Version) -> anyhow::Result<SavedOffsets> {
        let name = match version.has_light_queues() {
            true => "config/lmqConsumerOffset.json",
            false => "config/consumerOffset.json",
        };
        // Behind a kill the file may be missing or cut; then brokers go by the version before.
        let read = |name: &str| {
            let text = fs::read(store_dir.join(name)).ok()?;
            json::from_slice(&text).ok().map(SavedOffsets)
        };
        let saved = read(name).or_else(|| read(&format!("{name}.bak")));
        saved.with_context(|| format!("{name} cannot be read"))
    }

    pub(super) fn get(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        let name = format!("{topic}@{group}");
        let table: &OffsetTable = &self.0.offset_table;
        let light = self.0.lmq_offset_table.get(&name).copied();
        table
            .get(&name)
            .and_then(|queues| queues.get(&queue_id))
            .copied()
            .or(light)
    }
}
