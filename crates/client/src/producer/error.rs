//! Why a message was not sent.

use std::sync::Arc;

use oxmq_protocol::topic::NameError;
use thiserror::Error;

use crate::error::ClientError;

/// A send failed. After `Failed` without an answer the message may be stored all the same.
#[derive(Debug, Error)]
pub enum SendError {
    #[error("the message cannot be sent: {0}")]
    Message(#[from] MessageError),
    #[error("no queue of the topic {topic} can be written")]
    NoQueue { topic: String },
    #[error("{max} messages are on their way already")]
    TooManyInFlight { max: usize },
    #[error("{max} bytes are on their way already")]
    TooManyBytesInFlight { max: usize },
    /// What became of all messages of an automatic batch.
    #[error("in a batch: {0}")]
    InBatch(Arc<SendError>),
    /// The last of several attempts, or the only one.
    #[error("{source}{}", after(.attempts))]
    Failed { attempts: u32, source: ClientError },
}

/// Without a route nothing was tried.
fn after(attempts: &u32) -> String {
    match attempts {
        0 => String::new(),
        _ => format!(" (attempt {attempts})"),
    }
}

impl SendError {
    /// The code with which the broker refused, if one did.
    pub fn response_code(&self) -> Option<i32> {
        match self {
            SendError::Failed { source, .. } => source.response_code(),
            SendError::InBatch(error) => error.response_code(),
            _ => None,
        }
    }
}

/// A message that no broker would take.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MessageError {
    #[error(transparent)]
    Topic(#[from] NameError),
    #[error("clients may not send to {0}")]
    ClosedTopic(String),
    #[error("the body is empty")]
    EmptyBody,
    #[error("the body has {bytes} bytes, more than {max}")]
    BodyTooLong { bytes: usize, max: usize },
    #[error("the properties have {0} bytes, more than a message can hold")]
    PropertiesTooLong(usize),
    #[error("the property {0:?} is empty or has a separator in its name or value")]
    Property(String),
    #[error("the batch has no messages")]
    EmptyBatch,
    #[error("messages of a batch have one topic, this one has {0} and {1}")]
    BatchTopics(String, String),
    #[error("messages of a batch have no delay and go to no retry topic")]
    BatchKind,
    #[error("messages of a batch agree whether to wait for the store")]
    BatchWait,
}
