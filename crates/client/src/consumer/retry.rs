//! What becomes of a message that a listener could not consume (spec: behaviour.md §6.6, §6.7; protocol.md §8.6).

use oxmq_protocol::message::{Message, MessageExt};
use oxmq_protocol::{property, topic};

use crate::namespace::Namespace;

/// Attempts of a concurrent group that sets no limit.
const MAX_RECONSUME_TIMES: i32 = 16;
/// The delay of the first retry that a client sends itself; each further one is a level higher.
const FIRST_DELAY_LEVEL: i32 = 3;

/// The limit that a group sends along: -1 means the usual one.
pub(crate) fn max_reconsume_times_concurrent(setting: i32) -> i32 {
    if setting < 0 { MAX_RECONSUME_TIMES } else { setting }
}

/// For orderly groups -1 means no limit.
pub(crate) fn max_reconsume_times_orderly(setting: i32) -> i32 {
    if setting < 0 { i32::MAX } else { setting }
}

/// A message as the group's retry topic takes it, for when the broker that has it cannot be asked to do it. `group` is
/// the name that the servers know.
pub(crate) fn retry_message(group: &str, namespace: &Namespace, failed: &MessageExt) -> Message {
    let mut message = failed.message.clone();
    let origin = match message.property(property::ORIGIN_MESSAGE_ID) {
        Some(id) => id.to_owned(),
        None => failed.msg_id(),
    };
    let properties = &mut message.properties;
    properties.set(property::ORIGIN_MESSAGE_ID, origin);
    properties.set(property::RETRY_TOPIC, namespace.wrap(&message.topic));
    let level = FIRST_DELAY_LEVEL.saturating_add(failed.reconsume_times);
    properties.set(property::DELAY_TIME_LEVEL, level.to_string());
    // Of the delivery that failed, not of the message.
    for name in [
        property::TRANSACTION_PREPARED,
        property::MIN_OFFSET,
        property::MAX_OFFSET,
    ] {
        properties.remove(name);
    }
    message.topic = topic::retry_topic(group);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::testing::message_at;

    #[test]
    fn a_retry_message_tells_where_it_came_from() {
        let mut failed = (*message_at(7)).clone();
        failed.reconsume_times = 2;
        failed.message.properties.set(property::UNIQUE_CLIENT_MESSAGE_ID, "ID");
        failed.message.properties.set(property::MAX_OFFSET, "9");
        let message = retry_message("g", &Namespace::default(), &failed);
        assert_eq!(message.topic, "%RETRY%g");
        assert_eq!(message.property(property::RETRY_TOPIC), Some("t"));
        assert_eq!(message.property(property::ORIGIN_MESSAGE_ID), Some("ID"));
        assert_eq!(message.delay_level(), 5);
        assert_eq!(message.property(property::MAX_OFFSET), None);
    }

    #[test]
    fn the_first_origin_is_kept() {
        let mut failed = (*message_at(7)).clone();
        failed.message.properties.set(property::ORIGIN_MESSAGE_ID, "FIRST");
        let retry = retry_message("g", &Namespace::default(), &failed);
        assert_eq!(retry.property(property::ORIGIN_MESSAGE_ID), Some("FIRST"));
    }

    #[test]
    fn both_topics_are_of_the_namespace() {
        let shop = Namespace::new(Some("shop"));
        let retry = retry_message("shop%g", &shop, &message_at(7));
        assert_eq!(retry.topic, "%RETRY%shop%g");
        assert_eq!(retry.property(property::RETRY_TOPIC), Some("shop%t"));
    }

    #[test]
    fn no_limit_means_sixteen_or_none() {
        assert_eq!(max_reconsume_times_concurrent(-1), 16);
        assert_eq!(max_reconsume_times_concurrent(0), 0);
        assert_eq!(max_reconsume_times_orderly(-1), i32::MAX);
        assert_eq!(max_reconsume_times_orderly(3), 3);
    }
}
