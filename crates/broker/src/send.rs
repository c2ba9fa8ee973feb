//! Sends (10, 310, 320): every check in the order of the original, and the encoding of what passes straight into the
//! batch of the turn (spec: behaviour.md §3).
//!
//! Decides and encodes only. The worker appends the batch and writes the replies.

use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::body::{TopicConfig, TopicFilterType, TopicQueueMappingDetail};
use oxmq_protocol::properties::PROPERTIES_BYTES_MAX;
use oxmq_protocol::record::RecordFields;
use oxmq_protocol::requests::{SendMessageHeader, SendMessageHeaderV2};
use oxmq_protocol::scan::ScannedSend;
use oxmq_protocol::topic::{self, NameError};
use oxmq_protocol::version::V3_4_9;
use oxmq_protocol::{FieldError, batch, hash, perm, properties, property, sys_flag};
use oxmq_store::{AppendBatch, AppendError, Extra, QueueKind, TagsCode};
use thiserror::Error;

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::duplicates::{Entered, Fingerprint, Verdict};
use crate::light_queues::TooManyLightQueues;
use crate::put::{self, Priority, PropertyScan};
use crate::static_topics::MappedSend;
use crate::topic_cache::{TopicCache, TopicState};
use crate::topics::CreateOnSend;
use crate::transactions::half;
use crate::waiting::{TimerRefusal, Waiting};

/// Why a send is refused.
#[derive(Debug, Error)]
pub enum SendError {
    #[error(transparent)]
    Fields(#[from] FieldError),
    #[error("an append has been holding the log for too long")]
    Busy,
    #[error("too many replies wait for the disk")]
    Overload,
    #[error("sends are accepted from {until} on")]
    NotYet { until: String },
    #[error("the broker {ip} is not writeable")]
    BrokerNotWriteable { ip: String },
    #[error("the topic name {topic} is refused: {error}")]
    TopicName { topic: String, error: NameError },
    #[error("clients may not send to {0}")]
    TopicClosed(String),
    #[error("topic {0} does not exist")]
    TopicUnknown(String),
    #[error("queue {queue_id} is beyond those of the topic")]
    QueueId {
        queue_id: i32,
        topic: Arc<TopicConfig>,
        producer: SocketAddr,
    },
    #[error("the logical queue {queue_id} is not led here")]
    NotLeader {
        queue_id: i32,
        mapping: Arc<TopicQueueMappingDetail>,
    },
    #[error("topic {0} has no queue to write to")]
    NoWriteQueue(String),
    #[error("group {0} does not exist")]
    GroupUnknown(String),
    #[error("the dead-letter topic {0} cannot be created")]
    DeadLetterTopic(String),
    #[error("a compaction topic needs message keys")]
    KeyMissing,
    #[error("transactions are refused by {ip}")]
    Transaction { ip: String },
    #[error(transparent)]
    Timer(#[from] TimerRefusal),
    #[error("body or properties are missing, malformed or too long")]
    Illegal { body_bytes_max: usize },
    #[error("a batch cannot go to a retry topic")]
    BatchToRetryTopic,
    #[error("a topic of {0} characters is too long for a batch")]
    BatchTopicLength(usize),
    #[error("the message has no body")]
    NoBody,
    #[error("the lengths inside a batch do not add up")]
    BatchMalformed,
    #[error("a batch of {bytes} bytes is too long")]
    BatchTooLarge { bytes: usize },
    #[error(transparent)]
    LightQueues(#[from] TooManyLightQueues),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Property `UNIQ_KEY` or `INNER_NUM` without its value, generously.
const UNIQUE_KEY_OVERHEAD_BYTES: usize = 32;

/// The header of a send, whichever way it was read.
#[derive(Debug)]
pub(crate) struct SendRequest<'a> {
    /// UTF-8.
    pub(crate) topic: &'a [u8],
    /// UTF-8.
    pub(crate) default_topic: &'a [u8],
    pub(crate) default_topic_queue_nums: i32,
    pub(crate) queue_id: i32,
    pub(crate) sys_flag: i32,
    pub(crate) born_timestamp: i64,
    pub(crate) flag: i32,
    pub(crate) properties: &'a [u8],
    pub(crate) reconsume_times: i32,
    pub(crate) unit_mode: bool,
    pub(crate) max_reconsume_times: Option<i32>,
    pub(crate) batch: bool,
}

/// Who sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Producer {
    pub(crate) addr: SocketAddr,
    pub(crate) version: i32,
}

/// A send that lies encoded in the batch, and what its reply needs.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Its entries in the batch.
    pub(crate) entries: Range<usize>,
    pub(crate) queue_id: i32,
    /// Whether the reply waits for the disk with SYNC_FLUSH.
    pub(crate) wait_store: bool,
    /// Where its UNIQ_KEY stands in [`SendStage::keys`].
    pub(crate) key: Range<usize>,
    /// When it waits on the timer wheel and can be recalled: its slot.
    pub(crate) timer_out_ms: Option<i64>,
    /// It waits in the half topic for the end of its transaction.
    pub(crate) is_half: bool,
    /// What it has entered into the window of duplicates, in [`SendStage::entered`].
    pub(crate) entered: Range<usize>,
    /// It was sent to a logical queue.
    pub(crate) mapped: Option<Box<MappedSend>>,
}

impl Staged {
    /// The queue as the producer knows it.
    pub(crate) fn queue_id_for_producer(&self) -> i32 {
        match &self.mapped {
            None => self.queue_id,
            Some(mapped) => mapped.logic_queue_id,
        }
    }

