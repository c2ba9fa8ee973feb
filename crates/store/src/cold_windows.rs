//! What readers of old data bring into the page cache, and when it goes again: a backlog that is read once must not push
//! out what others come back for.
//!
//! ```text
//! dropped   kept ─── a window behind ─── reader ─── a window ahead ─── fetched   not asked for
//! ```
//!
//! A read that finds its bytes in no cache opens a window or, just behind one, moves it: the next stretch is asked for in
//! one go, and what lies more than a window behind is dropped. One window serves all readers that are this close
//! together. What was in the page cache anyway is left alone, because no read of it misses; the kernel's own reading ahead is
//! off for these files.

use std::collections::VecDeque;
use std::ops::Range;

pub(crate) const WINDOW_BYTES: i64 = 4 * 1024 * 1024;
/// Readers, far apart, whose stretches are told apart. Together with the windows this bounds what cold readers hold.
const WINDOWS_MAX: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct ColdWindows {
    /// The one that moved last is the last.
    windows: VecDeque<Range<i64>>,
}

/// Parts of the log to be asked for, and to be forgotten by the page cache. Either may be empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) fetch: Range<i64>,
    pub(crate) drop: Range<i64>,
}

impl ColdWindows {
    /// A read at this position missed. `None` when its bytes have been asked for before.
    pub(crate) fn missed(&mut self, at: i64, log_end: i64) -> Option<Moved> {
        let fetched = (at + WINDOW_BYTES).min(log_end);
        let known = self
            .windows
            .iter()
            .position(|window| window.start <= at && at < window.end + WINDOW_BYTES);
        let Some(mut window) = known.and_then(|index| self.windows.remove(index)) else {
            let given_up = match self.windows.len() {
                WINDOWS_MAX => self.windows.pop_front(),
                _ => None,
            };
            self.windows.push_back(at..fetched);
            return Some(Moved {
                fetch: at..fetched,
                drop: given_up.unwrap_or(at..at),
            });
        };
        let moved = (at >= window.end).then(|| {
            let (drop, kept) = match at == window.end {
                true => {
                    let kept = window.start.max(at - WINDOW_BYTES);
                    (window.start..kept, kept)
                }
                // What was passed over is not ours to drop.
                false => (window.clone(), at),
            };
            window = kept..fetched;
            Moved {
                fetch: at..fetched,
                drop,
            }
        });
        self.windows.push_back(window);
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const STEP: i64 = WINDOW_BYTES / 4;

    /// The page cache, in steps, with what it ever held.
    #[derive(Default)]
    struct Cache {
        held: BTreeSet<i64>,
        fetched: BTreeSet<i64>,
    }

    impl Cache {
        /// Reads a step; true when it was not there.
        fn read(&mut self, windows: &mut ColdWindows, at: i64) -> bool {
            if self.held.contains(&at) {
                return false;
            }
            if let Some(moved) = windows.missed(at, i64::MAX) {
                let steps = |range: Range<i64>| range.step_by(STEP as usize);
                self.held.extend(steps(moved.fetch.clone()));
                self.fetched.extend(steps(moved.fetch));
                assert!(steps(moved.drop.clone()).all(|step| self.fetched.contains(&step)));
                self.held.retain(|step| !moved.drop.contains(step));
            }
            self.held.insert(at);
            true
        }
    }

    #[test]
    fn a_backlog_leaves_two_windows() {
        let (mut windows, mut cache) = (ColdWindows::default(), Cache::default());
        let missed = (0..400)
            .filter(|number| cache.read(&mut windows, number * STEP))
            .count();
        assert_eq!((missed, cache.held.len()), (100, 8));
    }

    #[test]
    fn what_is_on_its_way_is_not_asked_for_twice_and_the_end_is_not_passed() {
        let mut windows = ColdWindows::default();
        let moved = windows.missed(0, STEP).unwrap();
        assert_eq!(
            moved,
            Moved {
                fetch: 0..STEP,
                drop: 0..0
            }
        );
        assert_eq!(windows.missed(STEP / 2, STEP), None);
    }

    proptest! {
        /// Whatever readers do.
        #[test]
        fn what_cold_readers_hold_is_bounded(
            jumps in proptest::collection::vec((0..40_usize, 0..1_000_i64, 1..40_i64), 1..60),
        ) {
            let (mut windows, mut cache) = (ColdWindows::default(), Cache::default());
            let mut positions = vec![0; 40];
            for (reader, to, steps) in jumps {
                positions[reader] = to;
                for _ in 0..steps {
                    cache.read(&mut windows, positions[reader] * STEP);
                    positions[reader] += 1;
                }
                prop_assert!(cache.held.len() as i64 * STEP <= 2 * WINDOW_BYTES * WINDOWS_MAX as i64);
            }
        }
    }
}
