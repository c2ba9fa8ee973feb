//! Subscriptions that pulls and pops have brought along: of consumers that send no heartbeat, or one without the topic
//! (spec: behaviour.md §5.2).
//!
//! They stand beside those of heartbeats where an operator looks for who consumes what; no message is chosen by them.
//! The last request counts, for `subscriptionExpiredTimeout`. Requests get here only for groups and topics that exist,
//! which bounds the table.

use std::sync::Arc;

use hashbrown::HashMap;
use oxmq_protocol::body::{EXPRESSION_TYPE_TAG, SubscriptionData};
use parking_lot::RwLock;

use crate::broker::Broker;
use crate::clients::ConsumerGroup;

/// A request that says what the last one said is not noted again within this time, so that pulls do not wait for each
/// other.
const REFRESH_MS: i64 = 1_000;
const EXPRESSION_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct RequestSubscriptions {
    /// By group and topic.
    groups: RwLock<HashMap<String, HashMap<String, Arc<SubscriptionData>>>>,
}

impl RequestSubscriptions {
    /// A request of the group has brought this expression. One that is none, or a giant, is not noted.
    fn note(&self, group: &str, topic: &str, expression_type: &str, expression: &str, now: i64) {
        let is_noted = |known: &Arc<SubscriptionData>| {
            known.sub_string == expression
                && known.expression_type == expression_type
                && now.saturating_sub(known.sub_version) < REFRESH_MS
        };
        if self.with(group, topic, is_noted) == Some(true) || expression.len() > EXPRESSION_BYTES_MAX {
            return;
        }
        if let Some(subscription) = subscription(topic, expression_type, expression, now) {
            let mut groups = self.groups.write();
            let topics = groups.entry_ref(group).or_default();
            topics.insert(topic.to_owned(), Arc::new(subscription));
        }
    }

    pub(crate) fn get(&self, group: &str, topic: &str) -> Option<Arc<SubscriptionData>> {
        self.with(group, topic, Arc::clone)
    }

    /// Forgets what no request has brought for `timeout_ms`.
    pub(crate) fn expire(&self, now: i64, timeout_ms: i64) {
        self.groups.write().retain(|_, topics| {
            topics.retain(|_, subscription| now.saturating_sub(subscription.sub_version) <= timeout_ms);
            !topics.is_empty()
        });
    }

    fn with<T>(&self, group: &str, topic: &str, read: impl FnOnce(&Arc<SubscriptionData>) -> T) -> Option<T> {
        self.groups.read().get(group)?.get(topic).map(read)
    }
}

/// Its version is the time of the request.
fn subscription(topic: &str, expression_type: &str, expression: &str, now: i64) -> Option<SubscriptionData> {
    if expression_type == EXPRESSION_TYPE_TAG {
        return SubscriptionData::parse(topic, expression, now).ok();
    }
    (!expression.is_empty()).then(|| SubscriptionData {
        topic: topic.to_owned(),
        expression_type: expression_type.to_owned(),
        sub_string: expression.to_owned(),
        sub_version: now,
        ..SubscriptionData::default()
    })
}

impl Broker {
    /// A request has brought this subscription. Also one that does not compile counts, as in the original.
    pub(crate) fn note_subscription(&self, group: &str, topic: &str, expression_type: &str, expression: &str) {
        let subscriptions = &self.request_subscriptions;
        subscriptions.note(group, topic, expression_type, expression, self.now_ms());
    }

    /// What the group's heartbeats say about the topic, or else its requests.
    pub(crate) fn subscription(&self, group: &str, topic: &str) -> Option<Arc<SubscriptionData>> {
        let of_heartbeats = self.consumers.subscription(group, topic);
        of_heartbeats.or_else(|| self.request_subscriptions.get(group, topic))
    }

    /// Whether the group counts as a consumer of a topic on which it has an offset: not when its live members subscribe
    /// to others only.
    pub(crate) fn is_consumed(&self, group: &str, topic: &str) -> bool {
        let has_others = |group: &ConsumerGroup<_>| !group.subscriptions.is_empty();
        self.subscription(group, topic).is_some() || self.consumers.with_group(group, has_others) != Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(subscriptions: &RequestSubscriptions) -> Option<(String, i64)> {
        let known = subscriptions.get("g", "t")?;
        Some((known.sub_string.clone(), known.sub_version))
    }

    #[test]
    fn the_last_request_counts_until_it_is_old() {
        let subscriptions = RequestSubscriptions::default();
        let note = |expression: &str, now| subscriptions.note("g", "t", EXPRESSION_TYPE_TAG, expression, now);
        note("eu", 1_000);
        note("us", 1_001);
        assert_eq!(noted(&subscriptions), Some(("us".to_owned(), 1_001)));
        note("us", 1_500);
        assert_eq!(noted(&subscriptions), Some(("us".to_owned(), 1_001)));
        note("us", 9_000);
        subscriptions.expire(609_000, 600_000);
        assert_eq!(noted(&subscriptions), Some(("us".to_owned(), 9_000)));
        assert!(subscriptions.get("g", "u").is_none() && subscriptions.get("h", "t").is_none());
        subscriptions.expire(609_001, 600_000);
        assert_eq!(noted(&subscriptions), None);
        note("||", 700_000);
        assert_eq!(noted(&subscriptions), None);
        note("", 700_000);
        assert_eq!(noted(&subscriptions), Some(("*".to_owned(), 700_000)));
    }
}
