//! Pulls (11, 361): every check in the order of the original, and what the outcome of a read means for the reply
//! (spec: behaviour.md §4.1, §4.2; protocol.md §7).

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use oxmq_protocol::body::{MessageModel, SubscriptionGroupConfig, TopicQueueMappingDetail};
use oxmq_protocol::requests::PullMessageHeader;
use oxmq_protocol::scan::ScannedPull;
use oxmq_protocol::sys_flag::pull as flag;
use oxmq_protocol::{FieldError, perm, response_code as code};
use oxmq_remoting::ReplyTo;
use oxmq_store::{ConsumeQueue, GetLimits, GetMessages, GetStatus};
use thiserror::Error;

use crate::broker::Broker;
use crate::filter::{self, Filter, FilterError};
use crate::response::{FAQ, OVERLOAD, QueueIdIllegal};
use crate::static_topics::{Answer, MappedPull, Unmapped};
use crate::stats::GroupStats;
use crate::topic_cache::{TopicCache, TopicState};

/// Largest reply to one pull, as in the original.
const PULL_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Fewest bytes that a consumer can limit a pull to, as in the original.
const PULL_BYTES_MIN: usize = 100;

/// Why a pull is refused, in the words of the original.
#[derive(Debug, Error)]
pub enum PullError {
    #[error(transparent)]
    Fields(#[from] FieldError),
    #[error("{OVERLOAD}")]
    Overload,
    #[error("the broker[{ip}] pulling message is forbidden")]
    BrokerNotReadable { ip: String },
    #[error("the broker[{ip}] for lite pull consumer is forbidden")]
    LitePullDisabled { ip: String },
    #[error("subscription group [{0}] does not exist, {FAQ}")]
    GroupUnknown(String),
    #[error("subscription group no permission, {0}")]
    GroupDisabled(String),
    #[error("topic[{0}] not exist, apply first please! {FAQ}")]
    TopicUnknown(String),
    #[error("the topic[{0}] pulling message is forbidden")]
    TopicNotReadable(String),
    #[error(transparent)]
    QueueId(#[from] QueueIdIllegal),
    #[error(
        "{}-{queue_id} cannot find mapping item in request process of current broker {}",
        mapping.topic, mapping.bname
    )]
    NotLeader {
        queue_id: i32,
        mapping: Arc<TopicQueueMappingDetail>,
    },
    #[error("the logical queue has no place for messages yet")]
    NoPlace,
    /// Another broker was asked for its part of a logical queue.
    #[error("{0}")]
    Elsewhere(String),
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error("the consumer's group info not exist{FAQ}")]
    GroupOffline,
    #[error("the consumer group[{0}] can not consume by broadcast way")]
    BroadcastDisabled(String),
    #[error("This consumer group is reading cold data. It has been flow control")]
    ColdReads,
    #[error("the consumer group[{group}] is forbidden for topic[{topic}]")]
    ReadForbidden { group: String, topic: String },
    #[error("the consumer's subscription not exist{FAQ}")]
    NotSubscribed,
    #[error("the consumer's subscription not latest")]
    SubscriptionOld,
    #[error("the consumer's group info not exist: {group}, {reason}{FAQ}")]
    PullConsumerRejected { group: String, reason: &'static str },
    #[error("{0}")]
    Read(String),
}

/// The header of a pull, whichever way it was read.
#[derive(Debug)]
pub(crate) struct PullRequest<'a> {
    pub(crate) lite: bool,
    pub(crate) consumer_group: Cow<'a, str>,
    pub(crate) topic: Cow<'a, str>,
    pub(crate) queue_id: i32,
    pub(crate) queue_offset: i64,
    pub(crate) max_msg_nums: i32,
    pub(crate) max_msg_bytes: Option<i32>,
    pub(crate) sys_flag: i32,
    pub(crate) commit_offset: i64,
    pub(crate) suspend_timeout_millis: i64,
    pub(crate) subscription: Option<Cow<'a, str>>,
    pub(crate) sub_version: i64,
    pub(crate) expression_type: Option<Cow<'a, str>>,
    pub(crate) request_source: Option<i32>,
    /// False when another broker asks for a physical queue.
    pub(crate) may_be_logical: bool,
}

/// A pull that passed all checks.
pub(crate) struct Pull {
    pub(crate) to: ReplyTo,
    pub(crate) group: Arc<SubscriptionGroupConfig>,
    pub(crate) topic: Rc<TopicState>,
    pub(crate) queue: Arc<ConsumeQueue>,
    pub(crate) stats: Arc<GroupStats>,
    pub(crate) from: i64,
    pub(crate) limits: GetLimits,
    pub(crate) filter: Filter,
    /// The queue is that of a logical queue.
    pub(crate) mapped: Option<Box<MappedPull>>,
    /// How long it may be held when there is nothing; never twice.
    pub(crate) suspend_ms: Option<u64>,
}

