//! Opens a store directory, reads every message of every queue, and closes it as a broker would.
//!
//! `cargo run -p oxmq-store --example inspect -- <storePathRootDir> [topic key]`

use std::error::Error;
use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::record::RecordRef;
use oxmq_store::disk::RealDisk;
use oxmq_store::{ConsumeQueue, GetLimits, MessageStore, StoreConfig, StoreFailure, StoreListener, Wait};

struct Silent;

impl StoreListener for Silent {
    fn arrived(&self, _queues: &[Arc<ConsumeQueue>]) {}
    fn flushed(&self, _flushed: i64) {}
    fn failed(&self, _why: &StoreFailure) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments
        .next()
        .ok_or("usage: inspect <storePathRootDir> [topic key]")?;
    let store = MessageStore::open(StoreConfig::new(root), Arc::new(RealDisk), Arc::new(Silent))?;
    println!("{:?}", store.recovery_report());
    println!("log {}..{}", store.min_physical_offset(), store.written());
    let mut topics = store.topics();
    topics.sort();
    for topic in topics {
        for queue in store.queues_of(&topic) {
            let (readable, expected) = (readable(&store, &queue)?, queue.max_offset() - queue.min_offset());
            println!(
                "{topic} {}: {}..{}, {readable} of {expected} readable",
                queue.queue_id(),
                queue.min_offset(),
                queue.max_offset()
            );
        }
    }
    if let (Some(topic), Some(key)) = (arguments.next(), arguments.next()) {
        while store.dispatch_behind_bytes() > 0 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let found = store.query(&topic, &key, 32, 0, i64::MAX);
        println!("key {key}: {} records", found.records.len());
    }
    store.shutdown();
    Ok(())
}

/// Messages of the queue that can be read and stand at their queue offset.
fn readable(store: &MessageStore, queue: &ConsumeQueue) -> Result<i64, Box<dyn Error>> {
    let mut count = 0;
    let mut offset = queue.min_offset();
    let mut out = BytesMut::new();
    while offset < queue.max_offset() {
        out.clear();
        let got = store.get_messages(
            queue,
            offset,
            &GetLimits::count(32),
            &mut |_: i64| true,
            Wait::Allowed,
            &mut out,
        )?;
        let mut rest = &out[..];
        while !rest.is_empty() {
            let record = RecordRef::parse(rest)?;
            let in_place = (offset..got.next_begin_offset).contains(&record.queue_offset());
            count += i64::from(in_place && record.topic() == queue.topic().as_bytes());
            rest = &rest[record.total_size()..];
        }
        offset = got.next_begin_offset;
    }
    Ok(count)
}
