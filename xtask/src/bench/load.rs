//! The closed loop: a fixed number of requests is always on its way, each answer is followed by the next request.
//!
//! One thread and one epoll instance drive all connections. All answers that one read brings are followed by one
//! write, so that the generator stays cheap next to what it measures.

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

/// Kinds of requests and how their answers are counted.
pub(crate) trait Traffic {
    fn connections(&self) -> usize;

    /// Writes a connection's first requests and tells how many they are.
    fn begin(&mut self, connection: usize, now: Instant, output: &mut Vec<u8>) -> usize;

    /// Takes an answer; follows it by one request if there is an output to write it to.
    fn answer(
        &mut self,
        connection: usize,
        response: &Response<'_>,
        now: Instant,
        output: Option<&mut Vec<u8>>,
    ) -> anyhow::Result<Answer>;
}

pub(crate) struct Answer {
    pub(crate) sent_at: Instant,
    /// Messages stored or delivered; or what the server complained about.
    pub(crate) outcome: Result<u64, String>,
}

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
    let mut connections = Vec::new();
    let mut outstanding = 0;
    for index in 0..traffic.connections() {
        let mut connection = Connection::connect(addr)?;
        poll.add(&connection.stream, index)?;
        outstanding += traffic.begin(index, Instant::now(), &mut connection.output.bytes);
        connection.flush()?;
        connections.push(connection);
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
            let connection = &mut connections[index];
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
                    let closing = matches!(phase, Phase::Closing);
                    let output = (!closing).then_some(&mut connection.output.bytes);
                    let answer = traffic.answer(index, &response, now, output)?;
                    outstanding -= usize::from(closing);
                    last_answer = now;
                    match (&phase, answer.outcome) {
                        (Phase::Ramp, Ok(messages)) => ramp_messages += messages,
                        (Phase::Measuring(_), Ok(messages)) => {
                            measure.messages += messages;
                            measure.delay(now - answer.sent_at);
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

/// The open requests of one connection, each known by its slot and by a fresh opaque.
pub(crate) struct InFlight {
    slots: Vec<(u32, Instant)>,
}

impl InFlight {
    pub(crate) fn new(slots: usize) -> Self {
        assert!(slots <= 1 << SLOT_BITS);
        let now = Instant::now();
        Self {
            slots: (0..slots as u32).map(|slot| (OPAQUE_BASE + slot, now)).collect(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn issue(&mut self, slot: usize, now: Instant) -> u32 {
        let (opaque, sent_at) = &mut self.slots[slot];
        let next = *opaque - OPAQUE_BASE + (1 << SLOT_BITS);
        *opaque = OPAQUE_BASE + if next < OPAQUE_RANGE { next } else { slot as u32 };
        *sent_at = now;
        *opaque
    }

    pub(crate) fn settle(&self, opaque: u32) -> anyhow::Result<(usize, Instant)> {
        let slot = (opaque.wrapping_sub(OPAQUE_BASE) & ((1 << SLOT_BITS) - 1)) as usize;
        let open = self.slots.get(slot).filter(|(expected, _)| *expected == opaque);
        let (_, sent_at) = open.with_context(|| format!("an answer to {opaque}, which was not asked"))?;
        Ok((slot, *sent_at))
    }
}

/// How many loads of sends have begun: a key that comes again is a message that was sent twice.
static LOADS: AtomicU32 = AtomicU32::new(0);

/// Sends from one template, queue after queue.
pub(crate) struct Sends {
    template: SendTemplate,
    in_flight: Vec<InFlight>,
    next_queue_id: u32,
    next_serial: u32,
}

impl Sends {
    pub(crate) fn new(template: SendTemplate, connections: usize, in_flight: usize) -> Self {
        Self {
            template,
            in_flight: (0..connections).map(|_| InFlight::new(in_flight)).collect(),
            next_queue_id: 0,
            next_serial: LOADS.fetch_add(1, Ordering::Relaxed).wrapping_mul(SERIALS_PER_LOAD),
        }
    }

    fn send(&mut self, connection: usize, slot: usize, now: Instant, output: &mut Vec<u8>) {
        let opaque = self.in_flight[connection].issue(slot, now);
        self.next_serial = self
            .template
            .append_to(output, opaque, self.next_queue_id, self.next_serial);
        self.next_queue_id = (self.next_queue_id + 1) % QUEUES;
    }
}

impl Traffic for Sends {
    fn connections(&self) -> usize {
        self.in_flight.len()
    }

    fn begin(&mut self, connection: usize, now: Instant, output: &mut Vec<u8>) -> usize {
        let slots = self.in_flight[connection].len();
        (0..slots).for_each(|slot| self.send(connection, slot, now, output));
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
            self.send(connection, slot, now, output);
        }
        let outcome = match response.code {
            0 => Ok(self.template.messages().into()),
            _ => Err(response.remark()),
        };
        Ok(Answer { sent_at, outcome })
    }
}

/// Reads a backlog, over and over from its start. Each queue has one pull under way, as with a real consumer;
/// a connection serves several queues.
pub(crate) struct Pulls {
    topic: &'static str,
    group: &'static str,
    connections: usize,
    in_flight: Vec<InFlight>,
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
        let in_flight = (0..connections)
            .map(|_| InFlight::new(QUEUES as usize / connections))
            .collect();
        Self {
            topic,
            group,
            connections,
            in_flight,
            queue_offsets: vec![0; QUEUES as usize],
            ordered: None,
            filter: None,
        }
    }

    fn queue_id(&self, connection: usize, slot: usize) -> usize {
        slot * self.connections + connection
    }

    fn pull(&mut self, connection: usize, slot: usize, now: Instant, output: &mut Vec<u8>) {
        let opaque = self.in_flight[connection].issue(slot, now);
        let queue_id = self.queue_id(connection, slot);
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
}

impl Traffic for Pulls {
    fn connections(&self) -> usize {
        self.connections
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
        let queue_id = self.queue_id(connection, slot);
        let (next, outcome) = match response.code {
            // The answer to a lock, which has no place to go on from.
            0 if response.body.first() == Some(&b'{') => (self.queue_offsets[queue_id], Ok(0)),
            // Nothing of what was looked through matches (20), which is an answer like any other.
            0 | 20 if self.filter.is_some() => {
                let next = response.number("nextBeginOffset")?;
                (next, Ok(next.saturating_sub(self.queue_offsets[queue_id])))
            }
            0 => (
                response.number("nextBeginOffset")?,
                Ok(response.message_bodies().count() as u64),
            ),
            // The end of the queue (protocol.md §7.4).
            19 => (0, Ok(0)),
            _ => (0, Err(response.remark())),
        };
        self.queue_offsets[queue_id] = next;
        if let Some(output) = output {
            self.pull(connection, slot, now, output);
        }
        Ok(Answer { sent_at, outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaques_are_fresh_and_lead_back_to_their_slot() {
        let now = Instant::now();
        let mut in_flight = InFlight::new(3);
        let first = in_flight.issue(2, now);
        assert_eq!(in_flight.settle(first).unwrap().0, 2);
        let second = in_flight.issue(2, now);
        assert_ne!(first, second);
        assert!(in_flight.settle(first).is_err());
        assert!(in_flight.settle(7).is_err());
    }

    #[test]
    fn opaques_stay_within_ten_digits() {
        let now = Instant::now();
        let mut in_flight = InFlight::new(1);
        in_flight.slots[0].0 = OPAQUE_BASE + OPAQUE_RANGE - (1 << SLOT_BITS);
        assert_eq!(in_flight.issue(0, now), OPAQUE_BASE);
    }

    #[test]
    fn pulls_cover_every_queue_once() {
        let pulls = Pulls::new("t", "g", 4);
        let mut queue_ids: Vec<_> = (0..4)
            .flat_map(|connection| (0..2).map(move |slot| (connection, slot)))
            .map(|(c, s)| pulls.queue_id(c, s))
            .collect();
        queue_ids.sort_unstable();
        assert_eq!(queue_ids, (0..QUEUES as usize).collect::<Vec<_>>());
    }
}
