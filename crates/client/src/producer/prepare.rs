//! From a message to the request that carries it: checks, id, compression, header (spec: behaviour.md §6.2).

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::batch;
use oxmq_protocol::body::MessageQueue;
use oxmq_protocol::compression::CompressionType;
use oxmq_protocol::message::Message;
use oxmq_protocol::message_id::UniqueIds;
use oxmq_protocol::properties::{NAME_VALUE_SEPARATOR, PROPERTIES_BYTES_MAX, PROPERTY_SEPARATOR, Properties};
use oxmq_protocol::requests::{SendMessageHeaderV2, request};
use oxmq_protocol::topic::{self, AUTO_CREATE_TOPIC};
use oxmq_protocol::{RemotingCommand, properties, property, sys_flag};

use super::{MessageError, SendResult, SendStatus};
use crate::clock::{now_millis, utc_offset_millis};
use crate::namespace::Namespace;
use crate::trace::{Event, MessageKind, Record, region_of};

/// Queues of a topic that the send creates.
const DEFAULT_TOPIC_QUEUE_NUMS: i32 = 4;

/// What the broker may add to the properties of a message.
const BROKER_PROPERTIES_BYTES: usize = 256;

/// The settings that shape a message.
#[derive(Debug, Clone)]
pub(crate) struct MessageSettings {
    pub(crate) producer_group: String,
    /// Topics of messages are of this one, as long as they are the application's.
    pub(crate) namespace: Namespace,
    pub(crate) message_bytes_max: usize,
    /// Bodies from here on are compressed.
    pub(crate) compress_body_over: usize,
    pub(crate) compression: CompressionType,
    pub(crate) compression_level: u32,
}

/// A message ready to go, as often as it takes.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) msg_id: String,
    header: SendMessageHeaderV2,
    body: Bytes,
    /// Goes to whoever waits for it, by a code of its own.
    is_reply: bool,
}

impl Prepared {
    pub(crate) fn message(
        mut message: Message,
        settings: &MessageSettings,
        now_ms: i64,
    ) -> Result<Prepared, MessageError> {
        let is_reply = is_reply(&message);
        let msg_id = accept(&mut message, settings, now_ms)?;
        let mut header = header(&message.topic, settings, now_ms);
        header.flag = message.flag;
        if message.property(property::TRANSACTION_PREPARED) == Some("true") {
            header.sys_flag |= sys_flag::TRANSACTION_PREPARED;
        }
        header.properties = Some(message.properties.encoded_text());
        let mut body = message.body;
        if body.len() >= settings.compress_body_over {
            body = settings.compression.compress(&body, settings.compression_level).into();
            header.sys_flag |= settings.compression.sys_flag();
        }
        Ok(Prepared {
            msg_id,
            header,
            body,
            is_reply,
        })
    }

    pub(crate) fn batch(
        mut messages: Vec<Message>,
        settings: &MessageSettings,
        now_ms: i64,
    ) -> Result<Prepared, MessageError> {
        for message in &mut messages {
            message.topic = settings.namespace.wrap(&message.topic);
            // It is the batch's, which gives it to each message that the broker stores.
            message.properties.remove(property::INSTANCE_ID);
        }
        check_batch(&messages, settings)?;
        let ids: Vec<_> = messages.iter_mut().map(|message| give_id(message, now_ms)).collect();
        let body = batch::encode(&messages);
        if body.len() > settings.message_bytes_max {
            return Err(MessageError::BodyTooLong {
                bytes: body.len(),
                max: settings.message_bytes_max,
            });
        }
        let wait = messages[0].wait_store_msg_ok().to_string();
        let mut properties: Properties = [(property::WAIT_STORE_MSG_OK, wait)].into_iter().collect();
        if let Some(namespace) = settings.namespace.name() {
            properties.set(property::INSTANCE_ID, namespace);
        }
        let mut header = header(&messages[0].topic, settings, now_ms);
        header.properties = Some(properties.encoded_text());
        header.batch = true;
        Ok(Prepared {
            msg_id: ids.join(","),
            header,
            body,
            is_reply: false,
        })
    }

    pub(crate) fn topic(&self) -> &str {
        &self.header.topic
    }

