//! Messages as applications see them, and the decoding of pull replies.

use std::net::SocketAddr;
use std::ops::Deref;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::batch::{self, BatchError};
use crate::compression::{CompressionType, DecompressError};
use crate::message_id::OffsetMessageId;
use crate::properties::Properties;
use crate::property;
use crate::record::{self, RecordError, RecordFields, RecordRef};
use crate::sys_flag;

/// What one compressed body may grow to: more than any frame holds.
pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Between keys in the KEYS property.
pub const KEY_SEPARATOR: char = ' ';

/// What a producer sends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    pub topic: String,
    /// For the application; RocketMQ does not look at it.
    pub flag: i32,
    pub properties: Properties,
    pub body: Bytes,
}

impl Message {
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Message {
        Message {
            topic: topic.into(),
            flag: 0,
            properties: Properties::new(),
            body: body.into(),
        }
    }

    /// The tag that subscriptions can select by. One per message.
    #[must_use]
    pub fn with_tags(self, tags: impl Into<String>) -> Message {
        self.with_property(property::TAGS, tags)
    }

    /// Business keys to find the message by, with a space between them.
    #[must_use]
    pub fn with_keys(self, keys: impl Into<String>) -> Message {
        self.with_property(property::KEYS, keys)
    }

    /// Delivery after the delay of this level, 1 to 18 by default: 1s 5s 10s 30s 1m 2m … 2h.
    #[must_use]
    pub fn with_delay_level(self, level: u32) -> Message {
        self.with_property(property::DELAY_TIME_LEVEL, level.to_string())
    }

    /// Delivery so long after the broker has stored the message, to the millisecond.
    #[must_use]
    pub fn with_delay(self, delay: Duration) -> Message {
        self.with_property(property::TIMER_DELAY_MS, delay.as_millis().to_string())
    }

    /// Delivery at a time, in milliseconds since 1970; at once when it has passed.
    #[must_use]
    pub fn with_deliver_at(self, time_ms: i64) -> Message {
        self.with_property(property::TIMER_DELIVER_MS, time_ms.to_string())
    }

    #[must_use]
    pub fn with_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Message {
        self.properties.set(name, value);
        self
    }

    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name)
    }

    pub fn tags(&self) -> Option<&str> {
        self.property(property::TAGS)
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.property(property::KEYS)
            .unwrap_or_default()
            .split(KEY_SEPARATOR)
            .filter(|key| !key.is_empty())
    }

    pub fn delay_level(&self) -> u32 {
        self.property(property::DELAY_TIME_LEVEL)
            .and_then(|level| level.parse().ok())
            .unwrap_or(0)
    }

    /// Whether the send waits for flush and replication, as far as the broker is set to. So it is unless told otherwise.
    pub fn wait_store_msg_ok(&self) -> bool {
        self.property(property::WAIT_STORE_MSG_OK)
            .is_none_or(|wait| wait.eq_ignore_ascii_case("true"))
    }

    /// The id that the producing client gave.
    pub fn unique_id(&self) -> Option<&str> {
        self.property(property::UNIQUE_CLIENT_MESSAGE_ID)
    }
}

/// What a consumer receives: a message and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageExt {
    pub message: Message,
    /// The record does not say it; the client that pulled knows.
    pub broker_name: String,
    pub queue_id: i32,
    pub queue_offset: i64,
    pub physical_offset: i64,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub store_timestamp: i64,
    pub store_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    pub body_crc: u32,
    /// Bytes of the whole record.
    pub store_size: usize,
}

impl Deref for MessageExt {
    type Target = Message;
    fn deref(&self) -> &Message {
        &self.message
    }
}

/// A body that is no row of stored messages.
#[derive(Debug, Error)]
pub enum DecodeError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error(transparent)]
    InnerBatch(#[from] BatchError),
}

impl MessageExt {
    /// The id to show: the client's if it gave one, else the place of the message.
    pub fn msg_id(&self) -> String {
        self.unique_id().map_or_else(|| self.offset_msg_id(), str::to_owned)
    }

    pub fn offset_msg_id(&self) -> String {
        OffsetMessageId {
            store_host: self.store_host,
            physical_offset: self.physical_offset,
        }
        .to_string()
    }

    /// Reads the record at the start of `bytes`; its body is a slice of them unless it is decompressed.
    fn decode(bytes: &Bytes, decompress: bool) -> Result<MessageExt, DecodeError> {
        let record = RecordRef::parse(bytes)?;
        let mut body = bytes.slice(record.body_range());
        if decompress && let Some(kind) = CompressionType::from_sys_flag(record.sys_flag())? {
            body = kind.decompress(&body, BODY_BYTES_MAX)?.into();
        }
        Ok(MessageExt {
            message: Message {
                topic: String::from_utf8_lossy(record.topic()).into_owned(),
                flag: record.flag(),
                properties: Properties::decode(record.properties()),
                body,
            },
            broker_name: String::new(),
            queue_id: record.queue_id(),
            queue_offset: record.queue_offset(),
            physical_offset: record.physical_offset(),
            sys_flag: record.sys_flag(),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host(),
            store_timestamp: record.store_timestamp(),
            store_host: record.store_host(),
            reconsume_times: record.reconsume_times(),
            prepared_transaction_offset: record.prepared_transaction_offset(),
            body_crc: record.body_crc(),
            store_size: record.total_size(),
        })
    }

