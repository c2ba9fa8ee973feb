//! The closed loop: a fixed number of requests is always on its way, each answer is followed by the next request.
//!
//! One thread and one epoll instance drive all connections. All answers that one read brings are followed by one
//! write, so that the generator stays cheap next to what it measures.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;

use super::connection::{Connection, Poll};
use super::frames::{self, OPAQUE_BASE, OPAQUE_RANGE, Pull, QUEUES, SendTemplate, Subscription};
use super::meter::{Meter, Usage, Window};
use super::response::Response;

/// A server that is silent this long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How many requests of an orderly consumer come to one renewal of its lock.
const PULLS_PER_LOCK: u32 = 256;
/// Unique keys that one load of sends may use up before it takes those of the next.
const SERIALS_PER_LOAD: u32 = 1 << 26;
/// Low bits of an opaque: which of a connection's requests it is.
const SLOT_BITS: u32 = 10;

/// Kinds of requests and how their answers are counted. Each slot has one request under way: its answer is followed by
/// its next request.
pub(crate) trait Traffic {
    fn shape(&self) -> Shape;

    /// Writes the next request of a slot. Slots are numbered through, those of one connection side by side.
    fn request(&mut self, slot: usize, opaque: u32, output: &mut Vec<u8>);

    /// Takes the answer to the last request of a slot.
    fn answer(&mut self, slot: usize, response: &Response<'_>) -> anyhow::Result<Outcome>;
}

#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    /// Slots of each connection.
    pub(crate) in_flight: usize,
}

impl Shape {
    pub(crate) fn slots(self) -> usize {
        self.connections * self.in_flight
    }
}

/// Messages stored or delivered; or what the server complained about.
pub(crate) type Outcome = Result<u64, String>;

/// How long to load a server, and from when on to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) ramp: Duration,
    pub(crate) window: Duration,
    /// Ends the ramp after a fifth of these messages and the window after all of them, whatever the clock says:
    /// the disk is finite.
    pub(crate) messages_max: u64,
}

/// What a workload came to within its window.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    pub(crate) messages: u64,
    /// Nanoseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) usage: Usage,
    /// Messages in a second that the machine allows, where that was measured beside.
    pub(crate) limit: Option<f64>,
    /// How long the machine stood still, in nanoseconds, where that was measured beside.
    pub(crate) pauses: Option<Histogram<u64>>,
}

impl Measure {
    pub(crate) fn new() -> Self {
        Self {
            messages: 0,
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order"),
            errors: 0,
            first_error: None,
            usage: Usage::default(),
            limit: None,
            pauses: None,
        }
    }

    pub(crate) fn error(&mut self, what: String) {
        self.errors += 1;
        self.first_error.get_or_insert(what);
    }

    pub(crate) fn delay(&mut self, delay: Duration) {
        self.latency.saturating_record(delay.as_nanos() as u64);
    }
}

enum Phase {
    Ramp,
    Measuring(Window),
    Closing,
}

