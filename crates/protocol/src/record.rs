//! The stored form of a message, on disk and in pull replies (spec: storage.md §3.1).
//!
//! ```text
//! 0   totalSize i32     4  magic i32        8  bodyCrc i32       12  queueId i32
//! 16  flag i32         20  queueOffset i64 28  physicalOffset i64 36  sysFlag i32
//! 40  bornTimestamp i64 48 bornHost (B = 8, or 20 for IPv6)
//! 48+B  storeTimestamp i64   56+B  storeHost (S = 8 or 20)
//! 56+B+S reconsumeTimes i32  preparedTransactionOffset i64  bodyLength i32  body
//! topicLength u8 (v1) or i16 (v2)  topic   propertiesLength i16  properties
//! ```
//!
//! A record is encoded once, straight into the buffer that is written to the log. The three fields that only the log
//! knows are filled in by [`patch`] when it has given the record its place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::properties::PROPERTIES_BYTES_MAX;
use crate::sys_flag::{BORN_HOST_V6, STORE_HOST_V6};

pub const MAGIC_V1: i32 = 0xDAA3_20A7_u32 as i32;
pub const MAGIC_V2: i32 = 0xDAA3_20AB_u32 as i32;
/// Marks the rest of a commit log file that was too short for the next record.
pub const BLANK_MAGIC: i32 = 0xCBD4_3194_u32 as i32;
pub const BLANK_BYTES: usize = 8;

/// A record with IPv4 hosts and no body, topic or properties. Nothing is shorter.
pub const RECORD_BYTES_MIN: usize = 91;

/// Bytes of the fields before the body, IPv6 hosts.
const HEAD_BYTES_MAX: usize = 88 + 12 + 12;
const TOPIC_V1_BYTES_MAX: usize = 127;
const QUEUE_OFFSET_AT: usize = 20;
const PHYSICAL_OFFSET_AT: usize = 28;
const SYS_FLAG_AT: usize = 36;
const BORN_HOST_AT: usize = 48;

/// What a record is made from. Host bits of `sys_flag` are set by [`encode`].
#[derive(Debug, Clone, Copy)]
pub struct RecordFields<'a> {
    pub queue_id: i32,
    pub flag: i32,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub store_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    pub topic: &'a [u8],
    pub body: &'a [u8],
}

impl<'a> RecordFields<'a> {
    /// A message for queue 0 without flags, times and addresses.
    pub const fn new(topic: &'a [u8], body: &'a [u8]) -> RecordFields<'a> {
        const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        RecordFields {
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 0,
            born_host: NOWHERE,
            store_host: NOWHERE,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            topic,
            body,
        }
    }

    /// What a record was made from.
    pub fn of(record: &RecordRef<'a>) -> RecordFields<'a> {
        RecordFields {
            queue_id: record.queue_id(),
            flag: record.flag(),
            sys_flag: record.sys_flag(),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host(),
            store_host: record.store_host(),
            reconsume_times: record.reconsume_times(),
            prepared_transaction_offset: record.prepared_transaction_offset(),
            topic: record.topic(),
            body: record.body(),
        }
    }
}

/// Why a record cannot be written, or why bytes are not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    #[error("a body of {0} bytes is too long for a record")]
    BodyTooLong(usize),
    #[error("a topic of {0} bytes is too long for a record")]
    TopicTooLong(usize),
    #[error("properties of {0} bytes are longer than {PROPERTIES_BYTES_MAX}")]
    PropertiesTooLong(usize),
    #[error("a record of {total_size} bytes does not fit the {available} that are there")]
    Truncated { total_size: i64, available: usize },
    #[error("{0:#010x} is not the magic of a record")]
    Magic(i32),
    #[error("the lengths inside a record of {0} bytes do not add up")]
    Lengths(usize),
    #[error("the crc of the body is {computed:#010x}, the record says {stored:#010x}")]
    Crc { stored: u32, computed: u32 },
}

