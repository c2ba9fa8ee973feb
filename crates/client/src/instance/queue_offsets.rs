//! Which offsets a queue has: asked of its master (29, 30, 31).

use bytes::Bytes;
use oxmq_protocol::Request;
use oxmq_protocol::body::MessageQueue;
use oxmq_protocol::requests::{OffsetReply, QueueHeader, SearchOffsetHeader, request};

use super::Instance;
use crate::error::ClientError;

/// Which offset belongs to a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// That of the first message stored at or after it; the end of the queue when there is none.
    Lower,
    /// That of the last message stored at or before it; the first one when there is none.
    Upper,
}

impl Boundary {
    fn name(self) -> &'static str {
        match self {
            Boundary::Lower => "LOWER",
            Boundary::Upper => "UPPER",
        }
    }
}

impl Instance {
    /// The offset after the last message of a queue.
    pub async fn max_offset(&self, queue: &MessageQueue) -> Result<i64, ClientError> {
        self.ask_offset::<request::GetMaxOffset>(queue, &queue_header(queue))
            .await
    }

    /// The offset of the first message that still exists.
    pub async fn min_offset(&self, queue: &MessageQueue) -> Result<i64, ClientError> {
        self.ask_offset::<request::GetMinOffset>(queue, &queue_header(queue))
            .await
    }

    /// The offset of the first message stored at or after a time, in milliseconds since 1970.
    pub async fn search_offset(&self, queue: &MessageQueue, timestamp_ms: i64) -> Result<i64, ClientError> {
        self.search_offset_at(queue, timestamp_ms, Boundary::Lower).await
    }

    /// The offset that belongs to a time, in milliseconds since 1970.
    pub async fn search_offset_at(
        &self,
        queue: &MessageQueue,
        timestamp_ms: i64,
        boundary: Boundary,
    ) -> Result<i64, ClientError> {
        let header = SearchOffsetHeader {
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            timestamp: timestamp_ms,
            boundary_type: Some(boundary.name().to_owned()),
            broker_name: Some(queue.broker_name.clone()),
        };
        self.ask_offset::<request::SearchOffsetByTimestamp>(queue, &header)
            .await
    }

    /// The master of a queue's broker, for calls that are no pulls. Its address is known once the topic's route has named it.
    pub(crate) async fn master_of(&self, queue: &MessageQueue) -> Result<String, ClientError> {
        let known = match self.master_addr(&queue.broker_name) {
            Ok(addr) => Ok(addr),
            Err(_) => {
                self.refresh_route(&queue.topic).await?;
                self.master_addr(&queue.broker_name)
            }
        };
        known.map(|addr| self.fast_addr(addr))
    }

    async fn ask_offset<R: Request<Reply = OffsetReply>>(
        &self,
        queue: &MessageQueue,
        header: &R::Header,
    ) -> Result<i64, ClientError> {
        let master = self.master_of(queue).await?;
        let reply = self
            .call::<R>(&master, header, Bytes::new(), self.config().api_timeout)
            .await?;
        Ok(reply.fields.offset)
    }
}

pub(crate) fn queue_header(queue: &MessageQueue) -> QueueHeader {
    QueueHeader {
        topic: queue.topic.clone(),
        queue_id: queue.queue_id,
        committed: None,
        broker_name: Some(queue.broker_name.clone()),
    }
}
