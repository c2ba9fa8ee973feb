//! The table of consume queues. A queue is loaded from its files when somebody asks for it, also one that the replay of a
//! start entered records into: what a start does depends on the log that it replays, and not on the queues.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashMap;
use oxmq_protocol::topic;
use parking_lot::{Mutex, RwLock};

use crate::config::QueueKindOf;
use crate::consume_queue::ConsumeQueue;
use crate::queue_files::QueueFiles;
use crate::read::Wait;
use crate::unit::{Extent, QueueKind, Unit};

/// Queues that are loaded at the same time by several threads, at most.
const LOADING_LOCKS: usize = 64;

/// A queue whose files may have to follow the log.
pub(crate) enum Untrimmed {
    Loaded(Arc<ConsumeQueue>),
    InFiles(i32, QueueKind),
}

pub(crate) struct Queues {
    simple_files: QueueFiles,
    batch_files: QueueFiles,
    kind_of: QueueKindOf,
    topics: RwLock<HashMap<Arc<str>, HashMap<i32, Slot>>>,
    /// Held while a queue is loaded, by hash of its name.
    loading: [Mutex<()>; LOADING_LOCKS],
    serials: AtomicU64,
    /// Number of light queues among them.
    light: AtomicUsize,
    /// Units of the replay that were kept.
    replayed_units: AtomicUsize,
    /// Start of the commit log: entries of older records do not count.
    log_min: AtomicI64,
    /// Of queues that are not loaded yet: entries of later records do not count.
    trusted_before: AtomicI64,
}

#[derive(Debug)]
enum Slot {
    InFiles {
        kind: QueueKind,
        /// There is only one, which stays.
        has_single_file: bool,
    },
    /// The same, and units that the replay found. Boxed, as few queues are so for long.
    Replayed(Box<Replayed>),
    Loaded(Arc<ConsumeQueue>),
}

#[derive(Debug)]
struct Replayed {
    kind: QueueKind,
    units: Vec<Unit>,
}

/// Units that are kept for queues that are not loaded, 48 bytes each. Beyond that the replay waits for the files.
const REPLAYED_UNITS_MAX: usize = 4_000_000;

impl Queues {
    /// Learns which queues exist, without opening any. `files` are those of simple and of batch queues.
    pub(crate) fn list(files: [QueueFiles; 2], kind_of: QueueKindOf, log_min: i64) -> io::Result<Queues> {
        let [simple_files, batch_files] = files;
        let mut topics: HashMap<Arc<str>, HashMap<i32, Slot>> = HashMap::new();
        for (files, kind) in [(&simple_files, QueueKind::Simple), (&batch_files, QueueKind::Batch)] {
            for (topic, queue_ids) in files.list()? {
                if topics.contains_key(&*topic) && kind_of(&topic) != kind {
                    tracing::warn!(topic, ?kind, "consume queues of another kind are ignored");
                    continue;
                }
                let slots = queue_ids.into_iter().map(|queue_id| (queue_id, Slot::in_files(kind)));
                topics.insert(Arc::from(topic), slots.collect());
            }
        }
        let light = topics.keys().filter(|topic| topic::is_lmq(topic)).count();
        Ok(Queues {
            light: AtomicUsize::new(light),
            replayed_units: AtomicUsize::new(0),
            simple_files,
            batch_files,
            kind_of,
            topics: RwLock::new(topics),
            loading: std::array::from_fn(|_| Mutex::default()),
            serials: AtomicU64::new(0),
            log_min: AtomicI64::new(log_min),
            trusted_before: AtomicI64::new(i64::MAX),
        })
    }

    pub(crate) fn files(&self, kind: QueueKind) -> &QueueFiles {
        match kind {
            QueueKind::Simple => &self.simple_files,
            QueueKind::Batch => &self.batch_files,
        }
    }

