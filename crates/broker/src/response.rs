//! Errors as peers see them: the response code and the remark of everything that the broker refuses
//! (spec: behaviour.md §3.2, §3.5, §4.1; remarks as the original writes them).

use std::collections::BTreeMap;

use oxmq_protocol::topic::{NameError, TOPIC_LENGTH_MAX};
use oxmq_protocol::{FieldError, RemotingCommand, perm, response_code as code};
use oxmq_store::AppendError;

use crate::filter::FilterError;
use crate::handlers::static_topic::not_leader;
use crate::pull::PullError;
use crate::put::PutError;
use crate::send::SendError;
use crate::transactions::end::EndError;
use crate::waiting::TimerRefusal;

const FAQ: &str = "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";

/// Java's answer while no thread may take a send.
pub(crate) const REJECTED: &str = "[REJECTREQUEST]system busy, start flow control for a while";
/// Java's answer when a queue of waiting requests is full.
pub(crate) const OVERLOAD: &str = "[OVERLOAD]system busy, start flow control for a while";

/// An error response: what stands in it besides the fields every reply of its kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: i32,
    pub remark: String,
    /// Pull only: which of the permissions is missing.
    pub forbidden_type: Option<i32>,
}

impl Refusal {
    pub fn new(code: i32, remark: impl Into<String>) -> Refusal {
        Refusal {
            code,
            remark: remark.into(),
            forbidden_type: None,
        }
    }

    fn forbidden(remark: String, forbidden_type: i32) -> Refusal {
        Refusal {
            code: code::NO_PERMISSION,
            remark,
            forbidden_type: Some(forbidden_type),
        }
    }

    /// The response to the request with this opaque.
    pub fn into_command(self, opaque: i32) -> RemotingCommand {
        let mut command = RemotingCommand::response(opaque, self.code, Some(self.remark));
        if let Some(forbidden_type) = self.forbidden_type {
            command
                .header
                .ext_fields
                .set("forbiddenType", forbidden_type.to_string());
        }
        command
    }
}

impl From<&FieldError> for Refusal {
    fn from(error: &FieldError) -> Refusal {
        Refusal::new(code::SYSTEM_ERROR, error.to_string())
    }
}

impl From<&SendError> for Refusal {
    fn from(error: &SendError) -> Refusal {
        match error {
            SendError::Fields(error) => error.into(),
            SendError::Busy => Refusal::new(code::SYSTEM_BUSY, REJECTED),
            SendError::Overload => Refusal::new(code::SYSTEM_BUSY, OVERLOAD),
            SendError::NotYet { until } => {
                Refusal::new(code::SYSTEM_ERROR, format!("broker unable to service, until {until}"))
            }
            SendError::BrokerNotWriteable { ip } => Refusal::new(
                code::NO_PERMISSION,
                format!("the broker[{ip}] sending message is forbidden"),
            ),
            SendError::TopicName { topic, error } => Refusal::new(code::INVALID_PARAMETER, topic_name(topic, error)),
            SendError::TopicClosed(topic) => Refusal::new(
                code::NO_PERMISSION,
                format!("Sending message to topic[{topic}] is forbidden."),
            ),
            SendError::TopicUnknown(topic) => Refusal::new(
                code::TOPIC_NOT_EXIST,
                format!("topic[{topic}] not exist, apply first please!{FAQ}"),
            ),
            SendError::QueueId {
                queue_id,
                topic,
                producer,
            } => Refusal::new(
                code::INVALID_PARAMETER,
                format!(
                    "request queueId[{queue_id}] is illegal, TopicConfig [topicName={}, readQueueNums={}, \
                     writeQueueNums={}, perm={}, topicFilterType={}, topicSysFlag={}, order={}, attributes={}] \
                     Producer: {producer}",
                    topic.topic_name,
                    topic.read_queue_nums,
                    topic.write_queue_nums,
                    perm::text(topic.perm),
                    topic.topic_filter_type.name(),
                    topic.topic_sys_flag,
                    topic.order,
                    java_map(&topic.attributes),
                ),
            ),
            SendError::NotLeader { queue_id, mapping } => not_leader(mapping, *queue_id),
            SendError::NoWriteQueue(topic) => {
                Refusal::new(code::SYSTEM_ERROR, format!("topic[{topic}] has no queue to write to"))
            }
            SendError::GroupUnknown(group) => Refusal::new(
                code::SUBSCRIPTION_GROUP_NOT_EXIST,
                format!("subscription group not exist, {group} {FAQ}"),
            ),
            SendError::DeadLetterTopic(topic) => Refusal::new(code::SYSTEM_ERROR, format!("topic[{topic}] not exist")),
            SendError::KeyMissing => Refusal::new(code::MESSAGE_ILLEGAL, "Required message key is missing"),
            SendError::Transaction { ip } => Refusal::new(
                code::NO_PERMISSION,
                format!("the broker[{ip}] sending transaction message is forbidden"),
            ),
            SendError::Timer(refusal) => refusal.into(),
            SendError::Illegal { body_bytes_max } => Refusal::new(
                code::MESSAGE_ILLEGAL,
                format!(
                    "the message is illegal, maybe msg body or properties length not matched. msg body length limit \
                     {body_bytes_max}B, msg properties length limit 32KB."
                ),
            ),
            SendError::BatchToRetryTopic => {
                Refusal::new(code::MESSAGE_ILLEGAL, "batch request does not support retry group ")
            }
            SendError::BatchTopicLength(length) => {
                Refusal::new(code::MESSAGE_ILLEGAL, format!("message topic length too long {length}"))
            }
            SendError::NoBody | SendError::BatchMalformed => Refusal::new(code::SYSTEM_ERROR, error.to_string()),
            SendError::BatchTooLarge { bytes } => {
                Refusal::new(code::SYSTEM_ERROR, format!("message body size exceeded: {bytes}"))
            }
            SendError::LightQueues(error) => Refusal::new(code::SYSTEM_ERROR, error.to_string()),
            SendError::Append(error) => error.into(),
        }
    }
}

