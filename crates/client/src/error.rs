//! What can go wrong in a client.

use oxmq_protocol::FieldError;
use oxmq_protocol::body::{ExpressionError, MessageQueue};
use oxmq_protocol::json::JsonError;
use oxmq_protocol::message::DecodeError;
use oxmq_protocol::topic::NameError;
use oxmq_remoting::CallError;
use thiserror::Error;

/// An operation of a client failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// A server could not be reached, did not answer in time, or refused.
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("no name server is given: set one in the builder or in NAMESRV_ADDR")]
    NoNameServer,
    #[error("the topic {topic} has no route")]
    NoRoute { topic: String },
    #[error("no address of the broker {broker_name} is known")]
    NoBroker { broker_name: String },
    #[error("the cluster {cluster} has no masters")]
    NoCluster { cluster: String },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    #[error("the group {group} has a member in this client already")]
    GroupTaken { group: String },
    #[error("{0}")]
    Config(String),
    #[error(transparent)]
    Body(#[from] JsonError),
    #[error("the messages cannot be read: {0}")]
    Messages(#[from] DecodeError),
    #[error("offsets cannot be kept in {path}: {source}")]
    OffsetFile { path: String, source: std::io::Error },
    #[error("{queue} does not belong to this consumer now")]
    QueueLost { queue: MessageQueue },
    #[error("no message has the id {id}")]
    MessageId { id: String },
    #[error("the broker has no assignment yet")]
    NotAssigned,
    #[error("the message cannot be acknowledged: {0}")]
    ReceiptHandle(String),
    #[error("the time in which {message_id} was invisible to others is over")]
    VisibleAgain { message_id: String },
    #[error("{queue} has the offsets {min} to {max}, not {queue_offset}")]
    OffsetOutOfRange {
        queue: MessageQueue,
        queue_offset: i64,
        min: i64,
        max: i64,
    },
    #[error("the client is shut down")]
    ShutDown,
}

impl From<FieldError> for ClientError {
    fn from(error: FieldError) -> ClientError {
        ClientError::Call(error.into())
    }
}

impl ClientError {
    /// The code with which a server refused, if one did.
    pub fn response_code(&self) -> Option<i32> {
        match self {
            ClientError::Call(CallError::Response { code, .. }) => Some(*code),
            _ => None,
        }
    }
}