/// A reply to a pull, without its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PullReply {
    pub(crate) code: i32,
    pub(crate) status: GetStatus,
    pub(crate) next_begin_offset: i64,
    pub(crate) min_offset: i64,
    pub(crate) max_offset: i64,
    pub(crate) suggest_which_broker_id: i64,
    pub(crate) topic_sys_flag: i32,
    pub(crate) group_sys_flag: i32,
    /// What the consumer has to add to the queue offsets of the messages.
    pub(crate) offset_delta: Option<i64>,
}

/// What becomes of a pull that passes its checks.
pub(crate) enum Checked {
    Here(Box<Pull>),
    /// Another broker has that part of the logical queue.
    Elsewhere(Box<MappedPull>),
}

impl<'a> PullRequest<'a> {
    pub(crate) fn new(code: i32, pull: &ScannedPull<'a>) -> PullRequest<'a> {
        PullRequest {
            lite: is_lite(code),
            consumer_group: pull.consumer_group.to_str(),
            topic: pull.topic.to_str(),
            queue_id: pull.queue_id,
            queue_offset: pull.queue_offset,
            max_msg_nums: pull.max_msg_nums,
            max_msg_bytes: pull.max_msg_bytes,
            sys_flag: pull.sys_flag,
            commit_offset: pull.commit_offset,
            suspend_timeout_millis: pull.suspend_timeout_millis,
            subscription: pull.subscription.map(|text| text.to_str()),
            sub_version: pull.sub_version,
            expression_type: pull.expression_type.map(|text| text.to_str()),
            request_source: pull.request_source,
            may_be_logical: pull.lo != Some(false),
        }
    }

    /// The checks that need no messages. Commits the offset that the request carries when it passes.
    pub(crate) fn check(
        &self,
        broker: &Broker,
        topics: &TopicCache,
        to: ReplyTo,
        consumer: &Consumer,
    ) -> Result<Checked, PullError> {
        let config = broker.config();
        if !perm::is_readable(config.broker_permission) {
            let ip = config.broker_ip1.clone();
            return Err(PullError::BrokerNotReadable { ip });
        }
        if self.lite && !config.lite_pull_message_enable {
            let ip = config.broker_ip1.clone();
            return Err(PullError::LitePullDisabled { ip });
        }
        let group_name = &*self.consumer_group;
        let group = broker.group(group_name);
        let group = group.ok_or_else(|| PullError::GroupUnknown(group_name.to_owned()))?;
        if !group.consume_enable {
            return Err(PullError::GroupDisabled(group_name.to_owned()));
        }
        let topic = topics.get(broker, self.topic.as_bytes());
        let topic = topic.ok_or_else(|| PullError::TopicUnknown(self.topic.clone().into_owned()))?;
        if !perm::is_readable(topic.config.perm) {
            return Err(PullError::TopicNotReadable(topic.name().to_owned()));
        }
        let mapped = self.mapped(&topic)?.map(Box::new);
        let (mapped, queue_id, queue_offset) = match mapped {
            None => (None, self.queue_id, self.queue_offset),
            Some(mapped) if mapped.broker_name() != config.broker_name => return Ok(Checked::Elsewhere(mapped)),
            Some(mapped) => {
                let (queue_id, queue_offset) = (mapped.queue_id(), mapped.queue_offset);
                (Some(mapped), queue_id, queue_offset)
            }
        };
        if queue_id < 0 || queue_id >= topic.config.read_queue_nums {
            return Err(QueueIdIllegal::of(queue_id, &topic.config, consumer.addr).into());
        }
        let filter = self.filter(broker, &group)?;
        if config.reject_pull_consumer_enable {
            self.check_push_consumer(broker, consumer)?;
        }
        let queue = match topic.is_light {
            true => broker.light_queue(topic.name()).map_err(|_| PullError::Overload)?,
            false => topic.queue(broker, queue_id),
        };
        // An offset in an older item is committed by a request of its own.
        let commit_offset = match &mapped {
            None => Some(self.commit_offset),
            Some(mapped) => mapped.physical(self.commit_offset),
        };
        if let Some(commit_offset) = commit_offset.filter(|_| self.sys_flag & flag::COMMIT_OFFSET != 0) {
            let now = broker.now_ms();
            let offsets = &broker.consumer_offsets;
            offsets.commit_of_client(group_name, topic.name(), queue_id, commit_offset, now);
        }
        let suspend_ms = match config.long_polling_enable {
            true => self.suspend_timeout_millis.max(0) as u64,
            false => config.short_polling_time_ms,
        };
        Ok(Checked::Here(Box::new(Pull {
            to,
            stats: broker.stats.group(topic.name(), group_name),
            group,
            topic,
            queue,
            from: queue_offset,
            limits: self.limits(mapped.as_deref()),
            filter,
            mapped,
            suspend_ms: (self.sys_flag & flag::SUSPEND != 0).then_some(suspend_ms),
        })))
    }

    /// Where a pull from a logical queue goes.
    fn mapped(&self, topic: &TopicState) -> Result<Option<MappedPull>, PullError> {
        let Some(mapping) = topic.mapping.as_ref().filter(|_| self.may_be_logical) else {
            return Ok(None);
        };
        let mapped = MappedPull::new(mapping, self.queue_id, self.queue_offset);
        mapped.map(Some).map_err(|error| match error {
            Unmapped::NoPlace => PullError::NoPlace,
            Unmapped::NotLeader => PullError::NotLeader {
                queue_id: self.queue_id,
                mapping: Arc::clone(mapping),
            },
        })
    }

    /// The request that asks another broker for a part of the logical queue. It does not wait there, nor commit.
    pub(crate) fn to_part(&self, mapped: &MappedPull) -> PullMessageHeader {
        let text = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
        PullMessageHeader {
            consumer_group: self.consumer_group.clone().into_owned(),
            topic: self.topic.clone().into_owned(),
            queue_id: mapped.queue_id(),
            queue_offset: mapped.queue_offset,
            max_msg_nums: mapped.count_max(self.max_msg_nums),
            sys_flag: self.sys_flag & !(flag::SUSPEND | flag::COMMIT_OFFSET),
            commit_offset: self.commit_offset,
            suspend_timeout_millis: self.suspend_timeout_millis,
            subscription: text(&self.subscription),
            sub_version: self.sub_version,
            expression_type: text(&self.expression_type),
            max_msg_bytes: self.max_msg_bytes,
            request_source: self.request_source,
            lo: Some(false),
            broker_name: Some(mapped.broker_name().to_owned()),
        }
    }

    fn limits(&self, mapped: Option<&MappedPull>) -> GetLimits {
        let count = mapped.map_or(self.max_msg_nums, |mapped| mapped.count_max(self.max_msg_nums));
        let bytes = self.max_msg_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        GetLimits {
            count: usize::try_from(count).unwrap_or(0).max(1),
            bytes: bytes.map_or(PULL_BYTES_MAX, |bytes| bytes.clamp(PULL_BYTES_MIN, PULL_BYTES_MAX)),
        }
    }

    /// The subscription of the request, or the one that the group's heartbeats brought.
    fn filter(&self, broker: &Broker, group: &SubscriptionGroupConfig) -> Result<Filter, PullError> {
        if self.sys_flag & flag::SUBSCRIPTION != 0 {
            let (kind, expression) = (self.expression_type.as_deref(), self.subscription.as_deref());
            filter::check_enabled(broker, kind.unwrap_or_default())?;
            return Ok(Filter::of_expression(
                broker,
                &self.consumer_group,
                &self.topic,
                kind,
                expression,
            )?);
        }
        let name = &*self.consumer_group;
        let Some((_, message_model)) = broker.consumers.group_info(name) else {
            return Err(PullError::GroupOffline);
        };
        if message_model == MessageModel::Broadcasting && !group.consume_broadcast_enable {
            return Err(PullError::BroadcastDisabled(name.to_owned()));
        }
        if broker.groups.is_read_forbidden(name, &self.topic) {
            let (group, topic) = (name.to_owned(), self.topic.clone().into_owned());
            return Err(PullError::ReadForbidden { group, topic });
        }
        let subscription = broker.consumers.subscription(name, &self.topic);
        let subscription = subscription.ok_or(PullError::NotSubscribed)?;
        if subscription.sub_version < self.sub_version {
            return Err(PullError::SubscriptionOld);
        }
        Ok(Filter::of_subscription(broker, name, &subscription, self.sub_version)?)
    }

    fn check_push_consumer(&self, broker: &Broker, consumer: &Consumer) -> Result<(), PullError> {
        let group = &*self.consumer_group;
        if oxmq_protocol::topic::is_system_group(group) {
            return Ok(());
        }
        let registered = broker
            .consumers
            .with_group(group, |members| members.clients.contains_key(&consumer.connection));
        if registered == Some(true) {
            return Ok(());
        }
        Err(PullError::PullConsumerRejected {
            group: group.to_owned(),
            reason: "pull consumers are refused here",
        })
    }
}

/// Who pulls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Consumer {
    pub(crate) connection: u64,
    pub(crate) addr: SocketAddr,
}

