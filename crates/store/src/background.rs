//! What goes on behind the appends: flush, next file, consume queues and checkpoint, index. One named thread each;
//! every thread repeats one step of [`Engine`], and a simulation calls the steps itself.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::checkpoint::{Checkpoint, CheckpointFile, RecoveryPosition};
use crate::commit_log::{Arrivals, CommitLog, Flushed, Mark};
use crate::config::{FlushDiskType, StoreConfig};
use crate::disk::Disk;
use crate::error::StoreFailure;
use crate::flush_group::FlushGroup;
use crate::index::Index;
use crate::queues::Queues;
use crate::recovery::write_out;
use crate::retention::Retention;
use crate::scrub::ScrubProgress;
use crate::store::StoreListener;

/// Pause of the index thread while records keep coming.
const INDEX_PAUSE: Duration = Duration::from_millis(10);
/// Forcing the index to disk costs a scattered write of its slots.
const INDEX_SYNC_INTERVAL: Duration = Duration::from_secs(10);
/// Pause after a failed step, which is then repeated.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const IDLE_PAUSE: Duration = Duration::from_secs(60);

pub(crate) struct Engine {
    pub(crate) config: StoreConfig,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) listener: Arc<dyn StoreListener>,
    pub(crate) log: CommitLog,
    pub(crate) queues: Queues,
    pub(crate) index: Index,
    /// The index has to be made fit for use before its first step, and for that must know if the last stop was clean.
    pub(crate) clean: bool,
    pub(crate) dispatching: Mutex<Dispatching>,
    /// Queues with entries of the replay that are not written out yet.
    pub(crate) replayed: Mutex<Vec<(Arc<str>, i32)>>,
    pub(crate) wake_flush: Wake,
    /// SYNC_FLUSH: the next flush begins when so many messages have been written, since the start.
    pub(crate) flush_at: AtomicU64,
    pub(crate) wake_allocate: Wake,
    pub(crate) wake_dispatch: Wake,
    pub(crate) wake_index: Wake,
    /// Where the log ended at the start: what lies before is sealed slowly.
    pub(crate) opened_at: i64,
    /// The log before this is sealed.
    pub(crate) sealed: AtomicI64,
    pub(crate) scrub: Mutex<ScrubProgress>,
    pub(crate) scrub_saved_ms: AtomicI64,
    pub(crate) wake_scrub: Wake,
    /// Stretches of the log found damaged since the start.
    pub(crate) damaged: AtomicU64,
    /// The recovery position may not move yet.
    pub(crate) position_held: AtomicBool,
    pub(crate) stopping: AtomicBool,
    /// Appends are refused: the partition is nearly full, or consume queues cannot be written.
    pub(crate) disk_full: AtomicBool,
    pub(crate) queues_stuck: AtomicBool,
    pub(crate) retention: Retention,
    /// Held while a queue is being compacted.
    pub(crate) compacting: Mutex<()>,
}

pub(crate) struct Dispatching {
    pub(crate) file: CheckpointFile,
    pub(crate) last: Checkpoint,
    /// The entries of all records before this are in the queues' files, which name no later ones.
    pub(crate) written_out: Mark,
}

/// Wakes one thread, at the cost of a load while that thread is awake.
#[derive(Default)]
pub(crate) struct Wake {
    asleep: AtomicBool,
    pub(crate) thread: OnceLock<Thread>,
}

impl Wake {
    pub(crate) fn notify(&self) {
        self.notify_if(|| true);
    }

    pub(crate) fn notify_if(&self, has_work: impl FnOnce() -> bool) {
        // Pairs with the fence in `sleep`: either this sees the thread asleep, or the thread sees what was done before.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && has_work() && self.asleep.swap(false, Ordering::Relaxed) {
            self.unpark();
        }
    }

    /// The calling thread is the one to wake.
    pub(crate) fn register(&self) {
        self.thread.get_or_init(thread::current);
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Sleeps until notified or for this long, unless there is work already.
    pub(crate) fn sleep(&self, at_most: Duration, has_work: impl FnOnce() -> bool) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !has_work() {
            thread::park_timeout(at_most);
        }
        self.asleep.store(false, Ordering::Relaxed);
    }
}

