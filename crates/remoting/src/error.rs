//! Why a call did not bring a usable answer.

use std::io;

use oxmq_protocol::{FieldError, response_code};
use thiserror::Error;

/// A call failed. `Timeout` and `Closed` leave open whether the peer has done what was asked.
#[derive(Debug, Error)]
pub enum CallError {
    #[error("cannot connect to {addr}: {source}")]
    Connect { addr: String, source: io::Error },
    #[error("the connection to {addr} is closed")]
    Closed { addr: String },
    #[error("no answer from {addr} within {millis} ms")]
    Timeout { addr: String, millis: u64 },
    /// Nothing was sent: as many calls or bytes as allowed are under way already.
    #[error("too much is under way to {addr}")]
    Busy { addr: String },
    /// The peer answered with a code other than success.
    #[error("{} ({code}): {remark}", response_code::name(*code))]
    Response { code: i32, remark: String },
    #[error("the answer cannot be read: {0}")]
    Malformed(String),
}

impl From<FieldError> for CallError {
    fn from(error: FieldError) -> CallError {
        CallError::Malformed(error.to_string())
    }
}
