//! Which brokers to leave alone for a while, judged by how long their last answer took (spec: protocol.md §8.4).

use std::time::{Duration, Instant};

use hashbrown::HashMap;

/// What a failed call counts as.
const FAILED_LATENCY: Duration = Duration::from_millis(10_000);

/// From a latency on, how long the broker is left alone. The last row that fits counts.
const ISOLATION_MS: [(u64, u64); 7] = [
    (50, 0),
    (100, 0),
    (550, 2_000),
    (1_800, 5_000),
    (3_000, 6_000),
    (5_000, 10_000),
    (15_000, 30_000),
];

/// Remembers until when each broker is not to be used.
#[derive(Debug, Default)]
pub(crate) struct LatencyFault {
    isolated_until: HashMap<String, Instant>,
}

impl LatencyFault {
    /// A broker has answered, or its call has failed.
    pub(crate) fn record(&mut self, broker_name: &str, latency: Duration, failed: bool, now: Instant) {
        let isolation = isolation(if failed { FAILED_LATENCY } else { latency });
        if isolation.is_zero() {
            self.isolated_until.remove(broker_name);
        } else {
            self.isolated_until.insert(broker_name.to_owned(), now + isolation);
        }
    }

    pub(crate) fn is_available(&self, broker_name: &str, now: Instant) -> bool {
        self.isolated_until.get(broker_name).is_none_or(|until| *until <= now)
    }
}

fn isolation(latency: Duration) -> Duration {
    let row = ISOLATION_MS
        .iter()
        .rfind(|(from, _)| latency >= Duration::from_millis(*from));
    Duration::from_millis(row.map_or(0, |(_, isolation)| *isolation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_threshold_that_is_reached_counts() {
        for (latency, isolated) in [
            (0, 0),
            (549, 0),
            (550, 2_000),
            (2_999, 5_000),
            (4_999, 6_000),
            (60_000, 30_000),
        ] {
            let found = isolation(Duration::from_millis(latency));
            assert_eq!(found, Duration::from_millis(isolated), "{latency} ms");
        }
    }

    #[test]
    fn a_broker_that_failed_comes_back_after_ten_seconds() {
        let (mut faults, now) = (LatencyFault::default(), Instant::now());
        faults.record("b0", Duration::ZERO, true, now);
        assert!(!faults.is_available("b0", now + Duration::from_millis(9_999)));
        assert!(faults.is_available("b0", now + Duration::from_secs(10)));
        assert!(faults.is_available("b1", now));
    }

    #[test]
    fn a_quick_answer_ends_the_isolation() {
        let (mut faults, now) = (LatencyFault::default(), Instant::now());
        faults.record("b0", Duration::from_secs(20), false, now);
        assert!(!faults.is_available("b0", now));
        faults.record("b0", Duration::from_millis(3), false, now);
        assert!(faults.is_available("b0", now));
    }
}