    /// What a trace says of a send that was answered.
    pub(crate) fn trace(&self, sent: &SendResult, group: &str, store_host: String, cost: Duration) -> Record {
        let text = self.header.properties.as_deref().unwrap_or_default().as_bytes();
        let property = |name| properties::find(text, name).map(|value| String::from_utf8_lossy(value).into_owned());
        let has = |name| properties::find(text, name).is_some();
        let delays = [
            property::DELAY_TIME_LEVEL,
            property::START_DELIVER_TIME,
            property::TIMER_DELAY_SEC,
            property::TIMER_DELAY_MS,
            property::TIMER_DELIVER_MS,
        ];
        let kind = match () {
            () if delays.into_iter().any(has) => MessageKind::Delay,
            () if has(property::TRANSACTION_PREPARED) => MessageKind::TransactionHalf,
            () => MessageKind::Normal,
        };
        let cost_ms = cost.as_millis() as u64;
        Record {
            timestamp: now_millis() - cost_ms as i64,
            region: region_of(sent.region_id.as_deref()),
            group: group.to_owned(),
            topic: self.header.topic.clone(),
            msg_id: sent.msg_id.clone(),
            event: Event::Pub {
                tags: property(property::TAGS),
                keys: property(property::KEYS),
                store_host,
                body_bytes: self.body.len(),
                cost_ms,
                kind,
                offset_msg_id: sent.offset_msg_id.clone(),
                success: sent.status == SendStatus::SendOk,
            },
        }
    }

    pub(crate) fn request(&self, queue: &MessageQueue) -> RemotingCommand {
        let header = SendMessageHeaderV2 {
            queue_id: queue.queue_id,
            broker_name: Some(queue.broker_name.clone()),
            ..self.header.clone()
        };
        let body = self.body.clone();
        match (header.batch, self.is_reply) {
            (true, _) => RemotingCommand::request::<request::SendBatchMessage>(&header, body),
            (false, false) => RemotingCommand::request::<request::SendMessageV2>(&header, body),
            (false, true) => RemotingCommand::request::<request::SendReplyMessageV2>(&header, body),
        }
    }
}

fn header(topic: &str, settings: &MessageSettings, now_ms: i64) -> SendMessageHeaderV2 {
    SendMessageHeaderV2 {
        producer_group: settings.producer_group.clone(),
        topic: topic.to_owned(),
        default_topic: AUTO_CREATE_TOPIC.to_owned(),
        default_topic_queue_nums: DEFAULT_TOPIC_QUEUE_NUMS,
        born_timestamp: now_ms,
        reconsume_times: Some(0),
        ..SendMessageHeaderV2::default()
    }
}

/// Checks a message, gives it an id and the topic of its namespace; returns the id. Twice is as good as once.
pub(super) fn accept(message: &mut Message, settings: &MessageSettings, now_ms: i64) -> Result<String, MessageError> {
    if let Some(namespace) = settings.namespace.name().filter(|_| !is_reply(message)) {
        message.topic = settings.namespace.wrap(&message.topic);
        message.properties.set(property::INSTANCE_ID, namespace);
    }
    check(message, settings)?;
    Ok(give_id(message, now_ms))
}

fn is_reply(message: &Message) -> bool {
    message.property(property::MESSAGE_TYPE) == Some(property::REPLY_MESSAGE_TYPE)
}

fn check(message: &Message, settings: &MessageSettings) -> Result<(), MessageError> {
    topic::validate_topic(&message.topic)?;
    if topic::is_closed_to_clients(&message.topic) {
        return Err(MessageError::ClosedTopic(message.topic.clone()));
    }
    if message.body.is_empty() {
        return Err(MessageError::EmptyBody);
    }
    if message.body.len() > settings.message_bytes_max {
        return Err(MessageError::BodyTooLong {
            bytes: message.body.len(),
            max: settings.message_bytes_max,
        });
    }
    for (name, value) in message.properties.iter() {
        let is_bad = |text: &str| {
            let separators = [NAME_VALUE_SEPARATOR, PROPERTY_SEPARATOR];
            text.is_empty() || text.bytes().any(|byte| separators.contains(&byte))
        };
        if is_bad(name) || is_bad(value) {
            return Err(MessageError::Property(name.to_owned()));
        }
    }
    let properties_bytes = message.properties.encoded_bytes() + BROKER_PROPERTIES_BYTES;
    match properties_bytes > PROPERTIES_BYTES_MAX {
        true => Err(MessageError::PropertiesTooLong(properties_bytes)),
        false => Ok(()),
    }
}

