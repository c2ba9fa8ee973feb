//! What other threads tell the workers: arrivals on queues where their pulls wait, the progress of the flush, results
//! of the read threads. A worker is woken only when it waits for what happened.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};

use oxmq_remoting::WorkerWaker;
use oxmq_store::{ConsumeQueue, Expiry, StoreFailure, StoreListener};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::broker::Broker;
use crate::read_threads::{Done, ThreadTimes};
use crate::retention;

/// Bits of a wait mask below the services'.
pub(crate) const WORKERS_MAX: usize = 62;

/// A thread of its own that waits for arrivals: its bit in a wait mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Schedule = 62,
    Timer = 63,
}

impl Service {
    pub(crate) fn wait_bit(self) -> u64 {
        1 << self as u32
    }
}

thread_local! {
    /// The worker that this thread is, if it is one.
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
}

pub(crate) struct Mailboxes {
    boxes: Box<[Mailbox]>,
    services: [OnceLock<Thread>; 2],
    flushed: watch::Sender<i64>,
    /// Set once the broker is whole.
    broker: OnceLock<Weak<Broker>>,
    /// The store takes no more messages.
    failed: watch::Sender<bool>,
    /// The number of the last look at whether all workers turn their loops.
    ping: AtomicU64,
}

#[derive(Default)]
pub(crate) struct Mailbox {
    waker: OnceLock<WorkerWaker>,
    arrived: Mutex<Vec<Arc<ConsumeQueue>>>,
    done: Mutex<Vec<(usize, Done, ThreadTimes)>>,
    waits_for_flush: AtomicBool,
    /// The last ping that the worker has seen.
    answered: AtomicU64,
}

impl Mailboxes {
    pub(crate) fn new(workers: usize) -> Mailboxes {
        assert!(workers <= WORKERS_MAX, "a wait mask has a bit for each worker");
        Mailboxes {
            boxes: (0..workers).map(|_| Mailbox::default()).collect(),
            services: Default::default(),
            flushed: watch::Sender::new(0),
            broker: OnceLock::new(),
            failed: watch::Sender::new(false),
            ping: AtomicU64::new(0),
        }
    }

    pub(crate) fn workers(&self) -> usize {
        self.boxes.len()
    }

    /// From here on the broker hears of files that expire.
    pub(crate) fn attach(&self, broker: &Arc<Broker>) {
        self.broker.get_or_init(|| Arc::downgrade(broker));
    }

    /// The box of a worker, on its thread, from its start on.
    pub(crate) fn open(&self, worker: usize, waker: WorkerWaker) -> &Mailbox {
        CURRENT.set(Some(worker));
        let mailbox = &self.boxes[worker];
        let opened = mailbox.waker.set(waker).is_ok();
        assert!(opened, "a worker opens its mailbox once");
        // A ping that came before could not wake it.
        fence(Ordering::SeqCst);
        self.answer_ping(worker);
        mailbox
    }

    /// The thread that calls this is unparked when something arrives for the service.
    pub(crate) fn serve(&self, service: Service) {
        self.services[service as usize - WORKERS_MAX].get_or_init(thread::current);
    }

    pub(crate) fn wake(&self, service: Service) {
        self.wake_service(service as usize);
    }

    fn wake_service(&self, bit: usize) {
        if let Some(thread) = self.services.get(bit - WORKERS_MAX).and_then(OnceLock::get) {
            thread.unpark();
        }
    }

    pub(crate) fn of(&self, worker: usize) -> &Mailbox {
        &self.boxes[worker]
    }

    /// Tells everybody who waits for this queue to look at it, the caller too.
    pub(crate) fn wake_waiting(&self, queue: &Arc<ConsumeQueue>) {
        self.arrived(std::slice::from_ref(queue));
        if let Some(mailbox) = CURRENT.get().and_then(|worker| self.boxes.get(worker)) {
            mailbox.wake();
        }
    }

    /// Follows the position before which everything is on disk. `flushed` says where it is after the subscription: nobody
    /// is told of a flush that has ended before.
    pub(crate) fn watch_flushed(&self, flushed: impl FnOnce() -> i64) -> watch::Receiver<i64> {
        let receiver = self.flushed.subscribe();
        self.advance(flushed());
        receiver
    }

    /// Nothing more will be flushed.
    pub(crate) fn has_failed(&self) -> bool {
        *self.failed.borrow()
    }

