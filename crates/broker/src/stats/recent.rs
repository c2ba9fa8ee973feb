//! Which counters were added to of late.
//!
//! Counters of one topic, or of one group on one topic, put themselves on a list when they are added to for the first time
//! after they were sampled, so that a sample costs nothing for those that stand still, of which there may be a hundred
//! thousand. Adding comes before the look at the mark, and taking the mark off before reading: nothing is missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;

/// What many threads add to, and how much of it the totals have.
#[derive(Debug, Default)]
pub(super) struct Counter {
    now: AtomicI64,
    counted: AtomicI64,
}

impl Counter {
    pub(super) fn add(&self, count: i64) {
        self.now.fetch_add(count, Ordering::SeqCst);
    }

    pub(super) fn get(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    /// What the totals do not have yet. Called under their lock.
    pub(super) fn fresh(&self) -> i64 {
        let now = self.get();
        now - self.counted.swap(now, Ordering::Relaxed)
    }
}

/// Those that were added to since they were sampled.
pub(super) type Recent<T> = Arc<Mutex<Vec<Arc<T>>>>;

/// Whether somebody is on the list.
#[derive(Debug)]
pub(super) struct Listed<T> {
    is_listed: AtomicBool,
    recent: Recent<T>,
}

impl<T> Listed<T> {
    pub(super) fn new(recent: &Recent<T>) -> Listed<T> {
        Listed {
            is_listed: AtomicBool::new(false),
            recent: Arc::clone(recent),
        }
    }

    /// To be called after the counters of `owner` were added to.
    pub(super) fn note(&self, owner: &Arc<T>) {
        if !self.is_listed.load(Ordering::SeqCst) && !self.is_listed.swap(true, Ordering::SeqCst) {
            self.recent.lock().push(Arc::clone(owner));
        }
    }

    /// To be called before the counters are read and when they have left the list.
    pub(super) fn unlist(&self) {
        self.is_listed.store(false, Ordering::SeqCst);
    }
}

/// Calls `each` with all that are on the list, and stay there. Who comes meanwhile does not wait.
pub(super) fn each_recent<T>(recent: &Recent<T>, each: impl FnMut(&Arc<T>)) {
    let mut known = std::mem::take(&mut *recent.lock());
    known.iter().for_each(each);
    let mut recent = recent.lock();
    known.append(&mut recent);
    *recent = known;
}
