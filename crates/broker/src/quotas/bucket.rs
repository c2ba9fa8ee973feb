//! How fast something may go: a token bucket, kept as the one time at which what was taken will have flowed back.
//!
//! A bucket of rate `r` holds `r` tokens, those of one second, and gets `r` a second. Invariants:
//! - In any time `t` no more than `r · t + r` single tokens pass.
//! - What takes many at once passes as soon as one token is there, and leaves a debt; so nothing is too large to pass, and
//!   the bound above is exceeded by the rest of one request at most.
//! - Whoever waits as long as [`Bucket::wait_ns`] says finds a token, unless somebody else has taken it meanwhile; the debt
//!   of one request is worked off in its size divided by the rate.
//! - A clock that is set back neither locks the bucket nor fills it: no time has passed then.

/// A second, and what a bucket holds.
const SECOND_NS: u64 = 1_000_000_000;

/// Times are nanoseconds of any clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bucket {
    /// Tokens a second; 0 for any number.
    rate: u64,
    /// When the bucket will be full again.
    full_at: u64,
    /// The clock when it was asked last.
    now: u64,
}

impl Bucket {
    /// Another rate from now on. What is owed stays owed, in tokens.
    pub(crate) fn set_rate(&mut self, now: u64, rate: u64) {
        if rate == self.rate {
            return;
        }
        self.look(now);
        let taken = u128::from(self.full_at - self.now) * u128::from(self.rate) / u128::from(SECOND_NS);
        self.full_at = self.now;
        self.rate = rate;
        self.take(u64::try_from(taken).unwrap_or(u64::MAX));
    }

    /// How long until so many tokens are there, of those that the bucket can hold.
    pub(crate) fn wait_ns(&mut self, now: u64, tokens: u64) -> u64 {
        self.look(now);
        match self.rate {
            0 => 0,
            rate => (self.full_at + self.cost(tokens.min(rate))).saturating_sub(self.now + SECOND_NS),
        }
    }

    /// What is worth being handed out together: so much comes in a twentieth of a second.
    pub(crate) fn portion(&self) -> u64 {
        (self.rate / 20).max(1)
    }

    /// Whole tokens that are there.
    pub(crate) fn available(&mut self, now: u64) -> u64 {
        self.look(now);
        if self.rate == 0 {
            return u64::MAX;
        }
        let left_ns = (self.now + SECOND_NS).saturating_sub(self.full_at);
        (u128::from(left_ns) * u128::from(self.rate) / u128::from(SECOND_NS)) as u64
    }

    /// Takes tokens, there or not. The time is that of the last question.
    pub(crate) fn take(&mut self, tokens: u64) {
        if self.rate > 0 {
            self.full_at = self.full_at.saturating_add(self.cost(tokens)).min(u64::MAX / 2);
        }
    }

    /// Gives back tokens that were taken and not used.
    pub(crate) fn give_back(&mut self, tokens: u64) {
        if self.rate > 0 {
            self.full_at = self.full_at.saturating_sub(self.cost(tokens)).max(self.now);
        }
    }

    fn look(&mut self, now: u64) {
        if now < self.now {
            self.full_at -= self.now - now;
        }
        self.now = now;
        self.full_at = self.full_at.max(now);
    }

