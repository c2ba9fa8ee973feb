//! Log files with RocketMQ's names in one folder, each with its older versions beside it (spec: behaviour.md §15).
//!
//! Lines go through a bounded queue to a thread of their own, so that nobody who logs waits for the disk. When the queue is
//! full lines are dropped; how many is said by the next line that is written. A file that has grown beyond its size becomes
//! `broker.1.log`, the one before it `broker.2.log`, and so on; what is older than the last goes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const QUEUE_MAX: usize = 10_000;
/// Where everything goes that no other file is for.
const REST: usize = 0;
/// Files and the modules whose lines they get.
const FILES: [(&str, &str); 7] = [
    ("broker", ""),
    ("namesrv", "oxmq_namesrv"),
    ("store", "oxmq_store"),
    ("remoting", "oxmq_remoting"),
    ("transaction", "oxmq_broker::transactions"),
    ("auth_audit", "audit"),
    ("broker_metrics", "metrics"),
];
/// Errors of the store have a file besides, as they do in RocketMQ.
const STORE: &str = "oxmq_store";
const STORE_ERRORS: &str = "storeerror";

/// How large a file becomes, and how many older ones are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotation {
    pub(crate) bytes_max: u64,
    pub(crate) kept: u32,
}

impl Default for Rotation {
    fn default() -> Rotation {
        Rotation {
            bytes_max: 128 * 1024 * 1024,
            kept: 10,
        }
    }
}