impl From<&TimerRefusal> for Refusal {
    fn from(refusal: &TimerRefusal) -> Refusal {
        let code = match refusal {
            TimerRefusal::Illegal { .. } => code::MESSAGE_ILLEGAL,
            TimerRefusal::Disabled | TimerRefusal::Congested { .. } => code::SYSTEM_ERROR,
        };
        Refusal::new(code, refusal.to_string())
    }
}

impl From<&EndError> for Refusal {
    fn from(error: &EndError) -> Refusal {
        let wrong = |remark: &str| Refusal::new(code::SYSTEM_ERROR, remark);
        match error {
            EndError::Fields(error) => error.into(),
            EndError::Outcome(_) => wrong("commitOrRollback field wrong"),
            EndError::NotFound => wrong("Find prepared transaction message failed"),
            EndError::ProducerGroup => wrong("The producer group wrong"),
            EndError::QueueOffset => wrong("The transaction state table offset wrong"),
            EndError::PhysicalOffset => wrong("The commit log offset wrong"),
            EndError::TransactionId | EndError::Read(_) => wrong(&error.to_string()),
            EndError::Immunity | EndError::Ended => Refusal::new(code::ILLEGAL_OPERATION, error.to_string()),
            EndError::Busy => Refusal::new(code::SYSTEM_BUSY, error.to_string()),
            EndError::Overload => Refusal::new(code::SYSTEM_BUSY, OVERLOAD),
            EndError::Put(PutError::Append(error)) | EndError::Append(error) => error.into(),
            EndError::Put(PutError::Timer(error)) => (&SendError::Timer(*error)).into(),
            EndError::Put(PutError::LightQueues(error)) => wrong(&error.to_string()),
            EndError::Put(PutError::Record(error)) => Refusal::new(code::MESSAGE_ILLEGAL, error.to_string()),
        }
    }
}

impl From<&AppendError> for Refusal {
    fn from(error: &AppendError) -> Refusal {
        match error {
            AppendError::DiskFull(space) => Refusal::new(
                code::SERVICE_NOT_AVAILABLE,
                format!(
                    "service not available now. It may be caused by one of the following reasons: the broker's disk is \
                     full [{space}], messages are put to the slave, message store has been shut down, etc."
                ),
            ),
            AppendError::ShutDown | AppendError::Failed(_) => Refusal::new(
                code::SERVICE_NOT_AVAILABLE,
                format!(
                    "service not available now. It may be caused by one of the following reasons: the broker's disk is \
                     full, messages are put to the slave, message store has been shut down, etc. [{error}]"
                ),
            ),
            AppendError::CreateFile(_) => Refusal::new(
                code::SYSTEM_ERROR,
                "create mapped file failed, server is busy or broken.",
            ),
            AppendError::TooLarge { .. } => Refusal::new(code::MESSAGE_ILLEGAL, error.to_string()),
        }
    }
}