/// Appends one record and returns where it is. Body CRC is filled in; queue offset, physical offset and store
/// timestamp are left 0 for [`patch`]. On an error `out` is as it was.
pub fn encode(
    out: &mut BytesMut,
    fields: &RecordFields<'_>,
    write_properties: impl FnOnce(&mut BytesMut),
) -> Result<Range<usize>, RecordError> {
    if fields.body.len() > i32::MAX as usize / 2 {
        return Err(RecordError::BodyTooLong(fields.body.len()));
    }
    if fields.topic.len() > i16::MAX as usize {
        return Err(RecordError::TopicTooLong(fields.topic.len()));
    }
    let start = out.len();
    let v2 = fields.topic.len() > TOPIC_V1_BYTES_MAX;
    out.reserve(HEAD_BYTES_MAX + fields.body.len() + fields.topic.len() + 4 + 256);

    let mut head = Head {
        bytes: [0; HEAD_BYTES_MAX],
        filled: 0,
    };
    head.write_fields(fields, if v2 { MAGIC_V2 } else { MAGIC_V1 });
    out.put_slice(&head.bytes[..head.filled]);
    out.put_slice(fields.body);
    match v2 {
        true => out.put_i16(fields.topic.len() as i16),
        false => out.put_u8(fields.topic.len() as u8),
    }
    out.put_slice(fields.topic);
    let length_at = out.len();
    out.put_i16(0);
    write_properties(out);

    let properties_bytes = out.len() - length_at - 2;
    if properties_bytes > PROPERTIES_BYTES_MAX {
        out.truncate(start);
        return Err(RecordError::PropertiesTooLong(properties_bytes));
    }
    out[length_at..length_at + 2].copy_from_slice(&(properties_bytes as i16).to_be_bytes());
    let total_size = (out.len() - start) as i32;
    out[start..start + 4].copy_from_slice(&total_size.to_be_bytes());
    Ok(start..out.len())
}

/// Fills in what only the log knows.
///
/// # Panics
/// When `record` is not one that [`encode`] wrote.
#[inline]
pub fn patch(record: &mut [u8], queue_offset: i64, physical_offset: i64, store_timestamp: i64) {
    let v6_born_host = record[SYS_FLAG_AT + 3] & BORN_HOST_V6 as u8 != 0;
    let store_timestamp_at = BORN_HOST_AT + if v6_born_host { 20 } else { 8 };
    record[QUEUE_OFFSET_AT..QUEUE_OFFSET_AT + 8].copy_from_slice(&queue_offset.to_be_bytes());
    record[PHYSICAL_OFFSET_AT..PHYSICAL_OFFSET_AT + 8].copy_from_slice(&physical_offset.to_be_bytes());
    record[store_timestamp_at..store_timestamp_at + 8].copy_from_slice(&store_timestamp.to_be_bytes());
}

/// Adds properties at the end of the record that `out` ends with. `start` is where that record begins.
///
/// # Panics
/// When there is no record, or its properties become too long: whoever encoded it has left room.
pub fn add_properties(out: &mut BytesMut, start: usize, write_properties: impl FnOnce(&mut BytesMut)) {
    let properties_bytes = RecordRef::parse(&out[start..]).expect("a record").properties().len();
    let length_at = out.len() - properties_bytes - 2;
    write_properties(out);
    let properties_bytes = out.len() - length_at - 2;
    assert!(
        properties_bytes <= PROPERTIES_BYTES_MAX,
        "room was left for the properties"
    );
    out[length_at..length_at + 2].copy_from_slice(&(properties_bytes as i16).to_be_bytes());
    let total_size = (out.len() - start) as i32;
    out[start..start + 4].copy_from_slice(&total_size.to_be_bytes());
}

/// The 8 bytes that mark the rest of a file, `remaining` bytes including these, as unused.
pub fn blank(remaining: i32) -> [u8; BLANK_BYTES] {
    let mut bytes = [0; BLANK_BYTES];
    bytes[..4].copy_from_slice(&remaining.to_be_bytes());
    bytes[4..].copy_from_slice(&BLANK_MAGIC.to_be_bytes());
    bytes
}

