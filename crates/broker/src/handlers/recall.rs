//! RECALL_MESSAGE (370): cancels a message that waits on the timer wheel (spec: behaviour.md §3.7).

use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::recall_handle::RecallHandle;
use oxmq_protocol::requests::{RecallMessageHeader, RecallMessageReply};
use oxmq_protocol::{RemotingCommand, perm, properties, property, response_code as code};

use super::{Handled, fields, success_with};
use crate::broker::Broker;
use crate::put::InternalMessage;
use crate::response::Refusal;

const TAG: &str = "_RECALL_TAG_";
const NOT_AVAILABLE: &str = "recall failed, broker service not available";

/// Stores the message that cancels, which waits in the slot of the one that it cancels, and answers when it is safe.
pub(super) async fn recall(broker: Arc<Broker>, command: RemotingCommand) -> Handled {
    let config = Arc::clone(&broker.config());
    if !config.recall_message_enable {
        return Err(Refusal::new(
            code::NO_PERMISSION,
            "recall failed, operation is forbidden",
        ));
    }
    let now = broker.now_ms();
    let is_shut = !perm::is_writeable(config.broker_permission) && !config.allow_recall_when_broker_not_writeable;
    if now < config.start_accept_send_request_timestamp || is_shut {
        return Err(Refusal::new(code::SERVICE_NOT_AVAILABLE, NOT_AVAILABLE));
    }
    let header: RecallMessageHeader = fields(&command)?;
    let Some(topic) = broker.topics.get(&header.topic) else {
        let remark = format!("recall failed, the topic[{}] not exist", header.topic);
        return Err(Refusal::new(code::TOPIC_NOT_EXIST, remark));
    };
    let illegal = |remark: &str| Refusal::new(code::ILLEGAL_OPERATION, remark);
    let handle = RecallHandle::decode(&header.recall_handle).map_err(|error| illegal(&error.to_string()))?;
    if handle.topic != topic.topic_name {
        return Err(illegal("recall failed, topic not match"));
    }
    if handle.broker_name != config.broker_name {
        return Err(illegal(NOT_AVAILABLE));
    }
    let ahead = handle.timestamp.saturating_sub(now);
    let max_delay_ms = config.timer_max_delay_sec.saturating_mul(1000);
    if ahead <= 0 || (max_delay_ms > 0 && ahead >= max_delay_ms) {
        return Err(illegal("recall failed, timestamp invalid"));
    }

    let delete_key = match config.append_topic_for_timer_delete_key {
        true => format!("{}+{}", handle.topic, handle.message_id),
        false => handle.message_id.clone(),
    };
    let mut text = BytesMut::new();
    for (name, value) in [
        (property::TAGS, TAG),
        (property::TIMER_DEL_UNIQKEY, &delete_key),
        (property::UNIQUE_CLIENT_MESSAGE_ID, &handle.message_id),
        (property::TIMER_DELIVER_MS, &handle.timestamp.to_string()),
        (property::BORN_TIMESTAMP, &now.to_string()),
        (property::TRACE_CONTEXT, ""),
        (
            property::PRODUCER_GROUP,
            header.producer_group.as_deref().unwrap_or_default(),
        ),
    ] {
        if !value.is_empty() {
            properties::write(&mut text, name.as_bytes(), value.as_bytes());
        }
    }
    let stored = broker.put_internal(&InternalMessage {
        topic: &topic.topic_name,
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: now,
        born_host: broker.store_host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: b"0",
        properties: &text,
        delay_level: 0,
    });
    let failed = || Refusal::new(code::SYSTEM_ERROR, "recall failed, execute error");
    let stored = stored.map_err(|error| {
        tracing::warn!(topic = topic.topic_name, %error, "a message cannot be recalled");
        failed()
    })?;
    if broker.flush_disk_type == crate::FlushDiskType::SyncFlush && !broker.is_flushed(stored.end_offset).await {
        return Err(failed());
    }
    broker.stats.topic(&topic.topic_name).on_send(1, 1);
    let msg_id = handle.message_id;
    Ok(success_with(&RecallMessageReply { msg_id }))
}
