//! Filters: what is read for them, a record here and there or block after block, is what a reader of everything finds.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::path::Path;

use bytes::BytesMut;
use oxmq_protocol::record::RecordRef;
use oxmq_store::disk::{Disk, SimulatedDisk};
use oxmq_store::{
    AppendBatch, Codes, ConsumeQueue, FlushDiskType, GetLimits, GetStatus, MessageFilter, MessageStore, StoreConfig,
    TagsCode, Wait,
};
use proptest::prelude::*;

use crate::support::{add, contents, number_of, open_on, small_config};

const TOPIC: &str = "orders";

/// Wants every `step`-th message, which the entry or only the record tells.
#[derive(Debug, Clone)]
struct EveryNth {
    step: u64,
    by_code: bool,
    codes: Vec<i32>,
}

impl EveryNth {
    fn wants(&self, number: u64) -> bool {
        number.is_multiple_of(self.step)
    }
}

impl MessageFilter for EveryNth {
    fn accepts_code(&mut self, tags_code: i64) -> bool {
        !self.by_code || self.wants(tags_code as u64)
    }

    fn codes(&self) -> Codes<'_> {
        match self.by_code {
            true => Codes::Only(&self.codes),
            false => Codes::All,
        }
    }

    fn accepts_record(&mut self, record: &RecordRef<'_>) -> bool {
        self.wants(number_of(record))
    }
}

/// Files that hold several blocks, and a tail that holds the last few records.
fn config() -> StoreConfig {
    StoreConfig {
        commit_log_file_bytes: 512 * 1024,
        consume_queue_file_bytes: 20 * 512,
        tail_bytes: 8 * 1024,
        ..small_config(Path::new("/store"), FlushDiskType::Async)
    }
}

/// Messages with numbers for codes, over these queues in groups.
fn fill(store: &MessageStore, sizes: &[usize], queues: i32, group: usize) {
    for (number, bytes) in sizes.iter().enumerate() {
        let queue = store.queue_or_create(TOPIC, (number / group) as i32 % queues);
        append(store, &queue, number as u64, *bytes);
    }
    store.run_background_work();
}

fn append(store: &MessageStore, queue: &std::sync::Arc<ConsumeQueue>, number: u64, body_bytes: usize) -> i64 {
    let mut batch = AppendBatch::default();
    add(&mut batch, queue, number, body_bytes);
    batch.entries[0].tags_code = TagsCode::Hash(number as i64);
    store.append(&mut batch).unwrap();
    batch.entries[0].physical_offset
}

/// Everything that a consumer with this filter gets, pull after pull.
fn filtered(
    store: &MessageStore,
    queue: &ConsumeQueue,
    mut filter: impl MessageFilter,
    count: usize,
    wait: Wait,
) -> Vec<u64> {
    let mut found = Vec::new();
    let mut offset = queue.min_offset();
    while offset < queue.max_offset() {
        let mut out = BytesMut::new();
        let limits = GetLimits::count(count);
        let got = store
            .get_messages(queue, offset, &limits, &mut filter, wait, &mut out)
            .unwrap();
        assert!(got.next_begin_offset > offset, "no progress at {offset}: {got:?}");
        assert_eq!(got.bytes, out.len());
        assert_eq!(got.status == GetStatus::Found, got.count > 0);
        let mut rest = &out[..];
        while !rest.is_empty() {
            let record = RecordRef::parse(rest).unwrap();
            found.push(number_of(&record));
            rest = &rest[record.total_size()..];
        }
        offset = got.next_begin_offset;
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn filters_find_what_a_reader_of_everything_finds(
        sizes in prop::collection::vec(prop_oneof![20 => 8..400_usize, 2 => 400..9_000_usize, 1 => 100_000..150_000_usize], 1..400),
        queues in 1..4_i32,
        group in 1..50_usize,
        step in prop_oneof![1..4_u64, 9..120_u64],
        by_code: bool,
        count in 1..40_usize,
        cold: bool,
    ) {
        let disk = SimulatedDisk::new();
        let store = open_on(config(), std::sync::Arc::new(disk.clone()));
        fill(&store, &sizes, queues, group);
        if cold {
            disk.forget();
        }
        let wait = if cold { Wait::Allowed } else { Wait::Never };
        let codes = (0..sizes.len() as i32).step_by(step as usize).collect();
        let filter = EveryNth { step, by_code, codes };
        let mut all = BTreeSet::new();
        for queue in store.queues_of(TOPIC) {
            let found = filtered(&store, &queue, filter.clone(), count, wait);
            let everything = contents(&store, &queue);
            let wanted: Vec<u64> = everything.into_values().filter(|number| filter.wants(*number)).collect();
            prop_assert_eq!(&found, &wanted);
            all.extend(found);
        }
        prop_assert_eq!(all.len(), (sizes.len() as u64).div_ceil(step) as usize);
    }
}

#[test]
fn a_damaged_record_is_not_handed_out_by_a_filter() {
    for by_code in [true, false] {
        let disk = SimulatedDisk::new();
        let store = open_on(config(), std::sync::Arc::new(disk.clone()));
        let queue = store.queue_or_create(TOPIC, 0);
        let places: Vec<i64> = (0..600).map(|number| append(&store, &queue, number, 200)).collect();
        store.run_background_work();
        // A byte of the body of one message that is wanted, and of one that is not.
        let file = disk.open(Path::new("/store/commitlog/00000000000000000000")).unwrap();
        for number in [100, 150] {
            file.write_all_at(&[IoSlice::new(b"!")], places[number] as u64 + 120)
                .unwrap();
        }
        let filter = EveryTwentieth { by_code };
        let found = filtered(&store, &queue, filter, 32, Wait::Never);
        let wanted: Vec<u64> = (0..600).filter(|number| number % 20 == 0 && *number != 100).collect();
        assert_eq!(found, wanted);
    }
}

const fn every_twentieth() -> [i32; 30] {
    let (mut codes, mut index) = ([0; 30], 0);
    while index < codes.len() {
        codes[index] = 20 * index as i32;
        index += 1;
    }
    codes
}

/// As `EveryNth`, without looking at bodies, which may be damaged.
#[derive(Clone, Copy)]
struct EveryTwentieth {
    by_code: bool,
}

impl MessageFilter for EveryTwentieth {
    fn accepts_code(&mut self, tags_code: i64) -> bool {
        !self.by_code || tags_code % 20 == 0
    }

    fn codes(&self) -> Codes<'_> {
        match self.by_code {
            true => Codes::Only(const { &every_twentieth() }),
            false => Codes::All,
        }
    }

    fn accepts_record(&mut self, record: &RecordRef<'_>) -> bool {
        record.queue_offset() % 20 == 0
    }
}