    /// A place in the queue as the producer knows it.
    pub(crate) fn offset_for_producer(&self, queue_offset: i64) -> i64 {
        match &self.mapped {
            None => queue_offset,
            Some(mapped) => mapped.logic_offset(queue_offset),
        }
    }
}

/// What becomes of a send that passes all checks.
#[derive(Debug)]
pub(crate) enum Outcome {
    Staged(Staged),
    /// It was sent before and is not stored again.
    Duplicate(DuplicateSend),
}

/// What the answer to a repeated send needs.
#[derive(Debug)]
pub(crate) struct DuplicateSend {
    /// One, or those of the messages of a batch.
    pub(crate) prints: Vec<Fingerprint>,
    /// UNIQ_KEY as the request has it.
    pub(crate) key: String,
    pub(crate) wait_store: bool,
}

/// What sends of one turn are staged into.
#[derive(Debug, Default)]
pub(crate) struct SendStage {
    pub(crate) batch: AppendBatch,
    /// A send has created its topic. Whoever answers it takes this back.
    pub(crate) has_new_topic: bool,
    /// UNIQ_KEYs of the staged sends, one behind the other.
    pub(crate) keys: Vec<u8>,
    /// What the staged sends have entered into the window of duplicates.
    pub(crate) entered: Entered,
}

impl<'a> SendRequest<'a> {
    /// `scratch` takes the properties when they are escaped in the header. Nothing when the names are, too: clients have no
    /// reason for that, and the ordinary decoder can read it.
    #[inline]
    pub(crate) fn of_scanned(send: &ScannedSend<'a>, scratch: &'a mut BytesMut) -> Option<SendRequest<'a>> {
        let properties = match send.properties {
            None => &[],
            Some(text) => match text.as_plain() {
                Some(plain) => plain,
                None => {
                    scratch.clear();
                    text.unescape_into(scratch);
                    &scratch[..]
                }
            },
        };
        Some(SendRequest {
            topic: send.topic.as_plain()?,
            default_topic: send.default_topic.as_plain()?,
            default_topic_queue_nums: send.default_topic_queue_nums,
            queue_id: send.queue_id,
            sys_flag: send.sys_flag,
            born_timestamp: send.born_timestamp,
            flag: send.flag,
            properties,
            reconsume_times: send.reconsume_times.unwrap_or(0),
            unit_mode: send.unit_mode,
            max_reconsume_times: send.max_reconsume_times,
            batch: send.batch,
        })
    }

