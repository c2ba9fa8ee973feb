//! The store as its users see it: opening, appending, figures, shutting down. Reading is in `read_path`.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::Mutex;

use crate::append::AppendBatch;
use crate::background::{Dispatching, Engine, Wake};
use crate::checkpoint::CheckpointFile;
use crate::checksums::Checksums;
use crate::cold_area;
use crate::commit_log::CommitLog;
use crate::compaction;
use crate::config::{FlushDiskType, StoreConfig};
use crate::config_file::create_dir_durably;
use crate::consume_queue::ConsumeQueue;
use crate::disk::Disk;
use crate::error::{AppendError, OpenError, ReadError, StoreFailure};
use crate::foreign::refuse_foreign;
use crate::index::Index;
use crate::queue_files::QueueFiles;
use crate::queues::Queues;
use crate::recovery::Recovery;
use crate::retention::{CleanReport, Expiry, Retention, RetentionSettings, SpaceFigures};
use crate::scrub::ScrubProgress;
use crate::segments::{Segments, io_error};
use crate::unit::QueueKind;

/// What the store tells its owner. Called on the appending thread or on the flush thread: do little, do not block.
pub trait StoreListener: Send + Sync {
    /// The visible maximum of these queues grew. Only queues whose wait mask is not empty are named.
    fn arrived(&self, queues: &[Arc<ConsumeQueue>]);
    /// Everything before this physical offset is on disk.
    fn flushed(&self, flushed: i64);
    /// The commit log failed; appends are refused from now on.
    fn failed(&self, why: &StoreFailure);
    /// A commit log file is going to be deleted. False keeps it for now. Called on the thread that cleans, which may wait
    /// for the disk.
    fn expiring(&self, _expiry: &Expiry) -> bool {
        true
    }
}

/// What the last start found and did.
#[derive(Debug, Clone, Default)]
pub struct RecoveryReport {
    /// No `abort` file was there.
    pub clean: bool,
    /// Another broker has written to the store since one of ours has, as far as can be told.
    pub foreign: bool,
    /// Where the scan began and where the valid log ended.
    pub scanned_from: i64,
    pub end: i64,
    pub records: u64,
    pub elapsed_ms: u64,
}

/// Figures for the broker's runtime information (request 28).
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub start_timestamp: i64,
    pub append_messages: u64,
    pub append_bytes: u64,
    pub append_failures: u64,
    /// Longest append since the start.
    pub append_max_us: u64,
    pub get_messages: u64,
    pub get_found: u64,
    pub get_missed: u64,
    /// Appends by duration, with Java's `putMessageDistributeTime` classes.
    pub append_times: [u64; 13],
    pub space: SpaceFigures,
    /// Stretches of the commit log found damaged since the start.
    pub damaged: u64,
}

pub struct MessageStore {
    pub(crate) engine: Arc<Engine>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
    report: RecoveryReport,
    pub(crate) counters: Counters,
    pub(crate) is_shut_down: AtomicBool,
    /// A consumer further behind than this reads from the disk, as far as limits are concerned.
    pub(crate) memory_bytes: i64,
    pub(crate) cold: cold_area::Border,
}

#[derive(Default)]
pub(crate) struct Counters {
    start_timestamp: i64,
    append_messages: AtomicU64,
    append_bytes: AtomicU64,
    append_failures: AtomicU64,
    append_max_us: AtomicU64,
    append_times: [AtomicU64; 13],
    pub(crate) get_messages: AtomicU64,
    pub(crate) get_found: AtomicU64,
    pub(crate) get_missed: AtomicU64,
}

/// Upper ends, in milliseconds, of all classes of append times but the last.
const APPEND_TIME_CLASSES_MS: [u64; 12] = [1, 10, 50, 100, 200, 500, 1_000, 2_000, 3_000, 4_000, 5_000, 10_000];

/// What was written of late is sealed before a stop in order: 64 MiB at most.
const SEAL_STEPS_AT_STOP: usize = 8;

/// In the abort file, behind the process id that Java writes as well.
const OURS: &str = " oxmq";

/// How the store was left, as its `abort` file says: there is one while a broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastStop {
    Clean,
    /// One of ours was killed.
    Ours,
    /// Another broker was.
    Foreign,
}

