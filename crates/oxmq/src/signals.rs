//! SIGTERM and SIGINT end a server in order; a second one ends it at once.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit status of a process that was interrupted twice.
const INTERRUPTED: i32 = 130;

/// Catches the signals from its creation on, for a process without a runtime of its own.
pub(crate) struct StopSignals {
    runtime: Runtime,
    caught: Caught,
}

struct Caught {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Before the server says that it serves, so that a signal sent on that word is not missed.
    pub(crate) fn catch() -> io::Result<StopSignals> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let caught = runtime.block_on(async { Caught::new() })?;
        Ok(StopSignals { runtime, caught })
    }

    /// Returns at the first signal. From then on the next one ends the process.
    pub(crate) fn wait(self) -> io::Result<()> {
        self.wait_or(std::future::pending()).map(|_| ())
    }

    /// The same, or when something else ends the server, which gives true.
    pub(crate) fn wait_or(mut self, end: impl Future<Output = ()>) -> io::Result<bool> {
        let ended = self.runtime.block_on(async {
            tokio::select! {
                () = self.caught.next() => false,
                () = end => true,
            }
        });
        thread::Builder::new().name("second-signal".into()).spawn(move || {
            self.runtime.block_on(self.caught.next());
            std::process::exit(INTERRUPTED);
        })?;
        Ok(ended)
    }
}

/// Waits for a signal on the runtime of the caller.
pub(crate) async fn any_stop_signal() -> io::Result<()> {
    Caught::new()?.next().await;
    Ok(())
}

impl Caught {
    fn new() -> io::Result<Caught> {
        Ok(Caught {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
