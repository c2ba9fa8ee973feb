//! Requests as a Java 5.5.0 client writes them, encoded once and patched per send.
//!
//! A template fixes every length, so that sending costs one copy and a few digits: the opaque (ten digits), the
//! queue id (one digit) and the serial part of every UNIQ_KEY (eight hex digits). Sources: protocol.md §2.1 (JSON
//! header), §3.2 (310, 320), §3.3 (11), §3.5 (17), §6.3 (batch body), §6.4 (properties).

use std::io::Write;

/// All opaques have ten digits: JSON allows no leading zeros, and the header length must not change.
pub(crate) const OPAQUE_BASE: u32 = 1_000_000_000;
/// Opaques count up to here and start again; still positive as the 32-bit integer that Java reads.
pub(crate) const OPAQUE_RANGE: u32 = 1_000_000_000;
/// Every topic of the benchmark has this many queues; one digit numbers them.
pub(crate) const QUEUES: u32 = 8;

const _: () = assert!(QUEUES <= 10);
const _: () = assert!(OPAQUE_BASE as u64 + OPAQUE_RANGE as u64 <= i32::MAX as u64);

const OPAQUE_MARK: &[u8] = b"@@@@@@@@@@";
const QUEUE_MARK: &[u8] = b"\"e\":\"0\"";
const SERIAL_MARK: &[u8] = b"########";
/// Milliseconds, with as many digits as today's.
const TIME_MARK: &str = "%%%%%%%%%%%%%";
const ANY_TIME: &str = "1700000000000";
/// Address, process and class loader of a unique key: constant for one client.
pub(crate) const UNIQUE_KEY_PREFIX: &str = "7F0000010A2B07A4A9B5C6D7";
pub(crate) const PRODUCER_GROUP: &str = "bench_producer";

/// A send request: code 310 with one message, or 320 with several.
pub(crate) struct SendTemplate {
    bytes: Vec<u8>,
    messages: u32,
    opaque_at: usize,
    queue_at: usize,
    serials_at: Vec<usize>,
    time_at: Option<usize>,
    body_at: usize,
}

impl SendTemplate {
    pub(crate) fn single(topic: &str, body_bytes: usize) -> Self {
        Self::one(topic, body_bytes, 0, ANY_TIME, "")
    }

    /// A half message; its time is that of its birth.
    pub(crate) fn half(topic: &str, body_bytes: usize) -> Self {
        let properties = format!("TRAN_MSG\\u0001true\\u0002PGROUP\\u0001{PRODUCER_GROUP}\\u0002");
        Self::one(topic, body_bytes, 4, TIME_MARK, &properties)
    }

    /// A message that is delivered at its time.
    pub(crate) fn timer(topic: &str, body_bytes: usize) -> Self {
        let properties = format!("TIMER_DELIVER_MS\\u0001{TIME_MARK}\\u0002");
        Self::one(topic, body_bytes, 0, ANY_TIME, &properties)
    }

    fn one(topic: &str, body_bytes: usize, sys_flag: u32, born: &str, properties: &str) -> Self {
        let properties = format!("{properties}TAGS\\u0001TagA\\u0002");
        let header = send_header(310, topic, sys_flag, born, &properties);
        Self::new(&header, &vec![b'x'; body_bytes], 1)
    }

    pub(crate) fn batch(topic: &str, body_bytes: usize, messages: u32) -> Self {
        let mut body = Vec::new();
        for _ in 0..messages {
            append_batch_item(&mut body, body_bytes);
        }
        Self::several(topic, &body, messages)
    }

    /// A batch whose messages differ: number n has the tag `Tn` and the property `level` n.
    pub(crate) fn assorted(topic: &str, body_bytes: usize, messages: u32) -> Self {
        let mut body = Vec::new();
        for number in 0..messages {
            append_item(
                &mut body,
                body_bytes,
                &format!("level\u{1}{number}\u{2}TAGS\u{1}T{number}\u{2}"),
            );
        }
        Self::several(topic, &body, messages)
    }

    fn several(topic: &str, body: &[u8], messages: u32) -> Self {
        // The client writes no TAGS into the header of a batch: tags belong to its messages.
        Self::new(&send_header(320, topic, 0, ANY_TIME, ""), body, messages)
    }

    fn new(header: &str, body: &[u8], messages: u32) -> Self {
        let bytes = frame(header, body);
        let find = |mark| positions(&bytes, mark);
        Self {
            messages,
            opaque_at: find(OPAQUE_MARK)[0],
            queue_at: find(QUEUE_MARK)[0] + QUEUE_MARK.len() - 2,
            serials_at: find(SERIAL_MARK),
            time_at: find(TIME_MARK.as_bytes()).first().copied(),
            body_at: bytes.len() - body.len(),
            bytes,
        }
    }

