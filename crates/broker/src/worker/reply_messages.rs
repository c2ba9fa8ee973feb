//! SEND_REPLY_MESSAGE (324, 325): the reply to a request that somebody sent as a message. It is passed on to whoever
//! waits for it (326), stored as well, and answered then (spec: behaviour.md §8).
//!
//! No worker waits meanwhile. What waits is bounded in number by `replyThreadPoolQueueCapacity`, and in bytes by the
//! connection it came from, which counts it as output.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::message_id::OffsetMessageId;
use oxmq_protocol::properties::Properties;
use oxmq_protocol::requests::{PushReplyHeader, SendMessageHeader, SendMessageReply, request};
use oxmq_protocol::{RemotingCommand, property, response_code};
use oxmq_remoting::{Connection, ReplyTo};
use oxmq_store::AppendBatch;

use super::Worker;
use crate::broker::Broker;
use crate::config::FlushDiskType;
use crate::put::{InternalMessage, PropertyScan, PutError, Stored};
use crate::response::Refusal;
use crate::send::{self, Admitted, SendError, SendRequest};
use crate::stats::TopicStats;

/// How long the requester may take to confirm that it has the reply.
const PUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// A reply message whose topic and queue are settled.
struct ReplyMessage {
    header: SendMessageHeader,
    queue_id: i32,
    body: Bytes,
    born_host: SocketAddr,
    stats: Arc<TopicStats>,
    is_new_topic: bool,
}

impl Worker {
    pub(super) fn reply_message(
        &self,
        connection: &Rc<Connection>,
        to: ReplyTo,
        mut header: SendMessageHeader,
        body: Bytes,
    ) {
        let text = header.properties.take().unwrap_or_default();
        header.properties = Some(self.broker.mark_reply(&text));
        let config = self.broker.config();
        let Some(under_way) = self.broker.reply_pushes.enter(config.reply_thread_pool_queue_capacity) else {
            return self.refuse_send(connection, to, &SendError::Overload);
        };
        let (request, peer) = (SendRequest::of_header(&header), connection.peer_addr());
        let Admitted {
            topic,
            queue_id,
            is_new_topic,
            mapped: _,
        } = match send::admit(&self.broker, &self.topics, &config, &request, peer) {
            Ok(admitted) => admitted,
            Err(error) => return self.refuse_send(connection, to, &error),
        };
        let message = ReplyMessage {
            queue_id,
            born_host: peer,
            stats: Arc::clone(&topic.stats),
            is_new_topic,
            header,
            body,
        };
        let (broker, replies) = (Arc::clone(&self.broker), self.replies.clone());
        let guard = connection.begin_request(message.body.len());
        self.answer_later(async move {
            let _under_way = under_way;
            let pushed = message.push(&broker).await;
            let stored = message.store(&broker).await;
            let fields = message.reply(&broker, pushed.is_ok(), stored);
            guard
                .connection()
                .reply(to, replies.reply_message(to.opaque, pushed, fields.as_ref()));
        });
    }
}

impl Broker {
    /// The properties of a reply, with the two that every message of a client gets and replies get as well.
    fn mark_reply(&self, text: &str) -> String {
        let mut properties = Properties::decode(text.as_bytes());
        let config = self.config();
        properties.set(property::MSG_REGION, config.region_id.as_str());
        properties.set(property::TRACE_SWITCH, config.trace_on.to_string());
        properties.encoded_text()
    }
}

