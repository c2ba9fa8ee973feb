use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const HOUR_MS: i64 = 3_600_000;
const NOW_MS: i64 = 1_700_000_000_000;

fn seen(used: Percent, hour: u32, age_hours: i64) -> Observed<'static> {
    const PARTITIONS: [[Percent; 1]; 102] = {
        let mut partitions = [[0]; 102];
        let mut used = 0;
        while used < 102 {
            partitions[used] = [used as Percent - 1];
            used += 1;
        }
        partitions
    };
    Observed {
        now_ms: NOW_MS,
        hour,
        log_partitions: &PARTITIONS[(used + 1) as usize],
        queue_partition: used.max(0),
        oldest: Some(OldFile {
            end: 1,
            modified_ms: Some(NOW_MS - age_hours * HOUR_MS),
        }),
    }
}

fn reason(settings: &RetentionSettings, observed: &Observed<'_>) -> Option<DeletionReason> {
    Cleaner::default().decide(settings, observed).delete
}

#[test]
fn the_stages_of_a_disk_that_fills_up() {
    let settings = RetentionSettings::default();
    for (used, hour, age_hours, wanted, refuses) in [
        (10, 3, 100, None, false),
        (10, 4, 100, Some(DeletionReason::Time), false),
        (10, 4, 71, None, false),
        (75, 3, 100, None, false),
        (76, 3, 100, Some(DeletionReason::DiskUse), false),
        (76, 3, 71, None, false),
        (85, 3, 71, None, false),
        (86, 3, 0, Some(DeletionReason::DiskFull), false),
        (90, 3, 0, Some(DeletionReason::DiskFull), false),
        (91, 3, 0, Some(DeletionReason::DiskFull), true),
        (-1, 3, 100, Some(DeletionReason::DiskUse), false),
        (-1, 3, 71, None, false),
    ] {
        let decision = Cleaner::default().decide(&settings, &seen(used, hour, age_hours));
        assert_eq!(
            (decision.delete, decision.refuse_appends),
            (wanted, refuses),
            "{used} % at {hour} with {age_hours} h"
        );
    }
}

#[test]
fn without_forced_deletion_a_full_disk_only_refuses() {
    let settings = RetentionSettings {
        is_forced_enabled: false,
        ..RetentionSettings::default()
    };
    let decision = Cleaner::default().decide(&settings, &seen(95, 3, 0));
    assert_eq!(
        decision,
        Decision {
            delete: None,
            refuse_appends: true,
            is_stuck: true
        }
    );
    assert_eq!(reason(&settings, &seen(95, 3, 73)), Some(DeletionReason::DiskUse));
}

#[test]
fn ratios_are_kept_within_their_bounds() {
    let settings = RetentionSettings {
        max_used_ratio: 99,
        forced_ratio: 99,
        warning_ratio: 99,
        ..RetentionSettings::default()
    };
    assert_eq!(reason(&settings, &seen(86, 3, 0)), Some(DeletionReason::DiskFull));
    assert!(Cleaner::default().decide(&settings, &seen(91, 3, 0)).refuse_appends);
    let settings = RetentionSettings {
        max_used_ratio: 1,
        forced_ratio: 1,
        warning_ratio: 1,
        ..RetentionSettings::default()
    };
    assert_eq!(reason(&settings, &seen(10, 3, 100)), None);
    assert_eq!(reason(&settings, &seen(30, 3, 0)), None);
    assert!(!Cleaner::default().decide(&settings, &seen(35, 3, 0)).refuse_appends);
}

#[test]
fn of_several_partitions_the_emptiest_counts_and_full_ones_take_no_files() {
    let settings = RetentionSettings::default();
    let observed = Observed {
        log_partitions: &[95, 40],
        queue_partition: 40,
        ..seen(0, 3, 0)
    };
    let decision = Cleaner::default().decide(&settings, &observed);
    assert_eq!((decision.delete, decision.refuse_appends), (None, false));
    assert_eq!(full_folders(&settings, &[95, 40]), [true, false]);
    assert_eq!(full_folders(&settings, &[95, 99]), [false, false]);
}

#[test]
fn a_request_lasts_for_twenty_rounds() {
    let settings = RetentionSettings::default();
    let mut cleaner = Cleaner::default();
    cleaner.request();
    let served = (0..30)
        .take_while(|_| {
            cleaner.begin_round();
            cleaner.decide(&settings, &seen(10, 3, 100)).delete == Some(DeletionReason::Request)
        })
        .count();
    assert_eq!(served, 20);
}

