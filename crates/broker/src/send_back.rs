//! Messages that a consumer could not consume: where they go, and as what (spec: behaviour.md §5.7).
//!
//! Pure decisions; `handlers/send_back.rs` carries them out.
//!
//! - A message that is sent back is stored in its next place before its consumer takes the old one for done. A crash in
//!   between makes it come twice, never not at all.
//! - Each attempt has one count more than the one before, and both point at the same first topic and first id.
//! - A message is a dead letter when it has failed more often than the limit says, or when its consumer asks for that;
//!   nothing is dropped.
//! - Left to the broker, no wait is shorter than the one before.

use bytes::BytesMut;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{properties, property, version};

/// Added to how often a message was consumed, for clients that leave the delay to the broker: 10 s first.
const FIRST_DELAY_LEVEL: i32 = 3;

/// Where a message goes that was not consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// `%RETRY%group`, after this delay.
    Retry { delay_level: i32 },
    /// `%DLQ%group`
    DeadLetters,
}

/// A negative level asks for the dead letters, 0 for a delay that grows with each attempt.
pub(crate) fn destination(reconsume_times: i32, delay_level: i32, max_reconsume_times: i32) -> Destination {
    if reconsume_times >= max_reconsume_times || delay_level < 0 {
        return Destination::DeadLetters;
    }
    let delay_level = match delay_level {
        0 => reconsume_times.saturating_add(FIRST_DELAY_LEVEL),
        level => level,
    };
    Destination::Retry { delay_level }
}

/// The group's limit, unless the client is recent enough to have its own.
pub(crate) fn max_reconsume_times(of_group: i32, of_client: Option<i32>, client_version: i32) -> i32 {
    match of_client {
        Some(times) if client_version >= version::V3_4_9 => times,
        _ => of_group,
    }
}

/// The topic that the message was sent to first.
pub(crate) fn first_topic<'a>(record: &RecordRef<'a>) -> &'a [u8] {
    properties::find(record.properties(), property::RETRY_TOPIC).unwrap_or_else(|| record.topic())
}

/// The properties of the message that goes back: those it has, the topic it was sent to first, and the id under which it
/// was stored first. Nobody waits for it to be flushed, as with the original.
pub(crate) fn properties_back(record: &RecordRef<'_>, offset_message_id: &str, destination: Destination) -> BytesMut {
    let text = record.properties();
    let mut out = BytesMut::with_capacity(text.len() + 128);
    for (name, value) in properties::iter(text) {
        let replaced = [property::WAIT_STORE_MSG_OK, property::DELAY_TIME_LEVEL];
        if !replaced.iter().any(|replaced| name == replaced.as_bytes()) {
            properties::write(&mut out, name, value);
        }
    }
    if properties::find(text, property::RETRY_TOPIC).is_none() {
        properties::write(&mut out, property::RETRY_TOPIC.as_bytes(), record.topic());
    }
    if properties::find(text, property::ORIGIN_MESSAGE_ID).is_none() {
        let name = property::ORIGIN_MESSAGE_ID.as_bytes();
        properties::write(&mut out, name, offset_message_id.as_bytes());
    }
    properties::write(&mut out, property::WAIT_STORE_MSG_OK.as_bytes(), b"false");
    if destination == Destination::DeadLetters {
        properties::write(&mut out, property::DELAY_TIME_LEVEL.as_bytes(), b"0");
    }
    out
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use oxmq_protocol::properties::Properties;
    use oxmq_protocol::record::RecordFields;

    use super::*;
    use crate::testing::stored;

    #[test]
    fn the_delay_grows_until_the_message_is_dead() {
        for (reconsumed, level, expected) in [(0, 0, 3), (1, 0, 4), (15, 0, 18), (2, 7, 7)] {
            let retry = Destination::Retry { delay_level: expected };
            assert_eq!(destination(reconsumed, level, 16), retry);
        }
        assert_eq!(destination(16, 0, 16), Destination::DeadLetters);
        assert_eq!(destination(0, -1, 16), Destination::DeadLetters);
        assert_eq!(destination(0, 0, 0), Destination::DeadLetters);
        assert_eq!(
            destination(i32::MAX - 1, 0, i32::MAX),
            Destination::Retry { delay_level: i32::MAX }
        );
    }

    #[test]
    fn only_recent_clients_have_a_limit_of_their_own() {
        assert_eq!(max_reconsume_times(16, Some(3), version::V5_5_0), 3);
        assert_eq!(max_reconsume_times(16, Some(3), version::V3_4_9 - 1), 16);
        assert_eq!(max_reconsume_times(16, None, version::V5_5_0), 16);
    }

    fn back(topic: &str, properties: &[(&str, &str)], destination: Destination) -> Properties {
        let bytes = stored(&RecordFields::new(topic.as_bytes(), b"x"), properties);
        let record = RecordRef::parse(&bytes).unwrap();
        Properties::decode(&properties_back(&record, "ID", destination))
    }

    #[test]
    fn the_first_topic_and_id_stay_with_the_message() {
        let first = back(
            "orders",
            &[("TAGS", "a"), ("WAIT", "true")],
            Destination::Retry { delay_level: 3 },
        );
        assert_eq!(first.get("RETRY_TOPIC"), Some("orders"));
        assert_eq!(first.get("ORIGIN_MESSAGE_ID"), Some("ID"));
        assert_eq!(
            (first.get("TAGS"), first.get("WAIT"), first.get("DELAY")),
            (Some("a"), Some("false"), None)
        );
        let stored = [
            ("RETRY_TOPIC", "orders"),
            ("ORIGIN_MESSAGE_ID", "FIRST"),
            ("DELAY", "3"),
        ];
        let last = back("%RETRY%g", &stored, Destination::DeadLetters);
        assert_eq!(last.get("RETRY_TOPIC"), Some("orders"));
        assert_eq!(
            (last.get("ORIGIN_MESSAGE_ID"), last.get("DELAY")),
            (Some("FIRST"), Some("0"))
        );
    }
}