fn is_lite(code: i32) -> bool {
    code == oxmq_protocol::RequestCode::LitePullMessage.code()
}

impl Pull {
    /// Whether it is held instead of getting this reply.
    pub(crate) fn may_wait(&self, reply: &PullReply) -> bool {
        reply.code == code::PULL_NOT_FOUND && self.suspend_ms.is_some()
    }

    /// What the outcome of the read means for the consumer.
    pub(crate) fn reply(&self, got: &GetMessages, slave_read_enable: bool) -> PullReply {
        let suggest_which_broker_id = match slave_read_enable {
            true if got.suggest_pulling_from_slave => self.group.which_broker_when_consume_slowly,
            true => self.group.broker_id,
            false => 0,
        };
        let reply = PullReply {
            code: code_of(got.status, self.from),
            status: got.status,
            next_begin_offset: got.next_begin_offset,
            min_offset: got.min_offset,
            max_offset: got.max_offset,
            suggest_which_broker_id,
            topic_sys_flag: self.topic.config.topic_sys_flag,
            group_sys_flag: self.group.group_sys_flag,
            offset_delta: None,
        };
        match &self.mapped {
            None => reply,
            Some(mapped) => reply.of_logical_queue(mapped),
        }
    }
}

impl PullReply {
    /// What the answer of one item means in its logical queue.
    pub(crate) fn of_logical_queue(self, mapped: &MappedPull) -> PullReply {
        let answer = mapped.rewrite(Answer {
            code: self.code,
            next_begin_offset: self.next_begin_offset,
            min_offset: self.min_offset,
            max_offset: self.max_offset,
        });
        PullReply {
            code: answer.code,
            next_begin_offset: answer.next_begin_offset,
            min_offset: answer.min_offset,
            max_offset: answer.max_offset,
            offset_delta: Some(mapped.offset_delta()),
            ..self
        }
    }
}

