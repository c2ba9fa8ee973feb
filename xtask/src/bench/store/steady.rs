//! Sends at a fixed rate, in an open loop: a send counts from when it was due, so that one that is held up holds up the
//! figures of all behind it. Meanwhile the store does what the workload is named after.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::pauses::Pauses;
use super::{Stage, StoreWorkload, cold};
use crate::bench::connection::{Connection, Poll};
use crate::bench::end_to_end::start_timer;
use crate::bench::frames::{self, OPAQUE_BASE, QUEUES, SendTemplate};
use crate::bench::load::{Measure, Plan};
use crate::bench::meter::Meter;
use crate::bench::response::Response;
use crate::bench::target::request_ok;
use crate::bench::workload::{SEND_TOPIC, Scale};

const BODY_BYTES: usize = 1024;
/// With what a record has around its body.
pub(super) const RECORD_BYTES: u64 = 1270;
const MESSAGES_PER_SECOND: u32 = 8_000;
const CONNECTIONS: usize = 8;
const TICK: Duration = Duration::from_millis(1);
const MESSAGES_PER_TICK: u32 = MESSAGES_PER_SECOND / 1_000;
const RAMP: Duration = Duration::from_secs(2);
/// How long to wait for the last answers.
const TAIL_MAX: Duration = Duration::from_secs(10);
const LOG_FILE_BYTES: u64 = 1 << 30;

/// What the store does meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Nothing, or what its settings make it do.
    Nothing,
    /// The records pass this place in a file of 1 GiB, in permille, in the middle of the window.
    Place(u64),
    /// Old files are deleted.
    Deletion,
    /// A backlog is read from the disk, as fast as it goes.
    ColdReader,
}

pub(crate) struct Steady(pub(crate) Beside);

impl StoreWorkload for Steady {
    fn run(&self, stage: &mut Stage<'_>) -> anyhow::Result<Measure> {
        match self.0 {
            Beside::Nothing => {}
            Beside::Place(permille) => fill_up_to(stage, permille)?,
            Beside::Deletion => cold::make_backlog(stage)?,
            Beside::ColdReader => cold::make_cold(stage)?,
        }
        let plan = Plan {
            ramp: RAMP,
            window: stage.window,
            messages_max: u64::MAX,
        };
        let (addr, meter) = (stage.addr(), stage.profiled());
        if stage.setup.has_scrub() {
            // The first bytes are looked at a second after the start; the log has to be there.
            stage.fill(SEND_TOPIC, BODY_BYTES, scrubbed(stage.scale) / RECORD_BYTES)?;
        }
        match self.0 {
            Beside::Nothing | Beside::Place(_) => send(addr, &plan, &meter, &|| false),
            Beside::Deletion => thread::scope(|scope| {
                let deleting = scope.spawn(|| {
                    sleep(RAMP);
                    request_ok(addr, &delete_expired())
                });
                let measure = send(addr, &plan, &meter, &|| false)?;
                deleting.join().expect("it does not panic")?;
                Ok(measure)
            }),
            Beside::ColdReader => thread::scope(|scope| {
                let reading = scope.spawn(|| {
                    sleep(RAMP);
                    cold::drain(stage, &stage.meter())
                });
                let is_over = || reading.is_finished();
                let measure = send(addr, &plan, &meter, &is_over)?;
                let drained = reading.join().expect("it does not panic")?;
                ensure!(drained.messages > 0, "nothing was read meanwhile");
                Ok(measure)
            }),
        }
    }
}

/// DELETE_EXPIRED_COMMITLOG (329).
fn delete_expired() -> Vec<u8> {
    let mut request = Vec::new();
    frames::append_request(&mut request, 329, OPAQUE_BASE, "");
    request
}

fn scrubbed(scale: Scale) -> u64 {
    match scale {
        Scale::Quick => 256 << 20,
        Scale::Full => 1 << 30,
    }
}

/// Stores so much that half a window is missing to a place in a file.
fn fill_up_to(stage: &Stage<'_>, permille: u64) -> anyhow::Result<()> {
    let ahead = u64::from(MESSAGES_PER_SECOND) * RECORD_BYTES * (RAMP + stage.window / 2).as_millis() as u64 / 1000;
    let wanted = LOG_FILE_BYTES * permille / 1000;
    loop {
        let at = stage.log_end()? % LOG_FILE_BYTES;
        let missing = (wanted + LOG_FILE_BYTES - ahead - at) % LOG_FILE_BYTES;
        // What is sent rounds off: a little short of it is there.
        if !((16 << 20)..LOG_FILE_BYTES - (4 << 20)).contains(&missing) {
            return Ok(());
        }
        stage.fill(SEND_TOPIC, BODY_BYTES, (missing - (8 << 20)) / RECORD_BYTES)?;
    }
}

/// Sends as planned, or until this is over.
pub(super) fn send(addr: &str, plan: &Plan, meter: &Meter, is_over: &dyn Fn() -> bool) -> anyhow::Result<Measure> {
    let poll = Poll::new()?;
    let mut connections = Vec::new();
    for index in 0..CONNECTIONS {
        let connection = Connection::connect(addr)?;
        poll.add(&connection.stream, index)?;
        connections.push(connection);
    }
    let timer = start_timer(TICK)?;
    poll.add(&timer, CONNECTIONS)?;
    let template = SendTemplate::single(SEND_TOPIC, BODY_BYTES);
    let mut measure = Measure::new();
    let due = |serial: u32| TICK * (serial / MESSAGES_PER_TICK);
    let (mut sent, mut answered) = (0, 0);
    let mut window = None;
    let mut gives_up = None;
    let mut ready = Vec::new();
    let started = Instant::now();
    while gives_up.is_none() || answered < sent {
        poll.wait(&mut ready, Duration::from_millis(100))?;
        // The number of expirations does not matter: the clock says what is due.
        let _ = rustix::io::read(&timer, &mut [0; 8]);
        let now = started.elapsed();
        if window.is_none() && now >= plan.ramp {
            window = Some((meter.start()?, Pauses::start()?));
        }
        if let Some(gives_up) = gives_up {
            ensure!(now < gives_up, "{} answers did not come", sent - answered);
        } else if now >= plan.ramp + plan.window || (now > plan.ramp + TICK * 100 && is_over()) {
            gives_up = Some(now + TAIL_MAX);
            let (window, pauses) = window.take().context("the window was not opened")?;
            measure.usage = window.finish()?;
            measure.pauses = pauses.map(Pauses::finish).transpose()?;
        } else {
            while due(sent) <= now {
                let connection = &mut connections[sent as usize % CONNECTIONS];
                template.append_to(&mut connection.output.bytes, OPAQUE_BASE + sent, sent % QUEUES, sent);
                sent += 1;
            }
        }
        for connection in &mut connections {
            connection.flush()?;
        }
        for &index in ready.iter().filter(|index| **index < CONNECTIONS) {
            let connection = &mut connections[index];
            while connection.fill()? {}
            let now = started.elapsed();
            let mut consumed = 0;
            while let Some((response, length)) = Response::parse(&connection.input.bytes()[consumed..])? {
                consumed += length;
                if !response.is_answer {
                    continue;
                }
                answered += 1;
                let due = due(response.opaque.wrapping_sub(OPAQUE_BASE));
                match response.code {
                    0 if due >= plan.ramp => {
                        measure.messages += 1;
                        measure.delay(now.saturating_sub(due));
                    }
                    0 => {}
                    _ => measure.error(response.remark()),
                }
            }
            connection.input.consume(consumed);
        }
        if let Some((window, _)) = &mut window {
            window.tick(Instant::now())?;
        }
    }
    Ok(measure)
}
