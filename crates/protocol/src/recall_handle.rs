//! The handle by which a timer message can be recalled: URL-safe base64 of `v1 topic brokerName timestamp messageId`
//! (spec: storage.md §16.9).

use thiserror::Error;

use crate::base64::{self, URL_SAFE};

const VERSION: &str = "v1";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecallHandle {
    pub topic: String,
    pub broker_name: String,
    /// A time within the message's slot, in milliseconds; -1 when the text has no number.
    pub timestamp: i64,
    /// UNIQ_KEY of the message.
    pub message_id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("recall handle is invalid")]
pub struct RecallHandleError;

impl RecallHandle {
    pub fn encode(&self) -> String {
        let RecallHandle {
            topic,
            broker_name,
            timestamp,
            message_id,
        } = self;
        let text = format!("{VERSION} {topic} {broker_name} {timestamp} {message_id}");
        base64::encode(text.as_bytes(), URL_SAFE)
    }

    pub fn decode(text: &str) -> Result<RecallHandle, RecallHandleError> {
        let plain = base64::decode(text.as_bytes(), URL_SAFE).and_then(|bytes| String::from_utf8(bytes).ok());
        let plain = plain.ok_or(RecallHandleError)?;
        let mut parts = plain.split(' ');
        let mut next = || parts.next().ok_or(RecallHandleError);
        if next()? != VERSION {
            return Err(RecallHandleError);
        }
        let handle = RecallHandle {
            topic: next()?.to_owned(),
            broker_name: next()?.to_owned(),
            timestamp: next()?.parse().unwrap_or(-1),
            message_id: next()?.to_owned(),
        };
        match handle.message_id.is_empty() {
            true => Err(RecallHandleError),
            false => Ok(handle),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_is_that_of_java() {
        let handle = RecallHandle {
            topic: "orders".into(),
            broker_name: "broker-a".into(),
            timestamp: 1_700_000_001_001,
            message_id: "7F0000010001".into(),
        };
        let text = "djEgb3JkZXJzIGJyb2tlci1hIDE3MDAwMDAwMDEwMDEgN0YwMDAwMDEwMDAx";
        assert_eq!(handle.encode(), text);
        assert_eq!(RecallHandle::decode(text), Ok(handle));
        for bad in ["", "x", "!!!!", "djEgYQ==", "djIgYSBiIDEgaw==", "////"] {
            assert_eq!(RecallHandle::decode(bad), Err(RecallHandleError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_dangerous(text in ".{0,60}") {
            let _ = RecallHandle::decode(&text);
        }
    }
}
