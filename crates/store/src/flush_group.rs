//! How many messages a flush waits for under SYNC_FLUSH.
//!
//! Senders that wait for replies send again once they have them. A flush that begins as soon as the one before has ended
//! takes only those that came meanwhile, and from then on two halves take turns: every message waits for two flushes, each of
//! which costs as much as one for all. So a flush waits until as many messages are there as are in flight: those of the last
//! flush and those that came while it ran. That pays where senders come back much sooner than a flush takes; where they do
//! not, halves that take turns keep disk and processors busy. So the wait is a quarter of the last flush at most, and waits
//! become rare while they are in vain.

use std::time::Duration;

/// Flushes that begin at once after a wait in vain: twice as many each time, up to this.
const AT_ONCE_MAX: u32 = 64;
/// The part of a flush that the next one waits at most.
const WAIT_DIVISOR: u32 = 4;

#[derive(Default)]
pub(crate) struct FlushGroup {
    /// Flushes to begin at once before the next wait.
    at_once: u32,
    /// What `at_once` began with.
    backoff: u32,
}

/// The next flush begins when there are so many messages, or when this much time has gone since the last one ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Gather {
    pub(crate) messages: u64,
    pub(crate) at_most: Duration,
}

impl FlushGroup {
    /// After a flush of `covered` messages that took so long, while `waiting` others came.
    pub(crate) fn after(&mut self, covered: u64, waiting: u64, took: Duration) -> Option<Gather> {
        if self.at_once > 0 {
            self.at_once -= 1;
            return None;
        }
        let in_flight = covered + waiting;
        // A sender may be late or have left.
        let messages = in_flight - in_flight / 8;
        (messages > waiting.max(1)).then_some(Gather {
            messages,
            at_most: took / WAIT_DIVISOR,
        })
    }

    /// How the wait ended. Silence is no wait: nobody was held up.
    pub(crate) fn waited(&mut self, has_enough: bool) {
        self.backoff = if has_enough {
            0
        } else {
            (self.backoff * 2).clamp(1, AT_ONCE_MAX)
        };
        self.at_once = self.backoff;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLUSH_US: u64 = 1000;

    /// Senders with one message in flight each, who send again so long after their reply. Messages of each flush.
    fn closed_loop(senders: u64, reply_to_send_us: u64, flushes: usize) -> (Vec<u64>, u64) {
        let mut group = FlushGroup::default();
        let mut sends: Vec<u64> = (0..senders).collect();
        let (mut now, mut sizes) = (0, Vec::new());
        while sizes.len() < flushes {
            sends.sort_unstable();
            now = now.max(sends[0]);
            let covered = sends.iter().filter(|at| **at <= now).count();
            now += FLUSH_US;
            let waiting = sends[covered..].iter().filter(|at| **at <= now).count() as u64;
            sends[..covered].iter_mut().for_each(|at| *at = now + reply_to_send_us);
            sends.sort_unstable();
            sizes.push(covered as u64);
            if let Some(gather) = group.after(covered as u64, waiting, Duration::from_micros(FLUSH_US)) {
                let enough_at = sends.get(gather.messages as usize - 1).copied();
                let until = now + gather.at_most.as_micros() as u64;
                let has_enough = enough_at.is_some_and(|at| at <= until);
                now = if has_enough {
                    now.max(enough_at.unwrap_or(until))
                } else {
                    until
                };
                group.waited(has_enough);
            }
        }
        (sizes, now)
    }

    #[test]
    fn senders_who_come_back_soon_share_a_flush() {
        let (sizes, now) = closed_loop(16, 200, 100);
        assert!(sizes[2..].iter().all(|size| *size == 16), "{sizes:?}");
        assert!(now <= 100 * (FLUSH_US + 200) + FLUSH_US, "{now}");
    }

    #[test]
    fn halves_take_turns_where_senders_come_back_late() {
        let (sizes, now) = closed_loop(16, 600, 200);
        assert!(sizes.iter().filter(|size| **size == 16).count() <= 4, "{sizes:?}");
        assert!(now <= 200 * FLUSH_US * 102 / 100, "{now}");
    }

    #[test]
    fn a_single_sender_never_waits() {
        let (_, now) = closed_loop(1, 200, 100);
        assert_eq!(now, 100 * FLUSH_US + 99 * 200);
    }

    #[test]
    fn a_flush_waits_a_part_of_the_last_one_and_seldom_in_vain() {
        let mut group = FlushGroup::default();
        let took = Duration::from_micros(FLUSH_US);
        let mut waits = 0;
        for _ in 0..1000 {
            if let Some(gather) = group.after(8, 8, took) {
                assert!(gather.messages <= 16 && gather.at_most == took / WAIT_DIVISOR);
                group.waited(false);
                waits += 1;
            }
        }
        assert!(waits <= 25, "{waits}");
    }

    #[test]
    fn as_many_as_in_flight_wait_already() {
        assert_eq!(FlushGroup::default().after(1, 16, Duration::from_millis(1)), None);
    }
}
