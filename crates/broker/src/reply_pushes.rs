//! Reply messages on their way to those who wait for them: how many, in all and to one client at a time.
//!
//! A client may have more replies coming than calls it can be asked at once; those wait their turn, so that a crowd of
//! replies to one requester neither fails nor holds up the replies to others.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// Replies under way to one client. Fewer than the calls that a connection takes, which others make as well.
const PUSHES_PER_CLIENT_MAX: usize = 128;

#[derive(Default)]
pub(crate) struct ReplyPushes {
    under_way: Arc<AtomicUsize>,
    /// By connection, as long as a reply waits or is under way.
    clients: Mutex<HashMap<u64, Arc<Semaphore>>>,
}

/// One reply that is counted until this is dropped.
pub(crate) struct UnderWay(Arc<AtomicUsize>);

impl ReplyPushes {
    /// Replies that are under way or wait for their turn.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Nothing when `count_max` are under way already.
    pub(crate) fn enter(&self, count_max: usize) -> Option<UnderWay> {
        let entered = UnderWay(Arc::clone(&self.under_way));
        (self.under_way.fetch_add(1, Ordering::Relaxed) < count_max).then_some(entered)
    }

    /// Makes a call to a client when it is its turn. `call` gets what is left of the time; nothing when none is.
    pub(crate) async fn push<F: Future>(
        &self,
        connection: u64,
        timeout: Duration,
        call: impl FnOnce(Duration) -> F,
    ) -> Option<F::Output> {
        let deadline = Instant::now() + timeout;
        let turns = Arc::clone(
            self.clients
                .lock()
                .entry(connection)
                .or_insert_with(|| Arc::new(Semaphore::new(PUSHES_PER_CLIENT_MAX))),
        );
        let turn = tokio::time::timeout(timeout, turns.acquire()).await;
        let result = match turn {
            Ok(Ok(_turn)) => Some(call(deadline.saturating_duration_since(Instant::now())).await),
            _ => None,
        };
        let mut clients = self.clients.lock();
        // The table has one, this push the other: nobody else is there.
        if Arc::strong_count(&turns) == 2 {
            clients.remove(&connection);
        }
        result
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_under_way_and_no_more() {
        let pushes = ReplyPushes::default();
        let first = pushes.enter(2).unwrap();
        let _second = pushes.enter(2).unwrap();
        assert!(pushes.enter(2).is_none());
        assert!(pushes.enter(2).is_none());
        drop(first);
        assert!(pushes.enter(2).is_some());
    }

    #[tokio::test]
    async fn a_crowd_to_one_client_waits_its_turn_and_leaves_nothing_behind() {
        let pushes = Arc::new(ReplyPushes::default());
        let gate = Arc::new(Semaphore::new(0));
        let crowd: Vec<_> = (0..2 * PUSHES_PER_CLIENT_MAX)
            .map(|_| {
                let (pushes, gate) = (Arc::clone(&pushes), Arc::clone(&gate));
                tokio::spawn(async move {
                    let slow = |_| async { gate.acquire().await.is_ok() };
                    pushes.push(7, Duration::from_secs(60), slow).await
                })
            })
            .collect();
        let is_full = || {
            pushes
                .clients
                .lock()
                .get(&7)
                .is_some_and(|turns| turns.available_permits() == 0)
        };
        while !is_full() {
            tokio::task::yield_now().await;
        }
        let soon = Duration::from_millis(10);
        assert_eq!(pushes.push(7, soon, |_| std::future::ready(())).await, None);
        assert_eq!(pushes.push(8, soon, |_| std::future::ready(())).await, Some(()));
        gate.add_permits(1);
        for push in crowd {
            assert_eq!(push.await.unwrap(), Some(true));
        }
        assert!(pushes.clients.lock().is_empty());
    }
}
