//! Light queues (LMQ): one record enters several queues (spec: storage.md §5.2).
//!
//! A message names further queues in its property `INNER_MULTI_DISPATCH`. Those called `%LMQ%…` have neither a topic
//! configuration nor a group configuration: they exist once something was stored in them or somebody waits for them, and
//! have one queue, number 0, for reading and writing. Their number is bounded by `maxLmqConsumeQueueNum`, because each
//! costs memory. Everything here is without effect unless `enableLmq` and `enableMultiDispatch` are both set.

use std::sync::Arc;

use oxmq_protocol::body::TopicConfig;
use oxmq_protocol::{perm, topic};
use oxmq_store::{ConsumeQueue, Extra};
use thiserror::Error;

use crate::broker::Broker;

/// There are as many light queues as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("[LMQ_CONSUME_QUEUE_NUM_EXCEEDED]lmq consume queue num exceeded.")]
pub struct TooManyLightQueues;

/// The configuration that every light queue has as a topic.
pub(crate) fn topic_config(name: &str) -> TopicConfig {
    TopicConfig::new(name, 1, perm::READ | perm::WRITE)
}

impl Broker {
    /// The light queue of this name, made if there may be another.
    pub(crate) fn light_queue(&self, name: &str) -> Result<Arc<ConsumeQueue>, TooManyLightQueues> {
        if let Some(queue) = self.store.queue(name, 0) {
            return Ok(queue);
        }
        if self.store.light_queues() >= self.config().max_lmq_consume_queue_num {
            return Err(TooManyLightQueues);
        }
        Ok(self.store.queue_or_create(name, 0))
    }

    /// Where a message of `topic` goes besides its own queue, by the value of its `INNER_MULTI_DISPATCH`.
    pub(crate) fn multi_dispatch(&self, topic: &str, names: &[u8]) -> Result<Option<Extra>, TooManyLightQueues> {
        // Empty names at the end are none, as Java splits.
        let is_comma = |byte: &u8| *byte == b',';
        let names = &names[..names
            .iter()
            .rposition(|byte| !is_comma(byte))
            .map_or(0, |last| last + 1)];
        if !self.store.config().multi_dispatch || !topic::may_multi_dispatch(topic) || names.trim_ascii().is_empty() {
            return Ok(None);
        }
        let light_queues = names.split(is_comma).map(|name| {
            let name = std::str::from_utf8(name)
                .ok()
                .filter(|name| topic::is_light_queue(name));
            name.map(|name| self.light_queue(name)).transpose()
        });
        Ok(Some(Extra {
            light_queues: light_queues.collect::<Result<_, _>>()?,
            ..Extra::default()
        }))
    }
}