    pub(crate) fn messages(&self) -> u32 {
        self.messages
    }

    /// Appends one request. `serial` makes its unique keys; the answer is the first serial not used.
    pub(crate) fn append_to(&self, output: &mut Vec<u8>, opaque: u32, queue_id: u32, serial: u32) -> u32 {
        debug_assert!(queue_id < QUEUES);
        let start = output.len();
        output.extend_from_slice(&self.bytes);
        let request = &mut output[start..];
        write_decimal(&mut request[self.opaque_at..], opaque);
        request[self.queue_at] = b'0' + (queue_id % 10) as u8;
        let mut serial = serial;
        for &at in &self.serials_at {
            write_hex(&mut request[at..], serial);
            serial = serial.wrapping_add(1);
        }
        serial
    }

    /// As `append_to`, for a message that has a time.
    pub(crate) fn append_timed(&self, output: &mut Vec<u8>, opaque: u32, queue_id: u32, serial: u32, time_ms: i64) {
        let start = output.len();
        self.append_to(output, opaque, queue_id, serial);
        let time_at = start + self.time_at.expect("the template has a time");
        output[time_at..time_at + TIME_MARK.len()].copy_from_slice(time_ms.to_string().as_bytes());
    }

    /// As `append_to`, with this time at the start of the message's body.
    pub(crate) fn append_stamped(&self, output: &mut Vec<u8>, opaque: u32, queue_id: u32, serial: u32, nanos: u64) {
        let start = output.len();
        self.append_to(output, opaque, queue_id, serial);
        let body_at = start + self.body_at;
        output[body_at..body_at + 8].copy_from_slice(&nanos.to_be_bytes());
    }
}

/// A pull of up to 32 messages with its own subscription (sysFlag bit 4).
pub(crate) struct Pull<'a> {
    pub(crate) topic: &'a str,
    pub(crate) group: &'a str,
    pub(crate) queue_id: u32,
    pub(crate) queue_offset: u64,
    /// How long the broker may hold the request when there is nothing to read; none: it answers at once.
    pub(crate) suspend_ms: Option<u32>,
    /// Progress of the group that goes with it.
    pub(crate) commit_offset: Option<u64>,
    pub(crate) subscription: Subscription,
}

/// What a pull takes.
#[derive(Clone, Copy)]
pub(crate) struct Subscription {
    pub(crate) expression_type: &'static str,
    pub(crate) expression: &'static str,
}

impl Subscription {
    pub(crate) const ALL: Subscription = Subscription {
        expression_type: "TAG",
        expression: "*",
    };
}

impl Pull<'_> {
    pub(crate) fn append_to(&self, output: &mut Vec<u8>, opaque: u32) {
        let sys_flag = 4 + 2 * u32::from(self.suspend_ms.is_some()) + u32::from(self.commit_offset.is_some());
        let suspend_ms = self.suspend_ms.unwrap_or(0);
        let commit_offset = self.commit_offset.unwrap_or(0);
        let start = output.len();
        output.extend_from_slice(&[0; 8]);
        write!(
            output,
            "{{\"code\":11,\"extFields\":{{\"queueId\":\"{}\",\"maxMsgBytes\":\"262144\",\"maxMsgNums\":\"32\",\
             \"sysFlag\":\"{sys_flag}\",\"suspendTimeoutMillis\":\"{suspend_ms}\",\"commitOffset\":\"{commit_offset}\",\
             \"bname\":\"broker-a\",\"topic\":\"{}\",\"queueOffset\":\"{}\",\"expressionType\":\"{}\",\
             \"subscription\":\"{}\",\"subVersion\":\"0\",\"consumerGroup\":\"{}\"}},\"flag\":0,\"language\":\"JAVA\",\
             \"opaque\":{opaque},\"serializeTypeCurrentRPC\":\"JSON\",\"version\":513}}",
            self.queue_id,
            self.topic,
            self.queue_offset,
            self.subscription.expression_type,
            self.subscription.expression,
            self.group
        )
        .expect("writing to memory does not fail");
        let header_length = (output.len() - start - 8) as u32;
        output[start..start + 4].copy_from_slice(&(header_length + 4).to_be_bytes());
        output[start + 4..start + 8].copy_from_slice(&header_length.to_be_bytes());
    }
}

/// LOCK_BATCH_MQ (41) for one queue, as an orderly consumer sends it.
pub(crate) fn lock_queue(output: &mut Vec<u8>, opaque: u32, topic: &str, group: &str, queue_id: u32) {
    let header = format!(
        "{{\"code\":41,\"flag\":0,\"language\":\"JAVA\",\"opaque\":{opaque},\
         \"serializeTypeCurrentRPC\":\"JSON\",\"version\":513}}"
    );
    let body = format!(
        "{{\"clientId\":\"127.0.0.1@bench\",\"consumerGroup\":\"{group}\",\"mqSet\":[{{\"brokerName\":\"broker-a\",\
         \"queueId\":{queue_id},\"topic\":\"{topic}\"}}],\"onlyThisBroker\":false}}"
    );
    output.extend(frame(&header, body.as_bytes()));
}

