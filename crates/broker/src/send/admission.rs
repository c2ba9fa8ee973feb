//! The checks of a send that do not depend on what it carries: its topic and queue.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use oxmq_protocol::{perm, topic};

use super::{SendError, SendRequest};
use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::static_topics::MappedSend;
use crate::topic_cache::{TopicCache, TopicState};
use crate::topics::CreateOnSend;

/// The topic and queue of a send that passes.
pub(crate) struct Admitted {
    pub(crate) topic: Rc<TopicState>,
    pub(crate) queue_id: i32,
    /// The topic has come into being.
    pub(crate) is_new_topic: bool,
    /// The queue is that of a logical queue.
    pub(crate) mapped: Option<Box<MappedSend>>,
}

pub(crate) fn admit(
    broker: &Broker,
    topics: &TopicCache,
    config: &BrokerConfig,
    request: &SendRequest<'_>,
    producer: SocketAddr,
) -> Result<Admitted, SendError> {
    accepts_sends(config.start_accept_send_request_timestamp, broker)?;
    let known = topics.get(broker, request.topic);
    let is_new_topic = known.is_none();
    let topic = match known {
        Some(topic) => topic,
        None => create_topic(broker, topics, config, request)?,
    };
    if topic.config.order && !perm::is_writeable(config.broker_permission) {
        let ip = config.broker_ip1.clone();
        return Err(SendError::BrokerNotWriteable { ip });
    }
    if topic.is_closed_to_clients {
        return Err(SendError::TopicClosed(topic.name().to_owned()));
    }
    let mapped = match &topic.mapping {
        None => None,
        Some(mapping) => {
            let mapped = MappedSend::new(mapping, request.queue_id);
            Some(Box::new(mapped.map_err(|_| SendError::NotLeader {
                queue_id: request.queue_id,
                mapping: Arc::clone(mapping),
            })?))
        }
    };
    let queue_id = mapped.as_ref().map_or(request.queue_id, |mapped| mapped.queue_id());
    Ok(Admitted {
        queue_id: queue_of(&topic, queue_id, producer)?,
        topic,
        is_new_topic,
        mapped,
    })
}

fn accepts_sends(from_ms: i64, broker: &Broker) -> Result<(), SendError> {
    if from_ms <= 0 || broker.now_ms() >= from_ms {
        return Ok(());
    }
    let until = jiff::Timestamp::from_millisecond(from_ms).unwrap_or_default();
    let until = until.to_zoned(jiff::tz::TimeZone::system());
    Err(SendError::NotYet {
        until: until.strftime("%Y-%m-%d %H:%M:%S,%3f").to_string(),
    })
}

/// A topic that is not there: its name is checked before it may come into being.
fn create_topic(
    broker: &Broker,
    topics: &TopicCache,
    config: &BrokerConfig,
    request: &SendRequest<'_>,
) -> Result<Rc<TopicState>, SendError> {
    let name = &*String::from_utf8_lossy(request.topic);
    topic::validate_topic(name).map_err(|error| SendError::TopicName {
        topic: name.to_owned(),
        error,
    })?;
    if topic::is_closed_to_clients(name) {
        return Err(SendError::TopicClosed(name.to_owned()));
    }
    let create = CreateOnSend {
        topic: name,
        default_topic: &String::from_utf8_lossy(request.default_topic),
        default_topic_queue_nums: request.default_topic_queue_nums,
        unit_mode: request.unit_mode,
    };
    let enabled = config.auto_create_topic_enable;
    let created = broker.topics.create_on_send(&create, enabled, broker.now_ms());
    let created = created.and_then(|_| topics.get(broker, request.topic));
    created.ok_or_else(|| SendError::TopicUnknown(name.to_owned()))
}

/// The queue that a send names; a negative one leaves the choice to the broker.
fn queue_of(topic: &TopicState, queue_id: i32, producer: SocketAddr) -> Result<i32, SendError> {
    let config = &topic.config;
    if queue_id >= config.write_queue_nums.max(config.read_queue_nums) {
        let topic = Arc::clone(config);
        return Err(SendError::QueueId {
            queue_id,
            topic,
            producer,
        });
    }
    match queue_id {
        0.. => Ok(queue_id),
        _ if config.write_queue_nums > 0 => Ok(topic.any_write_queue()),
        _ => Err(SendError::NoWriteQueue(topic.name().to_owned())),
    }
}