    pub(crate) fn of_v1(header: &'a SendMessageHeader) -> SendRequest<'a> {
        SendRequest {
            topic: header.topic.as_bytes(),
            default_topic: header.default_topic.as_bytes(),
            default_topic_queue_nums: header.default_topic_queue_nums,
            queue_id: header.queue_id,
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            flag: header.flag,
            properties: header.properties.as_deref().unwrap_or_default().as_bytes(),
            reconsume_times: header.reconsume_times.unwrap_or(0),
            unit_mode: header.unit_mode,
            max_reconsume_times: header.max_reconsume_times,
            batch: header.batch,
        }
    }

    pub(crate) fn of_v2(header: &'a SendMessageHeaderV2) -> SendRequest<'a> {
        SendRequest {
            topic: header.topic.as_bytes(),
            default_topic: header.default_topic.as_bytes(),
            default_topic_queue_nums: header.default_topic_queue_nums,
            queue_id: header.queue_id,
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            flag: header.flag,
            properties: header.properties.as_deref().unwrap_or_default().as_bytes(),
            reconsume_times: header.reconsume_times.unwrap_or(0),
            unit_mode: header.unit_mode,
            max_reconsume_times: header.max_reconsume_times,
            batch: header.batch,
        }
    }
}

impl SendStage {
    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.batch.clear();
        self.keys.clear();
        self.entered.clear();
    }

    /// Checks a send and encodes it into the batch, unless it was sent before; its topic comes back with it. On an error the
    /// batch is as it was.
    pub(crate) fn stage(
        &mut self,
        broker: &Broker,
        topics: &TopicCache,
        request: &SendRequest<'_>,
        body: &[u8],
        producer: Producer,
    ) -> Result<(Rc<TopicState>, Outcome), SendError> {
        if body.is_empty() {
            return Err(SendError::NoBody);
        }
        let config = &*broker.config();
        let admitted = admit(broker, topics, config, request, producer.addr)?;
        self.has_new_topic |= admitted.is_new_topic;
        let topic = admitted.topic;
        let put = Put {
            broker,
            topics,
            config,
            topic: &topic,
            queue_id: admitted.queue_id,
            sys_flag: match topic.config.topic_filter_type {
                TopicFilterType::MultiTag => request.sys_flag | sys_flag::MULTI_TAGS,
                TopicFilterType::SingleTag => request.sys_flag,
            },
            request,
            producer,
        };
        let first_entered = self.entered.len();
        if let Some(window) = &broker.duplicates {
            let verdict = window.enter_send(&topic, request, body, &mut self.entered, broker.now_ms());
            if let Verdict::Duplicate(prints) = verdict {
                return Ok((topic, Outcome::Duplicate(DuplicateSend::new(prints, request))));
            }
        }
        let staged = match request.batch {
            true => put.batch(self, body),
            false => put.single(self, body),
        };
        match staged {
            Ok(staged) => {
                let entered = first_entered..self.entered.len();
                Ok((
                    topic,
                    Outcome::Staged(Staged {
                        entered,
                        mapped: admitted.mapped,
                        ..staged
                    }),
                ))
            }
            Err(error) => {
                if let Some(window) = &broker.duplicates {
                    window.withdraw(&self.entered[first_entered..]);
                    self.entered.truncate(first_entered);
                }
                Err(error)
            }
        }
    }

    fn remember_key(&mut self, key: &[u8]) -> Range<usize> {
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        start..self.keys.len()
    }
}

impl DuplicateSend {
    fn new(prints: Vec<Fingerprint>, request: &SendRequest<'_>) -> DuplicateSend {
        let seen = PropertyScan::of(request.properties);
        DuplicateSend {
            prints,
            key: String::from_utf8_lossy(seen.unique_key.unwrap_or_default()).into_owned(),
            wait_store: seen.wait_store,
        }
    }
}

/// The topic and queue of a send that passes the checks that do not depend on what it carries.
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

/// A send whose topic and queue are settled.
#[derive(Clone, Copy)]
struct Put<'a> {
    broker: &'a Broker,
    topics: &'a TopicCache,
    config: &'a BrokerConfig,
    topic: &'a TopicState,
    queue_id: i32,
    sys_flag: i32,
    request: &'a SendRequest<'a>,
    producer: Producer,
}

