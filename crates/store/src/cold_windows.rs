//! What readers of old data bring into the page cache, and when it goes again: a backlog that is read once must not push
//! out what others come back for.
//!
//! ```text
//! dropped   kept ─── a window behind ─── reader ─── up to a window ahead ─── fetched   not asked for
//! ```
//!
//! A block that is in no cache is read, and remembered as the start of a streak. A miss at the end of a streak continues it:
//! each time twice as much is asked for ahead, up to a window, and what lies more than a window behind is dropped. So what is
//! dropped lies between two misses, in a streak longer than a window: a backlog that is in the page cache stays there when
//! parts of it are missing, and so does what a streak runs into. One streak serves all readers that are this close
//! together. The kernel's own reading ahead is off for these files.
//!
//! A read that must not wait and misses lets the kernel begin to read all the same, at the cost of the thread that asked. Such
//! threads leave the end of a streak to those that may wait.
//!
//! Without reading ahead (`dataReadAheadEnable`) a miss brings its block and no more; what lies behind is dropped all the same.

use std::collections::VecDeque;
use std::ops::Range;

use crate::block_cache::BLOCK_BYTES;

pub(crate) const WINDOW_BYTES: i64 = 4 * 1024 * 1024;
const FIRST_BYTES: i64 = BLOCK_BYTES as i64;
/// A streak goes on behind what nobody reads, as between the last record of a file and its end.
const UNREAD_MAX: i64 = 128 * 1024;
/// Streaks that are told apart. Together with the windows this bounds what cold readers hold; what a streak leaves at its end
/// is left to the kernel, as it is known from one side only.
const STREAKS_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct ColdWindows {
    /// The one that moved last is the last.
    streaks: VecDeque<Streak>,
    window_bytes: i64,
}

impl Default for ColdWindows {
    fn default() -> ColdWindows {
        ColdWindows {
            streaks: VecDeque::new(),
            window_bytes: WINDOW_BYTES,
        }
    }
}

#[derive(Debug)]
struct Streak {
    /// What was fetched and not dropped.
    held: Range<i64>,
    /// What was asked for at its last miss.
    step: i64,
}

/// Parts of the log to be asked for, and to be forgotten by the page cache. Either may be empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) fetch: Range<i64>,
    pub(crate) drop: Range<i64>,
}

impl ColdWindows {
    /// A read of the block at this position missed. `None` when nothing but that block is to be read.
    pub(crate) fn missed(&mut self, at: i64, log_end: i64) -> Option<Moved> {
        let known = self.streaks.iter().position(|streak| streak.held.contains(&at));
        let known = known.or_else(|| self.streaks.iter().position(|streak| streak.ends_at(at)));
        let Some(mut streak) = known.and_then(|index| self.streaks.remove(index)) else {
            if self.streaks.len() == STREAKS_MAX {
                self.streaks.pop_front();
            }
            self.streaks.push_back(Streak {
                held: at..at + FIRST_BYTES,
                step: FIRST_BYTES,
            });
            return None;
        };
        let moved = (at >= streak.held.end).then(|| {
            streak.step = (2 * streak.step).min(self.window_bytes);
            let kept = streak.held.start.max(at - WINDOW_BYTES);
            let drop = streak.held.start..kept;
            streak.held = kept..at + streak.step;
            Moved {
                fetch: at..streak.held.end.min(log_end),
                drop,
            }
        });
        self.streaks.push_back(streak);
        moved
    }

    /// Whether this position was fetched and not dropped.
    pub(crate) fn holds(&self, at: i64) -> bool {
        self.streaks.iter().any(|streak| streak.held.contains(&at))
    }

    pub(crate) fn set_read_ahead(&mut self, enabled: bool) {
        self.window_bytes = if enabled { WINDOW_BYTES } else { FIRST_BYTES };
    }

    /// Whether a streak ends before the block at this position, which nobody has asked for.
    pub(crate) fn expects_miss(&self, at: i64) -> bool {
        self.streaks.iter().any(|streak| streak.ends_at(at)) && !self.holds(at)
    }

    /// The block at this position was in the page cache: no streak goes on here.
    pub(crate) fn found(&mut self, at: i64) {
        self.streaks.retain(|streak| !streak.ends_at(at));
    }
}

