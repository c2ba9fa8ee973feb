//! Transactions: a half message, and when it is stored its commit, which is answered as well. A message is a
//! transaction that was committed.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::bench::frames::{self, OPAQUE_BASE, QUEUES, positions, write_decimal, write_hex};
use crate::bench::load::{self, Answer, InFlight, Measure, Plan, Traffic};
use crate::bench::meter::Meter;
use crate::bench::response::Response;
use crate::bench::target::request_ok;
use crate::bench::workload::{Feature, Scale};

const TOPIC: &str = "bench_transactions";
const GROUP: &str = "bench_transactions_producer";
const BODY_BYTES: usize = 128;
const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 64;
const UNIQUE_KEY_PREFIX: &str = "7F0000010A2B07A4A9B5C6D8";
/// A time with as many digits as today's.
const BORN_MARK: &str = "1700000000000";

pub(crate) struct Transactions;

impl Feature for Transactions {
    fn prepare(&self, addr: &str, _scale: Scale, _meter: &Meter) -> anyhow::Result<()> {
        request_ok(addr, &frames::create_topic(TOPIC))
    }

    fn run(&self, addr: &str, _scale: Scale, plan: &Plan, meter: &Meter) -> anyhow::Result<Measure> {
        load::run(addr, &mut Commits::new(), plan, meter)
    }
}

/// What a slot waits for.
#[derive(Clone, Copy)]
enum State {
    Stored { serial: u32 },
    Committed,
}

struct Commits {
    template: HalfTemplate,
    in_flight: Vec<InFlight>,
    states: Vec<Vec<State>>,
    next_serial: u32,
}

impl Commits {
    fn new() -> Self {
        Self {
            template: HalfTemplate::new(),
            in_flight: (0..CONNECTIONS).map(|_| InFlight::new(IN_FLIGHT)).collect(),
            states: vec![vec![State::Committed; IN_FLIGHT]; CONNECTIONS],
            next_serial: 0,
        }
    }

    fn prepare(&mut self, connection: usize, slot: usize, now: Instant, output: &mut Vec<u8>) {
        let opaque = self.in_flight[connection].issue(slot, now);
        let serial = self.next_serial;
        self.next_serial = serial.wrapping_add(1);
        self.template.append_to(output, opaque, serial);
        self.states[connection][slot] = State::Stored { serial };
    }

    fn commit(
        &mut self,
        connection: usize,
        slot: usize,
        serial: u32,
        half: &Response<'_>,
        now: Instant,
        output: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let id = half.text("msgId").context("a half message has no id")?;
        let physical_offset = id.get(id.len().saturating_sub(16)..).unwrap_or_default();
        let physical_offset = u64::from_str_radix(physical_offset, 16)?;
        let queue_offset = half.number("queueOffset")?;
        let opaque = self.in_flight[connection].issue(slot, now);
        let key = format!("{UNIQUE_KEY_PREFIX}{serial:08X}");
        let header = format!(
            "{{\"code\":37,\"extFields\":{{\"commitLogOffset\":\"{physical_offset}\",\"commitOrRollback\":\"8\",\
             \"bname\":\"broker-a\",\"topic\":\"{TOPIC}\",\"fromTransactionCheck\":\"false\",\"msgId\":\"{key}\",\
             \"producerGroup\":\"{GROUP}\",\"tranStateTableOffset\":\"{queue_offset}\",\"transactionId\":\"{key}\"}},\
             \"flag\":0,\"language\":\"JAVA\",\"opaque\":{opaque},\"serializeTypeCurrentRPC\":\"JSON\",\"version\":513}}"
        );
        output.extend(frames::frame(&header, &[]));
        self.states[connection][slot] = State::Committed;
        Ok(())
    }
}

impl Traffic for Commits {
    fn connections(&self) -> usize {
        CONNECTIONS
    }

