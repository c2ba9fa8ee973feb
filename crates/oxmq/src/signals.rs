//! SIGTERM and SIGINT end a server in order; a second one ends it at once.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit status of a process that was interrupted twice.
const INTERRUPTED: i32 = 130;

/// Catches the signals from its creation on.
pub(crate) struct StopSignals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Before the server says that it serves, so that a signal sent on that word is not missed.
    pub(crate) fn catch() -> io::Result<StopSignals> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let entered = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        drop(entered);
        Ok(StopSignals {
            runtime,
            terminate,
            interrupt,
        })
    }

    /// Returns at the first signal. From then on the next one ends the process.
    pub(crate) fn wait(mut self) -> io::Result<()> {
        self.wait_once();
        thread::Builder::new().name("second-signal".into()).spawn(move || {
            self.wait_once();
            std::process::exit(INTERRUPTED);
        })?;
        Ok(())
    }

    fn wait_once(&mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        });
    }
}
