//! Tasks that pull by themselves, called turn by turn (spec: behaviour.md §6.9).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use super::{Delivery, Engine, OwnedQueue};
use crate::consumer::listener;
use crate::consumer::schedule::PullTaskContext;

const DELAY_AFTER_ERROR: Duration = Duration::from_secs(1);

impl Engine {
    /// Runs until the queue is given up or the consumer stops, but never ends in the middle of a task.
    pub(super) async fn call_tasks(self: Arc<Self>, owned: Arc<OwnedQueue>) {
        let Delivery::Scheduled { tasks } = &self.delivery else {
            return;
        };
        let Some(task) = tasks.get(&owned.queue.topic) else {
            return;
        };
        while !owned.is_dropped() && !self.is_stopped() {
            let Ok(permit) = self.permits.acquire().await else {
                return;
            };
            if owned.is_dropped() || self.is_stopped() {
                return;
            }
            let context = PullTaskContext::new(Arc::clone(&self), Arc::clone(&owned));
            let delay = match listener::catch(AssertUnwindSafe(|| task(context))).await {
                Some(Ok(delay)) => delay,
                Some(Err(error)) => {
                    debug!(queue = %owned.queue, %error, "pull task failed");
                    DELAY_AFTER_ERROR
                }
                None => {
                    warn!(queue = %owned.queue, "pull task panicked");
                    DELAY_AFTER_ERROR
                }
            };
            drop(permit);
            tokio::select! {
                () = owned.sleep(delay) => {}
                () = self.wait_stopped() => {}
            }
        }
    }
}
