//! Many groups that wait for messages which do not come: what a broker's patience costs.
//!
//! Each group has one long-polling pull on an empty queue and asks again when it is sent away. A message is a pull that
//! was held for its time and answered, so that the figure is the CPU of holding a pull.

use std::time::Instant;

use crate::bench::frames::{self, Pull, QUEUES, Subscription};
use crate::bench::load::{self, Answer, InFlight, Measure, Plan, Traffic};
use crate::bench::meter::Meter;
use crate::bench::response::Response;
use crate::bench::target::request_ok;
use crate::bench::workload::{Feature, Scale};

const TOPIC: &str = "bench_idle";
const CONNECTIONS: usize = 40;

pub(crate) struct Idle;

impl Feature for Idle {
    fn prepare(&self, addr: &str, _scale: Scale, _meter: &Meter) -> anyhow::Result<()> {
        request_ok(addr, &frames::create_topic(TOPIC))
    }

    fn run(&self, addr: &str, scale: Scale, plan: &Plan, meter: &Meter) -> anyhow::Result<Measure> {
        // Some pulls have to come back within the window.
        let (groups, suspend_ms) = match scale {
            Scale::Quick => (1_000, 300),
            Scale::Full => (10_000, 8_000),
        };
        // Groups come into being and every pull is held before the window opens.
        let plan = Plan {
            ramp: plan.ramp * 2,
            ..*plan
        };
        load::run(addr, &mut Waits::new(groups, suspend_ms), &plan, meter)
    }
}

struct Waits {
    /// How long a pull may be held.
    suspend_ms: u32,
    in_flight: Vec<InFlight>,
}

impl Waits {
    fn new(groups: usize, suspend_ms: u32) -> Self {
        let in_flight = (0..CONNECTIONS).map(|_| InFlight::new(groups / CONNECTIONS));
        Self {
            suspend_ms,
            in_flight: in_flight.collect(),
        }
    }

    fn pull(&mut self, connection: usize, slot: usize, now: Instant, output: &mut Vec<u8>) {
        let opaque = self.in_flight[connection].issue(slot, now);
        let group = format!("bench_idle_{connection}_{slot}");
        let pull = Pull {
            topic: TOPIC,
            group: &group,
            queue_id: slot as u32 % QUEUES,
            queue_offset: 0,
            suspend_ms: Some(self.suspend_ms),
            commit_offset: None,
            subscription: Subscription::ALL,
        };
        pull.append_to(output, opaque);
    }
}

impl Traffic for Waits {
    fn connections(&self) -> usize {
        CONNECTIONS
    }

    fn begin(&mut self, connection: usize, now: Instant, output: &mut Vec<u8>) -> usize {
        let slots = self.in_flight[connection].len();
        (0..slots).for_each(|slot| self.pull(connection, slot, now, output));
        slots
    }

    fn answer(
        &mut self,
        connection: usize,
        response: &Response<'_>,
        now: Instant,
        output: Option<&mut Vec<u8>>,
    ) -> anyhow::Result<Answer> {
        let (slot, sent_at) = self.in_flight[connection].settle(response.opaque)?;
        if let Some(output) = output {
            self.pull(connection, slot, now, output);
        }
        let outcome = match response.code {
            19 => Ok(1),
            _ => Err(response.remark()),
        };
        Ok(Answer { sent_at, outcome })
    }
}
