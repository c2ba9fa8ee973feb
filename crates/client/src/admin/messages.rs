//! Finding messages again: by key, by either kind of id, by time.

use bytes::Bytes;
use oxmq_protocol::body::{MessageQueue, SUB_ALL, SubscriptionData};
use oxmq_protocol::message::{MessageExt, decode_messages};
use oxmq_protocol::message_id::{OffsetMessageId, unique_id_timestamp_ms};
use oxmq_protocol::requests::{QueryMessageHeader, ViewMessageHeader, request};
use oxmq_protocol::response_code;

use super::{Admin, Boundary};
use crate::clock::{now_millis, utc_offset_millis};
use crate::consumer::broker_calls::BrokerCalls;
use crate::consumer::pull_request::{PullResult, PullStatus};
use crate::error::ClientError;

/// The store may be a moment behind the client's clock, so a search begins so much before the time in a message id.
const UNIQUE_ID_CLOCK_SLACK_MS: i64 = 60_000;
/// How many messages with one unique id are looked at: the id is one message's, its hash is not.
const UNIQUE_ID_QUERY_MAX: i32 = 32;
const PULL_BATCH: u32 = 32;
/// Pulls for a look at a queue: the group that mqadmin uses too.
const TOOLS_GROUP: &str = "TOOLS_CONSUMER";

impl Admin {
    /// The message that an offset message id points at, asked of the broker in the id. A broker answers with code 1 when
    /// it has no message there.
    pub async fn view_message_by_offset_id(&self, offset_msg_id: &str) -> Result<MessageExt, ClientError> {
        let id: OffsetMessageId = offset_msg_id.parse().map_err(|_| ClientError::MessageId {
            id: offset_msg_id.to_owned(),
        })?;
        let header = ViewMessageHeader {
            topic: None,
            offset: id.physical_offset,
        };
        let reply = self
            .call::<request::ViewMessageById>(&id.store_host.to_string(), &header, Bytes::new())
            .await?;
        let message = decode_messages(&reply.body, true)?.into_iter().next();
        message.ok_or_else(|| ClientError::MessageId {
            id: offset_msg_id.to_owned(),
        })
    }

    /// The message with this id, be it the one its producer gave or the one that says where it lies.
    pub async fn view_message(&self, topic: &str, msg_id: &str) -> Result<Option<MessageExt>, ClientError> {
        if msg_id.parse::<OffsetMessageId>().is_ok()
            && let Ok(message) = self.view_message_by_offset_id(msg_id).await
        {
            return Ok(Some(message));
        }
        // Ids of both kinds look alike.
        self.query_message_by_unique_id(topic, msg_id).await
    }

    /// Messages of a topic with this key, stored between two times in milliseconds since 1970, at most `max_num` of each
    /// broker.
    pub async fn query_message(
        &self,
        topic: &str,
        key: &str,
        max_num: i32,
        begin_timestamp_ms: i64,
        end_timestamp_ms: i64,
    ) -> Result<Vec<MessageExt>, ClientError> {
        let header = QueryMessageHeader {
            topic: topic.to_owned(),
            key: key.to_owned(),
            max_num,
            begin_timestamp: begin_timestamp_ms,
            end_timestamp: end_timestamp_ms,
            ..QueryMessageHeader::default()
        };
        let mut found = self.query(topic, &header).await?;
        found.retain(|message| message.keys().any(|of_message| of_message == key));
        Ok(found)
    }

    /// The message to which its producer gave this id.
    pub async fn query_message_by_unique_id(
        &self,
        topic: &str,
        unique_id: &str,
    ) -> Result<Option<MessageExt>, ClientError> {
        // Ids of other makers hold no time: search everything.
        let made =
            unique_id_timestamp_ms(unique_id, now_millis(), utc_offset_millis()).unwrap_or(UNIQUE_ID_CLOCK_SLACK_MS);
        let header = QueryMessageHeader {
            topic: topic.to_owned(),
            key: unique_id.to_owned(),
            max_num: UNIQUE_ID_QUERY_MAX,
            begin_timestamp: made - UNIQUE_ID_CLOCK_SLACK_MS,
            end_timestamp: i64::MAX,
            unique_key_query: true,
            ..QueryMessageHeader::default()
        };
        let found = self.query(topic, &header).await?;
        Ok(found.into_iter().find(|message| message.unique_id() == Some(unique_id)))
    }

    /// Messages of a topic that were stored between two times (both included), in milliseconds since 1970, queue by queue;
    /// at most `max_num`. Needs no key: it reads the queues.
    pub async fn query_message_by_time(
        &self,
        topic: &str,
        begin_timestamp_ms: i64,
        end_timestamp_ms: i64,
        max_num: usize,
    ) -> Result<Vec<MessageExt>, ClientError> {
        let mut found = Vec::new();
        for queue in &self.instance.refresh_route(topic).await?.subscribe {
            let mut queue_offset = self.search_offset(queue, begin_timestamp_ms, Boundary::Lower).await?;
            let last = self.search_offset(queue, end_timestamp_ms, Boundary::Upper).await?;
            while queue_offset <= last && found.len() < max_num {
                let result = self.pull(queue, SUB_ALL, queue_offset, PULL_BATCH).await?;
                if result.status == PullStatus::NoNewMsg || result.next_begin_offset <= queue_offset {
                    break;
                }
                queue_offset = result.next_begin_offset;
                found.extend(result.messages);
            }
        }
        found.retain(|message| (begin_timestamp_ms..=end_timestamp_ms).contains(&message.store_timestamp));
        found.truncate(max_num);
        Ok(found)
    }

    /// Messages of a queue from an offset on that an expression of tags takes, without belonging to a group.
    pub async fn pull(
        &self,
        queue: &MessageQueue,
        expression: &str,
        queue_offset: i64,
        max_num: u32,
    ) -> Result<PullResult, ClientError> {
        let calls = BrokerCalls {
            instance: self.instance.clone(),
            group: TOOLS_GROUP.to_owned(),
            owns_instance: false,
        };
        let subscription = SubscriptionData::parse(&queue.topic, expression, now_millis())?;
        calls.pull_once(queue, &subscription, queue_offset, max_num, None).await
    }

    /// Asks every broker of `routed`, which is the topic in the header or, for a light queue, the topic it came from. Brokers
    /// find by hash, so what they find may be of another topic.
    pub async fn query(&self, routed: &str, header: &QueryMessageHeader) -> Result<Vec<MessageExt>, ClientError> {
        let mut found = Vec::new();
        for addr in self.masters_of_topic(routed).await? {
            let called = self.call::<request::QueryMessage>(&addr, header, Bytes::new()).await;
            match called {
                Ok(reply) => found.extend(decode_messages(&reply.body, true)?),
                Err(error) if error.response_code() == Some(response_code::QUERY_NOT_FOUND) => {}
                Err(error) => return Err(error),
            }
        }
        found.retain(|message| message.topic == header.topic);
        Ok(found)
    }
}
