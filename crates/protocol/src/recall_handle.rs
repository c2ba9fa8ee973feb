//! The handle by which a timer message can be recalled: URL-safe base64 of `v1 topic brokerName timestamp messageId`
//! (spec: storage.md §16.9).

use thiserror::Error;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
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
        base64(format!("{VERSION} {topic} {broker_name} {timestamp} {message_id}").as_bytes())
    }

    pub fn decode(text: &str) -> Result<RecallHandle, RecallHandleError> {
        let plain = unbase64(text.as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok());
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

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let padded = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { digit.into() } else { '=' });
        }
    }
    text
}

/// Padding may be missing, as for Java.
fn unbase64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = match text {
        [digits @ .., b'=', b'='] | [digits @ .., b'='] if text.len().is_multiple_of(4) => digits,
        _ => text,
    };
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for chunk in digits.chunks(4) {
        let mut bits = 0u32;
        for at in 0..4 {
            let digit = match chunk.get(at) {
                Some(digit) => DIGITS.iter().position(|known| known == digit)? as u32,
                None => 0,
            };
            bits = bits << 6 | digit;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
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
        fn every_handle_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = base64(&bytes);
            prop_assert_eq!(text.len() % 4, 0);
            prop_assert_eq!(unbase64(text.trim_end_matches('=').as_bytes()), Some(bytes.clone()));
            prop_assert_eq!(unbase64(text.as_bytes()), Some(bytes));
        }

        #[test]
        fn no_text_is_dangerous(text in ".{0,60}") {
            let _ = RecallHandle::decode(&text);
        }
    }
}