/// UPDATE_AND_CREATE_TOPIC (17) with [`QUEUES`] queues.
pub(crate) fn create_topic(topic: &str) -> Vec<u8> {
    let fields = format!(
        "\"readQueueNums\":\"{QUEUES}\",\"perm\":\"6\",\"writeQueueNums\":\"{QUEUES}\",\
         \"topicFilterType\":\"SINGLE_TAG\",\"topic\":\"{topic}\",\"attributes\":\"\",\"force\":\"false\",\
         \"defaultTopic\":\"TBW102\",\"order\":\"false\",\"topicSysFlag\":\"0\""
    );
    let mut request = Vec::new();
    append_request(&mut request, 17, OPAQUE_BASE, &fields);
    request
}

/// A request without a body; `ext_fields` are JSON members.
pub(crate) fn append_request(output: &mut Vec<u8>, code: u32, opaque: u32, ext_fields: &str) {
    let header = format!(
        "{{\"code\":{code},\"extFields\":{{{ext_fields}}},\"flag\":0,\"language\":\"JAVA\",\"opaque\":{opaque},\
         \"serializeTypeCurrentRPC\":\"JSON\",\"version\":513}}"
    );
    output.extend(frame(&header, &[]));
}

/// The key that a template gives to the message with this serial.
pub(crate) fn unique_key(serial: u32) -> String {
    format!("{UNIQUE_KEY_PREFIX}{serial:08X}")
}

/// Ten decimal digits at the start of `target`.
pub(crate) fn write_decimal(target: &mut [u8], value: u32) {
    let mut rest = value;
    for digit in target[..10].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

pub(crate) fn frame(header: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + header.len() + body.len());
    bytes.extend((4 + header.len() as u32 + body.len() as u32).to_be_bytes());
    bytes.extend((header.len() as u32).to_be_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(body);
    bytes
}

fn send_header(code: u32, topic: &str, sys_flag: u32, born: &str, properties: &str) -> String {
    let batch = code == 320;
    let key = format!("{UNIQUE_KEY_PREFIX}########");
    let opaque = "@@@@@@@@@@";
    format!(
        "{{\"code\":{code},\"extFields\":{{\"a\":\"{PRODUCER_GROUP}\",\"b\":\"{topic}\",\"c\":\"TBW102\",\"d\":\"4\",\
         \"e\":\"0\",\"f\":\"{sys_flag}\",\"g\":\"{born}\",\"h\":\"0\",\
         \"i\":\"UNIQ_KEY\\u0001{key}\\u0002WAIT\\u0001true\\u0002{properties}\",\"j\":\"0\",\
         \"k\":\"false\",\"m\":\"{batch}\",\"n\":\"broker-a\"}},\"flag\":0,\"language\":\"JAVA\",\"opaque\":{opaque},\
         \"serializeTypeCurrentRPC\":\"JSON\",\"version\":513}}"
    )
}

fn append_batch_item(output: &mut Vec<u8>, body_bytes: usize) {
    append_item(output, body_bytes, "TAGS\u{1}TagA\u{2}");
}

fn append_item(output: &mut Vec<u8>, body_bytes: usize, more_properties: &str) {
    let properties = format!("UNIQ_KEY\u{1}{UNIQUE_KEY_PREFIX}########\u{2}WAIT\u{1}true\u{2}{more_properties}");
    let total = 22 + body_bytes + properties.len();
    output.extend((total as u32).to_be_bytes());
    // Magic, CRC and flag: zero in what a client sends.
    output.extend([0; 12]);
    output.extend((body_bytes as u32).to_be_bytes());
    output.resize(output.len() + body_bytes, b'x');
    output.extend((properties.len() as u16).to_be_bytes());
    output.extend(properties.as_bytes());
}

fn positions(bytes: &[u8], mark: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|&at| bytes[at..].starts_with(mark)).collect()
}

