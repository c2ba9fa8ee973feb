//! Successful replies to sends and pulls, written by hand into the output of their connection: no map, no formatting.
//!
//! Field order and JSON form are Java's. Everything else is answered with a `RemotingCommand`.

use std::net::SocketAddr;

use bytes::{BufMut, BytesMut};
use oxmq_protocol::frame::FRAME_PREFIX_BYTES;
use oxmq_protocol::header::frame_prefix;
use oxmq_protocol::message_id::OffsetMessageId;
use oxmq_protocol::requests::SendMessageReply;
use oxmq_protocol::version::{CURRENT_VERSION, Language};
use oxmq_protocol::{RemotingCommand, SerializeType, response_code};
use oxmq_remoting::ReplyTo;
use oxmq_store::AppendEntry;

use crate::pull::{PullReply, status_name};
use crate::response::Refusal;

const RESPONSE_FLAG: i32 = 1;
/// Hex digits of the physical offset at the end of a message id.
const OFFSET_DIGITS: usize = 16;
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// What a header has besides the texts that replies bring along: names, numbers, the rest of the JSON.
const HEAD_BYTES_MAX: usize = 384;
/// Longest form of one byte in JSON text.
const JSON_ESCAPE_BYTES_MAX: usize = 6;
/// Room for the head of a pull reply in front of messages that are written first.
const PULL_HEAD_BYTES: usize = FRAME_PREFIX_BYTES + HEAD_BYTES_MAX;

/// What is the same in all replies of this broker.
#[derive(Debug, Clone)]
pub(crate) struct Replies {
    region: String,
    trace_on: &'static str,
    /// Upper-case hex of address and port, with which every message id begins.
    store_host: Vec<u8>,
    /// JSON between the message id and the queue offset.
    send_middle: Vec<u8>,
    /// JSON behind the opaque.
    end: Vec<u8>,
}

/// A reply to a send that was stored.
#[derive(Debug)]
pub(crate) struct SendReply<'a> {
    pub(crate) queue_id: i32,
    /// Of the first message.
    pub(crate) queue_offset: i64,
    /// UNIQ_KEY of the message, or nothing.
    pub(crate) key: &'a [u8],
    /// Base64, or nothing when the message cannot be recalled.
    pub(crate) recall_handle: &'a str,
    pub(crate) entries: &'a [AppendEntry],
}