    /// The stored form, for requests that carry a message (309).
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), RecordError> {
        let fields = RecordFields {
            queue_id: self.queue_id,
            flag: self.flag,
            sys_flag: self.sys_flag,
            born_timestamp: self.born_timestamp,
            born_host: self.born_host,
            store_host: self.store_host,
            reconsume_times: self.reconsume_times,
            prepared_transaction_offset: self.prepared_transaction_offset,
            topic: self.topic.as_bytes(),
            body: &self.body,
        };
        let range = record::encode(out, &fields, |out| self.properties.encode(out))?;
        record::patch(
            &mut out[range],
            self.queue_offset,
            self.physical_offset,
            self.store_timestamp,
        );
        Ok(())
    }

    /// The messages inside an inner batch: place and times of the outer one, content of each item.
    fn unwrap_batch(self) -> Result<Vec<MessageExt>, DecodeError> {
        let body = self.message.body.clone();
        let mut messages = Vec::new();
        for (index, item) in batch::items(&body).enumerate() {
            let item = item?;
            let message = Message {
                topic: self.message.topic.clone(),
                flag: item.flag,
                properties: Properties::decode(item.properties),
                body: body.slice_ref(item.body),
            };
            messages.push(MessageExt {
                message,
                broker_name: self.broker_name.clone(),
                queue_offset: self.queue_offset + index as i64,
                reconsume_times: 0,
                ..self
            });
        }
        Ok(messages)
    }
}

/// The messages of a reply body, inner batches taken apart. With `decompress` bodies are as they were sent.
pub fn decode_messages(body: &Bytes, decompress: bool) -> Result<Vec<MessageExt>, DecodeError> {
    const INNER_BATCH: i32 = sys_flag::NEED_UNWRAP | sys_flag::INNER_BATCH;
    let mut messages = Vec::new();
    let mut rest = body.clone();
    while !rest.is_empty() {
        let message = MessageExt::decode(&rest, decompress)?;
        rest = rest.slice(message.store_size..);
        if message.sys_flag & INNER_BATCH == INNER_BATCH && message.property(property::INNER_NUM).is_some() {
            messages.extend(message.unwrap_batch()?);
        } else {
            messages.push(message);
        }
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(body: impl Into<Bytes>, sys_flag: i32) -> MessageExt {
        MessageExt {
            message: Message::new("orders", body).with_keys("a b").with_tags("eu"),
            broker_name: String::new(),
            queue_id: 3,
            queue_offset: 40,
            physical_offset: 4000,
            sys_flag,
            born_timestamp: 1,
            born_host: "10.0.0.9:1".parse().unwrap(),
            store_timestamp: 2,
            store_host: "10.0.0.1:10911".parse().unwrap(),
            reconsume_times: 5,
            prepared_transaction_offset: 6,
            body_crc: 0,
            store_size: 0,
        }
    }

    fn encoded(messages: &[MessageExt]) -> Bytes {
        let mut out = BytesMut::new();
        for message in messages {
            message.encode(&mut out).unwrap();
        }
        out.freeze()
    }

    #[test]
    fn messages_survive_a_reply_body() {
        let sent = [stored("one", 0), stored("", 0x8)];
        let body = encoded(&sent);
        let read = decode_messages(&body, true).unwrap();
        assert_eq!(read.len(), 2);
        for (read, sent) in read.iter().zip(&sent) {
            assert_eq!(read.message, sent.message);
            assert_eq!(
                (read.queue_offset, read.physical_offset, read.store_timestamp),
                (40, 4000, 2)
            );
        }
        assert_eq!(read[0].keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(read[0].msg_id(), "0A00000100002A9F0000000000000FA0");
        for cut in 1..body.len() {
            let cut = decode_messages(&body.slice(..cut), true);
            assert!(cut.is_err() || cut.is_ok_and(|messages| messages.len() == 1));
        }
    }

    #[test]
    fn compressed_bodies_are_restored_on_request() {
        let kind = CompressionType::Lz4;
        let packed = Bytes::from(kind.compress(b"body", 0));
        let body = encoded(&[stored(packed.clone(), kind.sys_flag())]);
        assert_eq!(decode_messages(&body, true).unwrap()[0].body, "body");
        assert_eq!(decode_messages(&body, false).unwrap()[0].body, packed);
    }

    #[test]
    fn inner_batches_are_taken_apart() {
        let items = [Message::new("", "a").with_tags("x"), Message::new("", "b")];
        let mut outer = stored(batch::encode(&items), sys_flag::NEED_UNWRAP | sys_flag::INNER_BATCH);
        outer.message.properties.set(property::INNER_NUM, "2");
        let read = decode_messages(&encoded(&[outer]), true).unwrap();
        let seen: Vec<_> = read
            .iter()
            .map(|m| (m.queue_offset, m.tags(), &m.body[..], m.reconsume_times))
            .collect();
        assert_eq!(seen, [(40, Some("x"), &b"a"[..], 0), (41, None, b"b", 0)]);
        assert!(read.iter().all(|message| message.topic == "orders"));
    }
}
