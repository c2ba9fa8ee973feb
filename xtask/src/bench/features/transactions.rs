//! Transactions: a half message, and when it is stored its commit, which is answered as well. A message is a
//! transaction that was committed.

use anyhow::Context;

use crate::bench::frames::{self, PRODUCER_GROUP, QUEUES, SendTemplate, unique_key};
use crate::bench::load::{self, Measure, Outcome, Plan, Shape, Traffic};
use crate::bench::meter::Meter;
use crate::bench::response::Response;
use crate::bench::target::request_ok;
use crate::bench::workload::{Feature, Scale};

const TOPIC: &str = "bench_transactions";
const BODY_BYTES: usize = 128;
const SHAPE: Shape = Shape {
    connections: 4,
    in_flight: 64,
};

pub(crate) struct Transactions;

impl Feature for Transactions {
    fn prepare(&self, addr: &str, _scale: Scale, _meter: &Meter) -> anyhow::Result<()> {
        request_ok(addr, &frames::create_topic(TOPIC))
    }

    fn run(&self, addr: &str, _scale: Scale, plan: &Plan, meter: &Meter) -> anyhow::Result<Measure> {
        let mut commits = Commits {
            template: SendTemplate::half(TOPIC, BODY_BYTES),
            slots: vec![State::Idle; SHAPE.slots()],
            next_serial: 0,
        };
        load::run(addr, &mut commits, plan, meter)
    }
}

#[derive(Clone, Copy)]
enum State {
    Idle,
    /// A half message is under way.
    Half {
        serial: u32,
    },
    /// It is stored and shall be committed.
    Stored {
        serial: u32,
        physical_offset: u64,
        queue_offset: u64,
    },
    Committing,
}

struct Commits {
    template: SendTemplate,
    slots: Vec<State>,
    next_serial: u32,
}

impl Traffic for Commits {
    fn shape(&self) -> Shape {
        SHAPE
    }

    fn request(&mut self, slot: usize, opaque: u32, output: &mut Vec<u8>) {
        self.slots[slot] = match self.slots[slot] {
            State::Stored {
                serial,
                physical_offset,
                queue_offset,
            } => {
                let key = unique_key(serial);
                let fields = format!(
                    "\"commitLogOffset\":\"{physical_offset}\",\"commitOrRollback\":\"8\",\"bname\":\"broker-a\",\
                     \"topic\":\"{TOPIC}\",\"fromTransactionCheck\":\"false\",\"msgId\":\"{key}\",\
                     \"producerGroup\":\"{PRODUCER_GROUP}\",\"tranStateTableOffset\":\"{queue_offset}\",\
                     \"transactionId\":\"{key}\""
                );
                frames::append_request(output, 37, opaque, &fields);
                State::Committing
            }
            _ => {
                let serial = self.next_serial;
                self.next_serial = serial.wrapping_add(1);
                self.template
                    .append_timed(output, opaque, serial % QUEUES, serial, crate::now_ms());
                State::Half { serial }
            }
        };
    }

    fn answer(&mut self, slot: usize, response: &Response<'_>) -> anyhow::Result<Outcome> {
        let state = std::mem::replace(&mut self.slots[slot], State::Idle);
        if let Err(remark) = response.success() {
            return Ok(Err(remark));
        }
        let State::Half { serial } = state else {
            return Ok(Ok(1));
        };
        let id = response.text("msgId").context("a half message has no id")?;
        let physical_offset = id.get(id.len().saturating_sub(16)..).unwrap_or_default();
        self.slots[slot] = State::Stored {
            serial,
            physical_offset: u64::from_str_radix(physical_offset, 16)?,
            queue_offset: response.number("queueOffset")?,
        };
        Ok(Ok(0))
    }
}
