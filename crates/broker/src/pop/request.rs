//! Requests for messages: every check in the order of the original (spec: behaviour.md §10.2, §10.3).

use std::net::SocketAddr;
use std::sync::Arc;

use oxmq_protocol::body::{EXPRESSION_TYPE_TAG, SUB_ALL, TopicConfig};
use oxmq_protocol::pop::{BATCH_MAX, retry_topic_v1, retry_topic_v2};
use oxmq_protocol::requests::PopMessageHeader;
use oxmq_protocol::{FieldError, perm};
use thiserror::Error;

use crate::broker::Broker;
use crate::filter::{Filter, FilterError};
use crate::response::{FAQ, OVERLOAD, QueueIdIllegal};

/// How much later than its poll ends a request may arrive, as in the original.
const LATE_MS: i64 = 500;

/// Why a request for messages is refused, in the words of the original.
#[derive(Debug, Error)]
pub enum PopError {
    #[error(transparent)]
    Fields(#[from] FieldError),
    #[error("the broker[{0}] pop message is timeout too much")]
    Late(String),
    #[error("the broker[{0}] pop message is forbidden")]
    BrokerNotReadable(String),
    #[error("the broker[{0}] peeking message is forbidden")]
    BrokerNotPeekable(String),
    #[error("the broker[{0}] pop message's num is greater than 32")]
    TooMany(String),
    #[error("the broker[{0}] pop message is forbidden because timerWheelEnable is false")]
    NoTimer(String),
    #[error("topic[{0}] not exist, apply first please! {FAQ}")]
    TopicUnknown(String),
    #[error("the topic[{0}] peeking message is forbidden")]
    TopicNotReadable(String),
    #[error(transparent)]
    QueueId(#[from] QueueIdIllegal),
    #[error("subscription group [{0}] does not exist, {FAQ}")]
    GroupUnknown(String),
    #[error("subscription group no permission, {0}")]
    GroupDisabled(String),
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error("{OVERLOAD}")]
    Overload,
}

/// A request for messages that passed all checks.
#[derive(Debug, Clone)]
pub(crate) struct Pop {
    pub(crate) group: String,
    pub(crate) topic: Arc<TopicConfig>,
    /// -1 for all.
    pub(crate) queue_id: i32,
    pub(crate) count_max: usize,
    pub(crate) invisible_time: i64,
    pub(crate) poll_time: i64,
    pub(crate) born_time: i64,
    /// A group without an offset begins at the end.
    pub(crate) from_the_end: bool,
    pub(crate) order: bool,
    pub(crate) attempt_id: Option<String>,
    pub(crate) filter: Filter,
}

impl Pop {
    pub(crate) fn check(
        broker: &Broker,
        header: PopMessageHeader,
        consumer: SocketAddr,
        now: i64,
    ) -> Result<Pop, PopError> {
        let config = broker.config();
        let ip = || config.broker_ip1.clone();
        let born_time = if header.born_time == 0 { now } else { header.born_time };
        if now.saturating_sub(born_time).saturating_sub(header.poll_time) > LATE_MS {
            return Err(PopError::Late(ip()));
        }
        if !perm::is_readable(config.broker_permission) {
            return Err(PopError::BrokerNotReadable(ip()));
        }
        if header.max_msg_nums > BATCH_MAX as i32 {
            return Err(PopError::TooMany(ip()));
        }
        if !config.timer_wheel_enable {
            return Err(PopError::NoTimer(ip()));
        }
        let topic = readable_topic(broker, &header.topic, header.queue_id, consumer)?;
        usable_group(broker, &header.consumer_group)?;
        Ok(Pop {
            filter: filter(broker, &header)?,
            group: header.consumer_group,
            topic,
            queue_id: header.queue_id.max(-1),
            count_max: usize::try_from(header.max_msg_nums).unwrap_or(0).min(BATCH_MAX),
            invisible_time: header.invisible_time,
            poll_time: header.poll_time,
            born_time,
            from_the_end: header.init_mode != 0,
            order: header.order.unwrap_or(false),
            attempt_id: header.attempt_id,
        })
    }

    /// When the poll ends; the original ends it a little earlier too.
    pub(crate) fn poll_end(&self) -> i64 {
        self.born_time.saturating_add(self.poll_time)
    }
}

/// The topic, if the queue may be read. Negative queues mean all of them.
pub(crate) fn readable_topic(
    broker: &Broker,
    topic: &str,
    queue_id: i32,
    consumer: SocketAddr,
) -> Result<Arc<TopicConfig>, PopError> {
    let config = broker.topics.get(topic);
    let config = config.ok_or_else(|| PopError::TopicUnknown(topic.to_owned()))?;
    if !perm::is_readable(config.perm) {
        return Err(PopError::TopicNotReadable(topic.to_owned()));
    }
    if queue_id >= config.read_queue_nums {
        return Err(QueueIdIllegal::of(queue_id, &config, consumer).into());
    }
    Ok(config)
}

/// Refuses groups that may not consume.
pub(crate) fn usable_group(broker: &Broker, group: &str) -> Result<(), PopError> {
    match broker.group(group) {
        None => Err(PopError::GroupUnknown(group.to_owned())),
        Some(config) if !config.consume_enable => Err(PopError::GroupDisabled(group.to_owned())),
        Some(_) => Ok(()),
    }
}

fn filter(broker: &Broker, header: &PopMessageHeader) -> Result<Filter, PopError> {
    let (group, topic) = (&header.consumer_group, &header.topic);
    let retry = match broker.config().enable_retry_topic_v2 {
        true => retry_topic_v2(topic, group),
        false => retry_topic_v1(topic, group),
    };
    broker.note_subscription(group, &retry, EXPRESSION_TYPE_TAG, SUB_ALL);
    let Some(expression) = header.exp.as_deref().filter(|text| !text.is_empty()) else {
        broker.note_subscription(group, topic, EXPRESSION_TYPE_TAG, SUB_ALL);
        return Ok(Filter::All);
    };
    let kind = header.exp_type.as_deref();
    Ok(Filter::of_expression(broker, group, topic, kind, Some(expression))?)
}
