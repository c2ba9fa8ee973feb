//! CLEAN_EXPIRED_CONSUMEQUEUE (306) and CLEAN_UNUSED_TOPIC (316) (spec: protocol.md §3.5).

use oxmq_protocol::RemotingCommand;

use super::{Handled, success};
use crate::broker::Broker;

/// Drops the queues of topics of which no record exists any more: their numbering would go on from nothing.
pub(super) fn expired_consume_queues(broker: &Broker, _: &RemotingCommand) -> Handled {
    for topic in broker.store.topics() {
        let queues = broker.store.queues_of(&topic);
        let is_expired = queues
            .iter()
            .all(|queue| queue.max_offset() > 0 && queue.min_offset() == queue.max_offset());
        if is_expired && !queues.is_empty() && !broker.topics.is_system_topic(&topic) {
            tracing::info!(%topic, "consume queues of expired records are deleted");
            broker.store.delete_topic(&topic);
        }
    }
    Ok(success())
}

/// Drops the queues of topics that are not configured here.
pub(super) fn unused_topics(broker: &Broker, _: &RemotingCommand) -> Handled {
    for topic in broker.store.topics() {
        if !broker.topics.contains(&topic) && !broker.topics.is_system_topic(&topic) {
            tracing::info!(%topic, "consume queues of an unknown topic are deleted");
            broker.store.delete_topic(&topic);
        }
    }
    Ok(success())
}