#[test]
fn a_file_that_cannot_be_deleted_is_tried_again_later() {
    let settings = RetentionSettings::default();
    let mut cleaner = Cleaner::default();
    let observed = seen(10, 4, 100);
    cleaner.begin_round();
    cleaner.failed(&settings, NOW_MS);
    let at = |now_ms| Observed { now_ms, ..observed };
    for (now_ms, tried) in [
        (NOW_MS, false),
        (NOW_MS + 119_999, false),
        (NOW_MS + 120_000, true),
        (NOW_MS - HOUR_MS, true),
    ] {
        cleaner.begin_round();
        assert_eq!(
            cleaner.decide(&settings, &at(now_ms)).delete.is_some(),
            tried,
            "{now_ms}"
        );
    }
}

#[test]
fn hours_are_read_as_java_reads_them() {
    assert_eq!(HourSet::parse("04"), HourSet::parse("4"));
    let several = HourSet::parse("00;4;23");
    let hours: Vec<u32> = (0..30).filter(|hour| several.contains(*hour)).collect();
    assert_eq!(hours, [0, 4, 23]);
    assert!(HourSet::parse("24;x;-1;").is_empty());
}

/// A disk of 100 units with files of different ages; what is on it besides comes and goes.
#[derive(Debug, Clone)]
struct World {
    now_ms: i64,
    files: VecDeque<OldFile>,
    other: Percent,
}

impl World {
    fn used(&self) -> Percent {
        (self.files.len() as Percent + self.other).min(100)
    }

    fn hour(&self) -> u32 {
        (self.now_ms / HOUR_MS % 24) as u32
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Other(Percent),
    Pass(i64),
    Request,
    Round,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..6usize).prop_map(Step::Write),
        1 => (0..60i32).prop_map(Step::Other),
        2 => (1..40i64).prop_map(Step::Pass),
        1 => Just(Step::Request),
        5 => Just(Step::Round),
    ]
}

proptest! {
    /// Whatever happens: nothing young goes unless the disk demands it, no more than it demands, never the last file,
    /// never more than a round allows, and appends are refused exactly while the disk is full.
    #[test]
    fn only_what_must_go_goes(steps in proptest::collection::vec(step(), 1..200)) {
        let settings = RetentionSettings::default();
        let mut world = World { now_ms: NOW_MS, files: VecDeque::new(), other: 10 };
        let mut cleaner = Cleaner::default();
        let mut requested = 0;
        for step in steps {
            match step {
                Step::Write(count) => {
                    for _ in 0..count {
                        let file = OldFile { end: 0, modified_ms: Some(world.now_ms) };
                        world.files.push_back(file);
                    }
                }
                Step::Other(used) => world.other = used,
                Step::Pass(hours) => world.now_ms += hours * HOUR_MS,
                Step::Request => {
                    cleaner.request();
                    requested = REQUESTED_ROUNDS;
                }
                Step::Round => {
                    cleaner.begin_round();
                    let is_requested = requested > 0;
                    requested = requested.saturating_sub(1);
                    let mut deleted = 0;
                    loop {
                        let used = world.used();
                        let partitions = [used];
                        let decision = cleaner.decide(&settings, &Observed {
                            now_ms: world.now_ms,
                            hour: world.hour(),
                            log_partitions: &partitions,
                            queue_partition: used,
                            oldest: world.files.front().copied().filter(|_| world.files.len() > 1),
                        });
                        prop_assert_eq!(decision.refuse_appends, used > 90);
                        let Some(reason) = decision.delete else {
                            let front = world.files.front().filter(|_| world.files.len() > 1);
                            let is_old = front.is_some_and(|file| {
                                world.now_ms - file.modified_ms.unwrap_or(0) >= settings.reserved_ms
                            });
                            let may = used > 75 || is_requested || world.hour() == 4;
                            prop_assert!(deleted == 10 || front.is_none() || (used <= 85 && !(is_old && may)));
                            break;
                        };
                        prop_assert!(world.files.len() > 1);
                        let gone = world.files.pop_front().expect("one of several");
                        let age = world.now_ms - gone.modified_ms.unwrap_or(0);
                        match reason {
                            DeletionReason::DiskFull => prop_assert!(used > 85),
                            DeletionReason::DiskUse => prop_assert!(used > 75 && age >= settings.reserved_ms),
                            DeletionReason::Request => prop_assert!(is_requested && age >= settings.reserved_ms),
                            DeletionReason::Time => prop_assert!(world.hour() == 4 && age >= settings.reserved_ms),
                        }
                        cleaner.deleted();
                        deleted += 1;
                    }
                    prop_assert!(deleted <= settings.files_per_round);
                }
            }
        }
    }
}