    /// Makes durable what was written before the call.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.simple_files.sync()?;
        self.batch_files.sync()
    }

    pub(crate) fn light(&self) -> usize {
        self.light.load(Ordering::Relaxed)
    }

    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        self.topics.read().keys().cloned().collect()
    }

    /// Every queue that exists, loaded or not.
    pub(crate) fn ids(&self) -> Vec<(Arc<str>, i32, QueueKind)> {
        let topics = self.topics.read();
        let ids = topics.iter().flat_map(|(topic, queues)| {
            let ids = queues.iter();
            ids.map(|(queue_id, slot)| (Arc::clone(topic), *queue_id, slot.kind()))
        });
        ids.collect()
    }

    pub(crate) fn loaded(&self) -> Vec<Arc<ConsumeQueue>> {
        let topics = self.topics.read();
        let slots = topics.values().flat_map(HashMap::values);
        slots
            .filter_map(|slot| match slot {
                Slot::Loaded(queue) => Some(Arc::clone(queue)),
                Slot::InFiles { .. } | Slot::Replayed(_) => None,
            })
            .collect()
    }

    /// The queues of a topic that have to be looked at when the log begins at `log_min`.
    pub(crate) fn untrimmed(&self, topic: &str, log_min: i64) -> Vec<Untrimmed> {
        let topics = self.topics.read();
        let slots = topics.get(topic).into_iter().flatten();
        slots
            .filter_map(|(queue_id, slot)| match slot {
                Slot::Loaded(queue) => queue
                    .may_have_expired(log_min)
                    .then(|| Untrimmed::Loaded(Arc::clone(queue))),
                Slot::InFiles {
                    has_single_file: true, ..
                } => None,
                slot => Some(Untrimmed::InFiles(*queue_id, slot.kind())),
            })
            .collect()
    }

    /// The queue, as long as nobody uses it, has nothing that could be removed.
    pub(crate) fn note_single_file(&self, topic: &str, queue_id: i32) {
        let mut topics = self.topics.write();
        if let Some(Slot::InFiles { has_single_file, .. }) =
            topics.get_mut(topic).and_then(|slots| slots.get_mut(&queue_id))
        {
            *has_single_file = true;
        }
    }

    pub(crate) fn set_log_min(&self, log_min: i64) {
        self.log_min.store(log_min, Ordering::Relaxed);
    }

    /// Units from this one on, from memory or from one file. Returns bytes.
    pub(crate) fn read(&self, queue: &ConsumeQueue, unit: i64, buffer: &mut [u8], wait: Wait) -> io::Result<usize> {
        match queue.read_pending(unit, buffer) {
            Ok(read) => Ok(read),
            Err(in_files) => self.files(queue.kind()).read(queue, unit, in_files, buffer, wait),
        }
    }

    pub(crate) fn queues_of(&self, topic: &str) -> Vec<Arc<ConsumeQueue>> {
        let mut queue_ids: Vec<i32> = match self.topics.read().get(topic) {
            Some(queues) => queues.keys().copied().collect(),
            None => return Vec::new(),
        };
        queue_ids.sort_unstable();
        queue_ids
            .into_iter()
            .filter_map(|queue_id| self.get(topic, queue_id))
            .collect()
    }

    pub(crate) fn get(&self, topic: &str, queue_id: i32) -> Option<Arc<ConsumeQueue>> {
        match self.topics.read().get(topic)?.get(&queue_id)? {
            Slot::Loaded(queue) => return Some(Arc::clone(queue)),
            Slot::InFiles { .. } | Slot::Replayed(_) => {}
        }
        self.load_listed(topic, queue_id)
    }

    pub(crate) fn is_at_hand(&self, topic: &str, queue_id: i32) -> bool {
        let topics = self.topics.read();
        let slot = topics.get(topic).and_then(|slots| slots.get(&queue_id));
        !matches!(slot, Some(Slot::InFiles { .. } | Slot::Replayed(_)))
    }

    pub(crate) fn get_or_create(&self, topic: &str, queue_id: i32) -> Arc<ConsumeQueue> {
        if let Some(queue) = self.get(topic, queue_id) {
            return queue;
        }
        let mut topics = self.topics.write();
        let name = match topics.get_key_value(topic) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(topic),
        };
        let slots = topics.entry(Arc::clone(&name)).or_default();
        if let Some(Slot::Loaded(queue)) = slots.get(&queue_id) {
            return Arc::clone(queue);
        }
        let kind = self.kind_of_new(topic, slots);
        let queue = Arc::new(ConsumeQueue::new(
            name,
            queue_id,
            self.serial(),
            kind,
            Extent::default(),
        ));
        slots.insert(queue_id, Slot::Loaded(Arc::clone(&queue)));
        if topic::is_lmq(topic) {
            self.light.fetch_add(1, Ordering::Relaxed);
        }
        queue
    }

    /// Queues that nobody asks for keep their files as they are: what these say of records before this position is true.
    pub(crate) fn trust_before(&self, physical_offset: i64) {
        self.trusted_before.store(physical_offset, Ordering::Relaxed);
    }

    /// For the replay: what the files say of records that are not trusted is removed.
    pub(crate) fn get_or_create_cut(&self, topic: &str, queue_id: i32) -> io::Result<Arc<ConsumeQueue>> {
        let listed = {
            let topics = self.topics.read();
            let name = topics.get_key_value(topic);
            name.and_then(|(name, slots)| match slots.get(&queue_id)? {
                Slot::InFiles { kind, .. } => Some((Arc::clone(name), *kind)),
                Slot::Replayed(_) | Slot::Loaded(_) => None,
            })
        };
        let Some((name, kind)) = listed else {
            return Ok(self.get_or_create(topic, queue_id));
        };
        let (log_min, before) = (
            self.log_min.load(Ordering::Relaxed),
            self.trusted_before.load(Ordering::Relaxed),
        );
        self.load_cut(&name, queue_id, kind, log_min, &mut |unit| is_before(unit, before))
    }

    /// Loads a queue at recovery: entries that `belongs` refuses are cut off.
    pub(crate) fn load_cut(
        &self,
        topic: &Arc<str>,
        queue_id: i32,
        kind: QueueKind,
        log_min: i64,
        belongs: &mut dyn FnMut(&Unit) -> bool,
    ) -> io::Result<Arc<ConsumeQueue>> {
        let extent = self.files(kind).load(topic, queue_id, true, log_min, belongs)?;
        let name = Arc::clone(topic);
        let queue = Arc::new(ConsumeQueue::new(name, queue_id, self.serial(), kind, extent));
        let mut topics = self.topics.write();
        let slots = topics.entry(Arc::clone(topic)).or_default();
        slots.insert(queue_id, Slot::Loaded(Arc::clone(&queue)));
        Ok(queue)
    }

    /// The files hold exactly the entries of the log, or of its part that is trusted. Two objects for one queue would assign
    /// the same offsets twice: one thread loads it, and only those who ask for it, or for one that shares its lock, wait.
    fn load_listed(&self, topic: &str, queue_id: i32) -> Option<Arc<ConsumeQueue>> {
        let mut place = DefaultHasher::new();
        (topic, queue_id).hash(&mut place);
        let _no_other_load = self.loading[place.finish() as usize % LOADING_LOCKS].lock();
        let (name, kind, is_replayed) = {
            let topics = self.topics.read();
            let (name, slots) = topics.get_key_value(topic)?;
            match slots.get(&queue_id)? {
                Slot::Loaded(queue) => return Some(Arc::clone(queue)),
                slot => (Arc::clone(name), slot.kind(), matches!(slot, Slot::Replayed(_))),
            }
        };
        let log_min = self.log_min.load(Ordering::Relaxed);
        let before = self.trusted_before.load(Ordering::Relaxed);
        // What the files say of records that are not trusted would come behind the units of the replay.
        let extent = self
            .files(kind)
            .load(topic, queue_id, is_replayed, log_min, &mut |unit| {
                is_before(unit, before)
            });
        let extent = match extent {
            Ok(extent) => extent,
            Err(error) => {
                // Taken for an empty one it would give its offsets again.
                tracing::error!(topic, queue_id, %error, "consume queue cannot be loaded");
                return Some(Arc::new(ConsumeQueue::unreadable(name, queue_id, self.serial(), kind)));
            }
        };
        let queue = Arc::new(ConsumeQueue::new(name, queue_id, self.serial(), kind, extent));
        let mut topics = self.topics.write();
        let slot = topics.get_mut(topic)?.get_mut(&queue_id)?;
        if let Slot::Replayed(replayed) = slot {
            for unit in &replayed.units {
                queue.enter(unit);
            }
        }
        *slot = Slot::Loaded(Arc::clone(&queue));
        Some(queue)
    }

    /// Keeps a unit that the replay found until its queue is loaded. False if it has to be loaded now.
    pub(crate) fn keep_replayed(&self, topic: &str, queue_id: i32, unit: &Unit) -> bool {
        if self.replayed_units.load(Ordering::Relaxed) >= REPLAYED_UNITS_MAX {
            return false;
        }
        let mut topics = self.topics.write();
        if !topics.contains_key(topic) {
            topics.insert(Arc::from(topic), HashMap::new());
            self.light.fetch_add(topic::is_lmq(topic).into(), Ordering::Relaxed);
        }
        let slots = topics.get_mut(topic).expect("it was just put there");
        let kind = match slots.get(&queue_id) {
            Some(Slot::Loaded(_)) => return false,
            Some(slot) => slot.kind(),
            None => self.kind_of_new(topic, slots),
        };
        self.replayed_units.fetch_add(1, Ordering::Relaxed);
        if let Some(Slot::Replayed(replayed)) = slots.get_mut(&queue_id) {
            replayed.units.push(*unit);
        } else {
            let units = vec![*unit];
            slots.insert(queue_id, Slot::Replayed(Box::new(Replayed { kind, units })));
        }
        true
    }

    /// Queues of a topic are all of one kind, also when its configuration was lost.
    fn kind_of_new(&self, topic: &str, others: &HashMap<i32, Slot>) -> QueueKind {
        let kind = others.values().next().map(Slot::kind);
        kind.unwrap_or_else(|| (self.kind_of)(topic))
    }

    /// The queues that have units of the replay.
    pub(crate) fn replayed(&self) -> Vec<(Arc<str>, i32)> {
        let topics = self.topics.read();
        let slots = topics
            .iter()
            .flat_map(|(topic, slots)| slots.iter().map(move |(queue_id, slot)| (topic, *queue_id, slot)));
        let replayed = slots.filter(|(_, _, slot)| matches!(slot, Slot::Replayed(_)));
        replayed
            .map(|(topic, queue_id, _)| (Arc::clone(topic), queue_id))
            .collect()
    }

    /// Forgets a topic and returns its queues, loaded.
    pub(crate) fn remove_topic(&self, topic: &str) -> Vec<Arc<ConsumeQueue>> {
        let queues = self.queues_of(topic);
        for queue in &queues {
            queue.mark_deleted();
        }
        if self.topics.write().remove(topic).is_some() && topic::is_lmq(topic) {
            self.light.fetch_sub(queues.len(), Ordering::Relaxed);
        }
        queues
    }

    fn serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed)
    }
}

/// A unit of a record before this position. Where every unit counts, damaged ones do too; elsewhere one that is no unit may
/// be the rest of a write that was interrupted.
fn is_before(unit: &Unit, before: i64) -> bool {
    before == i64::MAX || (unit.is_present() && unit.entry.end() <= before)
}

impl Slot {
    fn in_files(kind: QueueKind) -> Slot {
        Slot::InFiles {
            kind,
            has_single_file: false,
        }
    }

    fn kind(&self) -> QueueKind {
        match self {
            Slot::InFiles { kind, .. } => *kind,
            Slot::Replayed(replayed) => replayed.kind,
            Slot::Loaded(queue) => queue.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_nobody_uses_takes_a_few_hundred_bytes() {
        assert!(size_of::<ConsumeQueue>() <= 208, "{}", size_of::<ConsumeQueue>());
        assert_eq!(size_of::<Slot>(), 16);
    }
}
