//! Threads for work that may wait for the disk, or that takes long: cold reads and what handlers put off. Workers never
//! wait.
//!
//! Each kind of work has threads of its own, so that work which needs memory only is not held up by reads that hang.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use oxmq_protocol::RemotingCommand;
use oxmq_store::{GetError, GetMessages, ReadError};
use parking_lot::{Condvar, Mutex};

use crate::broker::Broker;
use crate::mailbox::Mailboxes;
use crate::pop::Collected;

/// Work of one lane that may wait for a thread; then requests are refused, as with a full thread pool of the original.
const WAITING_MAX: usize = 10_000;

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Messages that are not in memory.
    Disk,
    /// Messages that are in memory, by filters that take long. Does not wait for the disk.
    Memory,
    /// What handlers put off.
    Commands,
}

impl Lane {
    const ALL: [Lane; 3] = [Lane::Disk, Lane::Memory, Lane::Commands];

    /// Names of the threads, and how many there are: enough to keep a disk busy.
    fn threads(self) -> (&'static str, usize) {
        match self {
            Lane::Disk => ("broker-read", 4),
            Lane::Memory => ("broker-filter", 2),
            Lane::Commands => ("broker-command", 4),
        }
    }
}

/// What came of work that was put off.
pub(crate) enum Done {
    Pull(Result<GetMessages, GetError>, BytesMut),
    Pop(Box<Collected>),
    Command(RemotingCommand),
    /// Answered when the change is saved and name servers know of it.
    Changed(RemotingCommand),
    /// Whether the queue could be read.
    Loaded(bool),
    Half(Result<Option<Bytes>, ReadError>),
}

pub(crate) type Work = Box<dyn FnOnce(&Arc<Broker>) -> Done + Send>;

struct Job {
    worker: usize,
    ticket: usize,
    work: Work,
    submitted: Instant,
}

/// What became of the time of work that was put off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThreadTimes {
    /// It waited for a thread.
    pub(crate) queued: Duration,
    pub(crate) worked: Duration,
}

/// Where workers hand work to, by lane. The threads end when the last of these is gone.
#[derive(Clone)]
pub(crate) struct ReadQueue(Arc<Lanes>);

struct Lanes([Arc<Jobs>; 3]);

/// The jobs of a lane. A thread that finds none sleeps at once: what spins for the next, as threads at a channel do, takes
/// the processor from workers that have sends to store.
#[derive(Default)]
struct Jobs {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    ended: bool,
}

impl ReadQueue {
    /// Starts the threads. Results go to the mailbox of the worker that asked, under its ticket.
    pub(crate) fn start(
        broker: &Arc<Broker>,
        mailboxes: &Arc<Mailboxes>,
    ) -> io::Result<(ReadQueue, Vec<JoinHandle<()>>)> {
        let mut threads = Vec::new();
        let lanes = Lane::ALL.map(|lane| {
            let jobs = Arc::<Jobs>::default();
            let (name, count) = lane.threads();
            threads.extend((0..count).map(|index| {
                let (jobs, broker, mailboxes) = (Arc::clone(&jobs), Arc::clone(broker), Arc::clone(mailboxes));
                let thread = thread::Builder::new().name(format!("{name}-{index}"));
                thread.spawn(move || run(&jobs, &broker, &mailboxes))
            }));
            jobs
        });
        // Before a thread that could not be started is told of, so that the others end.
        let queue = ReadQueue(Arc::new(Lanes(lanes)));
        let threads = threads.into_iter().collect::<io::Result<_>>()?;
        Ok((queue, threads))
    }

    /// False when too much waits already.
    pub(crate) fn submit(&self, lane: Lane, worker: usize, ticket: usize, work: Work) -> bool {
        self.0.0[lane as usize].push(Job {
            worker,
            ticket,
            work,
            submitted: Instant::now(),
        })
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        for jobs in &self.0 {
            jobs.waiting.lock().ended = true;
            jobs.changed.notify_all();
        }
    }
}

impl Jobs {
    fn push(&self, job: Job) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.jobs.len() >= WAITING_MAX {
            return false;
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.changed.notify_one();
        true
    }

    /// The next one, when there is one. Nothing at the end, when all are done.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() && !waiting.ended {
            self.changed.wait(&mut waiting);
        }
        waiting.jobs.pop_front()
    }
}

fn run(jobs: &Jobs, broker: &Arc<Broker>, mailboxes: &Mailboxes) {
    while let Some(job) = jobs.next() {
        let Job {
            worker, ticket, work, ..
        } = job;
        let queued = job.submitted.elapsed();
        // A mistake costs the answer to one request, not the thread that serves the others.
        match catch_unwind(AssertUnwindSafe(|| work(broker))) {
            Ok(done) => {
                let worked = job.submitted.elapsed() - queued;
                let times = ThreadTimes { queued, worked };
                mailboxes.of(worker).post_done(ticket, done, times);
            }
            Err(_) => tracing::error!("work for a request has panicked"),
        }
    }
}