impl Streak {
    /// The block at this position is the next one that is read.
    fn ends_at(&self, at: i64) -> bool {
        (self.held.end..self.held.end + UNREAD_MAX).contains(&at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const BLOCK: i64 = BLOCK_BYTES as i64;
    const WINDOW: usize = (WINDOW_BYTES / BLOCK) as usize;

    /// The page cache, in blocks.
    #[derive(Default)]
    struct Cache {
        held: BTreeSet<i64>,
        missed: usize,
    }

    impl Cache {
        fn read(&mut self, windows: &mut ColdWindows, block: i64) {
            let at = block * BLOCK;
            if !self.held.insert(at) {
                windows.found(at);
            } else {
                self.missed += 1;
                if let Some(moved) = windows.missed(at, i64::MAX) {
                    self.held.extend(moved.fetch.step_by(BLOCK_BYTES));
                    self.held.retain(|held| !moved.drop.contains(held));
                }
            }
        }
    }

    #[test]
    fn a_backlog_leaves_two_windows() {
        let (mut windows, mut cache) = (ColdWindows::default(), Cache::default());
        for block in 0..100 * WINDOW as i64 {
            cache.read(&mut windows, block);
            assert!(cache.held.len() <= 2 * WINDOW + 1);
        }
        assert!((100..108).contains(&cache.missed), "{} misses", cache.missed);
    }

    #[test]
    fn one_miss_fetches_nothing_else_and_the_end_is_not_passed() {
        let mut windows = ColdWindows::default();
        assert_eq!(windows.missed(0, 2 * BLOCK), None);
        assert_eq!(windows.missed(0, 2 * BLOCK), None);
        let moved = Moved {
            fetch: BLOCK..2 * BLOCK,
            drop: 0..0,
        };
        assert_eq!(windows.missed(BLOCK, 2 * BLOCK), Some(moved));
    }

    #[test]
    fn without_reading_ahead_a_miss_brings_its_block() {
        let (mut windows, mut cache) = (ColdWindows::default(), Cache::default());
        windows.set_read_ahead(false);
        for block in 0..4 * WINDOW as i64 {
            cache.read(&mut windows, block);
            assert!(cache.held.len() <= WINDOW + 2);
            assert!(windows.holds(block * BLOCK) && !windows.holds((block + 1) * BLOCK));
        }
        assert_eq!(cache.missed, 4 * WINDOW);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Gaps of less than a window, however often it is read.
        #[test]
        fn a_cached_backlog_with_gaps_stays(
            gaps in prop::collection::vec((2 * WINDOW as i64..9 * WINDOW as i64, 1..WINDOW as i64), 1..20),
        ) {
            let (mut windows, mut cache) = (ColdWindows::default(), Cache::default());
            let mut end = 0;
            for (cached, missing) in gaps {
                cache.held.extend((end..end + cached).map(|block| block * BLOCK));
                end += cached + missing;
            }
            let before = cache.held.clone();
            for _ in 0..3 {
                (0..end).for_each(|block| cache.read(&mut windows, block));
                prop_assert!(cache.held.is_superset(&before));
            }
            let missed = cache.missed;
            (0..end).for_each(|block| cache.read(&mut windows, block));
            prop_assert_eq!(cache.missed, missed);
        }

        /// Whatever readers do, what is cached in one piece of two windows is not dropped.
        #[test]
        fn cold_readers_leave_a_hot_stretch(
            hot in 3 * WINDOW as i64..28 * WINDOW as i64,
            jumps in prop::collection::vec((0..80_usize, 0..31 * WINDOW as i64, 1..9 * WINDOW as i64), 1..40),
        ) {
            let (mut windows, mut cache) = (ColdWindows::default(), Cache::default());
            let hot: BTreeSet<i64> = (hot..hot + 2 * WINDOW as i64).map(|block| block * BLOCK).collect();
            cache.held = hot.clone();
            let mut positions = vec![0; 80];
            for (reader, to, blocks) in jumps {
                positions[reader] = to;
                for _ in 0..blocks {
                    cache.read(&mut windows, positions[reader]);
                    positions[reader] += 1;
                }
                prop_assert!(windows.streaks.len() <= STREAKS_MAX);
                prop_assert!(cache.held.is_superset(&hot));
            }
        }
    }
}
