//! Sends (10, 310, 320): every check in the order of the original, and the encoding of what passes straight into the
//! batch of the turn (spec: behaviour.md §3).
//!
//! Decides and encodes only. The worker appends the batch and writes the replies.

mod admission;
mod batch;
mod single;

use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::body::{TopicConfig, TopicFilterType, TopicQueueMappingDetail};
use oxmq_protocol::record::RecordFields;
use oxmq_protocol::requests::SendMessageHeader;
use oxmq_protocol::scan::ScannedSend;
use oxmq_protocol::topic::NameError;
use oxmq_protocol::{FieldError, sys_flag};
use oxmq_store::{AppendBatch, AppendError};
use thiserror::Error;

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::duplicates::{Entered, Fingerprint, Verdict};
use crate::light_queues::TooManyLightQueues;
use crate::put::PropertyScan;
use crate::response::{FAQ, OVERLOAD, REJECTED, topic_name, topic_text};
use crate::static_topics::MappedSend;
use crate::stats::MessageType;
use crate::topic_cache::{TopicCache, TopicState};
use crate::waiting::TimerRefusal;

pub(crate) use admission::{Admitted, admit};

/// Why a send is refused, in the words of the original.
#[derive(Debug, Error)]
pub enum SendError {
    #[error(transparent)]
    Fields(#[from] FieldError),
    #[error("{REJECTED}")]
    Busy,
    #[error("{OVERLOAD}")]
    Overload,
    #[error("{OVERLOAD}, the quota of {0} is used up")]
    Quota(String),
    #[error("broker unable to service, until {until}")]
    NotYet { until: String },
    #[error("the broker[{ip}] sending message is forbidden")]
    BrokerNotWriteable { ip: String },
    #[error("{}", topic_name(topic, error))]
    TopicName { topic: String, error: NameError },
    #[error("Sending message to topic[{0}] is forbidden.")]
    TopicClosed(String),
    #[error("topic[{0}] not exist, apply first please!{FAQ}")]
    TopicUnknown(String),
    #[error("request queueId[{queue_id}] is illegal, {} Producer: {producer}", topic_text(topic))]
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
    #[error("topic[{0}] has no queue to write to")]
    NoWriteQueue(String),
    #[error("subscription group not exist, {0} {FAQ}")]
    GroupUnknown(String),
    #[error("topic[{0}] not exist")]
    DeadLetterTopic(String),
    #[error("Required message key is missing")]
    KeyMissing,
    #[error("the broker[{ip}] sending transaction message is forbidden")]
    Transaction { ip: String },
    #[error(transparent)]
    Timer(#[from] TimerRefusal),
    #[error(
        "the message is illegal, maybe msg body or properties length not matched. msg body length limit \
         {body_bytes_max}B, msg properties length limit 32KB."
    )]
    Illegal { body_bytes_max: usize },
    #[error("batch request does not support retry group ")]
    BatchToRetryTopic,
    #[error("message topic length too long {0}")]
    BatchTopicLength(usize),
    #[error("the message has no body")]
    NoBody,
    #[error("the lengths inside a batch do not add up")]
    BatchMalformed,
    #[error("message body size exceeded: {bytes}")]
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
    pub(crate) message_type: MessageType,
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

    pub(crate) fn of_header(header: &'a SendMessageHeader) -> SendRequest<'a> {
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
    /// What has been encoded since the batch had `first_entry` entries.
    fn staged(&self, stage: &mut SendStage, first_entry: usize, key: &[u8], seen: &PropertyScan<'_>) -> Staged {
        Staged {
            entries: first_entry..stage.batch.entries.len(),
            queue_id: self.queue_id,
            wait_store: seen.wait_store,
            key: stage.remember_key(key),
            timer_out_ms: None,
            is_half: false,
            message_type: seen.message_type(),
            entered: 0..0,
            mapped: None,
        }
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

    fn illegal(&self) -> SendError {
        SendError::Illegal {
            body_bytes_max: self.config.max_message_size,
        }
    }
}
