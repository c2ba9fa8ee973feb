//! Messages with a delivery time of their own that are due one after the other: the cost of delivering them, and how
//! late they are. A message is one that was delivered; sending them is not measured. The window is the time in which
//! they are due, whatever was asked for. A latency is the time from when a message was due until it was stored in its
//! topic, as its record tells; the records are read after the window.

use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::bench::connection::{Caller, call};
use crate::bench::frames::{self, OPAQUE_BASE, Pull, QUEUES, SendTemplate, Subscription, UNIQUE_KEY_PREFIX};
use crate::bench::load::{self, Measure, Outcome, Plan, Shape, Traffic};
use crate::bench::meter::Meter;
use crate::bench::response::Response;
use crate::bench::target::request_ok;
use crate::bench::workload::{Feature, Scale};

const TOPIC: &str = "bench_timers";
const GROUP: &str = "bench_timers_consumer";
const BODY_BYTES: usize = 128;
const SHAPE: Shape = Shape {
    connections: 4,
    in_flight: 64,
};
/// How long after the last due time the last delivery may come.
const GRACE: Duration = Duration::from_secs(20);

/// How many messages, and when they are due.
struct Due {
    messages: u32,
    /// Between the first send and the first delivery: all have to be stored.
    lead: Duration,
    span: Duration,
}

impl Due {
    fn of(scale: Scale) -> Due {
        match scale {
            Scale::Quick => Due {
                messages: 50_000,
                lead: Duration::from_secs(15),
                span: Duration::from_secs(20),
            },
            Scale::Full => Due {
                messages: 1_000_000,
                lead: Duration::from_secs(120),
                span: Duration::from_secs(60),
            },
        }
    }

    fn due_ms(&self, first_due_ms: i64, serial: u32) -> i64 {
        first_due_ms + i64::from(serial) * self.span.as_millis() as i64 / i64::from(self.messages)
    }
}

/// When the first is due, on the server that was prepared last.
static FIRST_DUE_MS: AtomicI64 = AtomicI64::new(0);

pub(crate) struct Timers;

impl Feature for Timers {
    fn prepare(&self, addr: &str, scale: Scale, meter: &Meter) -> anyhow::Result<()> {
        request_ok(addr, &frames::create_topic(TOPIC))?;
        let due = Due::of(scale);
        let first_due_ms = crate::now_ms() + due.lead.as_millis() as i64;
        FIRST_DUE_MS.store(first_due_ms, Ordering::Relaxed);
        let plan = Plan {
            ramp: Duration::ZERO,
            window: due.lead,
            messages_max: due.messages.into(),
        };
        let mut sends = Sends {
            template: SendTemplate::timer(TOPIC, BODY_BYTES),
            next_serial: 0,
            due,
            first_due_ms,
        };
        load::run(addr, &mut sends, &plan, meter)?;
        Ok(())
    }

    fn run(&self, addr: &str, scale: Scale, _plan: &Plan, meter: &Meter) -> anyhow::Result<Measure> {
        let due = Due::of(scale);
        let first_due_ms = FIRST_DUE_MS.load(Ordering::Relaxed);
        let wait_ms = first_due_ms - crate::now_ms();
        ensure!(wait_ms > 0, "sending the messages took longer than {:?}", due.lead);
        sleep(Duration::from_millis(wait_ms as u64));
        let mut measure = Measure::new();
        let mut window = meter.start()?;
        let ends = Instant::now() + due.span;
        while Instant::now() < ends {
            sleep(Duration::from_millis(200));
            window.tick(Instant::now())?;
        }
        let gives_up = ends + GRACE;
        while measure.messages < due.messages.into() && Instant::now() < gives_up {
            sleep(Duration::from_millis(50));
            measure.messages = delivered(addr)?;
        }
        measure.usage = window.finish()?;
        let missing = u64::from(due.messages).saturating_sub(measure.messages);
        if missing > 0 {
            measure.error(format!("{missing} messages were not delivered after {GRACE:?}"));
        }
        for queue_id in 0..QUEUES {
            read_delays(addr, queue_id, &due, first_due_ms, &mut measure)?;
        }
        Ok(measure)
    }
}

/// Reads a queue of the topic to its end and notes how late its messages were.
fn read_delays(addr: &str, queue_id: u32, due: &Due, first_due_ms: i64, measure: &mut Measure) -> anyhow::Result<()> {
    let mut caller = Caller::connect(addr)?;
    let mut queue_offset = 0;
    loop {
        let mut request = Vec::new();
        let pull = Pull {
            topic: TOPIC,
            group: GROUP,
            queue_id,
            queue_offset,
            suspend_ms: None,
            commit_offset: None,
            subscription: Subscription::ALL,
        };
        pull.append_to(&mut request, OPAQUE_BASE);
        let frame = caller.call(&request)?;
        let (response, _) = Response::parse(&frame)?.context("the answer is cut")?;
        if response.code != 0 {
            return Ok(());
        }
        queue_offset = response.number("nextBeginOffset")?;
        for message in response.messages() {
            let key = message.property("UNIQ_KEY").unwrap_or_default();
            let serial = key
                .strip_prefix(UNIQUE_KEY_PREFIX)
                .context("a message of somebody else")?;
            let late_ms = message.store_timestamp_ms - due.due_ms(first_due_ms, u32::from_str_radix(serial, 16)?);
            if late_ms < 0 {
                measure.error(format!("a message came {} ms early", -late_ms));
            }
            measure.delay(Duration::from_millis(late_ms.max(0) as u64));
        }
    }
}

/// Messages in all queues of the topic: their next offsets (30).
fn delivered(addr: &str) -> anyhow::Result<u64> {
    let mut sum = 0;
    for queue_id in 0..QUEUES {
        let mut request = Vec::new();
        let fields = format!("\"topic\":\"{TOPIC}\",\"queueId\":\"{queue_id}\",\"committed\":\"true\"");
        frames::append_request(&mut request, 30, OPAQUE_BASE, &fields);
        let frame = call(addr, &request)?;
        let (response, _) = Response::parse(&frame)?.context("the answer is cut")?;
        sum += response.number("offset")?;
    }
    Ok(sum)
}

struct Sends {
    template: SendTemplate,
    next_serial: u32,
    due: Due,
    first_due_ms: i64,
}

impl Traffic for Sends {
    fn shape(&self) -> Shape {
        SHAPE
    }

    fn request(&mut self, _slot: usize, opaque: u32, output: &mut Vec<u8>) {
        let serial = self.next_serial;
        self.next_serial += 1;
        let due_ms = self.due.due_ms(self.first_due_ms, serial);
        self.template
            .append_timed(output, opaque, serial % QUEUES, serial, due_ms);
    }

    fn answer(&mut self, _slot: usize, response: &Response<'_>) -> anyhow::Result<Outcome> {
        Ok(response.success().map(|()| 1))
    }
}
