//! What a broker made of a message.

use oxmq_protocol::body::MessageQueue;
use oxmq_protocol::requests::SendMessageReply;
use oxmq_protocol::response_code::{FLUSH_DISK_TIMEOUT, FLUSH_SLAVE_TIMEOUT, SLAVE_NOT_AVAILABLE, SUCCESS};
use oxmq_protocol::{FieldSet, RemotingCommand};
use oxmq_remoting::CallError;

/// Where a message was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendResult {
    pub status: SendStatus,
    /// The id that this client gave the message; of a batch, the ids with commas between them.
    pub msg_id: String,
    /// The id that says where the message lies; of a batch, the ids with commas between them.
    pub offset_msg_id: String,
    pub queue: MessageQueue,
    /// Of a batch, the queue offset of its first message.
    pub queue_offset: i64,
    pub transaction_id: Option<String>,
    /// Of a message with a delivery time of its own: what takes it back.
    pub recall_handle: Option<String>,
    pub region_id: Option<String>,
    pub trace_on: bool,
}

/// The message is stored in all cases; the others say what the broker was set to do and could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendStatus {
    SendOk,
    FlushDiskTimeout,
    FlushSlaveTimeout,
    SlaveNotAvailable,
}

impl SendStatus {
    fn from_code(code: i32) -> Option<SendStatus> {
        match code {
            SUCCESS => Some(SendStatus::SendOk),
            FLUSH_DISK_TIMEOUT => Some(SendStatus::FlushDiskTimeout),
            FLUSH_SLAVE_TIMEOUT => Some(SendStatus::FlushSlaveTimeout),
            SLAVE_NOT_AVAILABLE => Some(SendStatus::SlaveNotAvailable),
            _ => None,
        }
    }
}

impl SendResult {
    /// What became of each message of a batch of so many. A batch that is stored as one record has one offset id.
    pub(super) fn split(self, count: usize) -> Vec<SendResult> {
        let nth = |ids: &str, index: usize| match ids.split(',').nth(index) {
            Some(id) if ids.split(',').count() == count => id.to_owned(),
            _ => ids.to_owned(),
        };
        let of = |index: usize| SendResult {
            msg_id: nth(&self.msg_id, index),
            offset_msg_id: nth(&self.offset_msg_id, index),
            queue_offset: self.queue_offset + index as i64,
            ..self.clone()
        };
        (0..count).map(of).collect()
    }

    /// Reads the response to a send to the queue's topic and broker.
    pub(super) fn read(response: RemotingCommand, msg_id: &str, queue: &MessageQueue) -> Result<SendResult, CallError> {
        let header = response.header;
        let Some(status) = SendStatus::from_code(header.code) else {
            return Err(CallError::Response {
                code: header.code,
                remark: header.remark.unwrap_or_default(),
            });
        };
        let reply = SendMessageReply::read(&header.ext_fields)?;
        Ok(SendResult {
            status,
            msg_id: msg_id.to_owned(),
            offset_msg_id: reply.msg_id,
            // A negative queue id asks the broker to choose.
            queue: MessageQueue {
                queue_id: reply.queue_id,
                ..queue.clone()
            },
            queue_offset: reply.queue_offset,
            transaction_id: reply.transaction_id,
            recall_handle: reply.recall_handle,
            region_id: reply.region_id,
            trace_on: reply.trace_on.unwrap_or(true),
        })
    }
}
