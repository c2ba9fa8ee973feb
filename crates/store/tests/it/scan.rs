//! Reading the log from a time on.

use std::path::Path;
use std::sync::Arc;

use oxmq_store::disk::SimulatedDisk;
use oxmq_store::{AppendBatch, FlushDiskType};

use crate::support::*;

#[test]
fn a_scan_shows_everything_from_a_time_on_and_little_before() {
    let disk = SimulatedDisk::new();
    let open = || {
        let config = small_config(Path::new("/store"), FlushDiskType::Async);
        open_on(config, Arc::new(disk.clone()))
    };
    let store = open();
    assert_eq!(store.scan_since(0, &mut |_| panic!("there is nothing")).unwrap(), 0);
    let mut stored = Vec::new();
    let mut batch = AppendBatch::default();
    for number in 0..200 {
        // One queue is used at first only, the other all the time: many files of the log.
        let queue = store.queue_or_create("t", if number % 7 == 0 && number < 50 { 1 } else { 0 });
        batch.clear();
        add(&mut batch, &queue, number, 300);
        store.append(&mut batch).unwrap();
        stored.push((batch.entries[0].physical_offset, batch.store_timestamp));
    }
    let check = |store: &oxmq_store::MessageStore| {
        for (index, (_, since)) in stored.iter().enumerate() {
            let mut seen = Vec::new();
            store
                .scan_since(*since, &mut |record| {
                    seen.push((record.physical_offset(), record.store_timestamp()));
                })
                .unwrap();
            assert!(seen.ends_with(&stored[index..]), "{index}");
            assert!(seen.len() <= stored.len() - index + 2, "{} too many", seen.len());
        }
        let mut later = 0;
        store.scan_since(i64::MAX, &mut |_| later += 1).unwrap();
        assert!(later <= 1);
    };
    check(&store);
    store.shutdown();
    drop(store);
    check(&open());
}