/// Eight hex digits at the start of `target`.
fn write_hex(target: &mut [u8], value: u32) {
    let mut rest = value;
    for digit in target[..8].iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[(rest & 15) as usize];
        rest >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn decode(bytes: &[u8]) -> (Value, Vec<u8>) {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(word(0) + 4, bytes.len());
        let header_end = 8 + word(4);
        (
            serde_json::from_slice(&bytes[8..header_end]).unwrap(),
            bytes[header_end..].to_vec(),
        )
    }

    #[test]
    fn a_single_send_is_a_valid_frame_with_its_own_opaque_queue_and_key() {
        let template = SendTemplate::single("bench", 128);
        let mut output = b"before".to_vec();
        let next = template.append_to(&mut output, OPAQUE_BASE + 42, 5, 0xAB);
        assert_eq!(next, 0xAC);
        let (header, body) = decode(&output[6..]);
        assert_eq!(header["code"], 310);
        assert_eq!(header["opaque"], 1_000_000_042);
        assert_eq!(header["extFields"]["b"], "bench");
        assert_eq!(header["extFields"]["e"], "5");
        assert_eq!(
            header["extFields"]["i"],
            "UNIQ_KEY\u{1}7F0000010A2B07A4A9B5C6D7000000AB\u{2}WAIT\u{1}true\u{2}TAGS\u{1}TagA\u{2}"
        );
        assert_eq!(body, vec![b'x'; 128]);
    }

    #[test]
    fn half_messages_and_timers_have_a_time() {
        let mut output = Vec::new();
        SendTemplate::half("bench", 8).append_timed(&mut output, OPAQUE_BASE, 1, 7, 1_800_000_000_000);
        let (half, _) = decode(&output);
        assert_eq!(half["extFields"]["g"], "1800000000000");
        assert_eq!(half["extFields"]["f"], "4");
        assert!(half["extFields"]["i"].as_str().unwrap().contains(&unique_key(7)));
        output.clear();
        SendTemplate::timer("bench", 8).append_timed(&mut output, OPAQUE_BASE, 1, 7, 1_800_000_000_000);
        let (timer, _) = decode(&output);
        let properties = timer["extFields"]["i"].as_str().unwrap();
        assert!(properties.contains("TIMER_DELIVER_MS\u{1}1800000000000\u{2}TAGS"));
    }

    #[test]
    fn a_batch_holds_its_messages_with_keys_of_their_own() {
        let template = SendTemplate::batch("bench", 10, 3);
        let mut output = Vec::new();
        assert_eq!(template.append_to(&mut output, OPAQUE_BASE, 0, 7), 7 + 4);
        let (header, body) = decode(&output);
        assert_eq!(header["code"], 320);
        assert_eq!(header["extFields"]["m"], "true");
        let total = u32::from_be_bytes(body[..4].try_into().unwrap()) as usize;
        assert_eq!(body.len(), 3 * total);
        for (index, item) in body.chunks(total).enumerate() {
            assert_eq!(&item[16..30], b"\0\0\0\x0axxxxxxxxxx");
            let key = format!("UNIQ_KEY\u{1}7F0000010A2B07A4A9B5C6D7{:08X}\u{2}", 8 + index);
            assert!(item[32..].starts_with(key.as_bytes()));
        }
    }

    #[test]
    fn a_stamped_send_carries_its_time_in_the_body() {
        let mut output = Vec::new();
        SendTemplate::single("bench", 16).append_stamped(&mut output, OPAQUE_BASE, 0, 0, 0x0102);
        assert_eq!(decode(&output).1, b"\0\0\0\0\0\0\x01\x02xxxxxxxx");
    }

    #[test]
    fn a_pull_says_whether_the_broker_may_hold_it() {
        let mut pull = Pull {
            topic: "t",
            group: "g",
            queue_id: 3,
            queue_offset: 4096,
            suspend_ms: Some(15_000),
            commit_offset: None,
            subscription: Subscription::ALL,
        };
        let mut output = Vec::new();
        pull.append_to(&mut output, OPAQUE_BASE);
        let (header, body) = decode(&output);
        assert_eq!(header["extFields"]["sysFlag"], "6");
        assert_eq!(header["extFields"]["suspendTimeoutMillis"], "15000");
        assert_eq!(header["extFields"]["queueOffset"], "4096");
        assert_eq!(header["extFields"]["queueId"], "3");
        assert!(body.is_empty());
        pull.suspend_ms = None;
        output.clear();
        pull.append_to(&mut output, OPAQUE_BASE);
        assert_eq!(decode(&output).0["extFields"]["sysFlag"], "4");
        pull.commit_offset = Some(17);
        output.clear();
        pull.append_to(&mut output, OPAQUE_BASE);
        let (header, _) = decode(&output);
        assert_eq!(header["extFields"]["sysFlag"], "5");
        assert_eq!(header["extFields"]["commitOffset"], "17");
    }

    #[test]
    fn a_lock_names_its_queue() {
        let mut output = Vec::new();
        lock_queue(&mut output, OPAQUE_BASE, "t", "g", 3);
        let (header, body) = decode(&output);
        assert_eq!(header["code"], 41);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["mqSet"][0]["queueId"], 3);
    }

    #[test]
    fn topic_creation_is_a_valid_frame() {
        let (header, _) = decode(&create_topic("bench"));
        assert_eq!(header["extFields"]["writeQueueNums"], "8");
    }
}
