//! The open loop: messages leave at a fixed rate, whatever the broker does, and the time until a long-polling
//! consumer has them counts from when each one was due.
//!
//! Producer and consumer have a connection each, as two client processes would, and share this thread: both ends
//! of a message are read from one clock.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::connection::{Connection, Poll};
use super::frames::{OPAQUE_BASE, OPAQUE_RANGE, Pull, QUEUES, SendTemplate, Subscription};
use super::load::{Measure, Plan};
use super::meter::Meter;
use super::response::Response;

const SUSPEND_MS: u32 = 15_000;
/// How long to wait for the last messages.
const TAIL_MAX: Duration = Duration::from_secs(5);
const PRODUCER: usize = 0;
const CONSUMER: usize = 1;
const TIMER: usize = 2;

pub(crate) struct EndToEnd {
    pub(crate) topic: &'static str,
    pub(crate) group: &'static str,
    pub(crate) body_bytes: usize,
    pub(crate) messages_per_second: u32,
}

impl EndToEnd {
    pub(crate) fn run(&self, addr: &str, plan: &Plan, meter: &Meter) -> anyhow::Result<Measure> {
        let interval = Duration::from_secs(1) / self.messages_per_second;
        let poll = Poll::new()?;
        let mut producer = Connection::connect(addr)?;
        let mut consumer = Connection::connect(addr)?;
        poll.add(&producer.stream, PRODUCER)?;
        poll.add(&consumer.stream, CONSUMER)?;

        let template = SendTemplate::single(self.topic, self.body_bytes);
        let mut measure = Measure::new();
        let mut queue_offsets = [0; QUEUES as usize];
        for (queue_id, &queue_offset) in queue_offsets.iter().enumerate() {
            self.pull(queue_id as u32, queue_offset, &mut consumer.output.bytes);
        }
        consumer.flush()?;
        let timer = start_timer(interval)?;
        poll.add(&timer, TIMER)?;

        let started = Instant::now();
        let due = |index: u32| interval * index;
        let ramp_messages = count_in(plan.ramp, interval);
        let messages = ramp_messages + count_in(plan.window, interval);
        let (mut sent, mut received) = (0, 0);
        let mut window = None;
        let mut deadline = None;
        let mut ready = Vec::new();
        while received < messages && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            poll.wait(&mut ready, Duration::from_millis(100))?;
            if ready.contains(&TIMER) {
                // The number of expirations does not matter: the clock says what is due.
                let mut expirations = [0; 8];
                let _ = rustix::io::read(&timer, &mut expirations);
            }
            let now = started.elapsed();
            if window.is_none() && sent >= ramp_messages {
                window = Some(meter.start()?);
            }
            while sent < messages && due(sent) <= now {
                let opaque = OPAQUE_BASE + sent % OPAQUE_RANGE;
                let nanos = due(sent).as_nanos() as u64;
                template.append_stamped(&mut producer.output.bytes, opaque, sent % QUEUES, sent, nanos);
                sent += 1;
            }
            producer.flush()?;
            if sent == messages {
                deadline.get_or_insert(Instant::now() + TAIL_MAX);
            }

            if ready.contains(&CONSUMER) {
                while consumer.fill()? {}
                let now = started.elapsed();
                let mut consumed = 0;
                while let Some((response, length)) = Response::parse(&consumer.input.bytes()[consumed..])? {
                    consumed += length;
                    if !response.is_answer {
                        continue;
                    }
                    let queue_id = response.opaque.wrapping_sub(OPAQUE_BASE);
                    ensure!(
                        queue_id < QUEUES,
                        "an answer to {}, which was not asked",
                        response.opaque
                    );
                    if !matches!(response.code, 0 | 19..=21) {
                        measure.error(response.remark());
                    } else {
                        queue_offsets[queue_id as usize] = response.number("nextBeginOffset")?;
                    }
                    for body in response.message_bodies() {
                        let Some(stamp) = body.first_chunk() else { continue };
                        let due = Duration::from_nanos(u64::from_be_bytes(*stamp));
                        received += 1;
                        if due >= plan.ramp {
                            measure.messages += 1;
                            measure.delay(now.saturating_sub(due));
                        }
                    }
                    self.pull(queue_id, queue_offsets[queue_id as usize], &mut consumer.output.bytes);
                }
                consumer.input.consume(consumed);
                consumer.flush()?;
            }

            if ready.contains(&PRODUCER) {
                while producer.fill()? {}
                let mut consumed = 0;
                while let Some((response, length)) = Response::parse(&producer.input.bytes()[consumed..])? {
                    consumed += length;
                    if response.is_answer && response.code != 0 {
                        measure.error(response.remark());
                    }
                }
                producer.input.consume(consumed);
            }
            if let Some(window) = &mut window {
                window.tick(Instant::now())?;
            }
        }
        if let Some(window) = window {
            measure.usage = window.finish()?;
        }
        for _ in received..messages {
            measure.error("a message did not arrive".to_owned());
        }
        Ok(measure)
    }

    /// A long poll; its opaque says which queue it asks.
    fn pull(&self, queue_id: u32, queue_offset: u64, output: &mut Vec<u8>) {
        let pull = Pull {
            topic: self.topic,
            group: self.group,
            queue_id,
            queue_offset,
            suspend_ms: Some(SUSPEND_MS),
            commit_offset: None,
            subscription: Subscription::ALL,
        };
        pull.append_to(output, OPAQUE_BASE + queue_id);
    }
}

fn count_in(span: Duration, interval: Duration) -> u32 {
    (span.as_nanos() / interval.as_nanos()) as u32
}

/// Becomes readable so often.
pub(super) fn start_timer(interval: Duration) -> anyhow::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
    let interval = Timespec {
        tv_sec: interval.as_secs() as i64,
        tv_nsec: interval.subsec_nanos().into(),
    };
    timerfd_settime(
        &timer,
        TimerfdTimerFlags::empty(),
        &Itimerspec {
            it_interval: interval,
            it_value: interval,
        },
    )?;
    Ok(timer)
}