impl Replies {
    pub(crate) fn new(region: &str, trace_on: bool, store_host: SocketAddr) -> Replies {
        let trace_on = if trace_on { "true" } else { "false" };
        let id = OffsetMessageId {
            store_host,
            physical_offset: 0,
        };
        let (digits, count) = id.encode();
        let region_text = serde_json::to_string(region).expect("text always has a json form");
        Replies {
            region: region.to_owned(),
            trace_on,
            store_host: digits[..count - OFFSET_DIGITS].to_vec(),
            send_middle: format!("\",\"TRACE_ON\":\"{trace_on}\",\"MSG_REGION\":{region_text},\"queueOffset\":\"")
                .into(),
            end: format!(",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":{CURRENT_VERSION}}}").into(),
        }
    }

    /// The whole frame that answers a send.
    #[inline]
    pub(crate) fn send(&self, out: &mut BytesMut, to: ReplyTo, reply: &SendReply<'_>) {
        let ids = reply.entries.len() * (self.store_host.len() + OFFSET_DIGITS + 1);
        let keys = if is_inner_batch(reply) { 2 } else { 1 };
        let texts = keys * JSON_ESCAPE_BYTES_MAX * reply.key.len() + reply.recall_handle.len();
        let bytes_max = HEAD_BYTES_MAX + self.send_middle.len() + texts + ids;
        put_frame(out, to.serialize, bytes_max, |out| match to.serialize {
            SerializeType::Json => self.send_json(out, to.opaque, reply),
            SerializeType::RocketMq => self.send_binary(out, to.opaque, reply),
        });
    }

    fn send_json(&self, out: &mut Writer<'_>, opaque: i32, reply: &SendReply<'_>) {
        out.put_slice(b"{\"code\":0,\"extFields\":{\"queueId\":\"");
        put_number(out, reply.queue_id.into());
        if !reply.recall_handle.is_empty() {
            out.put_slice(b"\",\"recallHandle\":\"");
            out.put_slice(reply.recall_handle.as_bytes());
        }
        if !reply.key.is_empty() {
            out.put_slice(b"\",\"transactionId\":");
            put_json_text(out, reply.key);
            if is_inner_batch(reply) {
                out.put_slice(b",\"batchUniqId\":");
                put_json_text(out, reply.key);
            }
            out.put_slice(b",\"msgId\":\"");
        } else {
            out.put_slice(b"\",\"msgId\":\"");
        }
        self.put_message_ids(out, reply.entries);
        out.put_slice(&self.send_middle);
        put_number(out, reply.queue_offset);
        out.put_slice(b"\"},\"flag\":1,\"language\":\"JAVA\",\"opaque\":");
        put_number(out, opaque.into());
        out.put_slice(&self.end);
    }

    fn send_binary(&self, out: &mut Writer<'_>, opaque: i32, reply: &SendReply<'_>) {
        let length_at = put_binary_head(out, response_code::SUCCESS, opaque, "");
        put_field(out, b"queueId", |out| put_number(out, reply.queue_id.into()));
        if !reply.key.is_empty() {
            put_field(out, b"transactionId", |out| out.put_slice(reply.key));
        }
        if !reply.recall_handle.is_empty() {
            put_field(out, b"recallHandle", |out| {
                out.put_slice(reply.recall_handle.as_bytes())
            });
        }
        put_field(out, b"msgId", |out| self.put_message_ids(out, reply.entries));
        put_field(out, b"TRACE_ON", |out| out.put_slice(self.trace_on.as_bytes()));
        put_field(out, b"MSG_REGION", |out| out.put_slice(self.region.as_bytes()));
        put_field(out, b"queueOffset", |out| put_number(out, reply.queue_offset));
        if is_inner_batch(reply) {
            put_field(out, b"batchUniqId", |out| out.put_slice(reply.key));
        }
        finish_fields(out, length_at);
    }

    /// One id per message, with commas between them.
    fn put_message_ids(&self, out: &mut Writer<'_>, entries: &[AppendEntry]) {
        for (index, entry) in entries.iter().enumerate() {
            if index > 0 {
                out.put_u8(b',');
            }
            out.put_slice(&self.store_host);
            let mut digits = [0; OFFSET_DIGITS];
            for (at, byte) in entry.physical_offset.to_be_bytes().into_iter().enumerate() {
                digits[2 * at] = HEX[usize::from(byte >> 4)];
                digits[2 * at + 1] = HEX[usize::from(byte & 15)];
            }
            out.put_slice(&digits);
        }
    }

    /// The answer to a reply message: whether it arrived, and where it was stored.
    pub(crate) fn reply_message(
        &self,
        opaque: i32,
        pushed: Result<(), Refusal>,
        fields: Option<&SendMessageReply>,
    ) -> RemotingCommand {
        let mut command = match pushed {
            Ok(()) => RemotingCommand::response(opaque, response_code::SUCCESS, None),
            Err(refusal) => refusal.into_command(opaque),
        };
        if let Some(fields) = fields {
            command = command.with_fields(fields);
        }
        self.mark(&mut command);
        command
    }

    /// The answer to a send that was refused. It names region and trace switch like every answer to a send.
    pub(crate) fn refused_send(&self, opaque: i32, refusal: Refusal) -> RemotingCommand {
        let mut command = refusal.into_command(opaque);
        self.mark(&mut command);
        command
    }

    fn mark(&self, command: &mut RemotingCommand) {
        command.header.ext_fields.set("TRACE_ON", self.trace_on);
        command.header.ext_fields.set("MSG_REGION", self.region.as_str());
    }
}

/// Fills in memory that was reserved for the longest reply: bounds are checked, but nothing grows.
struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    fn new(bytes: &'a mut [u8]) -> Writer<'a> {
        Writer { bytes, at: 0 }
    }

    #[inline]
    fn put_slice(&mut self, slice: &[u8]) {
        self.bytes[self.at..self.at + slice.len()].copy_from_slice(slice);
        self.at += slice.len();
    }

    #[inline]
    fn put_u8(&mut self, byte: u8) {
        self.put_slice(&[byte]);
    }

    fn put_i16(&mut self, number: i16) {
        self.put_slice(&number.to_be_bytes());
    }

    fn put_i32(&mut self, number: i32) {
        self.put_slice(&number.to_be_bytes());
    }

    fn put_pull(&mut self, to: ReplyTo, reply: &PullReply) {
        match to.serialize {
            SerializeType::Json => put_pull_json(self, to.opaque, reply),
            SerializeType::RocketMq => put_pull_binary(self, to.opaque, reply),
        }
    }

    /// Moves the last byte to the end of the memory.
    fn put_blanks_before_last(&mut self) {
        let last = self.bytes[self.at - 1];
        self.bytes[self.at - 1..].fill(b' ');
        self.at = self.bytes.len();
        self.bytes[self.at - 1] = last;
    }
}

