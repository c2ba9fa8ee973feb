//! Reading answers with as little work as possible: where a frame ends, its code, its opaque.
//!
//! Only what a workload needs is looked at; a failed answer, which is rare, goes through a real JSON parser.

use anyhow::{bail, ensure};
use serde_json::Value;

/// Larger frames are not answers of a broker (protocol.md §1.1).
const FRAME_BYTES_MAX: usize = 16 << 20;
/// Bytes of a stored message before its body, with IPv4 hosts (protocol.md §6.1).
const STORED_BODY_AT: usize = 88;
const STORE_TIMESTAMP_AT: usize = 56;

/// One frame that came from a server.
pub(crate) struct Response<'a> {
    pub(crate) code: i64,
    pub(crate) opaque: u32,
    /// False for a request of the server's own, such as "consumer ids changed" (40).
    pub(crate) is_answer: bool,
    header: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl<'a> Response<'a> {
    /// The frame at the start of `bytes` and its length; none while it is incomplete.
    pub(crate) fn parse(bytes: &'a [u8]) -> anyhow::Result<Option<(Self, usize)>> {
        let Some(Frame { header, body, length }) = split(bytes)? else {
            return Ok(None);
        };
        ensure!(bytes[4] == 0, "an answer in serialization {}, not JSON", bytes[4]);
        let mut response = Self {
            code: -1,
            opaque: 0,
            is_answer: false,
            header,
            body,
        };
        scan_members(header, |key, value| match key {
            b"code" => response.code = value,
            b"opaque" => response.opaque = value as u32,
            b"flag" => response.is_answer = value & 1 == 1,
            _ => {}
        });
        Ok(Some((response, length)))
    }

    /// A number among the extFields, where it stands as text.
    pub(crate) fn number(&self, key: &str) -> anyhow::Result<u64> {
        let found = self.header.windows(key.len() + 2).position(|window| {
            window[0] == b'"' && window[key.len() + 1] == b'"' && &window[1..=key.len()] == key.as_bytes()
        });
        let Some(at) = found else {
            bail!("no {key} in {}", String::from_utf8_lossy(self.header))
        };
        let value = &self.header[at + key.len() + 2..];
        let digits = value
            .iter()
            .skip_while(|byte| !byte.is_ascii_digit())
            .take_while(|byte| byte.is_ascii_digit());
        Ok(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    /// A text without escapes among the extFields.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        let header = std::str::from_utf8(self.header).ok()?;
        let (_, value) = header.split_once(&format!("\"{key}\":\""))?;
        value.split('"').next()
    }

    pub(crate) fn success(&self) -> Result<(), String> {
        match self.code {
            0 => Ok(()),
            _ => Err(self.remark()),
        }
    }

    /// What went wrong, for a person.
    pub(crate) fn remark(&self) -> String {
        let header: Value = serde_json::from_slice(self.header).unwrap_or_default();
        format!(
            "code {}: {}",
            self.code,
            header["remark"].as_str().unwrap_or("no remark")
        )
    }

    /// The bodies of the stored messages that a pull brought.
    pub(crate) fn message_bodies(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.messages().map(|message| message.body)
    }

    /// The stored messages that a pull brought.
    pub(crate) fn messages(&self) -> impl Iterator<Item = StoredMessage<'a>> + use<'a> {
        let mut rest = self.body;
        std::iter::from_fn(move || {
            let total = word(rest, 0)?.max(STORED_BODY_AT);
            let body_end = STORED_BODY_AT + word(rest, STORED_BODY_AT - 4)?;
            let timestamp = rest.get(STORE_TIMESTAMP_AT..STORE_TIMESTAMP_AT + 8)?;
            let message = StoredMessage {
                body: rest.get(STORED_BODY_AT..body_end)?,
                store_timestamp_ms: i64::from_be_bytes(timestamp.try_into().expect("eight bytes")),
                after_body: rest.get(body_end..total.max(body_end))?,
            };
            rest = rest.get(total..)?;
            Some(message)
        })
    }
}

/// A message as brokers store it, with IPv4 hosts.
pub(crate) struct StoredMessage<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) store_timestamp_ms: i64,
    /// Topic and properties with their lengths.
    after_body: &'a [u8],
}

impl<'a> StoredMessage<'a> {
    pub(crate) fn property(&self, name: &str) -> Option<&'a str> {
        let topic_length = usize::from(*self.after_body.first()?);
        let properties = std::str::from_utf8(self.after_body.get(3 + topic_length..)?).ok()?;
        let mut entries = properties.split('\u{2}').filter_map(|entry| entry.split_once('\u{1}'));
        entries.find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

/// The parts of a frame, and its length with the length word.
pub(crate) struct Frame<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) body: &'a [u8],
    pub(crate) length: usize,
}

