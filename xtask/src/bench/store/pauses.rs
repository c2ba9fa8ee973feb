//! How long the machine itself stands still: the lateness of a thread that only sleeps, and comes before all others.
//!
//! A virtual machine that has used up its share of processors stops for some milliseconds with all that runs in it,
//! servers and generator alike. That shows here, and in the figures of any server.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;

const INTERVAL: Duration = Duration::from_millis(1);

pub(super) struct Pauses {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Histogram<u64>>,
}

impl Pauses {
    /// Nothing where the thread cannot be put before all others, which takes an administrator and `chrt`.
    pub(super) fn start() -> anyhow::Result<Option<Pauses>> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        let until = Arc::clone(&is_over);
        let thread = thread::Builder::new().name("pauses".into()).spawn(move || {
            // Nobody to tell means that the measurement has ended.
            let _ = tell.send(rustix::thread::gettid());
            watch(&until)
        })?;
        let pauses = Pauses { is_over, thread };
        let mut first = Command::new("chrt");
        first.args(["--fifo", "--pid", "1", &told.recv()?.as_raw_pid().to_string()]);
        first.stdout(Stdio::null()).stderr(Stdio::null());
        match first.status().is_ok_and(|status| status.success()) {
            true => Ok(Some(pauses)),
            false => pauses.finish().map(|_| None),
        }
    }

    /// How late the thread was, as something due at any moment would have been, in nanoseconds.
    pub(super) fn finish(self) -> anyhow::Result<Histogram<u64>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the thread has panicked")
    }
}

fn watch(is_over: &AtomicBool) -> Histogram<u64> {
    let mut late = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order");
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        sleep(INTERVAL);
        let beyond = began.elapsed().saturating_sub(INTERVAL);
        let nanos = (beyond.as_nanos() as u64).min(late.high());
        late.record_correct(nanos, INTERVAL.as_nanos() as u64)
            .expect("it is within the bounds");
    }
    late
}
