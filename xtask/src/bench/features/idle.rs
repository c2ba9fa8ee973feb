//! Many groups that wait for messages which do not come: what a broker's patience costs.
//!
//! Each group has one long-polling pull on an empty queue and asks again when it is sent away. A message is a pull that
//! was held for its time and answered, so that the figure is the CPU of holding a pull.

use std::time::Duration;

use crate::bench::frames::{self, Pull, QUEUES, Subscription};
use crate::bench::load::{self, Measure, Outcome, Plan, Shape, Traffic};
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
        let (groups, suspend_ms) = match scale {
            Scale::Quick => (1_000, 300),
            Scale::Full => (10_000, 8_000),
        };
        // Groups come into being and every pull is held before the window opens, and each comes back within it.
        let plan = Plan {
            ramp: plan.ramp * 2,
            window: plan.window.max(Duration::from_millis(2 * u64::from(suspend_ms))),
            ..*plan
        };
        load::run(addr, &mut Waits { groups, suspend_ms }, &plan, meter)
    }
}

struct Waits {
    groups: usize,
    /// How long a pull may be held.
    suspend_ms: u32,
}

impl Traffic for Waits {
    fn shape(&self) -> Shape {
        Shape {
            connections: CONNECTIONS,
            in_flight: self.groups / CONNECTIONS,
        }
    }

    fn request(&mut self, slot: usize, opaque: u32, output: &mut Vec<u8>) {
        let pull = Pull {
            topic: TOPIC,
            group: &format!("bench_idle_{slot}"),
            queue_id: slot as u32 % QUEUES,
            queue_offset: 0,
            suspend_ms: Some(self.suspend_ms),
            commit_offset: None,
            subscription: Subscription::ALL,
        };
        pull.append_to(output, opaque);
    }

    fn answer(&mut self, _slot: usize, response: &Response<'_>) -> anyhow::Result<Outcome> {
        Ok(match response.code {
            19 => Ok(1),
            _ => Err(response.remark()),
        })
    }
}