/// The frame at the start of `bytes`; none while it is incomplete.
pub(crate) fn split(bytes: &[u8]) -> anyhow::Result<Option<Frame<'_>>> {
    let (Some(total), Some(mark)) = (word(bytes, 0), word(bytes, 4)) else {
        return Ok(None);
    };
    let header_length = mark & 0x00FF_FFFF;
    ensure!(
        total <= FRAME_BYTES_MAX && header_length + 4 <= total,
        "a frame of {total} bytes lies about its lengths"
    );
    let Some(frame) = bytes.get(8..4 + total) else {
        return Ok(None);
    };
    let (header, body) = frame.split_at(header_length);
    Ok(Some(Frame {
        header,
        body,
        length: 4 + total,
    }))
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(word.try_into().expect("four bytes")) as usize)
}

/// Calls `visit` for every member of the outermost object whose value is an integer.
fn scan_members(json: &[u8], mut visit: impl FnMut(&[u8], i64)) {
    let mut depth = 0;
    let mut at = 0;
    while at < json.len() {
        match json[at] {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b'"' => {
                let end = string_end(json, at + 1);
                let key = &json[at + 1..end.min(json.len())];
                at = end;
                if depth == 1
                    && json.get(end + 1) == Some(&b':')
                    && let Some(value) = integer(&json[end + 2..])
                {
                    visit(key, value);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Where the quote stands that ends the string starting at `at`.
fn string_end(json: &[u8], mut at: usize) -> usize {
    while at < json.len() {
        match json[at] {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

fn integer(json: &[u8]) -> Option<i64> {
    let (negative, digits) = match json {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value = digits[..length]
        .iter()
        .fold(0_i64, |value, digit| value.wrapping_mul(10) + i64::from(digit - b'0'));
    (length > 0).then_some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::frames::frame;

    const SEND_RESULT: &str = r#"{"code":0,"extFields":{"queueId":"1","code":"77","transactionId":"{\"opaque\":5}","queueOffset":"18"},"flag":1,"language":"JAVA","opaque":1000000019,"serializeTypeCurrentRPC":"JSON","version":513}"#;

    #[test]
    fn code_flag_and_opaque_come_from_the_outermost_object() {
        let bytes = frame(SEND_RESULT, b"body");
        let (response, length) = Response::parse(&bytes).unwrap().unwrap();
        assert_eq!(
            (response.code, response.opaque, response.is_answer),
            (0, 1_000_000_019, true)
        );
        assert_eq!((response.body, length), (&b"body"[..], bytes.len()));
        assert_eq!(response.number("queueOffset").unwrap(), 18);
        assert!(response.number("nextBeginOffset").is_err());
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let bytes = frame(
            r#"{"version":1,"opaque":7,"flag":0,"remark":"\"code\":9","code":-2}"#,
            b"",
        );
        let (response, _) = Response::parse(&bytes).unwrap().unwrap();
        assert_eq!((response.code, response.opaque, response.is_answer), (-2, 7, false));
        assert_eq!(response.remark(), "code -2: \"code\":9");
    }

    #[test]
    fn a_cut_frame_is_not_a_frame_yet() {
        let bytes = frame(SEND_RESULT, b"body");
        for length in 0..bytes.len() {
            assert!(Response::parse(&bytes[..length]).unwrap().is_none());
        }
    }

    #[test]
    fn lying_lengths_and_foreign_serializations_are_errors() {
        assert!(Response::parse(&[0, 0, 0, 8, 0, 0, 0, 5, 1, 2, 3, 4]).is_err());
        assert!(Response::parse(&[0x7F, 0, 0, 8, 0, 0, 0, 4]).is_err());
        assert!(Response::parse(&[0, 0, 0, 4, 1, 0, 0, 0]).is_err());
    }

    #[test]
    fn garbage_in_a_header_does_not_panic() {
        for header in [
            "",
            "{",
            "\"",
            "{\"code\":",
            "{\"code\":\"",
            "{\"code\\",
            "}}}",
            "{\"code\":-}",
        ] {
            let bytes = frame(header, b"");
            let (response, _) = Response::parse(&bytes).unwrap().unwrap();
            assert_eq!(response.code, -1);
        }
    }

    #[test]
    fn stored_messages_are_walked_by_their_sizes() {
        let mut body = Vec::new();
        for text in [&b"one"[..], b"three"] {
            let after = b"\x01t\x00\x0aA\x01b\x02TAGS\x01x\x02";
            let total = 88 + text.len() + after.len();
            body.extend((total as u32).to_be_bytes());
            body.extend([0; 52]);
            body.extend(1234_i64.to_be_bytes());
            body.extend([0; 20]);
            body.extend((text.len() as u32).to_be_bytes());
            body.extend(text);
            body.extend(after);
        }
        let bytes = frame(SEND_RESULT, &body);
        let (response, _) = Response::parse(&bytes).unwrap().unwrap();
        assert_eq!(response.message_bodies().collect::<Vec<_>>(), [&b"one"[..], b"three"]);
        for message in response.messages() {
            assert_eq!(message.store_timestamp_ms, 1234);
            assert_eq!((message.property("TAGS"), message.property("B")), (Some("x"), None));
        }
    }
}