fn check_batch(messages: &[Message], settings: &MessageSettings) -> Result<(), MessageError> {
    let first = messages.first().ok_or(MessageError::EmptyBatch)?;
    for message in messages {
        check(message, settings)?;
        if message.topic != first.topic {
            return Err(MessageError::BatchTopics(first.topic.clone(), message.topic.clone()));
        }
        if message.delay_level() > 0 || topic::is_retry(&message.topic) {
            return Err(MessageError::BatchKind);
        }
        if message.wait_store_msg_ok() != first.wait_store_msg_ok() {
            return Err(MessageError::BatchWait);
        }
    }
    Ok(())
}

/// The id of a message; one that has none gets one.
pub(super) fn give_id(message: &mut Message, now_ms: i64) -> String {
    if let Some(id) = message.unique_id() {
        return id.to_owned();
    }
    let id = unique_ids().next(now_ms);
    message.properties.set(property::UNIQUE_CLIENT_MESSAGE_ID, id.as_str());
    id
}

/// An id that no message has.
pub(crate) fn next_unique_id(now_ms: i64) -> String {
    unique_ids().next(now_ms)
}

/// Ids are unique within the process, so all of its producers draw from here. As with Java's clients they begin with the
/// address of this host; a host that has none but its own loopback gets one by lot. Processes of one address and number, as
/// containers may have, are told apart by a random number.
fn unique_ids() -> &'static UniqueIds {
    static IDS: OnceLock<UniqueIds> = OnceLock::new();
    IDS.get_or_init(|| {
        let random = RandomState::new().hash_one(std::process::id());
        let ip = host_ip().unwrap_or_else(|| Ipv4Addr::from_bits((random >> 32) as u32).into());
        UniqueIds::new(ip, std::process::id(), random as u32, utc_offset_millis())
    })
}