impl From<&FilterError> for Refusal {
    fn from(error: &FilterError) -> Refusal {
        // The original gives no reasons.
        let with = |remark: &str, reason: &Option<String>| match reason {
            Some(reason) => format!("{remark} {reason}"),
            None => remark.to_owned(),
        };
        match error {
            FilterError::Unreadable { reason } => Refusal::new(
                code::SUBSCRIPTION_PARSE_FAILED,
                with("parse the consumer's subscription failed", reason),
            ),
            FilterError::Unknown { reason } => Refusal::new(
                code::FILTER_DATA_NOT_EXIST,
                with(
                    "The broker's consumer filter data is not exist!Your expression may be wrong!",
                    reason,
                ),
            ),
            FilterError::Old => Refusal::new(
                code::FILTER_DATA_NOT_LATEST,
                "the consumer's consumer filter data not latest",
            ),
            FilterError::Disabled(kind) => Refusal::new(
                code::SYSTEM_ERROR,
                format!("The broker does not support consumer to filter message by {kind}"),
            ),
        }
    }
}

impl From<&PullError> for Refusal {
    fn from(error: &PullError) -> Refusal {
        match error {
            PullError::Fields(error) => error.into(),
            PullError::Overload => Refusal::new(code::SYSTEM_BUSY, OVERLOAD),
            PullError::BrokerNotReadable { ip } => {
                Refusal::forbidden(format!("the broker[{ip}] pulling message is forbidden"), 1)
            }
            PullError::LitePullDisabled { ip } => {
                Refusal::forbidden(format!("the broker[{ip}] for lite pull consumer is forbidden"), 1)
            }
            PullError::GroupUnknown(group) => Refusal::new(
                code::SUBSCRIPTION_GROUP_NOT_EXIST,
                format!("subscription group [{group}] does not exist, {FAQ}"),
            ),
            PullError::GroupDisabled(group) => {
                Refusal::forbidden(format!("subscription group no permission, {group}"), 2)
            }
            PullError::TopicUnknown(topic) => Refusal::new(
                code::TOPIC_NOT_EXIST,
                format!("topic[{topic}] not exist, apply first please! {FAQ}"),
            ),
            PullError::TopicNotReadable(topic) => {
                Refusal::forbidden(format!("the topic[{topic}] pulling message is forbidden"), 3)
            }
            PullError::QueueId {
                queue_id,
                topic,
                read_queue_nums,
                consumer,
            } => Refusal::new(
                code::INVALID_PARAMETER,
                format!(
                    "queueId[{queue_id}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{read_queue_nums}] \
                     consumer:[/{consumer}]"
                ),
            ),
            PullError::NotLeader { queue_id, mapping } => Refusal::new(
                code::NOT_LEADER_FOR_QUEUE,
                format!(
                    "{}-{queue_id} cannot find mapping item in request process of current broker {}",
                    mapping.topic, mapping.bname
                ),
            ),
            PullError::NoPlace | PullError::Elsewhere(_) => Refusal::new(code::SYSTEM_ERROR, error.to_string()),
            PullError::Filter(error) => error.into(),
            PullError::GroupOffline => Refusal::new(
                code::SUBSCRIPTION_NOT_EXIST,
                format!("the consumer's group info not exist{FAQ}"),
            ),
            PullError::BroadcastDisabled(group) => Refusal::forbidden(
                format!("the consumer group[{group}] can not consume by broadcast way"),
                4,
            ),
            PullError::ReadForbidden { group, topic } => Refusal::forbidden(
                format!("the consumer group[{group}] is forbidden for topic[{topic}]"),
                5,
            ),
            PullError::NotSubscribed => Refusal::new(
                code::SUBSCRIPTION_NOT_EXIST,
                format!("the consumer's subscription not exist{FAQ}"),
            ),
            PullError::SubscriptionOld => {
                Refusal::new(code::SUBSCRIPTION_NOT_LATEST, "the consumer's subscription not latest")
            }
            PullError::PullConsumerRejected { group, reason } => Refusal::new(
                code::SUBSCRIPTION_NOT_EXIST,
                format!("the consumer's group info not exist: {group}, {reason}{FAQ}"),
            ),
            PullError::Read(reason) => Refusal::new(code::SYSTEM_ERROR, reason.clone()),
        }
    }
}

/// Why a topic name is refused, in the words of the original.
pub(crate) fn topic_name(topic: &str, error: &NameError) -> String {
    match error {
        NameError::Blank => "The specified topic is blank.".into(),
        NameError::Characters(_) => {
            format!("The specified topic: {topic}, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")
        }
        NameError::Length { .. } => {
            format!("The specified topic: {topic}, is longer than topic max length: {TOPIC_LENGTH_MAX}")
        }
    }
}

/// A map as Java's `toString` shows it.
fn java_map(map: &BTreeMap<String, String>) -> String {
    let entries: Vec<_> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{{{}}}", entries.join(", "))
}
