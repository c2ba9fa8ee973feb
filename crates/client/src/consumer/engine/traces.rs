//! What a consumer tells of its listener's calls, when its client traces messages.

use tokio::time::Instant;

use super::Engine;
use crate::consumer::listener::Messages;
use crate::trace::{Consumed, Consuming};

impl Engine {
    pub(super) fn trace_before(&self, messages: &Messages) -> Option<Consuming> {
        let tracer = self.calls.instance.tracer()?;
        tracer.before_consuming(&self.calls.group, messages.iter().map(|message| &**message))
    }

    /// `succeeded` is nothing when the listener has panicked.
    pub(super) fn trace_after(&self, consuming: Option<Consuming>, succeeded: Option<bool>, started: Instant) {
        let (Some(tracer), Some(consuming)) = (self.calls.instance.tracer(), consuming) else {
            return;
        };
        let outcome = match succeeded {
            None => Consumed::Exception,
            Some(_) if started.elapsed() >= self.config.consume_timeout => Consumed::TimeOut,
            Some(false) => Consumed::Failed,
            Some(true) => Consumed::Success,
        };
        tracer.after_consuming(consuming, outcome);
    }
}
