//! Messages with a delivery time of their own that are due one after the other: the cost of delivering them, and how
//! late they are. A message is one that was delivered; sending them is not measured. The window is the time in which
//! they are due, whatever was asked for. A latency is the time from when a message was due until it was stored in its
//! topic, as its record tells; the records are read after the window.

use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};

use crate::bench::connection::{Caller, call};
use crate::bench::frames::{self, OPAQUE_BASE, Pull, QUEUES, Subscription, positions, write_decimal, write_hex};
use crate::bench::load::{self, Answer, InFlight, Measure, Plan, Traffic};
use crate::bench::meter::Meter;
use crate::bench::response::Response;
use crate::bench::target::request_ok;
use crate::bench::workload::{Feature, Scale};

const TOPIC: &str = "bench_timers";
const GROUP: &str = "bench_timers_producer";
const BODY_BYTES: usize = 128;
const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 64;
const UNIQUE_KEY_PREFIX: &str = "7F0000010A2B07A4A9B5C6D9";
/// A time with as many digits as today's.
const TIME_MARK: &str = "1700000000000";
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
        let first_due_ms = now_ms() + due.lead.as_millis() as i64;
        FIRST_DUE_MS.store(first_due_ms, Ordering::Relaxed);
        let plan = Plan {
            ramp: Duration::ZERO,
            window: due.lead,
            messages_max: due.messages.into(),
        };
        load::run(addr, &mut Sends::new(due, first_due_ms), &plan, meter)?;
        Ok(())
    }

    fn run(&self, addr: &str, scale: Scale, _plan: &Plan, meter: &Meter) -> anyhow::Result<Measure> {
        let due = Due::of(scale);
        let first_due_ms = FIRST_DUE_MS.load(Ordering::Relaxed);
        let wait_ms = first_due_ms - now_ms();
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
        let header = format!(
            "{{\"code\":30,\"extFields\":{{\"topic\":\"{TOPIC}\",\"queueId\":\"{queue_id}\",\"committed\":\"true\"}},\
             \"flag\":0,\"language\":\"JAVA\",\"opaque\":{OPAQUE_BASE},\"serializeTypeCurrentRPC\":\"JSON\",\
             \"version\":513}}"
        );
        let frame = call(addr, &frames::frame(&header, &[]))?;
        let (response, _) = Response::parse(&frame)?.context("the answer is cut")?;
        sum += response.number("offset")?;
    }
    Ok(sum)
}

struct Sends {
    template: TimerTemplate,
    in_flight: Vec<InFlight>,
    next_serial: u32,
    due: Due,
    first_due_ms: i64,
}

impl Sends {
    fn new(due: Due, first_due_ms: i64) -> Self {
        Self {
            template: TimerTemplate::new(),
            in_flight: (0..CONNECTIONS).map(|_| InFlight::new(IN_FLIGHT)).collect(),
            next_serial: 0,
            due,
            first_due_ms,
        }
    }

    fn prepare(&mut self, connection: usize, slot: usize, now: Instant, output: &mut Vec<u8>) {
        let opaque = self.in_flight[connection].issue(slot, now);
        let serial = self.next_serial;
        self.next_serial += 1;
        let due_ms = self.due.due_ms(self.first_due_ms, serial);
        self.template.append_to(output, opaque, serial, due_ms);
    }
}

impl Traffic for Sends {
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
        if let Some(output) = output {
            self.prepare(connection, slot, now, output);
        }
        let outcome = match response.code {
            0 => Ok(1),
            _ => Err(response.remark()),
        };
        Ok(Answer { sent_at, outcome })
    }
}

/// A send (310) with `TIMER_DELIVER_MS`, patched per message.
struct TimerTemplate {
    bytes: Vec<u8>,
    opaque_at: usize,
    queue_at: usize,
    serial_at: usize,
    due_at: usize,
}

impl TimerTemplate {
    fn new() -> Self {
        let header = format!(
            "{{\"code\":310,\"extFields\":{{\"a\":\"{GROUP}\",\"b\":\"{TOPIC}\",\"c\":\"TBW102\",\"d\":\"4\",\
             \"e\":\"0\",\"f\":\"0\",\"g\":\"1\",\"h\":\"0\",\
             \"i\":\"UNIQ_KEY\\u0001{UNIQUE_KEY_PREFIX}########\\u0002WAIT\\u0001true\\u0002\
             TIMER_DELIVER_MS\\u0001{TIME_MARK}\\u0002TAGS\\u0001TagA\\u0002\",\"j\":\"0\",\"k\":\"false\",\
             \"m\":\"false\",\"n\":\"broker-a\"}},\"flag\":0,\"language\":\"JAVA\",\"opaque\":{OPAQUE_BASE},\
             \"serializeTypeCurrentRPC\":\"JSON\",\"version\":513}}"
        );
        let bytes = frames::frame(&header, &[b'x'; BODY_BYTES]);
        let at = |mark: &str| positions(&bytes, mark.as_bytes())[0];
        Self {
            opaque_at: at(&OPAQUE_BASE.to_string()),
            queue_at: at("\"e\":\"0\"") + 5,
            serial_at: at("########"),
            due_at: at(TIME_MARK),
            bytes,
        }
    }

    fn append_to(&self, output: &mut Vec<u8>, opaque: u32, serial: u32, due_ms: i64) {
        let start = output.len();
        output.extend_from_slice(&self.bytes);
        let request = &mut output[start..];
        write_decimal(&mut request[self.opaque_at..], opaque);
        write_hex(&mut request[self.serial_at..], serial);
        request[self.queue_at] = b'0' + (serial % QUEUES) as u8;
        request[self.due_at..self.due_at + TIME_MARK.len()].copy_from_slice(due_ms.to_string().as_bytes());
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as i64
}