impl Put<'_> {
    fn single(&self, stage: &mut SendStage, body: &[u8]) -> Result<Staged, SendError> {
        let seen = PropertyScan::of(self.request.properties);
        let last_queue = self.topic.config.write_queue_nums - 1;
        let queue_id = match seen.priority() {
            Priority::Queue(priority) if last_queue >= 0 => priority.min(last_queue),
            _ => self.queue_id,
        };
        Put { queue_id, ..*self }.scanned(stage, body, seen)
    }

    fn scanned(&self, stage: &mut SendStage, body: &[u8], seen: PropertyScan<'_>) -> Result<Staged, SendError> {
        let request = self.request;
        let dead_letters = self.dead_letters()?;
        if self.topic.is_compaction && !seen.has_keys {
            return Err(SendError::KeyMissing);
        }
        // A committed message that comes back to be consumed again keeps its properties.
        let is_half = seen.transaction && !(request.reconsume_times > 0 && seen.delay_level > 0);
        if is_half && self.config.reject_transaction_message {
            let ip = self.config.broker_ip1.clone();
            return Err(SendError::Transaction { ip });
        }
        if body.is_empty() || body.len() > self.config.max_message_size {
            return Err(self.illegal());
        }
        let inner_batch = self.inner_batch(&seen)?;
        if is_half && dead_letters.is_none() {
            return match inner_batch {
                None => self.half(stage, body, &seen),
                Some(_) => Err(self.illegal()),
            };
        }
        let waiting = match put::enters_a_queue(self.sys_flag) && dead_letters.is_none() {
            true => self.broker.waiting(seen.delay_level, &seen.timer)?,
            false => Waiting::Nowhere,
        };
        let made_key;
        let key = match seen.unique_key {
            Some(key) => key,
            None => {
                made_key = self.broker.next_unique_id();
                &made_key.0[..made_key.1]
            }
        };
        let hash = TagsCode::Hash(seen.tags.map_or(0, hash::tags_code));
        let (topic, queue) = match (waiting.queue(), &dead_letters) {
            (Some((topic, queue_id)), _) => (topic, self.broker.store.queue_or_create(topic, queue_id)),
            (None, Some(topic)) => (topic.name(), topic.queue(self.broker, 0)),
            (None, None) => (self.topic.name(), self.topic.queue(self.broker, self.queue_id)),
        };
        let mut extra = match (waiting, seen.multi_dispatch) {
            (Waiting::Nowhere, Some(names)) => self.broker.multi_dispatch(topic, names)?,
            _ => None,
        };
        if inner_batch.is_some() && queue.kind() == QueueKind::Batch {
            extra.get_or_insert_default().inner_batch = inner_batch;
        }
        if let Some(extra) = &extra {
            let added = self.broker.stamp.len() + key.len() + UNIQUE_KEY_OVERHEAD_BYTES;
            put::fits_with(extra, request.properties.len() + added).map_err(|_| self.illegal())?;
        }
        let first_entry = stage.batch.entries.len();
        put::stage(
            &mut stage.batch,
            Arc::clone(&queue),
            &self.fields(topic, queue.queue_id(), body),
            waiting.tags_code(hash),
            1,
            |out| {
                match waiting {
                    Waiting::Level(_) | Waiting::Timer { .. } => {
                        waiting.write(
                            out,
                            request.properties,
                            self.topic.name(),
                            self.queue_id,
                            seen.dropped(),
                        );
                    }
                    Waiting::Nowhere if dead_letters.is_some() => {
                        put::copy_properties(out, request.properties, |name| {
                            put::is_stamped(name) || name == property::DELAY_TIME_LEVEL.as_bytes()
                        });
                        properties::write(out, property::DELAY_TIME_LEVEL.as_bytes(), b"-1");
                    }
                    Waiting::Nowhere if seen.as_is => put::copy_text(out, request.properties),
                    Waiting::Nowhere => put::copy_properties(out, request.properties, seen.dropped()),
                }
                out.extend_from_slice(&self.broker.stamp);
                if seen.unique_key.is_none() {
                    properties::write(out, property::UNIQUE_CLIENT_MESSAGE_ID.as_bytes(), key);
                }
            },
        )
        .map_err(|_| self.illegal())?;
        if let Some(extra) = extra {
            stage.batch.add_extra(extra);
        }
        Ok(Staged {
            entries: first_entry..first_entry + 1,
            queue_id: self.queue_id,
            wait_store: seen.wait_store,
            key: stage.remember_key(key),
            timer_out_ms: match waiting {
                Waiting::Timer { out_ms } if !topic::is_retry(self.topic.name()) => Some(out_ms),
                _ => None,
            },
            is_half: false,
            entered: 0..0,
            mapped: None,
        })
    }

    /// A message that waits in the half topic for the end of its transaction. A delay that it asks for begins then.
    fn half(&self, stage: &mut SendStage, body: &[u8], seen: &PropertyScan<'_>) -> Result<Staged, SendError> {
        let request = self.request;
        let made_key;
        let key = match seen.unique_key {
            Some(key) => key,
            None => {
                made_key = self.broker.next_unique_id();
                &made_key.0[..made_key.1]
            }
        };
        if request.properties.len() + key.len() + half::ROOM_BYTES > PROPERTIES_BYTES_MAX {
            return Err(self.illegal());
        }
        let fields = RecordFields {
            sys_flag: self.sys_flag & !sys_flag::TRANSACTION_MASK,
            ..self.fields(topic::TRANS_HALF_TOPIC, 0, body)
        };
        let tags_code = TagsCode::Hash(seen.tags.map_or(0, hash::tags_code));
        let entry = stage.batch.entries.len();
        let queue = self.broker.transactions.half_queue();
        put::stage(&mut stage.batch, Arc::clone(queue), &fields, tags_code, 1, |out| {
            put::copy_properties(out, request.properties, |name| {
                put::is_stamped(name) || half::is_of_half(name)
            });
            out.extend_from_slice(&self.broker.stamp);
            if seen.unique_key.is_none() {
                properties::write(out, property::UNIQUE_CLIENT_MESSAGE_ID.as_bytes(), key);
            }
            half::write_half(out, self.topic.name(), self.queue_id, key);
        })
        .map_err(|_| self.illegal())?;
        Ok(Staged {
            entries: entry..entry + 1,
            queue_id: self.queue_id,
            wait_store: seen.wait_store,
            key: stage.remember_key(key),
            timer_out_ms: None,
            is_half: true,
            entered: 0..0,
            mapped: None,
        })
    }

    /// How many messages a record says it holds, if it is an inner batch: only queues of batches take those.
    fn inner_batch(&self, seen: &PropertyScan<'_>) -> Result<Option<u16>, SendError> {
        let is_flagged = self.sys_flag & sys_flag::INNER_BATCH != 0;
        if (seen.inner_num.is_some() && !is_flagged) || (is_flagged && !self.topic.is_batch_queue) {
            return Err(self.illegal());
        }
        if !is_flagged {
            return Ok(None);
        }
        let count = seen.inner_num.map_or(Some(1), put::message_count);
        count.map(Some).ok_or_else(|| self.illegal())
    }

    fn batch(&self, stage: &mut SendStage, body: &[u8]) -> Result<Staged, SendError> {
        let request = self.request;
        let name = self.topic.name();
        if name.len() > topic::TOPIC_LENGTH_MAX {
            return Err(SendError::BatchTopicLength(name.len()));
        }
        if topic::is_retry(name) {
            return Err(SendError::BatchToRetryTopic);
        }
        let seen = PropertyScan::of(request.properties);
        if body.is_empty()
            || seen.delay_level > 0
            || seen.inner_num.is_some()
            || self.sys_flag & (sys_flag::TRANSACTION_MASK | sys_flag::INNER_BATCH) != 0
        {
            return Err(self.illegal());
        }
        if self.broker.waiting(0, &seen.timer)? != Waiting::Nowhere {
            return Err(self.illegal());
        }
        if body.len() > self.config.max_message_size {
            return Err(SendError::BatchTooLarge { bytes: body.len() });
        }
        if let Some(key) = seen.unique_key.filter(|_| self.topic.is_batch_queue) {
            return self.whole_batch(stage, body, &seen, key);
        }
        let first_entry = stage.batch.entries.len();
        let first_byte = stage.batch.records.len();
        let entries = match self.batch_items(stage, body) {
            Ok(entries) => entries,
            Err(error) => {
                stage.batch.entries.truncate(first_entry);
                stage.batch.records.truncate(first_byte);
                return Err(error);
            }
        };
        stage.batch.entries[first_entry].group_len = entries as u32;
        Ok(Staged {
            entries: first_entry..first_entry + entries,
            queue_id: self.queue_id,
            wait_store: seen.wait_store,
            key: stage.remember_key(seen.unique_key.unwrap_or_default()),
            timer_out_ms: None,
            is_half: false,
            entered: 0..0,
            mapped: None,
        })
    }

    /// A batch to a queue of batches is one record, which the consumer unwraps (spec: behaviour.md §3.2).
    fn whole_batch(
        &self,
        stage: &mut SendStage,
        body: &[u8],
        seen: &PropertyScan<'_>,
        key: &[u8],
    ) -> Result<Staged, SendError> {
        let count = batch::items(body).try_fold(0u16, |count, item| {
            item.ok().filter(|_| count < i16::MAX as u16).map(|_| count + 1)
        });
        let count = count.ok_or_else(|| self.illegal())?;
        let mut extra = match seen.multi_dispatch {
            Some(names) => self
                .broker
                .multi_dispatch(self.topic.name(), names)?
                .unwrap_or_default(),
            None => Extra::default(),
        };
        extra.inner_batch = Some(count);
        let added = self.broker.stamp.len() + UNIQUE_KEY_OVERHEAD_BYTES;
        put::fits_with(&extra, self.request.properties.len() + added).map_err(|_| self.illegal())?;
        let mut fields = self.fields(self.topic.name(), self.queue_id, body);
        fields.sys_flag |= sys_flag::INNER_BATCH | sys_flag::NEED_UNWRAP;
        let queue = self.topic.queue(self.broker, self.queue_id);
        let tags_code = TagsCode::Hash(seen.tags.map_or(0, hash::tags_code));
        let first_entry = stage.batch.entries.len();
        put::stage(&mut stage.batch, queue, &fields, tags_code, 1, |out| {
            put::copy_properties(out, self.request.properties, put::is_stamped);
            out.extend_from_slice(&self.broker.stamp);
            properties::write(out, property::INNER_NUM.as_bytes(), count.to_string().as_bytes());
        })
        .map_err(|_| self.illegal())?;
        stage.batch.add_extra(extra);
        Ok(Staged {
            entries: first_entry..first_entry + 1,
            queue_id: self.queue_id,
            wait_store: seen.wait_store,
            key: stage.remember_key(key),
            timer_out_ms: None,
            is_half: false,
            entered: 0..0,
            mapped: None,
        })
    }

    /// Each item of a batch becomes a record of its own with its properties as they are (spec: storage.md §3.6). How
    /// many there were.
    fn batch_items(&self, stage: &mut SendStage, body: &[u8]) -> Result<usize, SendError> {
        let name = self.topic.name();
        let queue = self.topic.queue(self.broker, self.queue_id);
        let mut rest = body;
        let mut count = 0;
        while !rest.is_empty() {
            let item = BatchItem::split_off(&mut rest).ok_or(SendError::BatchMalformed)?;
            if item.body.is_empty() {
                return Err(self.illegal());
            }
            let tags = properties::find(item.properties, property::TAGS);
            let fields = RecordFields {
                flag: item.flag,
                prepared_transaction_offset: 0,
                ..self.fields(name, self.queue_id, item.body)
            };
            let tags_code = TagsCode::Hash(tags.map_or(0, hash::tags_code));
            put::stage(&mut stage.batch, Arc::clone(&queue), &fields, tags_code, 0, |out| {
                // Offsets in light queues that the client made up would be taken for real ones.
                match self.broker.store.config().multi_dispatch {
                    true => put::copy_properties(out, item.properties, put::is_of_append),
                    false => out.extend_from_slice(item.properties),
                }
            })
            .map_err(|_| self.illegal())?;
            count += 1;
        }
        Ok(count)
    }

    fn fields<'b>(&self, topic: &'b str, queue_id: i32, body: &'b [u8]) -> RecordFields<'b> {
        RecordFields {
            queue_id,
            flag: self.request.flag,
            sys_flag: self.sys_flag,
            born_timestamp: self.request.born_timestamp,
            born_host: self.producer.addr,
            store_host: self.broker.store_host,
            reconsume_times: self.request.reconsume_times,
            prepared_transaction_offset: 0,
            topic: topic.as_bytes(),
            body,
        }
    }

    /// A message that was consumed in vain too often goes to the dead letters of its group, and so does one of a group
    /// that consumes in order: it must not come back behind others (spec: behaviour.md §3.3).
    fn dead_letters(&self) -> Result<Option<Rc<TopicState>>, SendError> {
        let Some(group) = topic::group_of_retry(self.topic.name()) else {
            return Ok(None);
        };
        // POP retry topics are named `%RETRY%group+topic`.
        let group = group.split('+').next().unwrap_or(group);
        let config = self.broker.group(group);
        let config = config.ok_or_else(|| SendError::GroupUnknown(group.to_owned()))?;
        let reconsume_times_max = match self.request.max_reconsume_times {
            Some(max) if self.producer.version >= V3_4_9 => max,
            _ => config.retry_max_times,
        };
        let now = self.broker.now_ms();
        let in_order = || self.broker.queue_locks.holds_any(group, now);
        if self.request.reconsume_times <= reconsume_times_max && !in_order() {
            return Ok(None);
        }
        let dead_letters = self.broker.topics.ensure_dlq_topic(group, now);
        let topic = self.topics.get(self.broker, dead_letters.topic_name.as_bytes());
        topic
            .map(Some)
            .ok_or_else(|| SendError::DeadLetterTopic(dead_letters.topic_name.clone()))
    }

    fn illegal(&self) -> SendError {
        SendError::Illegal {
            body_bytes_max: self.config.max_message_size,
        }
    }
}

/// One message of a batch body (spec: protocol.md §6.3).
struct BatchItem<'a> {
    flag: i32,
    body: &'a [u8],
    properties: &'a [u8],
}

impl<'a> BatchItem<'a> {
    /// Cuts the first item off, or nothing when the lengths do not add up.
    fn split_off(rest: &mut &'a [u8]) -> Option<BatchItem<'a>> {
        let total = usize::try_from(i32::from_be_bytes(*rest.first_chunk()?)).ok()?;
        let (item, behind) = rest.split_at_checked(total)?;
        // Behind the size: magic and crc, which nobody reads.
        let (flag, item) = item.get(12..)?.split_first_chunk::<4>()?;
        let (body_bytes, item) = item.split_first_chunk::<4>()?;
        let (body, item) = item.split_at_checked(usize::try_from(i32::from_be_bytes(*body_bytes)).ok()?)?;
        let (properties_bytes, properties) = item.split_first_chunk::<2>()?;
        if properties.len() != usize::try_from(i16::from_be_bytes(*properties_bytes)).ok()? {
            return None;
        }
        *rest = behind;
        Some(BatchItem {
            flag: i32::from_be_bytes(*flag),
            body,
            properties,
        })
    }
}