impl Engine {
    pub(crate) fn start_threads(self: &Arc<Self>) -> io::Result<Vec<JoinHandle<()>>> {
        Ok(vec![
            self.spawn("store-flush", Engine::run_flush)?,
            self.spawn("store-allocate", Engine::run_allocate)?,
            self.spawn("store-dispatch", Engine::run_dispatch)?,
            self.spawn("store-index", Engine::run_index)?,
            self.spawn("store-clean", Engine::run_clean)?,
            self.spawn("store-scrub", Engine::run_scrub)?,
        ])
    }

    fn spawn(self: &Arc<Self>, name: &str, run: fn(&Engine)) -> io::Result<JoinHandle<()>> {
        let engine = Arc::clone(self);
        thread::Builder::new().name(name.to_owned()).spawn(move || run(&engine))
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for wake in [
            &self.wake_flush,
            &self.wake_allocate,
            &self.wake_dispatch,
            &self.wake_index,
            &self.retention.wake,
            &self.wake_scrub,
        ] {
            wake.unpark();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(crate) fn announce(&self, arrivals: &Arrivals) {
        if !arrivals.is_empty() {
            self.listener.arrived(arrivals);
        }
    }

    /// Forces the log to disk and tells everyone who waits for that.
    pub(crate) fn flush_step(&self) -> bool {
        self.flush().is_ok()
    }

    fn flush(&self) -> Result<Option<Flushed>, StoreFailure> {
        let flushed = self.log.flush().inspect_err(|failure| self.listener.failed(failure))?;
        if let Some(flushed) = &flushed {
            self.announce(&flushed.arrivals);
            self.listener.flushed(flushed.offset);
            self.wake_index.notify();
        }
        Ok(flushed)
    }

    /// The appending thread says that it is done. Under SYNC_FLUSH the flush may wait for more.
    pub(crate) fn wake_flush(&self) {
        self.wake_flush
            .notify_if(|| self.log.written_messages() >= self.flush_at.load(Ordering::Relaxed));
    }

    fn run_flush(&self) {
        self.wake_flush.register();
        match self.config.flush_disk_type {
            FlushDiskType::Sync => self.run_sync_flush(),
            FlushDiskType::Async => self.run_async_flush(),
        }
    }

    fn run_sync_flush(&self) {
        let mut group = FlushGroup::default();
        let mut covered = self.log.written_messages();
        while !self.is_stopping() {
            self.flush_at.store(0, Ordering::Relaxed);
            self.wake_flush.sleep(IDLE_PAUSE, || {
                self.log.written() > self.log.flushed() || self.is_stopping()
            });
            let began = Instant::now();
            let flushed = match self.flush() {
                Ok(Some(flushed)) => flushed,
                Ok(None) => continue,
                Err(_) => return,
            };
            let ended = Instant::now();
            if let Some(gather) = group.after(flushed.messages - covered, flushed.waiting, ended - began) {
                let enough = flushed.messages + gather.messages;
                let has_enough = self.gather(enough, ended + gather.at_most);
                group.waited(has_enough);
            }
            covered = flushed.messages;
        }
    }

    /// Waits for so many messages, since the start. False when the time came first.
    fn gather(&self, enough: u64, until: Instant) -> bool {
        self.flush_at.store(enough, Ordering::Relaxed);
        let has_enough = || self.log.written_messages() >= enough;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if has_enough() || left.is_zero() || self.is_stopping() {
                return has_enough();
            }
            self.wake_flush.sleep(left, || has_enough() || self.is_stopping());
        }
    }

    fn run_async_flush(&self) {
        let mut last_flush = Instant::now();
        while !self.is_stopping() {
            let behind = self.log.written() - self.log.flushed();
            let thorough = Duration::from_millis(self.config.flush_thorough_interval_ms);
            if behind >= (self.config.flush_least_pages * 4096) as i64 || last_flush.elapsed() >= thorough {
                if !self.flush_step() {
                    return;
                }
                last_flush = Instant::now();
            }
            if !self.is_stopping() {
                thread::park_timeout(Duration::from_millis(self.config.flush_interval_ms));
            }
        }
    }

    /// Creates the next commit log file when the last one is well in use, and keeps zeros ahead of the records.
    pub(crate) fn allocate_step(&self) -> bool {
        if self.log.is_zeroing_due()
            && let Err(error) = self.log.zero_ahead()
        {
            tracing::warn!(%error, "the commit log file cannot be written ahead");
            if let Some(failure) = self.log.failure() {
                self.listener.failed(failure);
            }
            return false;
        }
        if self.is_next_file_due()
            && let Err(error) = self.log.segments().prepare_next()
        {
            tracing::warn!(%error, "the next commit log file cannot be created ahead");
            return false;
        }
        true
    }

    fn run_allocate(&self) {
        self.wake_allocate.register();
        while !self.is_stopping() {
            let done = self.allocate_step();
            let pause = if done { IDLE_PAUSE } else { RETRY_PAUSE };
            self.wake_allocate.sleep(pause, || {
                self.is_stopping() || (done && (self.is_next_file_due() || self.log.is_zeroing_due()))
            });
        }
    }

    fn is_next_file_due(&self) -> bool {
        let segments = self.log.segments();
        match segments.last() {
            Some(last) => self.log.written() - last.base > segments.file_bytes() / 4 && !segments.is_prepared(last.end),
            None => !segments.is_prepared(0),
        }
    }

    /// Writes pending entries to the queues' files. With `checkpoint`, makes them durable and moves the recovery position.
    /// False when something has to be repeated.
    pub(crate) fn dispatch_step(&self, checkpoint: bool) -> bool {
        if !self.write_out_replayed() {
            return false;
        }
        let mut dispatching = self.dispatching.lock();
        let durable = self.log.flushed_mark();
        if durable.offset > dispatching.written_out.offset {
            let complete = self.write_out_before(durable.offset);
            self.queues_stuck.store(!complete, Ordering::Relaxed);
            if !complete {
                return false;
            }
            dispatching.written_out = durable;
        }
        if checkpoint && let Err(error) = self.checkpoint(&mut dispatching) {
            tracing::error!(%error, "checkpoint failed");
            return false;
        }
        true
    }

    /// What the last start found in the log goes into the queues' files, which it left alone. The recovery position waits.
    fn write_out_replayed(&self) -> bool {
        loop {
            // A topic that is deleted and created again has its files under the same names.
            let _no_deletion = self.dispatching.lock();
            let Some((topic, queue_id)) = self.replayed.lock().pop() else {
                return true;
            };
            let Some(queue) = self.queues.get(&topic, queue_id) else {
                continue;
            };
            let written_out = match queue.is_unreadable() {
                true => Err(io::ErrorKind::InvalidData.into()),
                false => write_out(&self.queues, &queue, self.opened_at),
            };
            if let Err(error) = written_out {
                tracing::error!(%topic, queue_id, %error, "consume queue write failed");
                self.replayed.lock().push((topic, queue_id));
                return false;
            }
            if self.is_stopping() {
                return false;
            }
        }
    }

    /// Writes the entries of records before this physical offset. Entries of later records stay in memory: a power cut
    /// must not leave entries without records, which every start would have to look for in every queue.
    fn write_out_before(&self, physical_offset: i64) -> bool {
        let mut left = Vec::new();
        let mut complete = true;
        for queue in self.log.take_dirty() {
            queue.clear_dirty();
            if queue.is_deleted() {
                continue;
            }
            match write_out(&self.queues, &queue, physical_offset) {
                Ok(false) => {}
                Ok(true) => left.push(queue),
                Err(error) => {
                    if complete {
                        tracing::error!(topic = %queue.topic(), queue_id = queue.queue_id(), %error, "consume queue write failed");
                    }
                    left.push(queue);
                    complete = false;
                }
            }
        }
        if !left.is_empty() {
            self.log.add_dirty(left);
        }
        complete
    }

    fn checkpoint(&self, dispatching: &mut Dispatching) -> io::Result<()> {
        if self.position_held.load(Ordering::Acquire) {
            return Ok(());
        }
        self.queues.sync()?;
        let flushed = self.log.flushed_mark();
        let safe = dispatching.written_out;
        let mut index = self.index.durable();
        if let Some(previous) = dispatching.last.position.filter(|_| index.position > flushed.offset) {
            // The index is ahead of the flush: a power cut could leave it pointing beyond the log.
            index = previous.index;
        }
        let checkpoint = Checkpoint {
            physic_msg_timestamp: flushed.store_timestamp.max(dispatching.last.physic_msg_timestamp),
            logics_msg_timestamp: safe.store_timestamp.max(dispatching.last.logics_msg_timestamp),
            index_msg_timestamp: index.end_timestamp,
            position: Some(RecoveryPosition {
                offset: safe.offset,
                last_record: safe.last_record,
                index,
            }),
            ..dispatching.last
        };
        if checkpoint != dispatching.last {
            dispatching.file.write(&checkpoint)?;
            dispatching.last = checkpoint;
        }
        Ok(())
    }

    fn run_dispatch(&self) {
        self.wake_dispatch.register();
        let interval = Duration::from_millis(self.config.dispatch_interval_ms.max(1));
        let checkpoint_interval = Duration::from_millis(self.config.checkpoint_interval_ms);
        let mut last_checkpoint = Instant::now();
        while !self.is_stopping() {
            self.wake_dispatch.sleep(interval, || self.is_stopping());
            let due = last_checkpoint.elapsed() >= checkpoint_interval;
            if !self.dispatch_step(due) && !self.is_stopping() {
                thread::park_timeout(RETRY_PAUSE);
            }
            if due {
                last_checkpoint = Instant::now();
            }
        }
    }

    /// Takes in what was confirmed since the last step. False when it has to be repeated after a pause.
    pub(crate) fn index_step(&self, buffer: &mut Vec<u8>) -> bool {
        loop {
            match self.index.step(&self.log, buffer) {
                Ok(true) if !self.is_stopping() => {}
                Ok(_) => return true,
                Err(error) => {
                    tracing::error!(%error, "index file cannot be extended");
                    return false;
                }
            }
        }
    }

    fn run_index(&self) {
        self.wake_index.register();
        if !self.index.is_enabled() {
            return;
        }
        self.index.rebuild(self.clean);
        let mut buffer = Vec::new();
        let mut last_sync = Instant::now();
        let mut synced = self.index.position();
        while !self.is_stopping() {
            let before = self.index.position();
            if !self.index_step(&mut buffer) {
                thread::park_timeout(RETRY_PAUSE);
                continue;
            }
            let position = self.index.position();
            if position == before {
                buffer = Vec::new();
            }
            if position > synced && last_sync.elapsed() >= INDEX_SYNC_INTERVAL {
                if let Err(error) = self.index.sync() {
                    tracing::error!(%error, "index file cannot be made durable");
                }
                last_sync = Instant::now();
                synced = position;
            }
            if position > before && !self.is_stopping() {
                thread::park_timeout(INDEX_PAUSE);
            } else {
                let pause = if position > synced {
                    INDEX_SYNC_INTERVAL
                } else {
                    IDLE_PAUSE
                };
                self.wake_index
                    .sleep(pause, || self.log.confirmed() > position || self.is_stopping());
            }
        }
    }
}