fn code_of(status: GetStatus, queue_offset: i64) -> i32 {
    match status {
        GetStatus::Found => code::SUCCESS,
        GetStatus::MessageWasRemoving | GetStatus::NoMatchedMessage => code::PULL_RETRY_IMMEDIATELY,
        GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue if queue_offset != 0 => code::PULL_OFFSET_MOVED,
        GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue => code::PULL_NOT_FOUND,
        GetStatus::OffsetFoundNull | GetStatus::OffsetOverflowOne => code::PULL_NOT_FOUND,
        GetStatus::OffsetOverflowBadly | GetStatus::OffsetTooSmall | GetStatus::OffsetReset => code::PULL_OFFSET_MOVED,
    }
}

/// The remark of a reply.
pub(crate) fn status_name(status: GetStatus) -> &'static str {
    match status {
        GetStatus::Found => "FOUND",
        GetStatus::NoMatchedMessage => "NO_MATCHED_MESSAGE",
        GetStatus::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
        GetStatus::OffsetFoundNull => "OFFSET_FOUND_NULL",
        GetStatus::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
        GetStatus::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
        GetStatus::OffsetTooSmall => "OFFSET_TOO_SMALL",
        GetStatus::NoMatchedLogicQueue => "NO_MATCHED_LOGIC_QUEUE",
        GetStatus::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
        GetStatus::OffsetReset => "OFFSET_RESET",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_of_a_read_have_their_codes() {
        for (status, queue_offset, wanted) in [
            (GetStatus::Found, 5, 0),
            (GetStatus::NoMatchedMessage, 5, 20),
            (GetStatus::MessageWasRemoving, 5, 20),
            (GetStatus::NoMessageInQueue, 0, 19),
            (GetStatus::NoMessageInQueue, 5, 21),
            (GetStatus::NoMatchedLogicQueue, 0, 19),
            (GetStatus::NoMatchedLogicQueue, -1, 21),
            (GetStatus::OffsetFoundNull, 5, 19),
            (GetStatus::OffsetOverflowOne, 5, 19),
            (GetStatus::OffsetOverflowBadly, 5, 21),
            (GetStatus::OffsetTooSmall, 5, 21),
            (GetStatus::OffsetReset, 5, 21),
        ] {
            assert_eq!(code_of(status, queue_offset), wanted, "{status:?} from {queue_offset}");
        }
    }
}