/// The address from which packets to the rest of the world go. Nothing is sent to find out.
fn host_ip() -> Option<IpAddr> {
    let anywhere: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ),
    ];
    anywhere.into_iter().find_map(|(any, target)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((target, 9)).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxmq_protocol::FieldSet;

    fn settings() -> MessageSettings {
        MessageSettings {
            producer_group: "g".into(),
            namespace: Namespace::default(),
            message_bytes_max: 10_000,
            compress_body_over: 4096,
            compression: CompressionType::Zlib,
            compression_level: 5,
        }
    }

    fn sent(prepared: &Prepared) -> (SendMessageHeaderV2, Bytes) {
        let request = prepared.request(&MessageQueue::new("t", "b0", 3));
        let header = SendMessageHeaderV2::read(&request.header.ext_fields).unwrap();
        assert_eq!(request.header.code, if header.batch { 320 } else { 310 });
        (header, request.body)
    }

    #[test]
    fn every_message_gets_an_id_and_keeps_the_one_it_has() {
        let first = Prepared::message(Message::new("t", "body"), &settings(), 5).unwrap();
        let second = Prepared::message(Message::new("t", "body"), &settings(), 5).unwrap();
        assert_ne!(first.msg_id, second.msg_id);
        let (header, body) = sent(&first);
        let properties = Properties::decode(header.properties.unwrap().as_bytes());
        assert_eq!(properties.get("UNIQ_KEY"), Some(first.msg_id.as_str()));
        assert_eq!(
            (header.queue_id, header.broker_name.as_deref(), &body[..]),
            (3, Some("b0"), &b"body"[..])
        );
        let given = Message::new("t", "body").with_property("UNIQ_KEY", "mine");
        assert_eq!(Prepared::message(given, &settings(), 5).unwrap().msg_id, "mine");
    }

    #[test]
    fn ids_tell_the_address_of_this_host() {
        let Some(IpAddr::V4(ip)) = host_ip() else {
            return;
        };
        let digits: String = ip.octets().iter().map(|octet| format!("{octet:02X}")).collect();
        let id = next_unique_id(now_millis());
        assert!(id.starts_with(&digits) && id.len() == 32, "{id} of {ip}");
    }

    #[test]
    fn long_bodies_are_compressed() {
        let long = Message::new("t", vec![b'x'; 4096]);
        let (header, body) = sent(&Prepared::message(long, &settings(), 5).unwrap());
        assert_eq!(header.sys_flag, 0x301);
        assert_eq!(CompressionType::Zlib.decompress(&body, 4096).unwrap(), vec![b'x'; 4096]);
        let short = Message::new("t", vec![b'x'; 4095]);
        let (header, body) = sent(&Prepared::message(short, &settings(), 5).unwrap());
        assert_eq!((header.sys_flag, body.len()), (0, 4095));
    }

    #[test]
    fn messages_that_no_broker_takes_are_refused_here() {
        let refused = |message: Message| Prepared::message(message, &settings(), 5).unwrap_err();
        assert_eq!(refused(Message::new("t", "")), MessageError::EmptyBody);
        assert_eq!(
            refused(Message::new("t", vec![0; 10_001])),
            MessageError::BodyTooLong {
                bytes: 10_001,
                max: 10_000
            }
        );
        assert!(matches!(refused(Message::new("a/b", "x")), MessageError::Topic(_)));
        assert!(matches!(
            refused(Message::new("SCHEDULE_TOPIC_XXXX", "x")),
            MessageError::ClosedTopic(_)
        ));
        let bad = Message::new("t", "x").with_property("p", "a\u{2}b");
        assert_eq!(refused(bad), MessageError::Property("p".into()));
        let long = Message::new("t", "x").with_property("p", "v".repeat(33_000));
        assert!(matches!(refused(long), MessageError::PropertiesTooLong(_)));
    }

    #[test]
    fn a_batch_carries_its_messages_in_one_body() {
        let messages = vec![Message::new("t", "a").with_tags("x"), Message::new("t", "b")];
        let prepared = Prepared::batch(messages, &settings(), 5).unwrap();
        let (header, body) = sent(&prepared);
        assert!(header.batch && header.sys_flag == 0);
        assert_eq!(prepared.msg_id.split(',').count(), 2);
        let bodies: Vec<_> = batch::items(&body).map(|item| item.unwrap().body).collect();
        assert_eq!(bodies, [b"a", b"b"]);
    }

    #[test]
    fn messages_go_to_the_topic_of_the_namespace() {
        let settings = MessageSettings {
            namespace: Namespace::new(Some("shop")),
            ..settings()
        };
        let instance = |header: &SendMessageHeaderV2| {
            let properties = Properties::decode(header.properties.as_deref().unwrap().as_bytes());
            properties.get("INSTANCE_ID").map(str::to_owned)
        };
        let single = Prepared::message(Message::new("t", "x"), &settings, 5).unwrap();
        assert_eq!(
            (single.topic(), instance(&single.header).as_deref()),
            ("shop%t", Some("shop"))
        );
        let batch = Prepared::batch(vec![Message::new("t", "x"), Message::new("shop%t", "y")], &settings, 5).unwrap();
        assert_eq!(
            (batch.topic(), instance(&batch.header).as_deref()),
            ("shop%t", Some("shop"))
        );
        let reply = Message::new("c_REPLY_TOPIC", "x").with_property("MSG_TYPE", "reply");
        assert_eq!(Prepared::message(reply, &settings, 5).unwrap().topic(), "c_REPLY_TOPIC");
    }

    #[test]
    fn batches_are_of_one_kind() {
        let refused = |messages: Vec<Message>| Prepared::batch(messages, &settings(), 5).unwrap_err();
        let plain = || Message::new("t", "x");
        assert_eq!(refused(vec![]), MessageError::EmptyBatch);
        assert_eq!(
            refused(vec![plain(), Message::new("u", "x")]),
            MessageError::BatchTopics("t".into(), "u".into())
        );
        assert_eq!(refused(vec![plain().with_delay_level(3)]), MessageError::BatchKind);
        assert_eq!(
            refused(vec![plain(), plain().with_property("WAIT", "false")]),
            MessageError::BatchWait
        );
    }
}