impl ReplyMessage {
    /// Passes it on to the client that asked, and waits until that has it.
    async fn push(&self, broker: &Broker) -> Result<(), Refusal> {
        let failed = |remark: String| Refusal::new(response_code::SYSTEM_ERROR, remark);
        let mut properties = Properties::decode(self.properties());
        let Some(client_id) = properties.get(property::MESSAGE_REPLY_TO_CLIENT).map(str::to_owned) else {
            return Err(failed("reply message properties[REPLY_TO_CLIENT] is null".to_owned()));
        };
        let Some(requester) = broker.producers.find(&client_id) else {
            let remark = format!("push reply message fail, channel of <{client_id}> not found.");
            return Err(failed(remark));
        };
        let now = broker.now_ms();
        properties.set(property::PUSH_REPLY_TIME, now.to_string());
        let request = self.push_request(broker, properties.encoded_text(), now);
        let pushed = broker.reply_pushes.push(requester.connection, PUSH_TIMEOUT, |timeout| {
            let handle = requester.handle.clone();
            async move { handle.call(request, timeout).await }
        });
        match pushed.await {
            Some(Ok(response)) if response.header.code == response_code::SUCCESS => Ok(()),
            outcome => {
                tracing::warn!(client_id, ?outcome, "a reply message did not reach its requester");
                Err(failed(format!("push reply message to {client_id}fail.")))
            }
        }
    }

    fn push_request(&self, broker: &Broker, properties: String, now: i64) -> RemotingCommand {
        let header = &self.header;
        let header = PushReplyHeader {
            producer_group: header.producer_group.clone(),
            topic: header.topic.clone(),
            default_topic: header.default_topic.clone(),
            default_topic_queue_nums: header.default_topic_queue_nums,
            queue_id: header.queue_id,
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            flag: header.flag,
            properties: Some(properties),
            reconsume_times: Some(header.reconsume_times.unwrap_or(0)),
            unit_mode: header.unit_mode,
            born_host: self.born_host.to_string(),
            store_host: broker.store_host.to_string(),
            store_timestamp: now,
        };
        RemotingCommand::request::<request::PushReplyMessageToClient>(&header, self.body.clone())
    }

    /// Stores it whether or not it was passed on. A failure is not the replier's business: the answer says only whether
    /// the reply arrived.
    async fn store(&self, broker: &Arc<Broker>) -> Option<Stored> {
        let config = broker.config();
        if !config.store_reply_message_enable || self.body.is_empty() || self.body.len() > config.max_message_size {
            return None;
        }
        if self.is_new_topic {
            // A failure is logged where it happens.
            let _ = broker.saver.saved().await;
        }
        let stored = match self.put(broker) {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(topic = self.header.topic, %error, "a reply message is not stored");
                return None;
            }
        };
        self.stats.on_sends(1, 1, stored.end_offset - stored.physical_offset);
        if broker.flush_disk_type == FlushDiskType::SyncFlush && PropertyScan::of(self.properties()).wait_store {
            // Late or never: the answer does not tell.
            let _ = broker.is_flushed(stored.end_offset).await;
        }
        Some(stored)
    }

    fn put(&self, broker: &Broker) -> Result<Stored, PutError> {
        let header = &self.header;
        let message = InternalMessage {
            topic: &header.topic,
            queue_id: self.queue_id,
            flag: header.flag,
            // Java drops the flags, and nobody can read a compressed reply that was stored.
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            born_host: self.born_host,
            reconsume_times: header.reconsume_times.unwrap_or(0),
            prepared_transaction_offset: 0,
            body: &self.body,
            properties: self.properties(),
            delay_level: PropertyScan::of(self.properties()).delay_level,
        };
        broker.put_internal_in(&mut AppendBatch::default(), &message)
    }

    /// What the answer says besides whether the reply arrived; nothing when it neither arrived nor was stored.
    fn reply(&self, broker: &Broker, pushed: bool, stored: Option<Stored>) -> Option<SendMessageReply> {
        let msg_id = match stored {
            Some(stored) => OffsetMessageId {
                store_host: broker.store_host,
                physical_offset: stored.physical_offset,
            }
            .to_string(),
            // Clients cannot read an answer without an id.
            None if pushed => "0".to_owned(),
            None => return None,
        };
        Some(SendMessageReply {
            msg_id,
            queue_id: self.queue_id,
            queue_offset: stored.map_or(0, |stored| stored.queue_offset),
            ..SendMessageReply::default()
        })
    }

    fn properties(&self) -> &[u8] {
        self.header.properties.as_deref().unwrap_or_default().as_bytes()
    }
}
