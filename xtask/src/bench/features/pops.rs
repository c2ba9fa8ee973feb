//! POP: a backlog is popped in batches, and each message acknowledged by a request of its own, as the push consumer does
//! it. A message is one that was popped and acknowledged. Messages stay invisible for a few seconds only, so that what
//! happens behind the answers (checkpoints and acknowledgements that meet) falls into the measured time as well.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::bench::frames::{self, SendTemplate};
use crate::bench::load::{self, Answer, InFlight, Measure, Plan, Sends, Traffic};
use crate::bench::meter::Meter;
use crate::bench::response::Response;
use crate::bench::target::request_ok;
use crate::bench::workload::{Feature, Scale};

const TOPIC: &str = "bench_pop";
const BODY_BYTES: usize = 128;
const BATCH_MESSAGES: u32 = 32;
const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 32;
const INVISIBLE_MS: u32 = 10_000;
/// Nothing is left of the backlog for this group: the next one starts anew.
const POLLING_TIMEOUT: i64 = 210;

pub(crate) struct Pops;

impl Feature for Pops {
    fn prepare(&self, addr: &str, scale: Scale, meter: &Meter) -> anyhow::Result<()> {
        request_ok(addr, &frames::create_topic(TOPIC))?;
        let plan = Plan {
            ramp: Duration::ZERO,
            window: Duration::from_secs(600),
            messages_max: match scale {
                Scale::Quick => 100_000,
                Scale::Full => 1_000_000,
            },
        };
        let template = SendTemplate::batch(TOPIC, BODY_BYTES, BATCH_MESSAGES);
        load::run(addr, &mut Sends::new(template, 4, 4), &plan, meter)?;
        Ok(())
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
    in_flight: Vec<InFlight>,
    states: Vec<Vec<State>>,
    /// What each connection has still to acknowledge.
    handles: Vec<VecDeque<Handle>>,
    group: u32,
}

impl PopsAndAcks {
    fn new() -> Self {
        Self {
            in_flight: (0..CONNECTIONS).map(|_| InFlight::new(IN_FLIGHT)).collect(),
            states: vec![vec![State::Acked; IN_FLIGHT]; CONNECTIONS],
            handles: (0..CONNECTIONS).map(|_| VecDeque::new()).collect(),
            group: 0,
        }
    }

    /// An acknowledgement if one is due, else a pop.
    fn next(&mut self, connection: usize, slot: usize, now: Instant, output: &mut Vec<u8>) {
        let opaque = self.in_flight[connection].issue(slot, now);
        let (code, fields) = match self.handles[connection].pop_front() {
            Some(handle) => {
                self.states[connection][slot] = State::Acked;
                (200_051, ack_fields(&handle))
            }
            None => {
                self.states[connection][slot] = State::Popped { group: self.group };
                (200_050, pop_fields(self.group))
            }
        };
        let header = format!(
            "{{\"code\":{code},\"extFields\":{{{fields}}},\"flag\":0,\"language\":\"JAVA\",\"opaque\":{opaque},\
             \"serializeTypeCurrentRPC\":\"JSON\",\"version\":513}}"
        );
        output.extend(frames::frame(&header, &[]));
    }

    /// Notes what a pop brought.
    fn take(&mut self, connection: usize, group: u32, popped: &Response<'_>) -> anyhow::Result<()> {
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
                self.handles[connection].push_back(Handle {
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
    fn connections(&self) -> usize {
        CONNECTIONS
    }

    fn begin(&mut self, connection: usize, now: Instant, output: &mut Vec<u8>) -> usize {
        (0..IN_FLIGHT).for_each(|slot| self.next(connection, slot, now, output));
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
        let outcome = match (self.states[connection][slot], response.code) {
            (State::Popped { group }, 0) => {
                self.take(connection, group, response)?;
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
        };
        if let Some(output) = output {
            self.next(connection, slot, now, output);
        }
        Ok(Answer { sent_at, outcome })
    }
}

fn pop_fields(group: u32) -> String {
    let born = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
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
