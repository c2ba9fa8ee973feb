//! CONSUMER_SEND_MSG_BACK (36) (spec: behaviour.md §5.7). Reads the original, perhaps from the disk.

use std::sync::Arc;

use oxmq_protocol::body::{SubscriptionGroupConfig, TopicConfig};
use oxmq_protocol::message_id::OffsetMessageId;
use oxmq_protocol::record::{RecordError, RecordRef};
use oxmq_protocol::requests::ConsumerSendMsgBackHeader;
use oxmq_protocol::{RemotingCommand, perm, response_code as code};

use super::{Handled, fields, success};
use crate::broker::Broker;
use crate::put::{InternalMessage, PutError};
use crate::response::Refusal;
use crate::send_back::{Destination, destination, first_topic, max_reconsume_times, properties_back};

pub(super) fn send_back(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: ConsumerSendMsgBackHeader = fields(command)?;
    let refuse = |code, remark: String| Err(Refusal::new(code, remark));
    let Some(group) = broker.group(&header.group) else {
        let remark = format!(
            "subscription group not exist, {} \nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.",
            header.group
        );
        return refuse(code::SUBSCRIPTION_GROUP_NOT_EXIST, remark);
    };
    let settings = broker.config();
    if !perm::is_writeable(settings.broker_permission) {
        let remark = format!("the broker[{}] sending message is forbidden", settings.broker_ip1);
        return refuse(code::NO_PERMISSION, remark);
    }
    if group.retry_queue_nums <= 0 {
        return Ok(success());
    }
    let retry_topic = retry_topic(broker, &group, header.unit_mode)?;
    let read = broker.store.read_record(header.offset);
    let original = read.map_err(|error| Refusal::new(code::SYSTEM_ERROR, error.to_string()))?;
    let original = original.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok());
    let Some(original) = original else {
        let remark = format!("look message by offset failed, {}", header.offset);
        return refuse(code::SYSTEM_ERROR, remark);
    };
    let max_times = max_reconsume_times(
        group.retry_max_times,
        header.max_reconsume_times,
        command.header.version,
    );
    let destination = destination(original.reconsume_times(), header.delay_level, max_times);
    store(broker, &header.group, &retry_topic, &original, destination)?;
    Ok(success())
}

fn retry_topic(broker: &Broker, group: &SubscriptionGroupConfig, unit_mode: bool) -> Result<Arc<TopicConfig>, Refusal> {
    let (name, queue_nums, now) = (&group.group_name, group.retry_queue_nums, broker.now_ms());
    let topic = broker.topics.ensure_retry_topic(name, queue_nums, None, unit_mode, now);
    if !perm::is_writeable(topic.perm) {
        let remark = format!("the topic[{}] sending message is forbidden", topic.topic_name);
        return Err(Refusal::new(code::NO_PERMISSION, remark));
    }
    Ok(topic)
}

fn store(
    broker: &Broker,
    group: &str,
    retry_topic: &Arc<TopicConfig>,
    original: &RecordRef<'_>,
    destination: Destination,
) -> Result<(), Refusal> {
    let (topic, delay_level) = match destination {
        Destination::Retry { delay_level } => (Arc::clone(retry_topic), delay_level),
        Destination::DeadLetters => (broker.topics.ensure_dlq_topic(group, broker.now_ms()), 0),
    };
    let id = OffsetMessageId {
        store_host: original.store_host(),
        physical_offset: original.physical_offset(),
    };
    // Spreads what is sent back over the queues, as Java does by chance.
    let queue_id = original
        .queue_offset()
        .rem_euclid(i64::from(topic.write_queue_nums.max(1)));
    let stored = broker.put_internal(&InternalMessage {
        reconsume_times: original.reconsume_times().saturating_add(1),
        properties: &properties_back(original, &id.to_string(), destination),
        delay_level,
        ..InternalMessage::copy_of(original, &topic.topic_name, queue_id as i32)
    });
    stored.map_err(|error| Refusal::new(code::SYSTEM_ERROR, not_stored(&error)))?;
    let first_topic = String::from_utf8_lossy(first_topic(original));
    broker.stats.group(&first_topic, group).on_send_back();
    if destination == Destination::DeadLetters {
        if let Some(metrics) = &broker.metrics {
            metrics.dead_letter(group, &first_topic);
        }
        tracing::warn!(group, %id, topic = %first_topic, "message is given up and kept as a dead letter");
    }
    Ok(())
}

/// Why a message was not stored, where the original has a name for it.
fn not_stored(error: &PutError) -> String {
    match error {
        PutError::Record(RecordError::PropertiesTooLong(_)) => "PROPERTIES_SIZE_EXCEEDED".to_owned(),
        error => error.to_string(),
    }
}
