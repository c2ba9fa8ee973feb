//! Requests of this client that were sent as messages and wait for their reply (326).

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use oxmq_protocol::compression::CompressionType;
use oxmq_protocol::message::{BODY_BYTES_MAX, Message, MessageExt};
use oxmq_protocol::properties::Properties;
use oxmq_protocol::requests::PushReplyHeader;
use oxmq_protocol::{FieldSet, RemotingCommand, property, response_code};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock::now_millis;
use crate::error::ClientError;

/// By correlation id. Whoever waits bounds how many there are.
#[derive(Clone, Default)]
pub(crate) struct PendingReplies(Arc<Mutex<HashMap<String, oneshot::Sender<MessageExt>>>>);

/// One reply that is waited for. Forgotten when this is dropped.
pub(crate) struct PendingReply {
    correlation_id: String,
    pending: PendingReplies,
    reply: oneshot::Receiver<MessageExt>,
}

impl PendingReplies {
    pub(crate) fn wait_for(&self, correlation_id: String) -> PendingReply {
        let (sender, reply) = oneshot::channel();
        self.0.lock().insert(correlation_id.clone(), sender);
        PendingReply {
            correlation_id,
            pending: self.clone(),
            reply,
        }
    }

    /// Hands a pushed reply to whoever waits for it. One that nobody waits for (any more) is taken all the same, as by the
    /// original: it came too late, and that is nobody's error.
    pub(super) fn answer(&self, request: &RemotingCommand) -> RemotingCommand {
        let opaque = request.header.opaque;
        match read(request) {
            Ok(reply) => {
                let waiting = reply
                    .property(property::CORRELATION_ID)
                    .and_then(|id| self.0.lock().remove(id));
                match waiting {
                    // The caller may give up in this moment.
                    Some(waiting) => drop(waiting.send(reply)),
                    None => tracing::debug!(reply = ?reply.properties, "a reply that nobody waits for"),
                }
                RemotingCommand::response(opaque, response_code::SUCCESS, None)
            }
            Err(error) => {
                tracing::debug!(%error, "a reply cannot be read");
                let remark = "process reply message fail".to_owned();
                RemotingCommand::response(opaque, response_code::SYSTEM_ERROR, Some(remark))
            }
        }
    }
}

impl PendingReply {
    /// Waits as long as it is polled.
    pub(crate) async fn reply(&mut self) -> MessageExt {
        match (&mut self.reply).await {
            Ok(reply) => reply,
            // Only a second request with the same id takes the place of the first.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        self.pending.0.lock().remove(&self.correlation_id);
    }
}

fn read(request: &RemotingCommand) -> Result<MessageExt, ClientError> {
    let header = PushReplyHeader::read(&request.header.ext_fields)?;
    let mut body: Bytes = request.body.clone();
    let kind = CompressionType::from_sys_flag(header.sys_flag).map_err(oxmq_protocol::message::DecodeError::from)?;
    if let Some(kind) = kind {
        let plain = kind.decompress(&body, BODY_BYTES_MAX);
        body = plain.map_err(oxmq_protocol::message::DecodeError::from)?.into();
    }
    let host = |text: &str| {
        text.parse()
            .map_err(|_| ClientError::Config(format!("no address: {text}")))
    };
    let mut properties = Properties::decode(header.properties.unwrap_or_default().as_bytes());
    properties.set(property::REPLY_MESSAGE_ARRIVE_TIME, now_millis().to_string());
    Ok(MessageExt {
        message: Message {
            topic: header.topic,
            flag: header.flag,
            properties,
            body,
        },
        broker_name: String::new(),
        queue_id: header.queue_id,
        queue_offset: 0,
        physical_offset: 0,
        sys_flag: header.sys_flag,
        born_timestamp: header.born_timestamp,
        born_host: host(&header.born_host)?,
        store_timestamp: header.store_timestamp,
        store_host: host(&header.store_host)?,
        reconsume_times: header.reconsume_times.unwrap_or(0),
        prepared_transaction_offset: 0,
        body_crc: 0,
        store_size: 0,
    })
}
