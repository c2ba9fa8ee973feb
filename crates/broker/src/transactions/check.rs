//! What a round of checks does with an open half message (spec: storage.md §17, behaviour.md §7.3). Pure.
//!
//! Differs from the original in one point: a message that is not to be checked yet does not lose one of its checks.

use super::half::Half;

/// The settings of one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) began_at: i64,
    pub(crate) transaction_timeout_ms: i64,
    pub(crate) check_max: i32,
    /// Messages older than this are given up.
    pub(crate) reserved_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Neither this one nor any behind it is due.
    StopRound,
    /// Copied to the end of the queue, with the checks it had.
    PutBack,
    /// Copied to the end of the queue, and its producer is asked.
    Check {
        check_times: i32,
    },
    GiveUp,
}

/// What there is to know of a half message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Age {
    pub(crate) born: i64,
    pub(crate) stored: i64,
    pub(crate) check_times: i32,
    /// A time of the message's own during which it is not checked.
    pub(crate) immunity_ms: Option<i64>,
}

impl Age {
    pub(crate) fn of(half: &Half<'_>, round: &Round) -> Age {
        Age {
            born: half.record.born_timestamp(),
            stored: half.record.store_timestamp(),
            check_times: half.check_times,
            immunity_ms: half.immunity_ms(round.transaction_timeout_ms),
        }
    }
}

impl Round {
    pub(crate) fn decide(&self, half: &Age, now: i64) -> Verdict {
        let age = now.saturating_sub(half.born);
        if half.check_times >= self.check_max || age > self.reserved_ms {
            return Verdict::GiveUp;
        }
        if half.stored >= self.began_at {
            return Verdict::StopRound;
        }
        match half.immunity_ms {
            Some(immunity_ms) if age <= immunity_ms => Verdict::PutBack,
            None if (0..=self.transaction_timeout_ms).contains(&age) => Verdict::StopRound,
            _ => Verdict::Check {
                check_times: half.check_times.max(0) + 1,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROUND: Round = Round {
        began_at: 100_000,
        transaction_timeout_ms: 6_000,
        check_max: 15,
        reserved_ms: 1_000_000,
    };

    const OLD: Age = Age {
        born: 50_000,
        stored: 50_001,
        check_times: 0,
        immunity_ms: None,
    };

    fn check(half: Age, expected: Verdict) {
        assert_eq!(ROUND.decide(&half, 100_000), expected, "{half:?}");
    }

    #[test]
    fn half_messages_are_checked_when_they_are_old_enough() {
        check(OLD, Verdict::Check { check_times: 1 });
        check(Age { check_times: 3, ..OLD }, Verdict::Check { check_times: 4 });
        check(Age { born: 94_000, ..OLD }, Verdict::StopRound);
        check(Age { born: 93_999, ..OLD }, Verdict::Check { check_times: 1 });
        // A producer whose clock is ahead.
        check(Age { born: 100_001, ..OLD }, Verdict::Check { check_times: 1 });
        check(Age { stored: 100_000, ..OLD }, Verdict::StopRound);
    }

    #[test]
    fn half_messages_with_a_time_of_their_own_wait_for_it() {
        let own = |immunity_ms| Age {
            immunity_ms: Some(immunity_ms),
            check_times: 2,
            ..OLD
        };
        check(own(50_000), Verdict::PutBack);
        check(own(49_999), Verdict::Check { check_times: 3 });
    }

    #[test]
    fn half_messages_are_given_up_after_the_last_check_or_when_they_are_too_old() {
        check(Age { check_times: 15, ..OLD }, Verdict::GiveUp);
        check(Age { born: -900_001, ..OLD }, Verdict::GiveUp);
    }

    proptest! {
        /// However often it is looked at, a message that nobody answers for is checked as often as allowed, then given up.
        #[test]
        fn checks_end(immunity in proptest::option::of(0i64..40_000), period in 1_000i64..60_000, check_max in 1i32..20) {
            let round = |now| Round { began_at: now, check_max, reserved_ms: i64::MAX, ..ROUND };
            let mut half = Age { born: 0, stored: 0, check_times: 0, immunity_ms: immunity };
            let (mut now, mut checks) = (0, 0);
            loop {
                now += period;
                match round(now).decide(&half, now) {
                    Verdict::StopRound => prop_assert!(now <= 6_000),
                    Verdict::PutBack => prop_assert!(now <= immunity.unwrap()),
                    Verdict::Check { check_times } => {
                        prop_assert!(now > immunity.unwrap_or(6_000));
                        checks += 1;
                        half.check_times = check_times;
                    }
                    Verdict::GiveUp => break,
                }
                half.stored = now;
            }
            prop_assert_eq!(checks, check_max);
        }
    }
}
