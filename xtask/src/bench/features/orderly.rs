//! Orderly consumption of a backlog: one pull of a queue at a time, progress with each, locks renewed.

use crate::bench::frames::{self, SendTemplate};
use crate::bench::load::{self, Measure, Plan, Pulls};
use crate::bench::meter::Meter;
use crate::bench::target::request_ok;
use crate::bench::workload::{Feature, Scale};

const TOPIC: &str = "bench_orderly";
const GROUP: &str = "bench_orderly_consumer";
const BODY_BYTES: usize = 128;
const BATCH_MESSAGES: u32 = 32;
const CONNECTIONS: usize = 4;

pub(crate) struct Orderly;

impl Feature for Orderly {
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
        load::run(addr, &mut Pulls::new(TOPIC, GROUP, CONNECTIONS).ordered(), plan, meter)
    }
}