/// Appends a frame without body whose header is at most `bytes_max` long.
#[inline]
fn put_frame(out: &mut BytesMut, serialize: SerializeType, bytes_max: usize, write: impl FnOnce(&mut Writer<'_>)) {
    let start = out.len();
    out.resize(start + FRAME_PREFIX_BYTES + bytes_max, 0);
    let mut writer = Writer::new(&mut out[start + FRAME_PREFIX_BYTES..]);
    write(&mut writer);
    let header_bytes = writer.at;
    out.truncate(start + FRAME_PREFIX_BYTES + header_bytes);
    out[start..start + FRAME_PREFIX_BYTES].copy_from_slice(&frame_prefix(header_bytes, serialize, 0));
}

/// The batch was stored as one record: it has one id, and its key tells the producer so.
fn is_inner_batch(reply: &SendReply<'_>) -> bool {
    let first = reply.entries.first();
    first.is_some_and(|entry| entry.extra.as_ref().is_some_and(|extra| extra.inner_batch.is_some()))
}

/// Makes room for the head of a pull reply; messages follow. Returns where the frame starts.
pub(crate) fn begin_pull(out: &mut BytesMut) -> usize {
    let start = out.len();
    out.put_bytes(0, PULL_HEAD_BYTES);
    start
}

/// Puts the head in front of the messages that were appended since [`begin_pull`]. JSON fills the room with blanks; the
/// other form has none, so messages are moved up.
pub(crate) fn finish_pull(out: &mut BytesMut, start: usize, to: ReplyTo, reply: &PullReply) {
    let messages_at = start + PULL_HEAD_BYTES;
    let body_bytes = out.len() - messages_at;
    let mut head = Writer::new(&mut out[start + FRAME_PREFIX_BYTES..messages_at]);
    head.put_pull(to, reply);
    if to.serialize == SerializeType::Json && body_bytes > 0 {
        head.put_blanks_before_last();
    }
    let header_bytes = head.at;
    let head_bytes = FRAME_PREFIX_BYTES + header_bytes;
    out[start..start + FRAME_PREFIX_BYTES].copy_from_slice(&frame_prefix(header_bytes, to.serialize, body_bytes));
    if head_bytes < PULL_HEAD_BYTES {
        out.copy_within(messages_at.., start + head_bytes);
        out.truncate(start + head_bytes + body_bytes);
    }
}

/// A whole pull reply whose messages were read elsewhere.
pub(crate) fn put_pull(out: &mut BytesMut, to: ReplyTo, reply: &PullReply, messages: &[u8]) {
    let start = begin_pull(out);
    out.put_slice(messages);
    finish_pull(out, start, to, reply);
}

fn put_pull_json(out: &mut Writer<'_>, opaque: i32, reply: &PullReply) {
    out.put_slice(b"{\"code\":");
    put_number(out, reply.code.into());
    out.put_slice(b",\"extFields\":{\"suggestWhichBrokerId\":\"");
    put_number(out, reply.suggest_which_broker_id);
    out.put_slice(b"\",\"groupSysFlag\":\"");
    put_number(out, reply.group_sys_flag.into());
    out.put_slice(b"\",\"nextBeginOffset\":\"");
    put_number(out, reply.next_begin_offset);
    out.put_slice(b"\",\"maxOffset\":\"");
    put_number(out, reply.max_offset);
    out.put_slice(b"\",\"minOffset\":\"");
    put_number(out, reply.min_offset);
    if let Some(delta) = reply.offset_delta {
        out.put_slice(b"\",\"offsetDelta\":\"");
        put_number(out, delta);
    }
    out.put_slice(b"\",\"topicSysFlag\":\"");
    put_number(out, reply.topic_sys_flag.into());
    out.put_slice(b"\"},\"flag\":1,\"language\":\"JAVA\",\"opaque\":");
    put_number(out, opaque.into());
    out.put_slice(b",\"remark\":\"");
    out.put_slice(status_name(reply.status).as_bytes());
    out.put_slice(b"\",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    put_number(out, CURRENT_VERSION.into());
    out.put_u8(b'}');
}

fn put_pull_binary(out: &mut Writer<'_>, opaque: i32, reply: &PullReply) {
    let length_at = put_binary_head(out, reply.code, opaque, status_name(reply.status));
    for (name, number) in [
        (&b"suggestWhichBrokerId"[..], reply.suggest_which_broker_id),
        (b"nextBeginOffset", reply.next_begin_offset),
        (b"minOffset", reply.min_offset),
        (b"maxOffset", reply.max_offset),
        (b"topicSysFlag", reply.topic_sys_flag.into()),
        (b"groupSysFlag", reply.group_sys_flag.into()),
    ] {
        put_field(out, name, |out| put_number(out, number));
    }
    if let Some(delta) = reply.offset_delta {
        put_field(out, b"offsetDelta", |out| put_number(out, delta));
    }
    finish_fields(out, length_at);
}

/// Everything of a binary header up to the length of its fields; where that length stands.
fn put_binary_head(out: &mut Writer<'_>, code: i32, opaque: i32, remark: &str) -> usize {
    out.put_i16(code as i16);
    out.put_u8(Language::JAVA.0);
    out.put_i16(CURRENT_VERSION as i16);
    out.put_i32(opaque);
    out.put_i32(RESPONSE_FLAG);
    out.put_i32(remark.len() as i32);
    out.put_slice(remark.as_bytes());
    out.put_i32(0);
    out.at - 4
}

fn put_field(out: &mut Writer<'_>, name: &[u8], value: impl FnOnce(&mut Writer<'_>)) {
    out.put_i16(name.len() as i16);
    out.put_slice(name);
    let length_at = out.at;
    out.put_i32(0);
    value(out);
    finish_fields(out, length_at);
}

/// Fills in a length at `length_at` that covers everything behind it.
fn finish_fields(out: &mut Writer<'_>, length_at: usize) {
    let bytes = (out.at - length_at - 4) as i32;
    out.bytes[length_at..length_at + 4].copy_from_slice(&bytes.to_be_bytes());
}

#[inline]
fn put_number(out: &mut Writer<'_>, number: i64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.put_slice(&digits[at..]);
}

/// Quoted text. Keys of real clients are hex digits; others are escaped.
fn put_json_text(out: &mut Writer<'_>, text: &[u8]) {
    if text.iter().all(u8::is_ascii_alphanumeric) {
        out.put_u8(b'"');
        out.put_slice(text);
        out.put_u8(b'"');
    } else {
        let text = serde_json::to_string(&String::from_utf8_lossy(text)).expect("text always has a json form");
        out.put_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use oxmq_protocol::{Frame, RemotingCommand};
    use oxmq_store::GetStatus;

    use super::*;

    fn to(serialize: SerializeType) -> ReplyTo {
        ReplyTo {
            code: 11,
            opaque: i32::MAX,
            serialize,
            oneway: false,
            received: std::time::Instant::now(),
            suspended: false,
        }
    }

    fn decode(out: &[u8]) -> RemotingCommand {
        let (frame, taken) = Frame::peek(out).unwrap().unwrap();
        assert_eq!(taken, out.len());
        RemotingCommand::decode(frame).unwrap()
    }

    fn pull_reply(largest: i64) -> PullReply {
        PullReply {
            code: 0,
            status: GetStatus::MessageWasRemoving,
            next_begin_offset: largest,
            min_offset: largest,
            max_offset: largest,
            suggest_which_broker_id: largest,
            topic_sys_flag: largest as i32,
            group_sys_flag: largest as i32,
            offset_delta: Some(largest),
        }
    }

    #[test]
    fn pull_replies_have_their_messages_behind_them() {
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            for number in [0, 7, i64::MIN] {
                for messages in [&b""[..], b"messages"] {
                    let mut in_place = BytesMut::from(&b"before"[..]);
                    let start = begin_pull(&mut in_place);
                    in_place.extend_from_slice(messages);
                    finish_pull(&mut in_place, start, to(serialize), &pull_reply(number));
                    let mut copied = BytesMut::new();
                    put_pull(&mut copied, to(serialize), &pull_reply(number), messages);
                    let command = decode(&in_place[6..]);
                    assert_eq!(command, decode(&copied));
                    assert_eq!(command.body, messages);
                    assert_eq!(command.header.remark.as_deref(), Some("MESSAGE_WAS_REMOVING"));
                    let fields = &command.header.ext_fields;
                    assert_eq!(fields.get("nextBeginOffset"), Some(&*number.to_string()));
                    assert_eq!(fields.get("groupSysFlag"), Some(&*(number as i32).to_string()));
                    assert!(command.header.is_response() && command.header.opaque == i32::MAX);
                }
            }
        }
    }

    #[test]
    fn send_replies_are_those_of_java() {
        let replies = Replies::new("DefaultRegion", true, "127.0.0.1:59911".parse().unwrap());
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            for key in ["", "AB12", "a\"b\u{1}é"] {
                let mut out = BytesMut::new();
                let reply = SendReply {
                    queue_id: 3,
                    queue_offset: 0,
                    key: key.as_bytes(),
                    recall_handle: "djEg_w==",
                    entries: &[],
                };
                replies.send(&mut out, to(serialize), &reply);
                let header = decode(&out).header;
                assert_eq!((header.code, header.opaque), (0, i32::MAX));
                let fields = header.ext_fields;
                assert_eq!(fields.get("queueId"), Some("3"));
                assert_eq!(fields.get("recallHandle"), Some("djEg_w=="));
                assert_eq!(fields.get("transactionId").unwrap_or_default(), key);
                assert_eq!(fields.get("MSG_REGION"), Some("DefaultRegion"));
                assert_eq!(fields.get("TRACE_ON"), Some("true"));
            }
        }
        assert_eq!(replies.store_host, b"7F0000010000EA07");
    }
}
