//! How many messages wait in each slot, where `timerCongestNumEachSlot` bounds that (spec: storage.md §16.1).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use oxmq_store::timer::TimerStore;
use parking_lot::Mutex;

/// Counted when messages are sent, as workers must not wait for the thread that enters them. Nothing is counted without
/// a bound.
pub(crate) struct Congestion {
    limit: Option<i64>,
    slots: Mutex<HashMap<i64, i64>>,
    tries: AtomicU64,
}

impl Congestion {
    pub(crate) fn new(limit: i64, timers: &TimerStore) -> Congestion {
        let limit = (limit < i64::from(i32::MAX)).then_some(limit);
        let slots = limit.map(|_| timers.counts().collect()).unwrap_or_default();
        Congestion {
            limit,
            slots: Mutex::new(slots),
            tries: AtomicU64::new(0),
        }
    }

    /// Counts one more message for a slot, or says what the limit is.
    pub(crate) fn enter(&self, out_ms: i64) -> Result<(), i64> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        let mut slots = self.slots.lock();
        let count = slots.entry(out_ms).or_insert(0);
        // Spread evenly instead of by chance.
        let draw = (self.tries.fetch_add(1, Ordering::Relaxed) * 619 % 1000) as i64;
        if !accepts(*count, limit, draw) {
            return Err(limit);
        }
        *count += 1;
        Ok(())
    }

    pub(crate) fn forget_before(&self, now: i64) {
        if self.limit.is_some() {
            self.slots.lock().retain(|out_ms, _| *out_ms >= now);
        }
    }
}

/// As the original decides, with a number below 1000 drawn.
fn accepts(count: i64, limit: i64, draw: i64) -> bool {
    match count {
        _ if count <= limit => true,
        _ if count >= 2 * limit => false,
        _ => draw <= 1000 * (count - limit) / limit.max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_takes_twice_its_limit_at_most() {
        assert!(accepts(10, 10, 999));
        assert!(accepts(15, 10, 500) && !accepts(15, 10, 501));
        assert!(!accepts(20, 10, 0));
        assert!(accepts(0, 0, 999) && !accepts(1, 0, 0));
    }
}
