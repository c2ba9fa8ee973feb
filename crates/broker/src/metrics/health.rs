//! Whether the broker lives, and whether it serves.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use oxmq_store::RecoveryProgress;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::broker::Broker;

/// A worker that has not turned its loop for so long does not live.
const SILENCE_MAX: Duration = Duration::from_secs(3);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stage {
    #[default]
    Starting,
    Serving,
    Stopping,
}

/// What the endpoint knows of the broker, which comes into being after it.
#[derive(Default)]
pub(crate) struct Health {
    stage: Mutex<Stage>,
    broker: OnceLock<Weak<Broker>>,
    pub(crate) recovery: Arc<RecoveryProgress>,
}

impl Health {
    pub(crate) fn enter(&self, stage: Stage) {
        *self.stage.lock() = stage;
    }

    /// The store is open.
    pub(crate) fn opened(&self, broker: &Arc<Broker>) {
        self.broker.get_or_init(|| Arc::downgrade(broker));
    }

    pub(super) fn broker(&self) -> Option<Arc<Broker>> {
        self.broker.get()?.upgrade()
    }

    /// Why the broker does not serve, if it does not.
    pub(super) fn ready(&self) -> Result<(), String> {
        let stage = *self.stage.lock();
        match (stage, self.broker()) {
            (Stage::Stopping, _) => Err("stopping".into()),
            (Stage::Starting, Some(_)) => Err("starting: the store is open".into()),
            (_, None) => Err(self.starting()),
            (Stage::Serving, Some(broker)) if broker.mailboxes().has_failed() => Err(match broker.store.writeable() {
                Err(error) => format!("the store takes no more messages: {error}"),
                Ok(()) => "the store takes no more messages".into(),
            }),
            (Stage::Serving, Some(_)) => Ok(()),
        }
    }

    fn starting(&self) -> String {
        match self.recovery.offsets() {
            [from, reached, end] if end > from => {
                let reached = reached.max(from);
                let percent = (reached - from) * 100 / (end - from).max(1);
                format!("recovering: the commit log is read from {from} to {reached} of {end} at most, {percent} %")
            }
            _ => "starting: the store is being opened".into(),
        }
    }

    /// Whether all workers turn their loops. Without workers the answer itself is the proof.
    pub(super) async fn live(&self) -> Result<(), String> {
        let serving = *self.stage.lock() == Stage::Serving;
        let Some(broker) = self.broker().filter(|_| serving) else {
            return Ok(());
        };
        let ping = broker.mailboxes().ping();
        let until = Instant::now() + SILENCE_MAX;
        while let Some(worker) = broker.mailboxes().silent(ping) {
            if *self.stage.lock() != Stage::Serving {
                break;
            }
            if Instant::now() >= until {
                return Err(format!(
                    "worker {worker} has not turned its loop for {} s",
                    SILENCE_MAX.as_secs()
                ));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }
}