/// The checksum of a body as records hold it: without the sign bit.
pub fn body_crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7FFF_FFFF
}

/// The fields before the body, put together on the stack so that they enter the buffer in one copy.
struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    filled: usize,
}

impl Head {
    #[inline]
    fn put<const N: usize>(&mut self, value: [u8; N]) {
        self.bytes[self.filled..self.filled + N].copy_from_slice(&value);
        self.filled += N;
    }

    /// Skips bytes that stay 0 for now.
    #[inline]
    fn leave(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    #[inline]
    fn host(&mut self, host: SocketAddr) {
        match host.ip().to_canonical() {
            IpAddr::V4(ip) => self.put(ip.octets()),
            IpAddr::V6(ip) => self.put(ip.octets()),
        }
        self.put(u32::from(host.port()).to_be_bytes());
    }

    #[inline]
    fn write_fields(&mut self, fields: &RecordFields<'_>, magic: i32) {
        let mut sys_flag = fields.sys_flag & !(BORN_HOST_V6 | STORE_HOST_V6);
        if fields.born_host.ip().to_canonical().is_ipv6() {
            sys_flag |= BORN_HOST_V6;
        }
        if fields.store_host.ip().to_canonical().is_ipv6() {
            sys_flag |= STORE_HOST_V6;
        }
        self.leave(4); // total size, known at the end
        self.put(magic.to_be_bytes());
        self.put(body_crc(fields.body).to_be_bytes());
        self.put(fields.queue_id.to_be_bytes());
        self.put(fields.flag.to_be_bytes());
        self.leave(16); // queue offset and physical offset
        self.put(sys_flag.to_be_bytes());
        self.put(fields.born_timestamp.to_be_bytes());
        self.host(fields.born_host);
        self.leave(8); // store timestamp
        self.host(fields.store_host);
        self.put(fields.reconsume_times.to_be_bytes());
        self.put(fields.prepared_transaction_offset.to_be_bytes());
        self.put((fields.body.len() as i32).to_be_bytes());
    }
}

/// A record where it lies, with its lengths checked: every accessor is in bounds.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    bytes: &'a [u8],
    /// Where the store timestamp begins: behind the born host.
    store_timestamp_at: usize,
    /// Where `reconsumeTimes` begins: behind the store host.
    reconsume_times_at: usize,
    body_at: usize,
    body_end: usize,
    topic_at: usize,
    topic_end: usize,
}

impl<'a> RecordRef<'a> {
    /// The record at the start of `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<RecordRef<'a>, RecordError> {
        let available = bytes.len();
        let truncated = |total_size: i32| RecordError::Truncated {
            total_size: total_size.into(),
            available,
        };
        if available < 8 {
            return Err(truncated(RECORD_BYTES_MIN as i32));
        }
        let total_size = int(bytes, 0);
        let magic = int(bytes, 4);
        if magic != MAGIC_V1 && magic != MAGIC_V2 {
            return Err(RecordError::Magic(magic));
        }
        let size = usize::try_from(total_size)
            .ok()
            .filter(|size| *size >= RECORD_BYTES_MIN)
            .ok_or(RecordError::Lengths(total_size.max(0) as usize))?;
        let bytes = bytes.get(..size).ok_or(truncated(total_size))?;

