//! Which offsets a queue has: asked of its master (29, 30, 31).

use bytes::Bytes;
use oxmq_protocol::Request;
use oxmq_protocol::body::MessageQueue;
use oxmq_protocol::requests::{OffsetReply, QueueHeader, SearchOffsetHeader, request};

use super::Instance;
use crate::error::ClientError;

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
        let header = SearchOffsetHeader {
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            timestamp: timestamp_ms,
            boundary_type: None,
            broker_name: Some(queue.broker_name.clone()),
        };
        self.ask_offset::<request::SearchOffsetByTimestamp>(queue, &header)
            .await
    }

    async fn ask_offset<R: Request<Reply = OffsetReply>>(
        &self,
        queue: &MessageQueue,
        header: &R::Header,
    ) -> Result<i64, ClientError> {
        let master = match self.master_addr(&queue.broker_name) {
            Ok(addr) => addr,
            Err(_) => {
                // The address of a broker is known once a route has named it.
                self.refresh_route(&queue.topic).await?;
                self.master_addr(&queue.broker_name)?
            }
        };
        let (remoting, timeout) = (self.remoting(), self.config().api_timeout);
        let reply = remoting.call::<R>(&master, header, Bytes::new(), timeout).await?;
        Ok(reply.fields.offset)
    }
}

fn queue_header(queue: &MessageQueue) -> QueueHeader {
    QueueHeader {
        topic: queue.topic.clone(),
        queue_id: queue.queue_id,
        committed: None,
        broker_name: Some(queue.broker_name.clone()),
    }
}
