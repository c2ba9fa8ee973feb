//! What a client believes of its lock on a queue (spec: behaviour.md §6.7). The broker gives a lock away after 60 s
//! without a renewal; the client stops trusting it well before that.

use std::time::Duration;

use tokio::time::Instant;

/// How long a lock is trusted after the broker has granted it.
const TRUSTED: Duration = Duration::from_secs(30);
pub(crate) const LOCK_INTERVAL: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QueueLock {
    granted: Option<Instant>,
}

impl QueueLock {
    /// `asked` is when the request left: the broker's clock cannot have started earlier.
    pub(crate) fn grant(&mut self, asked: Instant) {
        self.granted = Some(asked);
    }

    pub(crate) fn lose(&mut self) {
        self.granted = None;
    }

    pub(crate) fn is_held(&self, now: Instant) -> bool {
        self.granted.is_some_and(|granted| now < granted + TRUSTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_trusted_for_thirty_seconds() {
        let mut lock = QueueLock::default();
        let start = Instant::now();
        assert!(!lock.is_held(start));
        lock.grant(start);
        assert!(lock.is_held(start + LOCK_INTERVAL));
        assert!(!lock.is_held(start + TRUSTED));
        lock.grant(start + LOCK_INTERVAL);
        assert!(lock.is_held(start + TRUSTED));
        lock.lose();
        assert!(!lock.is_held(start + LOCK_INTERVAL));
    }
}
