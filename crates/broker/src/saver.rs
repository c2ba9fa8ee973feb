//! Saves the tables that administrators and first sends change, once for all who wait for it at that moment.
//!
//! A table is written as a whole, so a save for each change would make the creation of many topics quadratic. Here the
//! changes that come during one save share the next.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::broker::Broker;

#[derive(Debug)]
pub(crate) struct Saver {
    asked: Mutex<Asked>,
    wake: Condvar,
    /// What became of the last save.
    done: watch::Sender<Done>,
}

#[derive(Debug, Default)]
struct Asked {
    /// Number of the latest who asked.
    latest: u64,
    stop: bool,
}

#[derive(Debug, Clone, Default)]
struct Done {
    /// Everybody up to this number has an answer.
    up_to: u64,
    error: Option<Arc<io::Error>>,
}

impl Default for Saver {
    fn default() -> Saver {
        Saver {
            asked: Mutex::default(),
            wake: Condvar::new(),
            done: watch::Sender::new(Done::default()),
        }
    }
}

impl Saver {
    /// Completes when everything that was changed before the call is on disk, or could not be saved.
    pub(crate) fn saved(&self) -> impl Future<Output = Result<(), Arc<io::Error>>> + use<> {
        let number = {
            let mut asked = self.asked.lock();
            asked.latest += 1;
            asked.latest
        };
        self.wake.notify_one();
        let mut done = self.done.subscribe();
        async move {
            match done.wait_for(|done| done.up_to >= number).await {
                Ok(done) => done.error.clone().map_or(Ok(()), Err),
                Err(_) => Err(Arc::new(io::Error::other("the broker stops"))),
            }
        }
    }

    /// Ends the thread when all who asked have their answer.
    pub(crate) fn stop(&self) {
        self.asked.lock().stop = true;
        self.wake.notify_one();
    }

    fn run(&self, mut save: impl FnMut() -> io::Result<()>) {
        let mut answered = 0;
        loop {
            let latest = {
                let mut asked = self.asked.lock();
                while asked.latest == answered {
                    if asked.stop {
                        return;
                    }
                    self.wake.wait(&mut asked);
                }
                asked.latest
            };
            let error = save().err().map(Arc::new);
            if let Some(error) = &error {
                tracing::error!(%error, "a table cannot be saved");
            }
            self.done.send_replace(Done { up_to: latest, error });
            answered = latest;
        }
    }
}

/// Starts the thread. It ends after [`Saver::stop`].
pub(crate) fn spawn(broker: &Arc<Broker>) -> io::Result<JoinHandle<()>> {
    let broker = Arc::clone(broker);
    let thread = thread::Builder::new().name("broker-save".into());
    thread.spawn(move || broker.saver.run(|| broker.save_administered()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn changes_during_a_save_share_the_next() {
        let saver = Arc::new(Saver::default());
        let (started, saves) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<io::Result<()>>();
        let thread = thread::spawn({
            let saver = Arc::clone(&saver);
            move || {
                saver.run(|| {
                    started.send(()).unwrap();
                    wait.recv().unwrap()
                });
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let first = saver.saved();
        saves.recv().unwrap();
        let during: Vec<_> = (0..100).map(|_| saver.saved()).collect();
        go_on.send(Ok(())).unwrap();
        runtime.block_on(first).unwrap();
        saves.recv().unwrap();
        go_on.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        for waiting in during {
            let error = runtime.block_on(waiting).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
        let last = saver.saved();
        saver.stop();
        saves.recv().unwrap();
        go_on.send(Ok(())).unwrap();
        runtime.block_on(last).unwrap();
        thread.join().unwrap();
        assert!(saves.recv().is_err(), "two saves answered a hundred");
    }
}