    pub(crate) fn watch_failed(&self) -> watch::Receiver<bool> {
        self.failed.subscribe()
    }

    /// Wakes all workers; [`Mailboxes::silent`] knows who has not turned its loop since.
    pub(crate) fn ping(&self) -> u64 {
        let ping = self.ping.fetch_add(1, Ordering::Relaxed) + 1;
        fence(Ordering::SeqCst);
        for mailbox in &self.boxes {
            mailbox.wake();
        }
        ping
    }

    /// A worker that has started and has not seen this ping.
    pub(crate) fn silent(&self, ping: u64) -> Option<usize> {
        let is_silent =
            |mailbox: &Mailbox| mailbox.waker.get().is_some() && mailbox.answered.load(Ordering::Relaxed) < ping;
        self.boxes.iter().position(is_silent)
    }

    /// A worker turns its loop.
    pub(crate) fn answer_ping(&self, worker: usize) {
        let ping = self.ping.load(Ordering::Relaxed);
        self.boxes[worker].answered.store(ping, Ordering::Relaxed);
    }

    fn advance(&self, flushed: i64) {
        self.flushed.send_if_modified(|known| {
            let grows = flushed > *known;
            *known = flushed.max(*known);
            grows
        });
    }
}

impl Mailbox {
    /// Queues that have news. Each is named once until the worker sets its bit in the wait mask again.
    pub(crate) fn take_arrived(&self) -> Vec<Arc<ConsumeQueue>> {
        std::mem::take(&mut *self.arrived.lock())
    }

    /// News that the worker itself has found; it looks into its mailbox again by itself.
    pub(crate) fn note_arrived(&self, queue: &Arc<ConsumeQueue>) {
        self.arrived.lock().push(Arc::clone(queue));
    }

    pub(crate) fn take_done(&self) -> Vec<(usize, Done, ThreadTimes)> {
        std::mem::take(&mut *self.done.lock())
    }

    /// Asks for a wake-up by the next flush. It may just have ended: the caller looks once more.
    pub(crate) fn wait_for_flush(&self) {
        self.waits_for_flush.store(true, Ordering::SeqCst);
    }

    pub(crate) fn post_done(&self, ticket: usize, done: Done, times: ThreadTimes) {
        self.done.lock().push((ticket, done, times));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}

impl StoreListener for Mailboxes {
    fn arrived(&self, queues: &[Arc<ConsumeQueue>]) {
        for queue in queues {
            let mut mask = queue.wait_mask.swap(0, Ordering::SeqCst);
            while mask != 0 {
                let worker = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                let Some(mailbox) = self.boxes.get(worker) else {
                    if worker >= WORKERS_MAX {
                        self.wake_service(worker);
                    }
                    continue;
                };
                mailbox.note_arrived(queue);
                // A worker that appends looks into its mailbox by itself.
                if CURRENT.get() != Some(worker) {
                    mailbox.wake();
                }
            }
        }
    }

    fn flushed(&self, flushed: i64) {
        if self.flushed.receiver_count() > 0 {
            self.advance(flushed);
        }
        for mailbox in &self.boxes {
            if mailbox.waits_for_flush.swap(false, Ordering::SeqCst) {
                mailbox.wake();
            }
        }
    }

    fn expiring(&self, expiry: &Expiry) -> bool {
        // A broker that is just being opened keeps its files.
        let broker = self.broker.get().and_then(Weak::upgrade);
        broker.is_some_and(|broker| retention::prepare(&broker, expiry))
    }

    fn failed(&self, why: &StoreFailure) {
        if !self.failed.send_replace(true) {
            tracing::error!(
                %why,
                "the store takes no more messages, those that are there are served: see to the disk, then start the broker again"
            );
        }
        for mailbox in &self.boxes {
            mailbox.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_starts_after_a_ping_is_not_silent() {
        let mailboxes = Mailboxes::new(2);
        let ping = mailboxes.ping();
        assert_eq!(mailboxes.silent(ping), None);
        mailboxes.open(1, WorkerWaker::default());
        assert_eq!(mailboxes.silent(ping), None);
        assert_eq!(mailboxes.silent(mailboxes.ping()), Some(1));
        mailboxes.answer_ping(1);
        assert_eq!(mailboxes.silent(ping + 1), None);
    }
}
