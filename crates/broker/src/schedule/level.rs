//! One delay level: what is due on it, and how far its deliveries are safe. Pure.

use std::collections::VecDeque;

use oxmq_store::{GetMessages, GetStatus};

/// Batches of a level that are kept until they are on disk. Beyond that they get coarser.
const UNFLUSHED_MAX: usize = 1024;

/// `saved ≤ next`: everything before `saved` was delivered and is on disk, everything before `next` was delivered.
#[derive(Debug, Clone, Default)]
pub(super) struct Level {
    pub(super) next: i64,
    pub(super) saved: i64,
    /// Deliveries that are not on disk yet.
    pub(super) unflushed: VecDeque<Unflushed>,
    pub(super) retry_at: i64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Unflushed {
    /// Progress after them.
    pub(super) next: i64,
    /// Physical offsets that they lie between.
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Level {
    pub(super) fn at(offset: i64) -> Level {
        Level {
            next: offset,
            saved: offset,
            ..Level::default()
        }
    }

    pub(super) fn advance(&mut self, batch: Unflushed) {
        self.next = batch.next;
        if self.unflushed.len() < UNFLUSHED_MAX {
            self.unflushed.push_back(batch);
        } else if let Some(last) = self.unflushed.back_mut() {
            *last = Unflushed {
                next: batch.next,
                start: batch.start.min(last.start),
                end: batch.end.max(last.end),
            };
        }
    }

    /// Takes over progress whose deliveries are on disk; true if there was any.
    pub(super) fn settle(&mut self, flushed: i64) -> bool {
        let before = self.saved;
        while let Some(batch) = self.unflushed.pop_front_if(|batch| batch.end <= flushed) {
            self.saved = batch.next;
        }
        self.saved != before
    }
}

/// Reads deliver times off the consume queue, in order, until one is not due.
pub(super) struct Due {
    pub(super) now: i64,
    pub(super) delay_ms: i64,
    pub(super) admitted: i64,
    pub(super) first_later: Option<i64>,
}

impl Due {
    pub(super) fn new(now: i64, delay_ms: i64) -> Due {
        Due {
            now,
            delay_ms,
            admitted: 0,
            first_later: None,
        }
    }

    /// A time further away than the whole delay comes from a clock that was set back, or from levels that were longer
    /// once: such a message is due.
    pub(super) fn admit(&mut self, deliver_at: i64) -> bool {
        if self.first_later.is_some() {
            return false;
        }
        let later = deliver_at > self.now && deliver_at <= self.now + self.delay_ms;
        match later {
            true => self.first_later = Some(deliver_at),
            false => self.admitted += 1,
        }
        !later
    }
}

/// Where a level goes on when a read found nothing: records that are gone are skipped, and offsets outside of the queue
/// move to its nearest end. What is not due yet stays.
pub(super) fn after_nothing(got: &GetMessages, next: i64, admitted: i64) -> i64 {
    match got.status {
        GetStatus::OffsetTooSmall | GetStatus::OffsetOverflowBadly => got.next_begin_offset,
        _ => next + admitted,
    }
}

pub(super) fn within(offset: i64, (min, max): (i64, i64)) -> i64 {
    offset.clamp(min, max.max(min))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(next: i64, start: i64, end: i64) -> Unflushed {
        Unflushed { next, start, end }
    }

    #[test]
    fn messages_are_due_in_order_until_the_first_that_is_not() {
        let mut due = Due::new(10_000, 5_000);
        assert!(due.admit(9_000));
        assert!(due.admit(10_000));
        assert!(due.admit(15_001), "beyond the whole delay: the clock was set back");
        assert!(!due.admit(12_000));
        assert!(!due.admit(9_000), "nothing overtakes");
        assert_eq!((due.admitted, due.first_later), (3, Some(12_000)));
    }

    proptest! {
        #[test]
        fn nothing_is_delivered_early_nor_held_beyond_its_delay(deliver_at in 0i64..100_000, now in 0i64..100_000, delay in 1_000i64..50_000) {
            let mut due = Due::new(now, delay);
            match due.admit(deliver_at) {
                true => prop_assert!(deliver_at <= now || deliver_at > now + delay),
                false => prop_assert!(due.first_later.unwrap() <= now + delay),
            }
        }

        #[test]
        fn saved_progress_never_passes_what_is_on_disk(ends in proptest::collection::vec(1i64..100, 0..20), flushed in 0i64..2_000) {
            let mut level = Level::at(0);
            let mut end = 0;
            let mut expected = 0;
            for (delivered, bytes) in (1..).zip(&ends) {
                end += bytes;
                level.advance(batch(delivered, end - bytes, end));
                if end <= flushed {
                    expected = delivered;
                }
            }
            level.settle(flushed);
            prop_assert_eq!(level.saved, expected);
            prop_assert!(level.saved <= level.next);
        }
    }

    #[test]
    fn what_waits_for_the_disk_is_bounded() {
        let mut level = Level::at(0);
        for delivered in 1..=10_000 {
            level.advance(batch(delivered, delivered * 100 - 100, delivered * 100));
        }
        assert_eq!(level.unflushed.len(), UNFLUSHED_MAX);
        assert_eq!(level.unflushed.back().unwrap().start, (UNFLUSHED_MAX as i64 - 1) * 100);
        level.settle(500_000);
        assert_eq!(
            level.saved,
            UNFLUSHED_MAX as i64 - 1,
            "never further than what is on disk"
        );
        level.settle(1_000_000);
        assert_eq!(level.saved, 10_000);
    }

    #[test]
    fn progress_is_kept_within_the_queue() {
        assert_eq!(within(7, (0, 5)), 5);
        assert_eq!(within(1, (3, 5)), 3);
        assert_eq!(within(4, (3, 5)), 4);
        assert_eq!(within(4, (0, 0)), 0);
    }
}
