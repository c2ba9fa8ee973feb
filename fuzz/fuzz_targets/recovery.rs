//! A store whose files were overwritten with foreign bytes opens or is refused, and can be read.
//!
//! The input is a list of edits: file, position (2 bytes), length, then that many bytes.

#![no_main]

use std::io::IoSlice;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use oxmq_protocol::properties;
use oxmq_protocol::record::{self, RecordFields};
use oxmq_store::disk::{Disk, SimulatedDisk};
use oxmq_store::{
    AppendBatch, AppendEntry, ConsumeQueue, GetLimits, MessageStore, StoreConfig, StoreFailure, StoreListener,
    TagsCode, Wait,
};

struct Silent;

impl StoreListener for Silent {
    fn arrived(&self, _queues: &[Arc<ConsumeQueue>]) {}
    fn flushed(&self, _flushed: i64) {}
    fn failed(&self, _why: &StoreFailure) {}
}

fn open(disk: &SimulatedDisk) -> Option<Arc<MessageStore>> {
    let config = StoreConfig {
        commit_log_file_bytes: 8 * 1024,
        consume_queue_file_bytes: 20 * 16,
        index_slots: 16,
        index_entries: 64,
        block_cache_bytes: 256 * 1024,
        background_threads: false,
        clock: Arc::new(|| 1_700_000_000_000),
        ..StoreConfig::new("/store")
    };
    MessageStore::open(config, Arc::new(disk.clone()), Arc::new(Silent)).ok()
}

/// A killed store with 60 messages in two queues and three commit log files.
fn sample() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk).expect("an empty disk");
    let mut batch = AppendBatch::default();
    for number in 0..60 {
        let queue = store.queue_or_create("orders", number % 2);
        let fields = RecordFields {
            queue_id: number % 2,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: ([10, 0, 0, 1], 1).into(),
            store_host: ([10, 0, 0, 2], 2).into(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            topic: b"orders",
            body: &[b'x'; 200],
        };
        let range = record::encode(&mut batch.records, &fields, |out| {
            properties::write(out, b"KEYS", b"key")
        })
        .expect("a small record");
        batch.entries.push(AppendEntry {
            queue,
            start: range.start as u32,
            len: range.len() as u32,
            tags_code: TagsCode::Hash(0),
            group_len: 1,
            in_queue: true,
            queue_offset: 0,
            physical_offset: 0,
        });
        store.append(&mut batch).expect("an endless disk");
        batch.entries.clear();
        if number == 20 {
            store.run_background_work();
        }
    }
    disk.kill()
}

const FILES: [&str; 8] = [
    "/store/commitlog/00000000000000000000",
    "/store/commitlog/00000000000000008192",
    "/store/commitlog/00000000000000016384",
    "/store/consumequeue/orders/0/00000000000000000000",
    "/store/consumequeue/orders/1/00000000000000000000",
    "/store/checkpoint",
    "/store/abort",
    "/store/index",
];

fuzz_target!(|data: &[u8]| {
    static SAMPLE: OnceLock<SimulatedDisk> = OnceLock::new();
    let disk = SAMPLE.get_or_init(sample).kill();
    let mut rest = data;
    while let [file, high, low, len, tail @ ..] = rest {
        let (bytes, after) = tail.split_at(tail.len().min(*len as usize));
        rest = after;
        let mut path = Path::new(FILES[*file as usize % FILES.len()]).to_path_buf();
        if path.ends_with("index") {
            let Some(entry) = disk.list(&path).ok().and_then(|entries| entries.into_iter().next()) else {
                continue;
            };
            path.push(entry.name);
        }
        if let Ok(file) = disk.open(&path) {
            let at = u64::from(u16::from_be_bytes([*high, *low])) % file.len().expect("a length").max(1);
            let bytes = &bytes[..bytes.len().min((file.len().expect("a length") - at) as usize)];
            file.write_all_at(&[IoSlice::new(bytes)], at).expect("an endless disk");
        }
    }
    let Some(store) = open(&disk) else { return };
    for queue in store.queues_of("orders") {
        let mut offset = queue.min_offset();
        while offset < queue.max_offset() {
            let mut out = BytesMut::new();
            let got = store.get_messages(
                &queue,
                offset,
                &GetLimits::count(32),
                &mut |_| true,
                Wait::Allowed,
                &mut out,
            );
            let next = got.expect("an endless disk").next_begin_offset;
            assert!(next > offset, "a reader must get on");
            offset = next;
        }
    }
    store.run_background_work();
    store.query("orders", "key", 32, 0, i64::MAX);
    store.shutdown();
});
