//! `oxmq store`: what a survey finds in a folder at rest, and that a repair puts it right.

use std::path::Path;
use std::sync::Arc;

use oxmq_store::FlushDiskType;
use oxmq_store::disk::{Disk, SimulatedDisk};
use oxmq_store::offline::records::Selection;
use oxmq_store::offline::{OfflineStore, ProblemKind, Survey, Writer};

use crate::support::*;

const LOG: &str = "/store/commitlog/00000000000000000000";
const QUEUE: &str = "/store/consumequeue/orders/0/00000000000000000000";

/// 120 messages over two topics, stopped in order.
fn sample() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    for number in 0..120 {
        append_one(&store, ["orders", "payments"][number as usize % 2], 0, number).unwrap();
    }
    store.run_background_work();
    store.shutdown();
    drop(store);
    let config = Path::new("/store/config/topics.json");
    let save = |text: &str| oxmq_store::config_file::save(&disk, config, text.as_bytes()).unwrap();
    save(r#"{"topicConfigTable":{"orders":{}}}"#);
    save(r#"{"topicConfigTable":{"orders":{},"payments":{}}}"#);
    let offsets = r#"{"offsetTable":{"orders@group":{0:20},"payments@group":{0:60}}}"#;
    oxmq_store::config_file::save(
        &disk,
        Path::new("/store/config/consumerOffset.json"),
        offsets.as_bytes(),
    )
    .unwrap();
    disk
}

fn open(disk: &SimulatedDisk) -> OfflineStore {
    let config = small_config(Path::new("/store"), FlushDiskType::Async);
    OfflineStore::open(config, Arc::new(disk.clone())).unwrap()
}

fn survey(disk: &SimulatedDisk) -> Survey {
    open(disk).survey(&mut |_| ()).unwrap()
}

fn kinds(survey: &Survey) -> Vec<ProblemKind> {
    let mut kinds: Vec<_> = survey.problems.iter().map(|problem| problem.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

fn repair(disk: &SimulatedDisk) {
    let store = open(disk);
    let (_, plan) = store.plan(&mut |_| ()).unwrap();
    assert!(!plan.is_empty());
    assert_eq!(plan.steps().len() > 1, !plan.is_empty());
    store.repair(plan, Path::new("/store/set-aside")).unwrap();
}

fn number_of_all(disk: &SimulatedDisk, topic: &str) -> Vec<u64> {
    let store = open_simulated(disk, FlushDiskType::Async).unwrap();
    let queue = store.queue(topic, 0).unwrap();
    assert_eq!(queue.max_offset(), 60);
    let numbers = contents(&store, &queue).into_values().collect();
    store.shutdown();
    numbers
}

#[test]
fn a_sound_store_is_described_and_left_as_it_is() {
    let disk = sample();
    let operations = disk.operations();
    let survey = survey(&disk);
    assert!(survey.problems.is_empty(), "{:#?}", survey.problems);
    assert_eq!((survey.writer, survey.clean_stop), (Writer::OxMq, true));
    assert_eq!((survey.log.records, survey.log.min), (120, 0));
    let queues: Vec<_> = survey
        .topics
        .iter()
        .map(|topic| (&*topic.topic, topic.queues[0].min_offset, topic.queues[0].max_offset))
        .collect();
    assert_eq!(queues, [("orders", 0, 60), ("payments", 0, 60)]);
    let lags: Vec<_> = survey.groups.iter().map(|group| (&*group.topic, group.lag)).collect();
    assert_eq!(lags, [("orders", 40), ("payments", 0)]);
    assert_eq!(survey.index.iter().map(|file| file.entries).sum::<i64>(), 120);
    assert_eq!(disk.operations(), operations, "a survey changes nothing");
}

#[test]
fn a_folder_in_use_is_refused() {
    let disk = SimulatedDisk::new();
    let _store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    let config = small_config(Path::new("/store"), FlushDiskType::Async);
    let refused = OfflineStore::open(config, Arc::new(disk.clone())).err().unwrap();
    assert!(refused.to_string().contains("another broker"), "{refused}");
}

#[test]
fn a_killed_broker_leaves_no_problems_only_work() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    for number in 0..50 {
        append_one(&store, "orders", 0, number).unwrap();
        if number == 30 {
            store.run_background_work();
            store.run_background_work();
        }
    }
    drop(store);
    let survey = survey(&disk.kill());
    assert!(survey.problems.is_empty(), "{:#?}", survey.problems);
    assert!(!survey.clean_stop);
    assert_eq!((survey.log.records, survey.log.to_be_replayed), (50, 19));
}

/// Position of a record, by its number.
fn position_of(disk: &SimulatedDisk, number: usize) -> i64 {
    let mut positions = Vec::new();
    open(disk)
        .records(&Selection::default(), &mut |record| {
            positions.push(record.physical_offset());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    positions[number]
}

#[test]
fn a_flipped_bit_is_flipped_back() {
    // In a body, and in a property, which no checksum of a record covers.
    for byte in [100, 140] {
        let disk = sample();
        let at = position_of(&disk, 2);
        disk.flip_bit(Path::new(LOG), at as u64 + byte, 3);
        let found = survey(&disk);
        assert!(
            kinds(&found).contains(&ProblemKind::ChangedBytes),
            "{:#?}",
            found.problems
        );
        repair(&disk);
        let after = survey(&disk);
        assert!(after.problems.is_empty(), "{:#?}", after.problems);
        assert_eq!(
            number_of_all(&disk, "orders"),
            (0..60).map(|n| n * 2).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_damaged_record_is_set_aside_and_costs_its_message_only() {
    for has_checksums in [true, false] {
        let disk = sample();
        let at = position_of(&disk, 2);
        for byte in [93, 95, 100] {
            disk.flip_bit(Path::new(LOG), at as u64 + byte, 3);
        }
        if !has_checksums {
            for entry in disk.list(Path::new("/store/checksums")).unwrap() {
                disk.remove_file(&Path::new("/store/checksums").join(entry.name))
                    .unwrap();
            }
        }
        let found = survey(&disk);
        let problem = found
            .problems
            .iter()
            .find(|problem| problem.kind == ProblemKind::DamagedRecord)
            .unwrap();
        assert_eq!((problem.offset, problem.topic.as_deref()), (Some(at), Some("orders")));
        assert_eq!((problem.queue_id, problem.queue_offset), (Some(0), Some(1)));
        repair(&disk);
        let after = survey(&disk);
        assert!(after.problems.is_empty(), "{:#?}", after.problems);
        assert!(disk.exists(Path::new(&format!("/store/set-aside/commitlog-{at:020}"))));
        let of_orders: Vec<_> = (0..60).filter(|n| *n != 1).map(|n| n * 2).collect();
        assert_eq!(number_of_all(&disk, "orders"), of_orders);
        assert_eq!(
            number_of_all(&disk, "payments"),
            (0..60).map(|n| n * 2 + 1).collect::<Vec<_>>()
        );
    }
}

#[test]
fn damaged_and_lost_queue_files_are_written_again() {
    for lost in [false, true] {
        let disk = sample();
        if lost {
            disk.remove_file(Path::new(QUEUE)).unwrap();
        } else {
            disk.flip_bit(Path::new(QUEUE), 20 * 5 + 7, 1);
            disk.flip_bit(Path::new(QUEUE), 20 * 6 + 10, 1);
            disk.flip_bit(Path::new(QUEUE), 20 * 7 + 15, 1);
        }
        let found = survey(&disk);
        assert!(found.problem_count > 0);
        let of_queues = [
            ProblemKind::QueueEntry,
            ProblemKind::MissingEntry,
            ProblemKind::QueueFile,
        ];
        assert!(
            kinds(&found).iter().all(|kind| of_queues.contains(kind)),
            "{:?}",
            found.problems
        );
        repair(&disk);
        assert!(survey(&disk).problems.is_empty());
        assert_eq!(
            number_of_all(&disk, "orders"),
            (0..60).map(|n| n * 2).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_damaged_index_and_a_damaged_table_are_put_right() {
    let disk = sample();
    let index = disk.list(Path::new("/store/index")).unwrap();
    let file = Path::new("/store/index").join(&index[0].name);
    // A hash, and a slot.
    disk.flip_bit(&file, 40 + 16 * 4 + 20 * 3 + 1, 5);
    disk.flip_bit(&file, 40 + 7, 0);
    disk.flip_bit(Path::new("/store/config/topics.json"), 0, 3);
    let found = survey(&disk);
    assert_eq!(
        kinds(&found),
        [ProblemKind::Index, ProblemKind::Table],
        "{:#?}",
        found.problems
    );
    repair(&disk);
    let after = survey(&disk);
    assert!(after.problems.is_empty(), "{:#?}", after.problems);
    assert_eq!(after.index.iter().map(|file| file.entries).sum::<i64>(), 120);
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    for number in 0..120 {
        let topic = ["orders", "payments"][number % 2];
        let found = store.query(topic, &format!("key-{number}"), 8, 0, i64::MAX);
        assert_eq!(found.records.len(), 1, "{number}");
    }
}

#[test]
fn records_are_selected_by_queue_offset_and_key() {
    let disk = sample();
    let store = open(&disk);
    let numbers = |selection: Selection| {
        let mut numbers = Vec::new();
        store
            .records(&selection, &mut |record| {
                numbers.push(number_of(record));
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        numbers
    };
    let of_orders = Selection {
        topic: Some("orders".into()),
        queue_from: Some(10),
        queue_to: Some(13),
        ..Selection::default()
    };
    assert_eq!(numbers(of_orders), [20, 22, 24]);
    let by_key = Selection {
        key: Some("key-77".into()),
        ..Selection::default()
    };
    assert_eq!(numbers(by_key), [77]);
}