impl LastStop {
    fn of(disk: &dyn Disk, root: &Path) -> io::Result<LastStop> {
        let file = match disk.open(&root.join("abort")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LastStop::Clean),
            Err(error) => return Err(error),
        };
        let mut text = [0; 32];
        let read = file.read_at(&mut text, 0)?;
        match text[..read].ends_with(OURS.as_bytes()) {
            true => Ok(LastStop::Ours),
            false => Ok(LastStop::Foreign),
        }
    }
}

impl MessageStore {
    /// Locks the directory, loads and recovers it, and starts the background threads.
    pub fn open(
        config: StoreConfig,
        disk: Arc<dyn Disk>,
        listener: Arc<dyn StoreListener>,
    ) -> Result<Arc<MessageStore>, OpenError> {
        let began = Instant::now();
        let root = config.root.clone();
        let at_root = |source| io_error(&root, source);
        // Before anything is written.
        refuse_foreign(&*disk, &root)?;
        create_dir_durably(&*disk, &root).map_err(at_root)?;
        let lock = take_lock(&*disk, &root.join("lock"))?;
        let last_stop = LastStop::of(&*disk, &root).map_err(at_root)?;
        let clean = last_stop == LastStop::Clean;
        if clean {
            // From here on the directory is in use, and a stop at any point has to be noticed.
            write_abort(&*disk, &root).map_err(at_root)?;
        }

        let (file, checkpoint) = CheckpointFile::open(&*disk, &root.join("checkpoint")).map_err(at_root)?;
        let segments = Segments::load(Arc::clone(&disk), &config, clean)?;
        let queue_files = QueueKind::ALL.map(|kind| {
            let file_bytes = match kind {
                QueueKind::Simple => config.consume_queue_file_bytes,
                QueueKind::Batch => config.batch_consume_queue_file_bytes,
            };
            QueueFiles::new(Arc::clone(&disk), &root, kind, file_bytes, config.open_files_max)
        });
        create_dir_durably(&*disk, queue_files[0].root()).map_err(at_root)?;
        let kind_of = Arc::clone(&config.queue_kind_of);
        let queues = Queues::list(queue_files, kind_of, segments.min()).map_err(at_root)?;
        let recovery = Recovery {
            segments: &segments,
            queues: &queues,
            checkpoint: &checkpoint,
            last_stop,
            delay_levels_ms: &config.delay_levels_ms,
            multi_dispatch: config.multi_dispatch,
            observer: config.replay_observer.as_ref(),
            progress: &config.recovery_progress,
        };
        let recovered = recovery.run().map_err(at_root)?;
        let index_mark = checkpoint
            .position
            .filter(|_| recovered.proved)
            .map(|position| position.index);
        let index = Index::load(
            Arc::clone(&disk),
            &config,
            clean,
            index_mark,
            checkpoint.index_msg_timestamp,
            segments.min(),
        )
        .map_err(at_root)?;
        index.resume(index_mark, recovered.scanned_from, clean);

        let checksums = Checksums::open(Arc::clone(&disk), &root, &segments, recovered.end.offset).map_err(at_root)?;
        let sealed = checksums.sealed_at_open();
        let log = CommitLog::new(&config, segments, checksums, recovered.end);
        let start_timestamp = (config.clock)();
        let memory_bytes = physical_memory_bytes() / 100 * config.access_message_in_memory_max_ratio as i64;
        let background_threads = config.background_threads;
        let position_held = config.replay_observer.is_some();
        let retention = Retention::new(config.retention.clone());
        let engine = Arc::new(Engine {
            config,
            disk,
            listener,
            log,
            queues,
            index,
            clean,
            dispatching: Mutex::new(Dispatching {
                file,
                last: checkpoint,
                written_out: recovered.written_out,
            }),
            replayed: Mutex::new(recovered.replayed),
            wake_flush: Wake::default(),
            flush_at: AtomicU64::new(0),
            wake_allocate: Wake::default(),
            wake_dispatch: Wake::default(),
            wake_index: Wake::default(),
            sealed: AtomicI64::new(sealed),
            opened_at: recovered.end.offset,
            scrub: Mutex::default(),
            scrub_saved_ms: AtomicI64::new(start_timestamp),
            wake_scrub: Wake::default(),
            damaged: AtomicU64::new(0),
            position_held: AtomicBool::new(position_held),
            stopping: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            queues_stuck: AtomicBool::new(false),
            retention,
            compacting: Mutex::default(),
        });
        *engine.scrub.lock() = ScrubProgress::load(&engine);
        engine.measure_disks();
        if !recovered.untouched && engine.replayed.lock().is_empty() {
            engine.dispatch_step(true);
        }
        if last_stop == LastStop::Foreign {
            // Not before: until the queues agree with the log, the next start must not take them for ours.
            write_abort(&*engine.disk, &root).map_err(at_root)?;
        }
        let threads = if background_threads {
            engine.start_threads().map_err(at_root)?
        } else {
            engine.index.rebuild(clean);
            Vec::new()
        };
        let report = RecoveryReport {
            clean,
            foreign: match last_stop {
                LastStop::Clean => !recovered.untouched,
                LastStop::Ours => false,
                LastStop::Foreign => true,
            },
            scanned_from: recovered.scanned_from,
            end: recovered.end.offset,
            records: recovered.records,
            elapsed_ms: began.elapsed().as_millis() as u64,
        };
        tracing::info!(?report, root = %root.display(), "message store opened");
        let store = Arc::new(MessageStore {
            engine,
            threads: Mutex::new(threads),
            lock: Mutex::new(Some(lock)),
            report,
            counters: Counters {
                start_timestamp,
                ..Counters::default()
            },
            is_shut_down: AtomicBool::new(false),
            memory_bytes,
            cold: cold_area::Border::default(),
        });
        compaction::load_all(&store).map_err(|source| io_error(&root, source))?;
        Ok(store)
    }