/// Loads the server at `addr` as planned, waits for the last answers and returns what was measured.
pub(crate) fn run(addr: &str, traffic: &mut impl Traffic, plan: &Plan, meter: &Meter) -> anyhow::Result<Measure> {
    let poll = Poll::new()?;
    let shape = traffic.shape();
    let mut outstanding = shape.slots();
    let mut connections = Vec::new();
    for index in 0..shape.connections {
        let mut connection = Connection::connect(addr)?;
        poll.add(&connection.stream, index)?;
        let mut in_flight = InFlight::new(index * shape.in_flight, shape.in_flight);
        for slot in in_flight.slots() {
            let opaque = in_flight.issue(slot, Instant::now());
            traffic.request(slot, opaque, &mut connection.output.bytes);
        }
        connection.flush()?;
        connections.push((connection, in_flight));
    }

    let mut measure = Measure::new();
    let mut phase = Phase::Ramp;
    let mut ramp_messages = 0;
    let mut phase_ends = Instant::now() + plan.ramp;
    let mut last_answer = Instant::now();
    let mut ready = Vec::new();
    while outstanding > 0 {
        poll.wait(&mut ready, Duration::from_millis(100))?;
        for &index in &ready {
            let (connection, in_flight) = &mut connections[index];
            connection.flush()?;
            loop {
                let more = connection.fill().with_context(|| format!("connection {index}"))?;
                let now = Instant::now();
                let mut consumed = 0;
                while let Some((response, length)) = Response::parse(&connection.input.bytes()[consumed..])? {
                    consumed += length;
                    if !response.is_answer {
                        continue;
                    }
                    let (slot, sent_at) = in_flight.settle(response.opaque)?;
                    let outcome = traffic.answer(slot, &response)?;
                    if matches!(phase, Phase::Closing) {
                        outstanding -= 1;
                    } else {
                        let opaque = in_flight.issue(slot, now);
                        traffic.request(slot, opaque, &mut connection.output.bytes);
                    }
                    last_answer = now;
                    match (&phase, outcome) {
                        (Phase::Ramp, Ok(messages)) => ramp_messages += messages,
                        (Phase::Measuring(_), Ok(messages)) => {
                            measure.messages += messages;
                            measure.delay(now - sent_at);
                        }
                        (_, Ok(_)) => {}
                        (_, Err(remark)) => measure.error(remark),
                    }
                }
                connection.input.consume(consumed);
                connection.flush()?;
                if !more {
                    break;
                }
            }
        }
        let now = Instant::now();
        ensure!(
            now - last_answer < SILENCE_MAX,
            "no answer for {SILENCE_MAX:?}, {outstanding} requests are open"
        );
        phase = match phase {
            Phase::Ramp if now >= phase_ends || ramp_messages >= plan.messages_max / 5 => {
                phase_ends = now + plan.window;
                Phase::Measuring(meter.start()?)
            }
            Phase::Measuring(window) if now >= phase_ends || measure.messages >= plan.messages_max => {
                measure.usage = window.finish()?;
                Phase::Closing
            }
            Phase::Measuring(mut window) => {
                window.tick(now)?;
                Phase::Measuring(window)
            }
            phase => phase,
        };
    }
    Ok(measure)
}

/// Stores at least this many messages, spread over all queues, unmeasured.
pub(crate) fn fill(addr: &str, template: SendTemplate, messages: u64, meter: &Meter) -> anyhow::Result<()> {
    let plan = Plan {
        ramp: Duration::ZERO,
        window: Duration::from_secs(600),
        messages_max: messages,
    };
    let filled = run(addr, &mut Sends::new(template, 4, 4), &plan, meter)?;
    let problem = filled.first_error.unwrap_or_default();
    ensure!(filled.errors == 0, "cannot fill the backlog: {problem}");
    Ok(())
}

/// The open requests of one connection, each known by its slot and by a fresh opaque.
struct InFlight {
    first_slot: usize,
    open: Vec<(u32, Instant)>,
}

impl InFlight {
    fn new(first_slot: usize, slots: usize) -> Self {
        assert!(slots <= 1 << SLOT_BITS);
        let now = Instant::now();
        Self {
            first_slot,
            open: (0..slots as u32).map(|slot| (OPAQUE_BASE + slot, now)).collect(),
        }
    }

    fn slots(&self) -> Range<usize> {
        self.first_slot..self.first_slot + self.open.len()
    }

    fn issue(&mut self, slot: usize, now: Instant) -> u32 {
        let index = slot - self.first_slot;
        let (opaque, sent_at) = &mut self.open[index];
        let next = *opaque - OPAQUE_BASE + (1 << SLOT_BITS);
        *opaque = OPAQUE_BASE + if next < OPAQUE_RANGE { next } else { index as u32 };
        *sent_at = now;
        *opaque
    }

    fn settle(&self, opaque: u32) -> anyhow::Result<(usize, Instant)> {
        let index = (opaque.wrapping_sub(OPAQUE_BASE) & ((1 << SLOT_BITS) - 1)) as usize;
        let open = self.open.get(index).filter(|(expected, _)| *expected == opaque);
        let (_, sent_at) = open.with_context(|| format!("an answer to {opaque}, which was not asked"))?;
        Ok((self.first_slot + index, *sent_at))
    }
}

/// How many loads of sends have begun: a key that comes again is a message that was sent twice.
static LOADS: AtomicU32 = AtomicU32::new(0);

/// Sends from one template, queue after queue.
pub(crate) struct Sends {
    template: SendTemplate,
    shape: Shape,
    next_queue_id: u32,
    next_serial: u32,
}

impl Sends {
    pub(crate) fn new(template: SendTemplate, connections: usize, in_flight: usize) -> Self {
        Self {
            template,
            shape: Shape { connections, in_flight },
            next_queue_id: 0,
            next_serial: LOADS.fetch_add(1, Ordering::Relaxed).wrapping_mul(SERIALS_PER_LOAD),
        }
    }
}

