//! A store with tiny files, and messages that say who they are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use bytes::BytesMut;
use oxmq_protocol::record::{self, RecordFields, RecordRef};
use oxmq_protocol::{hash, properties};
use oxmq_store::disk::{Disk, Fault, SimulatedDisk};
use oxmq_store::{
    AppendBatch, AppendEntry, AppendError, ConsumeQueue, FlushDiskType, GetLimits, MessageStore, OpenError,
    StoreConfig, StoreFailure, StoreListener, TagsCode, Wait,
};

#[derive(Default)]
pub(crate) struct Listener {
    pub(crate) arrived: AtomicUsize,
    pub(crate) flushed: AtomicI64,
    pub(crate) failed: AtomicUsize,
}

impl StoreListener for Listener {
    fn arrived(&self, queues: &[Arc<ConsumeQueue>]) {
        self.arrived.fetch_add(queues.len(), Ordering::SeqCst);
    }

    fn flushed(&self, flushed: i64) {
        self.flushed.fetch_max(flushed, Ordering::SeqCst);
    }

    fn failed(&self, _why: &StoreFailure) {
        self.failed.fetch_add(1, Ordering::SeqCst);
    }
}

/// Files so small that a test fills several of each; no threads; a clock that ticks with every look.
pub(crate) fn small_config(root: &Path, flush_disk_type: FlushDiskType) -> StoreConfig {
    let ticks = AtomicI64::new(1_700_000_000_000);
    StoreConfig {
        commit_log_file_bytes: 8 * 1024,
        consume_queue_file_bytes: 20 * 16,
        flush_disk_type,
        index_slots: 16,
        index_entries: 64,
        block_cache_bytes: 256 * 1024,
        tail_bytes: 4 * 1024,
        open_files_max: 3,
        clock: Arc::new(move || ticks.fetch_add(7, Ordering::Relaxed)),
        background_threads: false,
        ..StoreConfig::new(root)
    }
}

pub(crate) fn open_simulated(
    disk: &SimulatedDisk,
    flush_disk_type: FlushDiskType,
) -> Result<Arc<MessageStore>, OpenError> {
    let config = small_config(Path::new("/store"), flush_disk_type);
    MessageStore::open(config, Arc::new(disk.clone()), Arc::new(Listener::default()))
}

pub(crate) fn open_on(config: StoreConfig, disk: Arc<dyn Disk>) -> Arc<MessageStore> {
    MessageStore::open(config, disk, Arc::new(Listener::default())).unwrap()
}

/// Adds a message to a batch. Key and tag are derived from the body's number.
pub(crate) fn add(batch: &mut AppendBatch, queue: &Arc<ConsumeQueue>, number: u64, body_bytes: usize) {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(body_bytes.max(8), number as u8);
    let fields = RecordFields {
        queue_id: queue.queue_id(),
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: "10.0.0.9:51234".parse().unwrap(),
        store_host: "10.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        topic: queue.topic().as_bytes(),
        body: &body,
    };
    let tag = tag_of(number);
    let range = record::encode(&mut batch.records, &fields, |out| {
        properties::write(out, b"KEYS", format!("key-{number}").as_bytes());
        properties::write(out, b"TAGS", tag.as_bytes());
    })
    .unwrap();
    batch.entries.push(AppendEntry {
        queue: Arc::clone(queue),
        start: range.start as u32,
        len: range.len() as u32,
        tags_code: TagsCode::Hash(hash::tags_code(tag.as_bytes())),
        group_len: 1,
        in_queue: true,
        queue_offset: -1,
        physical_offset: -1,
        extra: None,
    });
}

pub(crate) fn tag_of(number: u64) -> &'static str {
    if number.is_multiple_of(2) { "even" } else { "odd" }
}

pub(crate) fn append_one(store: &MessageStore, topic: &str, queue_id: i32, number: u64) -> Result<i64, AppendError> {
    let mut batch = AppendBatch::default();
    add(&mut batch, &store.queue_or_create(topic, queue_id), number, 40);
    store.append(&mut batch)?;
    Ok(batch.entries[0].queue_offset)
}

/// The number of a stored message, after checking that the record is what `add` made.
pub(crate) fn number_of(record: &RecordRef<'_>) -> u64 {
    record.verify_crc().unwrap();
    let number = u64::from_be_bytes(record.body()[..8].try_into().unwrap());
    let key = properties::find(record.properties(), "KEYS").unwrap();
    assert_eq!(key, format!("key-{number}").as_bytes());
    number
}

/// The numbers in a queue by queue offset, read through pulls.
pub(crate) fn contents(store: &MessageStore, queue: &ConsumeQueue) -> BTreeMap<i64, u64> {
    let mut found = BTreeMap::new();
    let mut offset = queue.min_offset();
    while offset < queue.max_offset() {
        let mut out = BytesMut::new();
        let got = store
            .get_messages(
                queue,
                offset,
                &GetLimits::count(32),
                &mut |_: i64| true,
                Wait::Allowed,
                &mut out,
            )
            .unwrap();
        assert!(got.next_begin_offset > offset, "no progress at {offset}: {got:?}");
        let mut rest = &out[..];
        while !rest.is_empty() {
            let record = RecordRef::parse(rest).unwrap();
            assert_eq!(record.queue_id(), queue.queue_id());
            assert_eq!(record.topic(), queue.topic().as_bytes());
            assert!(found.insert(record.queue_offset(), number_of(&record)).is_none());
            rest = &rest[record.total_size()..];
        }
        offset = got.next_begin_offset;
    }
    found
}

/// Runs a script with each operation of a kind failing in its turn, and checks what is left each time.
pub(crate) fn with_each_fault<T>(
    fault: Fault,
    run: impl Fn(&SimulatedDisk) -> T,
    mut check: impl FnMut(&SimulatedDisk, &T, u64),
) {
    for after in 0.. {
        let disk = SimulatedDisk::new();
        disk.fail(fault, after);
        let promised = run(&disk);
        if disk.is_to_fail() {
            assert!(after > 20, "the script has only {after} operations of this kind");
            return;
        }
        check(&disk, &promised, after);
    }
}
