//! NOTIFICATION (200054): is there a message, or will there be one? And how many requests wait: POLLING_INFO (200055)
//! (spec: behaviour.md §10.3).

use std::net::SocketAddr;
use std::sync::Arc;

use oxmq_protocol::body::TopicConfig;
use oxmq_protocol::perm;
use oxmq_protocol::requests::NotificationHeader;
use oxmq_store::ConsumeQueue;

use super::request::{readable_topic, usable_group};
use super::{PopError, retry_topics};
use crate::broker::Broker;

/// A question that passed all checks.
pub(crate) struct Notification {
    pub(crate) group: String,
    pub(crate) topic: Arc<TopicConfig>,
    /// -1 for all.
    pub(crate) queue_id: i32,
    pub(crate) poll_time: i64,
    born_time: i64,
    order: bool,
    attempt_id: Option<String>,
}

impl Notification {
    pub(crate) fn check(
        broker: &Broker,
        header: NotificationHeader,
        consumer: SocketAddr,
        now: i64,
    ) -> Result<Notification, PopError> {
        let config = broker.config();
        if !perm::is_readable(config.broker_permission) {
            return Err(PopError::BrokerNotPeekable(config.broker_ip1.clone()));
        }
        let topic = readable_topic(broker, &header.topic, header.queue_id, consumer)?;
        usable_group(broker, &header.consumer_group)?;
        Ok(Notification {
            group: header.consumer_group,
            topic,
            queue_id: header.queue_id.max(-1),
            poll_time: header.poll_time,
            born_time: if header.born_time == 0 { now } else { header.born_time },
            order: header.order.unwrap_or(false),
            attempt_id: header.attempt_id,
        })
    }

    pub(crate) fn poll_end(&self) -> i64 {
        self.born_time.saturating_add(self.poll_time)
    }

    /// The queues that were asked about.
    pub(crate) fn queues(&self, broker: &Broker) -> Vec<Arc<ConsumeQueue>> {
        let queue_ids = match self.queue_id {
            queue_id @ 0.. => queue_id..queue_id + 1,
            _ => 0..self.topic.read_queue_nums,
        };
        let queue = |queue_id| broker.store.queue_or_create(&self.topic.topic_name, queue_id);
        queue_ids.map(queue).collect()
    }

    /// Whether a pop would get a message now.
    pub(crate) fn has_message(&self, broker: &Broker) -> bool {
        let now = broker.now_ms();
        let own = |queue: &Arc<ConsumeQueue>| self.blocked(broker, queue, now).is_none() && self.is_left(broker, queue);
        if self.queues(broker).iter().any(own) {
            return true;
        }
        retry_topics(broker, &self.topic.topic_name, &self.group)
            .iter()
            .any(|retry| {
                (0..retry.read_queue_nums)
                    .filter_map(|queue_id| broker.store.queue(&retry.topic_name, queue_id))
                    .any(|queue| self.is_left(broker, &queue))
            })
    }

    /// When the first blocked queue is free.
    pub(crate) fn blocked_until(&self, broker: &Broker) -> Option<i64> {
        let now = broker.now_ms();
        let queues = self.queues(broker);
        queues.iter().filter_map(|queue| self.blocked(broker, queue, now)).min()
    }

    fn blocked(&self, broker: &Broker, queue: &ConsumeQueue, now: i64) -> Option<i64> {
        if !self.order {
            return None;
        }
        let known = broker.pops.known_queue(queue.topic(), &self.group, queue.queue_id())?;
        let mut known = known.lock();
        known.order.as_mut()?.blocked_until(self.attempt_id.as_deref(), 0, now)
    }

    fn is_left(&self, broker: &Broker, queue: &ConsumeQueue) -> bool {
        queue.max_offset() > next_offset(broker, queue, &self.group)
    }
}

/// Where the group goes on in the queue; its start for a group without an offset.
pub(crate) fn next_offset(broker: &Broker, queue: &ConsumeQueue, group: &str) -> i64 {
    let committed = broker.consumer_offsets.query(group, queue.topic(), queue.queue_id());
    let known = broker.pops.known_queue(queue.topic(), group, queue.queue_id());
    let next = match known {
        Some(known) => known.lock().next_offset(committed),
        None => committed,
    };
    next.unwrap_or_else(|| queue.min_offset())
}