/// The file of a line; store errors come twice.
fn files_of(target: &str, level: Level) -> (usize, Option<usize>) {
    let is_of = |module: &str| {
        target
            .strip_prefix(module)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let own = FILES.iter().skip(1).position(|(_, module)| is_of(module));
    let error = (level == Level::ERROR && is_of(STORE)).then_some(FILES.len());
    (own.map_or(REST, |index| index + 1), error)
}

enum Task {
    Line(usize, Vec<u8>),
    End,
}

/// Where lines are handed over.
#[derive(Clone)]
pub(crate) struct LogFiles {
    queue: SyncSender<Task>,
    dropped: Arc<AtomicU64>,
}

/// Writes what is left when it is dropped.
pub(crate) struct LogGuard {
    queue: SyncSender<Task>,
    thread: Option<JoinHandle<()>>,
}

impl LogFiles {
    pub(crate) fn open(folder: &Path, rotation: Rotation) -> io::Result<(LogFiles, LogGuard)> {
        fs::create_dir_all(folder)?;
        // What cannot be written is better said now.
        drop(
            File::options()
                .create(true)
                .append(true)
                .open(folder.join(file_name(FILES[REST].0, 0)))?,
        );
        let (queue, tasks) = sync_channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            folder: folder.to_owned(),
            rotation,
            files: Default::default(),
            dropped: Arc::clone(&dropped),
        };
        let thread = thread::Builder::new()
            .name("log".into())
            .spawn(move || writer.run(&tasks))?;
        let guard = LogGuard {
            queue: queue.clone(),
            thread: Some(thread),
        };
        Ok((LogFiles { queue, dropped }, guard))
    }

    fn put(&self, file: usize, line: &[u8]) {
        if self.queue.try_send(Task::Line(file, line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // A thread that has ended has written what it could.
        let _ = self.queue.send(Task::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<'a> MakeWriter<'a> for LogFiles {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            files: self,
            to: (REST, None),
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        Line {
            files: self,
            to: files_of(meta.target(), *meta.level()),
        }
    }
}

/// One line, which comes in one piece.
pub(crate) struct Line<'a> {
    files: &'a LogFiles,
    to: (usize, Option<usize>),
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (own, more) = self.to;
        self.files.put(own, line);
        if let Some(more) = more {
            self.files.put(more, line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the thread has.
struct Writer {
    folder: PathBuf,
    rotation: Rotation,
    files: [Option<(File, u64)>; FILES.len() + 1],
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, tasks: &Receiver<Task>) {
        while let Ok(Task::Line(file, line)) = tasks.recv() {
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                self.write(file, format!("{dropped} lines were dropped\n").as_bytes());
            }
            self.write(file, &line);
        }
    }

    /// A line that cannot be written is dropped; the next one opens the file anew.
    fn write(&mut self, index: usize, line: &[u8]) {
        let written = self.file(index, line.len() as u64).and_then(|(file, bytes)| {
            *bytes += line.len() as u64;
            file.write_all(line)
        });
        if written.is_err() {
            self.files[index] = None;
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn file(&mut self, index: usize, more: u64) -> io::Result<&mut (File, u64)> {
        let name = FILES.get(index).map_or(STORE_ERRORS, |(name, _)| name);
        let is_full = |(_, bytes): &(File, u64)| *bytes > 0 && *bytes + more > self.rotation.bytes_max;
        if self.files[index].as_ref().is_some_and(is_full) {
            self.files[index] = None;
            self.rotate(name);
        }
        if self.files[index].is_none() {
            let path = self.folder.join(file_name(name, 0));
            let file = File::options().create(true).append(true).open(path)?;
            let bytes = file.metadata()?.len();
            self.files[index] = Some((file, bytes));
        }
        Ok(self.files[index].as_mut().expect("it was just opened"))
    }

    /// Those that are not there, or cannot be renamed, stay what they are: the line counts more.
    fn rotate(&self, name: &str) {
        for number in (0..self.rotation.kept).rev() {
            let path = |number| self.folder.join(file_name(name, number));
            let _ = fs::rename(path(number), path(number + 1));
        }
        if self.rotation.kept == 0 {
            let _ = fs::remove_file(self.folder.join(file_name(name, 0)));
        }
    }
}

fn file_name(name: &str, number: u32) -> String {
    match number {
        0 => format!("{name}.log"),
        number => format!("{name}.{number}.log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_to_the_files_of_rocketmq() {
        let names = |target, level| {
            let (own, more) = files_of(target, level);
            (FILES[own].0, more.map(|_| STORE_ERRORS))
        };
        assert_eq!(names("oxmq_broker::worker", Level::INFO), ("broker", None));
        assert_eq!(names("oxmq_storefront", Level::ERROR), ("broker", None));
        assert_eq!(names("oxmq_store::recovery", Level::INFO), ("store", None));
        assert_eq!(names("oxmq_store", Level::ERROR), ("store", Some(STORE_ERRORS)));
        assert_eq!(names("oxmq_namesrv::handlers", Level::WARN), ("namesrv", None));
        assert_eq!(names("audit", Level::INFO), ("auth_audit", None));
    }

    #[test]
    fn files_rotate_by_size_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let rotation = Rotation { bytes_max: 20, kept: 2 };
        let (files, guard) = LogFiles::open(folder.path(), rotation).unwrap();
        for number in 0..9 {
            files.put(REST, format!("line {number}\n").as_bytes());
        }
        drop(guard);
        let text = |number| fs::read_to_string(folder.path().join(file_name("broker", number))).ok();
        assert_eq!(text(0).as_deref(), Some("line 8\n"));
        assert_eq!(text(1).as_deref(), Some("line 6\nline 7\n"));
        assert_eq!(text(2).as_deref(), Some("line 4\nline 5\n"));
        assert_eq!(text(3), None);

        // The next start goes on where this one ended.
        let (files, guard) = LogFiles::open(folder.path(), rotation).unwrap();
        files.put(REST, b"line 9\n");
        files.put(REST, b"a line that is longer than a file may be\n");
        drop(guard);
        assert_eq!(text(1).as_deref(), Some("line 8\nline 9\n"));
        assert_eq!(text(0).as_deref(), Some("a line that is longer than a file may be\n"));
    }

    #[test]
    fn a_disk_that_takes_nothing_holds_nobody_up_and_is_told_of_later() {
        let folder = tempfile::tempdir().unwrap();
        let (files, guard) = LogFiles::open(folder.path(), Rotation::default()).unwrap();
        // Not even a file of this name can be made.
        fs::create_dir(folder.path().join("namesrv.log")).unwrap();
        files.put(1, b"lost\n");
        files.put(REST, b"kept\n");
        drop(guard);
        let text = fs::read_to_string(folder.path().join("broker.log")).unwrap();
        assert_eq!(text, "1 lines were dropped\nkept\n");
    }
}
