//! Time per message for appends, for reads from the tail, and for draining a backlog of interleaved queues.
//!
//! `cargo run --release -p oxmq-store --example append_bench -- [folder] [messages]`

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use oxmq_protocol::properties;
use oxmq_protocol::record::{self, RecordFields};
use oxmq_store::disk::RealDisk;
use oxmq_store::{
    AppendBatch, AppendEntry, ConsumeQueue, FlushDiskType, GetError, GetLimits, MessageStore, StoreConfig,
    StoreFailure, StoreListener, TagsCode, Wait,
};
use rustix::time::{ClockId, clock_gettime};

/// A moment on three clocks: wall, CPU of this thread, CPU of the process.
struct Moment(Instant, f64, f64);

impl Moment {
    fn now() -> Moment {
        Moment(
            Instant::now(),
            cpu_seconds(ClockId::ThreadCPUTime),
            cpu_seconds(ClockId::ProcessCPUTime),
        )
    }

    fn elapsed(&self) -> [f64; 3] {
        [
            self.0.elapsed().as_secs_f64(),
            cpu_seconds(ClockId::ThreadCPUTime) - self.1,
            cpu_seconds(ClockId::ProcessCPUTime) - self.2,
        ]
    }
}

struct Silent;

impl StoreListener for Silent {
    fn arrived(&self, _queues: &[Arc<ConsumeQueue>]) {}
    fn flushed(&self, _flushed: i64) {}
    fn failed(&self, _why: &StoreFailure) {}
}

const QUEUES: usize = 8;
const BODY: [u8; 128] = [b'x'; 128];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = PathBuf::from(arguments.next().unwrap_or_else(|| "/tmp/oxmq-append-bench".to_owned()));
    let messages: usize = arguments.next().map_or(Ok(2_000_000), |text| text.parse())?;
    for batch_len in [32, 8, 1] {
        let _ = std::fs::remove_dir_all(&root);
        let config = StoreConfig::new(&root);
        let store = MessageStore::open(config, Arc::new(RealDisk), Arc::new(Silent))?;
        let queues: Vec<_> = (0..QUEUES as i32)
            .map(|id| store.queue_or_create("bench", id))
            .collect();
        let report = |what: &str, began: &Moment, count: usize| {
            let [wall, thread, process] = began.elapsed().map(|seconds| seconds * 1e9 / count as f64);
            println!(
                "batch {batch_len:>2}  {what:<24} {wall:>6.0} ns wall {thread:>6.0} ns CPU, process {process:>6.0} ns"
            );
        };
        let began = Moment::now();
        let mut batch = AppendBatch::default();
        for first in (0..messages).step_by(batch_len) {
            for number in first..first + batch_len {
                add(&mut batch, &queues[number % QUEUES], number)?;
            }
            store.append(&mut batch)?;
            batch.entries.clear();
        }
        report("encode and append", &began, messages);

        let began = Moment::now();
        let recent = 2_000;
        for _ in 0..20 {
            drain(&store, &queues, recent)?;
        }
        report("read from the tail", &began, 20 * recent as usize * QUEUES);

        let began = Moment::now();
        drain(&store, &queues, i64::MAX)?;
        report("drain, 32 a pull", &began, messages);

        let began = Instant::now();
        while store.dispatch_behind_bytes() > 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
        println!(
            "batch {batch_len:>2}  index ready after {} ms",
            began.elapsed().as_millis()
        );
        store.shutdown();
    }

    let _ = std::fs::remove_dir_all(&root);
    let mut config = StoreConfig::new(&root);
    config.flush_disk_type = FlushDiskType::Sync;
    let store = MessageStore::open(config, Arc::new(RealDisk), Arc::new(Silent))?;
    let queue = store.queue_or_create("bench", 0);
    let mut batch = AppendBatch::default();
    let began = Instant::now();
    let flushes = 2_000;
    for number in 0..flushes {
        for _ in 0..64 {
            add(&mut batch, &queue, number)?;
        }
        store.append(&mut batch)?;
        batch.entries.clear();
        while store.flushed() < batch.end_offset {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    let micros = began.elapsed().as_secs_f64() * 1e6 / flushes as f64;
    println!("SYNC_FLUSH, batches of 64: {micros:.0} us per batch");
    store.shutdown();
    drop(store);
    std::fs::remove_dir_all(&root)?;
    Ok(())
}

fn add(batch: &mut AppendBatch, queue: &Arc<ConsumeQueue>, number: usize) -> Result<(), Box<dyn Error>> {
    let fields = RecordFields {
        queue_id: queue.queue_id(),
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: ([127, 0, 0, 1], 1234).into(),
        store_host: ([127, 0, 0, 1], 10911).into(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        topic: queue.topic().as_bytes(),
        body: &BODY,
    };
    let mut unique = *b"7F000001000018B4AAC2000000000000";
    let mut rest = number;
    for digit in unique.iter_mut().rev().take(12) {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let range = record::encode(&mut batch.records, &fields, |out| {
        properties::write(out, b"UNIQ_KEY", &unique)
    })?;
    batch.entries.push(AppendEntry {
        queue: Arc::clone(queue),
        start: range.start as u32,
        len: range.len() as u32,
        tags_code: TagsCode::Hash(0),
        group_len: 1,
        in_queue: true,
        queue_offset: 0,
        physical_offset: 0,
        extra: None,
    });
    Ok(())
}

/// Reads the newest `count` messages of each queue, the queues side by side.
fn drain(store: &MessageStore, queues: &[Arc<ConsumeQueue>], count: i64) -> Result<(), Box<dyn Error>> {
    let mut offsets: Vec<i64> = queues
        .iter()
        .map(|queue| (queue.max_offset() - count.min(queue.max_offset())).max(0))
        .collect();
    let mut out = BytesMut::with_capacity(256 * 1024);
    let limits = GetLimits::count(32);
    loop {
        let mut more = false;
        for (queue, offset) in queues.iter().zip(&mut offsets) {
            if *offset < queue.max_offset() {
                out.clear();
                let mut get = |wait| store.get_messages(queue, *offset, &limits, &mut |_: i64| true, wait, &mut out);
                let got = match get(Wait::Never) {
                    Err(GetError::WouldBlock) => get(Wait::Allowed)?,
                    other => other?,
                };
                *offset = got.next_begin_offset;
                more = true;
            }
        }
        if !more {
            return Ok(());
        }
    }
}

fn cpu_seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