    pub fn config(&self) -> &StoreConfig {
        &self.engine.config
    }

    /// What was replayed need not be replayed again. See [`StoreConfig::replay_observer`].
    pub fn release_recovery_position(&self) {
        self.engine.position_held.store(false, Ordering::Release);
    }

    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.report
    }

    pub fn queue(&self, topic: &str, queue_id: i32) -> Option<Arc<ConsumeQueue>> {
        self.engine.queues.get(topic, queue_id)
    }

    /// False for a queue that was not used since the start: asking for it reads its files.
    pub fn is_at_hand(&self, topic: &str, queue_id: i32) -> bool {
        self.engine.queues.is_at_hand(topic, queue_id)
    }

    /// The topic name must have been checked: it becomes a directory.
    pub fn queue_or_create(&self, topic: &str, queue_id: i32) -> Arc<ConsumeQueue> {
        self.engine.queues.get_or_create(topic, queue_id)
    }

    /// The queues of a topic by queue id.
    pub fn queues_of(&self, topic: &str) -> Vec<Arc<ConsumeQueue>> {
        self.engine.queues.queues_of(topic)
    }

    /// Number of light queues.
    pub fn light_queues(&self) -> usize {
        self.engine.queues.light()
    }

    /// Topics that have a consume queue.
    pub fn topics(&self) -> Vec<Arc<str>> {
        self.engine.queues.topics()
    }

    /// Appends all records or none: one lock hold, one positioned write (two where a file ends).
    pub fn append(&self, batch: &mut AppendBatch) -> Result<(), AppendError> {
        let engine = &*self.engine;
        if engine.disk_full.load(Ordering::Relaxed) || engine.queues_stuck.load(Ordering::Relaxed) {
            self.counters.append_failures.fetch_add(1, Ordering::Relaxed);
            return Err(AppendError::DiskFull(engine.space()));
        }
        let began = Instant::now();
        let bytes = batch.records.len() as u64;
        let appended = engine.log.append(batch).map_err(|error| {
            self.counters.append_failures.fetch_add(1, Ordering::Relaxed);
            match error {
                AppendError::DiskFull(_) => return AppendError::DiskFull(engine.space()),
                AppendError::Failed(ref failure) => engine.listener.failed(failure),
                _ => {}
            }
            error
        })?;
        engine.announce(&appended.arrivals);
        match engine.config.flush_disk_type {
            FlushDiskType::Sync => engine.wake_flush(),
            FlushDiskType::Async => engine.wake_index.notify(),
        }
        if appended.prepare_next {
            engine.wake_allocate.notify();
        }
        self.counters.appended(batch.entries.len() as u64, bytes, began);
        Ok(())
    }

    /// Physical offset after the last record written.
    pub fn written(&self) -> i64 {
        self.engine.log.written()
    }

    /// Everything before this physical offset is on disk.
    pub fn flushed(&self) -> i64 {
        self.engine.log.flushed()
    }

    /// What consumers may read and promises cover: `written` under ASYNC_FLUSH, `flushed` under SYNC_FLUSH.
    pub fn confirmed(&self) -> i64 {
        self.engine.log.confirmed()
    }

    pub fn min_physical_offset(&self) -> i64 {
        self.engine.log.segments().min()
    }

    /// Confirmed bytes that the index has not taken in. Consume-queue entries are there as soon as their records are.
    pub fn dispatch_behind_bytes(&self) -> i64 {
        if !self.engine.index.is_enabled() {
            return 0;
        }
        (self.confirmed() - self.engine.index.position()).max(0)
    }

    /// `Ok` while appends are accepted, otherwise why they are not.
    pub fn writeable(&self) -> Result<(), AppendError> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Err(AppendError::ShutDown);
        }
        if let Some(failure) = self.engine.log.failure() {
            return Err(failure.clone().into());
        }
        if self.engine.disk_full.load(Ordering::Relaxed) || self.engine.queues_stuck.load(Ordering::Relaxed) {
            return Err(AppendError::DiskFull(self.engine.space()));
        }
        Ok(())
    }

    /// How long the present append has been holding the log, 0 when none is (spec: storage.md §10.3).
    pub fn append_in_progress_ms(&self) -> u64 {
        match self.engine.log.append_began_ms() {
            0 => 0,
            began => ((self.engine.config.clock)() - began).max(0) as u64,
        }
    }

    pub fn figures(&self) -> Figures {
        let counters = &self.counters;
        let engine = &self.engine;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            start_timestamp: counters.start_timestamp,
            append_messages: count(&counters.append_messages),
            append_bytes: count(&counters.append_bytes),
            append_failures: count(&counters.append_failures),
            append_max_us: count(&counters.append_max_us),
            get_messages: count(&counters.get_messages),
            get_found: count(&counters.get_found),
            get_missed: count(&counters.get_missed),
            append_times: std::array::from_fn(|class| count(&counters.append_times[class])),
            space: engine.space(),
            damaged: count(&self.engine.damaged),
        }
    }

    /// Removes the consume queues of a topic. Its records stay in the log until retention; the recovery position moves
    /// behind them first, so that no later start brings the queues back.
    pub fn delete_topic(&self, topic: &str) {
        let queues = {
            let _no_write_out = self.engine.dispatching.lock();
            let queues = self.engine.queues.remove_topic(topic);
            for queue in &queues {
                if let Err(error) = self.engine.queues.files(queue.kind()).remove(queue)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(topic, queue_id = queue.queue_id(), %error, "consume queue is not removed");
                }
            }
            queues
        };
        if queues.is_empty() {
            return;
        }
        if let Err(error) = compaction::remove_topic(&*self.engine.disk, &self.config().root, topic) {
            tracing::warn!(topic, %error, "what was compacted of the topic is not removed");
        }
        if let Err(error) = self.engine.queues.files(queues[0].kind()).remove_topic(topic)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(topic, %error, "topic directory is not removed");
        }
        self.engine.flush_step();
        self.engine.dispatch_step(true);
    }

    /// Replaces the settings of retention.
    pub fn set_retention(&self, settings: RetentionSettings) {
        self.engine.retention.set_settings(settings);
    }

    /// Expired files are deleted now and in the next rounds, whatever the hour.
    pub fn request_deletion(&self) {
        self.engine.retention.request();
    }

    /// One round of retention, on the calling thread and without pauses. Only without background threads.
    pub fn run_retention(&self) -> CleanReport {
        self.engine.clean_round(&|_| true)
    }

    /// How full the partitions were when they were measured last.
    pub fn space(&self) -> SpaceFigures {
        self.engine.space()
    }

    /// The queue offset of the first message whose record lies at a physical offset or behind it. Waits for the disk.
    pub fn first_offset_from(&self, queue: &ConsumeQueue, physical_offset: i64) -> Result<i64, ReadError> {
        Ok(self.engine.first_offset_from(queue, physical_offset)?)
    }

    /// Removes the files of queues of which no record exists any more, and lets their numbering begin anew. Queues of
    /// topics that `keeps` names stay. Returns the queues.
    pub fn reset_expired_queues(&self, keeps: &dyn Fn(&str) -> bool) -> Vec<(Arc<str>, i32)> {
        self.engine.reset_expired_queues(keeps)
    }

    /// How far the passes over the log are that look for damage.
    pub fn scrub_progress(&self) -> ScrubProgress {
        *self.engine.scrub.lock()
    }

    /// Looks at the whole log at once, on the calling thread.
    pub fn scrub(&self) -> Result<ScrubProgress, ReadError> {
        while self.engine.seal_step()? {}
        let now = (self.engine.config.clock)();
        let passes = {
            let mut progress = self.engine.scrub.lock();
            // The present pass is given up, and a new one is due.
            progress.end = 0;
            progress.began_ms = now.saturating_sub(self.config().scrub_interval_ms as i64);
            progress.passes
        };
        while self.scrub_progress().passes == passes {
            self.engine.scrub_step(now)?;
        }
        Ok(self.scrub_progress())
    }

    /// What the background threads would do now, on the calling thread, in the order that leaves most to a recovery: the
    /// recovery position is that of the last call. Only without background threads.
    pub fn run_background_work(&self) {
        let engine = &*self.engine;
        engine.allocate_step();
        engine.dispatch_step(true);
        if engine.flush_step()
            && engine.index_step(&mut Vec::new())
            && let Err(error) = engine.index.sync()
        {
            tracing::error!(%error, "index file cannot be made durable");
        }
        if let Err(error) = engine.seal_step() {
            tracing::error!(%error, "the commit log cannot be sealed");
        }
    }

    /// Flushes everything, writes the checkpoint and removes `abort` if nothing is left behind. Idempotent.
    pub fn shutdown(&self) {
        if self.is_shut_down.swap(true, Ordering::AcqRel) {
            return;
        }
        self.engine.log.close();
        self.stop_threads();
        match self.finish() {
            Ok(true) => tracing::info!(end = self.written(), "message store closed"),
            Ok(false) => tracing::warn!("message store closed with work left: the next start recovers"),
            Err(error) => tracing::error!(%error, "message store closed with an error: the next start recovers"),
        }
        self.lock.lock().take();
    }

    fn finish(&self) -> io::Result<bool> {
        let engine = &*self.engine;
        engine.stopping.store(false, Ordering::SeqCst);
        let indexed = engine.index_step(&mut Vec::new());
        if !engine.flush_step() || !engine.index_step(&mut Vec::new()) || !indexed {
            return Ok(false);
        }
        engine.index.sync()?;
        for _ in 0..SEAL_STEPS_AT_STOP {
            if !engine.seal_step()? {
                break;
            }
        }
        if !engine.dispatch_step(true) {
            return Ok(false);
        }
        engine.log.segments().discard_prepared()?;
        let root = &engine.config.root;
        engine.disk.remove_file(&root.join("abort"))?;
        engine.disk.sync_dir(root)?;
        Ok(true)
    }

    fn stop_threads(&self) {
        self.engine.stop();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

impl Drop for MessageStore {
    /// Without [`MessageStore::shutdown`] this is a killed process, except that threads are not left behind.
    fn drop(&mut self) {
        self.stop_threads();
    }
}

impl Counters {
    fn appended(&self, messages: u64, bytes: u64, began: Instant) {
        let elapsed = began.elapsed();
        let class = APPEND_TIME_CLASSES_MS.partition_point(|end| u128::from(*end) <= elapsed.as_millis());
        self.append_times[class].fetch_add(messages, Ordering::Relaxed);
        self.append_messages.fetch_add(messages, Ordering::Relaxed);
        self.append_bytes.fetch_add(bytes, Ordering::Relaxed);
        let micros = elapsed.as_micros() as u64;
        if micros > self.append_max_us.load(Ordering::Relaxed) {
            self.append_max_us.fetch_max(micros, Ordering::Relaxed);
        }
    }
}

/// The lock that keeps a second broker, ours or Java, away. Its text is Java's.
pub(crate) fn take_lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn Send + Sync>, OpenError> {
    match disk.lock(path) {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(OpenError::Locked {
            path: path.to_path_buf(),
        }),
        Err(error) => Err(io_error(path, error)),
    }
}

fn write_abort(disk: &dyn Disk, root: &Path) -> io::Result<()> {
    let file = disk.create(&root.join("abort"))?;
    let text = format!("{}{OURS}", std::process::id());
    file.write_all_at(&[IoSlice::new(text.as_bytes())], 0)?;
    file.sync_data()?;
    disk.sync_dir(root)
}

pub(crate) fn physical_memory_bytes() -> i64 {
    let info = rustix::system::sysinfo();
    (info.totalram as i64).saturating_mul(i64::from(info.mem_unit))
}
