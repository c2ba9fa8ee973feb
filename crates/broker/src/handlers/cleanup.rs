//! CLEAN_EXPIRED_CONSUMEQUEUE (306), CLEAN_UNUSED_TOPIC (316) and DELETE_EXPIRED_COMMITLOG (329) (spec: protocol.md §3.5).

use oxmq_protocol::RemotingCommand;

use super::{Handled, success};
use crate::broker::Broker;

/// Old commit log files go now and in the rounds to come, whatever the hour. The answer does not wait for it.
pub(super) fn expired_commit_log(broker: &Broker, _: &RemotingCommand) -> Handled {
    broker.store.request_deletion();
    Ok(success())
}

/// Queues of which no record exists any more lose their files, and their numbering begins anew.
pub(super) fn expired_consume_queues(broker: &Broker, _: &RemotingCommand) -> Handled {
    let keeps = |topic: &str| broker.topics.is_system_topic(topic);
    for (topic, queue_id) in broker.store.reset_expired_queues(&keeps) {
        tracing::info!(%topic, queue_id, "consume queue of expired records is removed");
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
