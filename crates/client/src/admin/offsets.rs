//! Offsets of queues and of groups.

use std::collections::BTreeMap;

use bytes::Bytes;
use oxmq_protocol::body::{ConsumeStats, MessageQueue, ResetOffsetBody};
use oxmq_protocol::requests::{
    GetConsumeStatsHeader, ResetOffsetHeader, SearchOffsetHeader, UpdateConsumerOffsetHeader, request,
};
use oxmq_protocol::{json, topic};

use super::{Admin, Boundary};
use crate::error::ClientError;
use crate::instance::queue_header;

impl Admin {
    /// The offset after the last message of a queue.
    pub async fn max_offset(&self, queue: &MessageQueue) -> Result<i64, ClientError> {
        self.instance.max_offset(queue).await
    }

    /// The offset of the first message that still exists.
    pub async fn min_offset(&self, queue: &MessageQueue) -> Result<i64, ClientError> {
        self.instance.min_offset(queue).await
    }

    /// When the first message that still exists was stored, in milliseconds since 1970; `None` when there is none.
    pub async fn earliest_msg_store_time(&self, queue: &MessageQueue) -> Result<Option<i64>, ClientError> {
        let header = queue_header(queue);
        let master = self.instance.master_of(queue).await?;
        let reply = self
            .call::<request::GetEarliestMsgStoreTime>(&master, &header, Bytes::new())
            .await?;
        Ok(Some(reply.fields.timestamp).filter(|timestamp| *timestamp >= 0))
    }

    /// The offset in a queue that belongs to a time, in milliseconds since 1970.
    pub async fn search_offset(
        &self,
        queue: &MessageQueue,
        timestamp_ms: i64,
        boundary: Boundary,
    ) -> Result<i64, ClientError> {
        self.instance.search_offset_at(queue, timestamp_ms, boundary).await
    }

    /// The offset of the first message that was stored at or after a time, in a queue of one broker.
    pub async fn search_offset_on(
        &self,
        addr: &str,
        topic: &str,
        queue_id: i32,
        timestamp_ms: i64,
    ) -> Result<i64, ClientError> {
        let header = SearchOffsetHeader {
            topic: topic.to_owned(),
            queue_id,
            timestamp: timestamp_ms,
            ..SearchOffsetHeader::default()
        };
        let called = self.call::<request::SearchOffsetByTimestamp>(addr, &header, Bytes::new());
        Ok(called.await?.fields.offset)
    }

    /// Sets where a group goes on in a queue. Refused with 26 when the broker does not know the group.
    pub async fn update_consume_offset(
        &self,
        group: &str,
        queue: &MessageQueue,
        queue_offset: i64,
    ) -> Result<(), ClientError> {
        let header = UpdateConsumerOffsetHeader {
            consumer_group: Some(group.to_owned()),
            topic: Some(queue.topic.clone()),
            queue_id: Some(queue.queue_id),
            commit_offset: Some(queue_offset),
            broker_name: Some(queue.broker_name.clone()),
        };
        let master = self.instance.master_of(queue).await?;
        self.tell::<request::UpdateConsumerOffset>(&master, &header).await
    }

    /// How far a group is with what it consumes.
    pub async fn consume_stats(&self, group: &str) -> Result<ConsumeStats, ClientError> {
        self.stats(group, None, &topic::retry_topic(group)).await
    }

    /// The same for one topic.
    pub async fn consume_stats_of(&self, group: &str, topic: &str) -> Result<ConsumeStats, ClientError> {
        self.stats(group, Some(topic), topic).await
    }

    async fn stats(&self, group: &str, topic: Option<&str>, routed: &str) -> Result<ConsumeStats, ClientError> {
        let header = GetConsumeStatsHeader {
            consumer_group: group.to_owned(),
            topic: topic.map(str::to_owned),
            topic_list: None,
        };
        let mut stats = ConsumeStats::default();
        for addr in self.masters_of_topic(routed).await? {
            let reply = self
                .call::<request::GetConsumeStats>(&addr, &header, Bytes::new())
                .await?;
            let of_broker: ConsumeStats = json::from_slice(&reply.body)?;
            stats.consume_tps += of_broker.consume_tps;
            stats.offset_table.0.extend(of_broker.offset_table);
        }
        Ok(stats)
    }

    /// Lets a group go on at this time in all queues of a topic, in milliseconds since 1970; a negative time means the
    /// end. Consumers that run follow. Returns where the group is now.
    ///
    /// Brokers that leave it to the clients (`useServerSideResetOffset=false`) move a group back only, unless `force` is
    /// set, and refuse with code 206 when none of it is online.
    pub async fn reset_offset_by_timestamp(
        &self,
        topic: &str,
        group: &str,
        timestamp_ms: i64,
        force: bool,
    ) -> Result<BTreeMap<MessageQueue, i64>, ClientError> {
        let header = ResetOffsetHeader {
            group: group.to_owned(),
            topic: topic.to_owned(),
            queue_id: None,
            offset: None,
            timestamp: timestamp_ms,
            is_force: force,
        };
        let mut offsets = BTreeMap::new();
        for addr in self.masters_of_topic(topic).await? {
            offsets.extend(self.reset_offset_on(&addr, &header).await?);
        }
        Ok(offsets)
    }

    /// Lets a group go on at this offset of one queue, which has to have it: a broker refuses others with code 1.
    pub async fn reset_offset_by_queue(
        &self,
        group: &str,
        queue: &MessageQueue,
        queue_offset: i64,
    ) -> Result<(), ClientError> {
        let header = ResetOffsetHeader {
            group: group.to_owned(),
            topic: queue.topic.clone(),
            queue_id: Some(queue.queue_id),
            offset: Some(queue_offset),
            timestamp: -1,
            is_force: true,
        };
        let master = self.instance.master_of(queue).await?;
        self.reset_offset_on(&master, &header).await?;
        Ok(())
    }

    /// Resets at one broker as the header says: a queue of a topic, or all of them by time. Returns where the group is now.
    pub async fn reset_offset_on(
        &self,
        addr: &str,
        header: &ResetOffsetHeader,
    ) -> Result<BTreeMap<MessageQueue, i64>, ClientError> {
        let reply = self
            .call::<request::InvokeBrokerToResetOffset>(addr, header, Bytes::new())
            .await?;
        Ok(json::from_slice::<ResetOffsetBody>(&reply.body)?.offset_table.0)
    }
}