    fn begin(&mut self, connection: usize, now: Instant, output: &mut Vec<u8>) -> usize {
        (0..IN_FLIGHT).for_each(|slot| self.prepare(connection, slot, now, output));
        IN_FLIGHT
    }

    fn answer(
        &mut self,
        connection: usize,
        response: &Response<'_>,
        now: Instant,
        output: Option<&mut Vec<u8>>,
    ) -> anyhow::Result<Answer> {
        let (slot, sent_at) = self.in_flight[connection].settle(response.opaque)?;
        let state = self.states[connection][slot];
        if let Some(output) = output {
            match state {
                State::Stored { serial } if response.code == 0 => {
                    self.commit(connection, slot, serial, response, now, output)?;
                }
                _ => self.prepare(connection, slot, now, output),
            }
        }
        let outcome = match (response.code, state) {
            (0, State::Stored { .. }) => Ok(0),
            (0, State::Committed) => Ok(1),
            _ => Err(response.remark()),
        };
        Ok(Answer { sent_at, outcome })
    }
}

/// A half message (310), patched per send.
struct HalfTemplate {
    bytes: Vec<u8>,
    opaque_at: usize,
    queue_at: usize,
    serial_at: usize,
    born_at: usize,
}

impl HalfTemplate {
    fn new() -> Self {
        let header = format!(
            "{{\"code\":310,\"extFields\":{{\"a\":\"{GROUP}\",\"b\":\"{TOPIC}\",\"c\":\"TBW102\",\"d\":\"4\",\
             \"e\":\"0\",\"f\":\"4\",\"g\":\"{BORN_MARK}\",\"h\":\"0\",\
             \"i\":\"UNIQ_KEY\\u0001{UNIQUE_KEY_PREFIX}########\\u0002WAIT\\u0001true\\u0002TRAN_MSG\\u0001true\\u0002\
             PGROUP\\u0001{GROUP}\\u0002TAGS\\u0001TagA\\u0002\",\"j\":\"0\",\"k\":\"false\",\"m\":\"false\",\
             \"n\":\"broker-a\"}},\"flag\":0,\"language\":\"JAVA\",\"opaque\":{OPAQUE_BASE},\
             \"serializeTypeCurrentRPC\":\"JSON\",\"version\":513}}"
        );
        let bytes = frames::frame(&header, &[b'x'; BODY_BYTES]);
        let at = |mark: &str| positions(&bytes, mark.as_bytes())[0];
        Self {
            opaque_at: at(&OPAQUE_BASE.to_string()),
            queue_at: at("\"e\":\"0\"") + 5,
            serial_at: at("########"),
            born_at: at(BORN_MARK),
            bytes,
        }
    }

    fn append_to(&self, output: &mut Vec<u8>, opaque: u32, serial: u32) {
        let start = output.len();
        output.extend_from_slice(&self.bytes);
        let request = &mut output[start..];
        write_decimal(&mut request[self.opaque_at..], opaque);
        write_hex(&mut request[self.serial_at..], serial);
        request[self.queue_at] = b'0' + (serial % QUEUES) as u8;
        let born = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let born = born.as_millis().to_string();
        request[self.born_at..self.born_at + BORN_MARK.len()].copy_from_slice(born.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_message_is_a_valid_frame() {
        let mut output = Vec::new();
        HalfTemplate::new().append_to(&mut output, OPAQUE_BASE + 7, 0xABC);
        let header_bytes = u32::from_be_bytes(output[4..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&output[8..8 + header_bytes]).unwrap();
        assert_eq!(header["opaque"], OPAQUE_BASE + 7);
        assert_eq!(header["extFields"]["e"], (0xABC % QUEUES).to_string());
        assert!(header["extFields"]["i"].as_str().unwrap().contains("00000ABC"));
        assert_ne!(header["extFields"]["g"], BORN_MARK);
        assert_eq!(output.len(), 8 + header_bytes + BODY_BYTES);
    }
}