impl Traffic for Sends {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn request(&mut self, _slot: usize, opaque: u32, output: &mut Vec<u8>) {
        self.next_serial = self
            .template
            .append_to(output, opaque, self.next_queue_id, self.next_serial);
        self.next_queue_id = (self.next_queue_id + 1) % QUEUES;
    }

    fn answer(&mut self, _slot: usize, response: &Response<'_>) -> anyhow::Result<Outcome> {
        Ok(response.success().map(|()| self.template.messages().into()))
    }
}

/// Reads a backlog, over and over from its start. Each queue has one pull under way, as with a real consumer;
/// a connection serves several queues. Slots are queues.
pub(crate) struct Pulls {
    topic: &'static str,
    group: &'static str,
    connections: usize,
    queue_offsets: Vec<u64>,
    /// Requests of each queue, counted by an orderly consumer.
    ordered: Option<Vec<u32>>,
    /// Takes a part only; then messages that were looked through are counted, not those that came.
    filter: Option<Subscription>,
}

impl Pulls {
    /// With this subscription instead of one to everything.
    pub(crate) fn filtered(self, subscription: Subscription) -> Self {
        Self {
            filter: Some(subscription),
            ..self
        }
    }

    /// As an orderly consumer: progress goes with each pull, and locks are renewed now and then.
    pub(crate) fn ordered(self) -> Self {
        Self {
            ordered: Some(vec![0; QUEUES as usize]),
            ..self
        }
    }

    pub(crate) fn new(topic: &'static str, group: &'static str, connections: usize) -> Self {
        assert!((QUEUES as usize).is_multiple_of(connections));
        Self {
            topic,
            group,
            connections,
            queue_offsets: vec![0; QUEUES as usize],
            ordered: None,
            filter: None,
        }
    }
}

impl Traffic for Pulls {
    fn shape(&self) -> Shape {
        Shape {
            connections: self.connections,
            in_flight: QUEUES as usize / self.connections,
        }
    }

    fn request(&mut self, queue_id: usize, opaque: u32, output: &mut Vec<u8>) {
        let queue_offset = self.queue_offsets[queue_id];
        if let Some(counts) = &mut self.ordered {
            counts[queue_id] += 1;
            if counts[queue_id] % PULLS_PER_LOCK == 1 {
                return frames::lock_queue(output, opaque, self.topic, self.group, queue_id as u32);
            }
        }
        let pull = Pull {
            topic: self.topic,
            group: self.group,
            queue_id: queue_id as u32,
            queue_offset,
            suspend_ms: None,
            commit_offset: self.ordered.is_some().then_some(queue_offset),
            subscription: self.filter.unwrap_or(Subscription::ALL),
        };
        pull.append_to(output, opaque);
    }

    fn answer(&mut self, queue_id: usize, response: &Response<'_>) -> anyhow::Result<Outcome> {
        let queue_offset = &mut self.queue_offsets[queue_id];
        let (next, outcome) = match response.code {
            // The answer to a lock, which has no place to go on from.
            0 if response.body.first() == Some(&b'{') => (*queue_offset, Ok(0)),
            // Nothing of what was looked through matches (20), which is an answer like any other.
            0 | 20 if self.filter.is_some() => {
                let next = response.number("nextBeginOffset")?;
                (next, Ok(next.saturating_sub(*queue_offset)))
            }
            0 => (
                response.number("nextBeginOffset")?,
                Ok(response.message_bodies().count() as u64),
            ),
            // The end of the queue (protocol.md §7.4).
            19 => (0, Ok(0)),
            _ => (0, Err(response.remark())),
        };
        *queue_offset = next;
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaques_are_fresh_and_lead_back_to_their_slot() {
        let now = Instant::now();
        let mut in_flight = InFlight::new(6, 3);
        let first = in_flight.issue(8, now);
        assert_eq!(in_flight.settle(first).unwrap().0, 8);
        let second = in_flight.issue(8, now);
        assert_ne!(first, second);
        assert!(in_flight.settle(first).is_err());
        assert!(in_flight.settle(7).is_err());
    }

    #[test]
    fn opaques_stay_within_ten_digits() {
        let now = Instant::now();
        let mut in_flight = InFlight::new(0, 1);
        in_flight.open[0].0 = OPAQUE_BASE + OPAQUE_RANGE - (1 << SLOT_BITS);
        assert_eq!(in_flight.issue(0, now), OPAQUE_BASE);
    }

    #[test]
    fn pulls_cover_every_queue_once() {
        for connections in [1, 4, 8] {
            assert_eq!(Pulls::new("t", "g", connections).shape().slots(), QUEUES as usize);
        }
    }
}
