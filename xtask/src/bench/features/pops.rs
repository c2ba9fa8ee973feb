//! POP: a backlog is popped in batches, and each message acknowledged by a request of its own, as the push consumer does
//! it. A message is one that was popped and acknowledged. Messages stay invisible for a few seconds only, so that what
//! happens behind the answers (checkpoints and acknowledgements that meet) falls into the measured time as well.

use std::collections::VecDeque;

use anyhow::Context;

use crate::bench::frames::{self, SendTemplate};
use crate::bench::load::{self, Measure, Outcome, Plan, Shape, Traffic};
use crate::bench::meter::Meter;
use crate::bench::response::Response;
use crate::bench::target::request_ok;
use crate::bench::workload::{Feature, Scale};

const TOPIC: &str = "bench_pop";
const BODY_BYTES: usize = 128;
const BATCH_MESSAGES: u32 = 32;
const SHAPE: Shape = Shape {
    connections: 4,
    in_flight: 32,
};
const INVISIBLE_MS: u32 = 10_000;
/// Nothing is left of the backlog for this group: the next one starts anew.
const POLLING_TIMEOUT: i64 = 210;

pub(crate) struct Pops;

impl Feature for Pops {
    fn prepare(&self, addr: &str, scale: Scale, meter: &Meter) -> anyhow::Result<()> {
        request_ok(addr, &frames::create_topic(TOPIC))?;
        let messages = match scale {
            Scale::Quick => 100_000,
            Scale::Full => 1_000_000,
        };
        let template = SendTemplate::batch(TOPIC, BODY_BYTES, BATCH_MESSAGES);
        load::fill(addr, template, messages, meter)
    }

    fn run(&self, addr: &str, _scale: Scale, plan: &Plan, meter: &Meter) -> anyhow::Result<Measure> {
        load::run(addr, &mut PopsAndAcks::new(), plan, meter)
    }
}

/// What a slot waits for.
#[derive(Clone, Copy)]
enum State {
    Popped { group: u32 },
    Acked,
}

/// A message to acknowledge.
struct Handle {
    group: u32,
    /// All of the handle but the queue offset.
    text: String,
    queue_id: u32,
    queue_offset: u64,
}

struct PopsAndAcks {
    states: Vec<State>,
    /// What each connection has still to acknowledge.
    handles: [VecDeque<Handle>; SHAPE.connections],
    group: u32,
}

impl PopsAndAcks {
    fn new() -> Self {
        Self {
            states: vec![State::Acked; SHAPE.slots()],
            handles: Default::default(),
            group: 0,
        }
    }

    /// Notes what a pop brought.
    fn take(&mut self, slot: usize, group: u32, popped: &Response<'_>) -> anyhow::Result<()> {
        let pop_time = popped.number("popTime")?;
        let revive_queue = popped.number("reviveQid")?;
        let starts = popped.text("startOffsetInfo").context("a pop tells no offsets")?;
        let offsets = popped.text("msgOffsetInfo").context("a pop tells no offsets")?;
        for (start, offsets) in starts.split(';').zip(offsets.split(';')) {
            let Some(start) = start.strip_prefix("0 ") else {
                continue; // It took too long: these come again, and once more when that takes too long as well.
            };
            let mut start = start.split(' ');
            let queue_id: u32 = start.next().context("no queue")?.parse()?;
            let start_offset = start.next().context("no offset")?;
            for queue_offset in offsets.rsplit(' ').next().context("no offsets")?.split(',') {
                self.handles[slot / SHAPE.in_flight].push_back(Handle {
                    group,
                    text: format!("{start_offset} {pop_time} {INVISIBLE_MS} {revive_queue} 0 broker-a {queue_id}"),
                    queue_id,
                    queue_offset: queue_offset.parse()?,
                });
            }
        }
        Ok(())
    }
}

impl Traffic for PopsAndAcks {
    fn shape(&self) -> Shape {
        SHAPE
    }

    /// An acknowledgement if one is due, else a pop.
    fn request(&mut self, slot: usize, opaque: u32, output: &mut Vec<u8>) {
        let (state, code, fields) = match self.handles[slot / SHAPE.in_flight].pop_front() {
            Some(handle) => (State::Acked, 200_051, ack_fields(&handle)),
            None => (State::Popped { group: self.group }, 200_050, pop_fields(self.group)),
        };
        self.states[slot] = state;
        frames::append_request(output, code, opaque, &fields);
    }

    fn answer(&mut self, slot: usize, response: &Response<'_>) -> anyhow::Result<Outcome> {
        Ok(match (self.states[slot], response.code) {
            (State::Popped { group }, 0) => {
                self.take(slot, group, response)?;
                Ok(0)
            }
            (State::Popped { group }, POLLING_TIMEOUT) => {
                if group == self.group {
                    self.group += 1;
                }
                Ok(0)
            }
            (State::Acked, 0) => Ok(1),
            _ => Err(response.remark()),
        })
    }
}

fn pop_fields(group: u32) -> String {
    let born = crate::now_ms();
    format!(
        "\"consumerGroup\":\"bench_pop_{group}\",\"topic\":\"{TOPIC}\",\"queueId\":\"-1\",\"maxMsgNums\":\"32\",\
         \"invisibleTime\":\"{INVISIBLE_MS}\",\"pollTime\":\"0\",\"bornTime\":\"{born}\",\"initMode\":\"0\",\
         \"expType\":\"TAG\",\"exp\":\"*\",\"order\":\"false\",\"bname\":\"broker-a\""
    )
}

fn ack_fields(handle: &Handle) -> String {
    let Handle {
        group,
        text,
        queue_id,
        queue_offset,
    } = handle;
    format!(
        "\"consumerGroup\":\"bench_pop_{group}\",\"topic\":\"{TOPIC}\",\"queueId\":\"{queue_id}\",\
         \"offset\":\"{queue_offset}\",\"extraInfo\":\"{text} {queue_offset}\",\"bname\":\"broker-a\""
    )
}