    /// Time in which so many come. Rounded up: never faster than the rate.
    fn cost(&self, tokens: u64) -> u64 {
        let ns = (u128::from(tokens) * u128::from(SECOND_NS)).div_ceil(u128::from(self.rate));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(rate: u64) -> Bucket {
        let mut bucket = Bucket::default();
        bucket.set_rate(0, rate);
        bucket
    }

    #[test]
    fn a_second_s_worth_passes_at_once_and_then_one_by_one() {
        let mut bucket = bucket(10);
        for _ in 0..10 {
            assert_eq!(bucket.wait_ns(0, 1), 0);
            bucket.take(1);
        }
        assert_eq!((bucket.wait_ns(0, 1), bucket.available(0)), (SECOND_NS / 10, 0));
        assert_eq!(bucket.wait_ns(SECOND_NS / 10, 1), 0);
        assert_eq!(bucket.available(SECOND_NS), 10);
    }

    #[test]
    fn what_is_too_large_passes_and_is_owed() {
        let mut bucket = bucket(10);
        bucket.take(100);
        assert_eq!(bucket.wait_ns(0, 1), SECOND_NS * 91 / 10);
        bucket.give_back(100);
        assert_eq!(bucket.available(0), 10);
    }

    #[test]
    fn another_rate_keeps_the_debt() {
        let mut bucket = bucket(10);
        bucket.take(30);
        bucket.set_rate(0, 20);
        assert_eq!(bucket.wait_ns(0, 1), SECOND_NS * 11 / 20);
        bucket.set_rate(0, 0);
        assert_eq!((bucket.wait_ns(0, 1), bucket.available(0)), (0, u64::MAX));
        bucket.set_rate(0, 5);
        assert_eq!(bucket.available(0), 5);
    }

    /// A request, after a while, for so many tokens.
    #[derive(Debug, Clone)]
    struct Step {
        later_ns: i64,
        tokens: u64,
    }

    fn steps(tokens: impl Strategy<Value = u64>, back: bool) -> impl Strategy<Value = Vec<Step>> {
        let earliest = if back { -3_000_000_000 } else { 0 };
        let later_ns = prop_oneof![4 => 0..2_000_000i64, 2 => 0..500_000_000i64, 1 => earliest..=5_000_000_000i64];
        let step = (later_ns, tokens).prop_map(|(later_ns, tokens)| Step { later_ns, tokens });
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_one_second_of_it(
            rate in prop_oneof![1u64..20, 1u64..1_000_000_000],
            steps in steps(1u64..5, false),
        ) {
            let mut bucket = bucket(rate);
            let (mut now, mut passed) = (0u64, Vec::<(u64, u64)>::new());
            for step in steps {
                now += step.later_ns as u64;
                let tokens = step.tokens.min(bucket.available(now));
                if tokens > 0 {
                    bucket.take(tokens);
                    passed.push((now, tokens));
                }
            }
            // Every window that begins and ends with a pass.
            for (first, (from, _)) in passed.iter().enumerate() {
                let mut sum = 0u128;
                for (until, tokens) in &passed[first..] {
                    sum += u128::from(*tokens);
                    let allowed = u128::from(rate) * u128::from(until - from) / u128::from(SECOND_NS) + u128::from(rate);
                    prop_assert!(sum <= allowed, "{sum} of {allowed} in {}", until - from);
                }
            }
        }

        #[test]
        fn whoever_waits_passes(rate in 1u64..1_000_000, steps in steps(1u64..10_000_000, true)) {
            let mut bucket = bucket(rate);
            let mut now = 0u64;
            let mut owed = 0u128;
            for step in steps {
                now = now.saturating_add_signed(step.later_ns);
                let wait = bucket.wait_ns(now, 1);
                // Nobody waits longer than what was taken needs to flow back.
                prop_assert!(u128::from(wait) <= owed * u128::from(SECOND_NS) / u128::from(rate) + 200);
                now += wait;
                prop_assert_eq!(bucket.wait_ns(now, 1), 0);
                prop_assert!(bucket.available(now) > 0);
                bucket.take(step.tokens);
                owed += u128::from(step.tokens);
            }
        }

        #[test]
        fn a_clock_that_is_set_back_changes_nothing(rate in 1u64..1000, taken in 0u64..3000, at in 0u64..10_000_000_000, back in 0u64..10_000_000_000) {
            let mut bucket = bucket(rate);
            bucket.wait_ns(at, 1);
            bucket.take(taken);
            let wait = bucket.wait_ns(at, 1);
            prop_assert_eq!(bucket.wait_ns(at.saturating_sub(back), 1), wait);
        }
    }
}
