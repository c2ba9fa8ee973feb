//! A backlog of which a consumer wants one message in a hundred, by its tag or by a property. What counts is how many
//! messages are looked through.

use crate::bench::frames::{self, SendTemplate, Subscription};
use crate::bench::load::{self, Measure, Plan, Pulls};
use crate::bench::meter::Meter;
use crate::bench::target::request_ok;
use crate::bench::workload::{Feature, Scale};

const GROUP: &str = "bench_filter_consumer";
const BODY_BYTES: usize = 128;
/// One of them matches.
const BATCH_MESSAGES: u32 = 100;
const CONNECTIONS: usize = 4;

pub(crate) struct Filter {
    topic: &'static str,
    subscription: Subscription,
}

pub(crate) const TAG: Filter = Filter {
    topic: "bench_filter_tag",
    subscription: Subscription {
        expression_type: "TAG",
        expression: "T42",
    },
};

pub(crate) const SQL: Filter = Filter {
    topic: "bench_filter_sql",
    subscription: Subscription {
        expression_type: "SQL92",
        expression: "level BETWEEN 42 AND 42",
    },
};

impl Feature for Filter {
    fn prepare(&self, addr: &str, scale: Scale, meter: &Meter) -> anyhow::Result<()> {
        request_ok(addr, &frames::create_topic(self.topic))?;
        let messages = match scale {
            Scale::Quick => 200_000,
            Scale::Full => 5_000_000,
        };
        let template = SendTemplate::assorted(self.topic, BODY_BYTES, BATCH_MESSAGES);
        load::fill(addr, template, messages, meter)
    }

    fn run(&self, addr: &str, _scale: Scale, plan: &Plan, meter: &Meter) -> anyhow::Result<Measure> {
        let mut pulls = Pulls::new(self.topic, GROUP, CONNECTIONS).filtered(self.subscription);
        load::run(addr, &mut pulls, plan, meter)
    }
}
