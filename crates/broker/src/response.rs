//! Errors as peers see them: the response code of everything that the broker refuses. The remark is the text of the
//! error, as the original writes it (spec: behaviour.md §3.2, §3.5, §4.1).

use std::net::SocketAddr;

use oxmq_protocol::body::TopicConfig;
use oxmq_protocol::topic::{NameError, TOPIC_LENGTH_MAX};
use oxmq_protocol::{FieldError, RemotingCommand, perm, response_code as code};
use oxmq_store::AppendError;
use thiserror::Error;

use crate::filter::FilterError;
use crate::handlers::static_topic::not_leader;
use crate::pop::PopError;
use crate::pull::PullError;
use crate::put::PutError;
use crate::send::SendError;
use crate::transactions::end::EndError;
use crate::waiting::TimerRefusal;

/// Java ends many remarks with it.
pub(crate) const FAQ: &str = "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";

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
        use SendError::*;
        let code = match error {
            Fields(error) => return error.into(),
            Timer(refusal) => return refusal.into(),
            Append(error) => return error.into(),
            NotLeader { queue_id, mapping } => return not_leader(mapping, *queue_id),
            Busy | Overload | Quota(_) => code::SYSTEM_BUSY,
            BrokerNotWriteable { .. } | TopicClosed(_) | Transaction { .. } => code::NO_PERMISSION,
            TopicName { .. } | QueueId { .. } => code::INVALID_PARAMETER,
            TopicUnknown(_) => code::TOPIC_NOT_EXIST,
            GroupUnknown(_) => code::SUBSCRIPTION_GROUP_NOT_EXIST,
            KeyMissing | Illegal { .. } | BatchToRetryTopic | BatchTopicLength(_) => code::MESSAGE_ILLEGAL,
            NotYet { .. }
            | NoWriteQueue(_)
            | DeadLetterTopic(_)
            | NoBody
            | BatchMalformed
            | BatchTooLarge { .. }
            | LightQueues(_) => code::SYSTEM_ERROR,
        };
        Refusal::new(code, error.to_string())
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
        use EndError::*;
        let code = match error {
            Fields(error) => return error.into(),
            Put(PutError::Append(error)) | Append(error) => return error.into(),
            Put(PutError::Timer(error)) => return error.into(),
            Put(PutError::Record(_)) => code::MESSAGE_ILLEGAL,
            Immunity | Ended => code::ILLEGAL_OPERATION,
            Busy | Overload => code::SYSTEM_BUSY,
            Outcome
            | NotFound
            | ProducerGroup
            | QueueOffset
            | PhysicalOffset
            | TransactionId
            | Read(_)
            | Put(PutError::LightQueues(_)) => code::SYSTEM_ERROR,
        };
        Refusal::new(code, error.to_string())
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
            AppendError::QueueUnreadable { .. } => Refusal::new(code::SYSTEM_ERROR, error.to_string()),
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
        let code = match error {
            FilterError::Unreadable { .. } => code::SUBSCRIPTION_PARSE_FAILED,
            FilterError::Unknown { .. } => code::FILTER_DATA_NOT_EXIST,
            FilterError::Old => code::FILTER_DATA_NOT_LATEST,
            FilterError::Disabled(_) => code::SYSTEM_ERROR,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<&PullError> for Refusal {
    fn from(error: &PullError) -> Refusal {
        use PullError::*;
        let forbidden = |forbidden_type| Refusal {
            forbidden_type: Some(forbidden_type),
            ..Refusal::new(code::NO_PERMISSION, error.to_string())
        };
        let code = match error {
            Fields(error) => return error.into(),
            Filter(error) => return error.into(),
            BrokerNotReadable { .. } | LitePullDisabled { .. } => return forbidden(1),
            GroupDisabled(_) => return forbidden(2),
            TopicNotReadable(_) => return forbidden(3),
            BroadcastDisabled(_) => return forbidden(4),
            ReadForbidden { .. } => return forbidden(5),
            Overload | ColdReads => code::SYSTEM_BUSY,
            GroupUnknown(_) => code::SUBSCRIPTION_GROUP_NOT_EXIST,
            TopicUnknown(_) => code::TOPIC_NOT_EXIST,
            QueueId(_) => code::INVALID_PARAMETER,
            NotLeader { .. } => code::NOT_LEADER_FOR_QUEUE,
            GroupOffline | NotSubscribed | PullConsumerRejected { .. } => code::SUBSCRIPTION_NOT_EXIST,
            SubscriptionOld => code::SUBSCRIPTION_NOT_LATEST,
            NoPlace | Elsewhere(_) | Read(_) => code::SYSTEM_ERROR,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<&PopError> for Refusal {
    fn from(error: &PopError) -> Refusal {
        use PopError::*;
        let code = match error {
            Fields(error) => return error.into(),
            Filter(error) => return error.into(),
            Late(_) => code::POLLING_TIMEOUT,
            BrokerNotReadable(_) | BrokerNotPeekable(_) | TopicNotReadable(_) | GroupDisabled(_) => code::NO_PERMISSION,
            TooMany(_) | QueueId(_) => code::INVALID_PARAMETER,
            NoTimer(_) => code::SYSTEM_ERROR,
            TopicUnknown(_) => code::TOPIC_NOT_EXIST,
            GroupUnknown(_) => code::SUBSCRIPTION_GROUP_NOT_EXIST,
            Overload => code::SYSTEM_BUSY,
        };
        Refusal::new(code, error.to_string())
    }
}

/// A queue that the topic does not have for reading.
#[derive(Debug, Error)]
#[error(
    "queueId[{queue_id}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{read_queue_nums}] consumer:[/{consumer}]"
)]
pub struct QueueIdIllegal {
    queue_id: i32,
    topic: String,
    read_queue_nums: i32,
    consumer: SocketAddr,
}

impl QueueIdIllegal {
    pub(crate) fn of(queue_id: i32, topic: &TopicConfig, consumer: SocketAddr) -> QueueIdIllegal {
        QueueIdIllegal {
            queue_id,
            topic: topic.topic_name.clone(),
            read_queue_nums: topic.read_queue_nums,
            consumer,
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

/// A topic as Java's `toString` shows it.
pub(crate) fn topic_text(topic: &TopicConfig) -> String {
    let attributes: Vec<_> = topic
        .attributes
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!(
        "TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, perm={}, topicFilterType={}, topicSysFlag={}, \
         order={}, attributes={{{}}}]",
        topic.topic_name,
        topic.read_queue_nums,
        topic.write_queue_nums,
        perm::text(topic.perm),
        topic.topic_filter_type.name(),
        topic.topic_sys_flag,
        topic.order,
        attributes.join(", "),
    )
}