        let sys_flag = int(bytes, SYS_FLAG_AT);
        let store_timestamp_at = BORN_HOST_AT + host_bytes(sys_flag & BORN_HOST_V6 != 0);
        let reconsume_times_at = store_timestamp_at + 8 + host_bytes(sys_flag & STORE_HOST_V6 != 0);
        let body_at = reconsume_times_at + 16;
        let lengths = RecordError::Lengths(size);
        let body_end = end_of(bytes, body_at - 4, 4).ok_or(lengths)?;
        let topic_length_bytes = if magic == MAGIC_V2 { 2 } else { 1 };
        let topic_end = end_of(bytes, body_end, topic_length_bytes).ok_or(lengths)?;
        let properties_end = end_of(bytes, topic_end, 2).ok_or(lengths)?;
        if properties_end != size {
            return Err(lengths);
        }
        Ok(RecordRef {
            bytes,
            store_timestamp_at,
            reconsume_times_at,
            body_at,
            body_end,
            topic_at: body_end + topic_length_bytes,
            topic_end,
        })
    }

    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn total_size(&self) -> usize {
        self.bytes.len()
    }

    pub fn magic(&self) -> i32 {
        int(self.bytes, 4)
    }

    pub fn body_crc(&self) -> u32 {
        int(self.bytes, 8) as u32
    }

    pub fn queue_id(&self) -> i32 {
        int(self.bytes, 12)
    }

    pub fn flag(&self) -> i32 {
        int(self.bytes, 16)
    }

    pub fn queue_offset(&self) -> i64 {
        long(self.bytes, QUEUE_OFFSET_AT)
    }

    pub fn physical_offset(&self) -> i64 {
        long(self.bytes, PHYSICAL_OFFSET_AT)
    }

    pub fn sys_flag(&self) -> i32 {
        int(self.bytes, SYS_FLAG_AT)
    }

    pub fn born_timestamp(&self) -> i64 {
        long(self.bytes, 40)
    }

    pub fn born_host(&self) -> SocketAddr {
        host(&self.bytes[BORN_HOST_AT..self.store_timestamp_at])
    }

    pub fn store_timestamp(&self) -> i64 {
        long(self.bytes, self.store_timestamp_at)
    }

    pub fn store_host(&self) -> SocketAddr {
        host(&self.bytes[self.store_timestamp_at + 8..self.reconsume_times_at])
    }

    pub fn reconsume_times(&self) -> i32 {
        int(self.bytes, self.reconsume_times_at)
    }

    pub fn prepared_transaction_offset(&self) -> i64 {
        long(self.bytes, self.reconsume_times_at + 4)
    }

    pub fn body(&self) -> &'a [u8] {
        &self.bytes[self.body_at..self.body_end]
    }

    pub fn body_range(&self) -> Range<usize> {
        self.body_at..self.body_end
    }

    pub fn topic(&self) -> &'a [u8] {
        &self.bytes[self.topic_at..self.topic_end]
    }

    /// The properties as text, for [`crate::properties`].
    pub fn properties(&self) -> &'a [u8] {
        &self.bytes[self.topic_end + 2..]
    }

    /// Compares the body with its checksum. Writers that do not check leave 0 there, as do empty bodies.
    pub fn verify_crc(&self) -> Result<(), RecordError> {
        let stored = self.body_crc();
        let computed = body_crc(self.body());
        if stored == computed || stored == 0 {
            return Ok(());
        }
        Err(RecordError::Crc { stored, computed })
    }
}

fn host_bytes(v6: bool) -> usize {
    if v6 { 20 } else { 8 }
}

/// Where a field ends whose length, of `length_bytes`, stands at `at`; nothing when that is outside of `bytes`.
fn end_of(bytes: &[u8], at: usize, length_bytes: usize) -> Option<usize> {
    let length = match *bytes.get(at..at + length_bytes)? {
        [one] => i32::from(one),
        [high, low] => i16::from_be_bytes([high, low]).into(),
        [a, b, c, d] => i32::from_be_bytes([a, b, c, d]),
        _ => return None,
    };
    let end = (at + length_bytes).checked_add(usize::try_from(length).ok()?)?;
    (end <= bytes.len()).then_some(end)
}

#[inline]
fn int(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[inline]
fn long(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// An address of 4 or 16 bytes, then the port as an int.
fn host(bytes: &[u8]) -> SocketAddr {
    let (ip, port) = bytes.split_at(bytes.len() - 4);
    let ip = match <[u8; 4]>::try_from(ip) {
        Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).expect("16 bytes"))),
    };
    SocketAddr::new(ip, int(port, 0) as u16)
}

#[cfg(test)]
mod tests;
