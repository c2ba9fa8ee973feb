//! The workloads, in the order in which they run, and the goals that OxMQ sets itself against the original.

use std::time::Duration;

use super::end_to_end::EndToEnd;
use super::features;
use super::frames::SendTemplate;
use super::load::{self, Measure, Plan, Pulls, Sends, Shape};
use super::meter::Meter;
use super::store::StoreWorkload;
use super::store::cold::DrainCold;
use super::store::recovery::Recovery;
use super::store::steady::{Beside, Steady};
use super::target::Target;

/// Messages of the send workloads.
pub(crate) const SEND_TOPIC: &str = "bench";
/// The backlog that is drained.
pub(crate) const BACKLOG_TOPIC: &str = "bench_backlog";
const END_TO_END_TOPIC: &str = "bench_latency";
/// All topics that must exist.
pub(crate) const TOPICS: [&str; 3] = [SEND_TOPIC, BACKLOG_TOPIC, END_TO_END_TOPIC];
const GROUP: &str = "bench_consumer";
const BACKLOG_BODY_BYTES: usize = 128;
const BATCH_MESSAGES: u32 = 32;

/// What one send workload may store, so that a fast server does not fill the disk.
const STORED_BYTES_MAX: u64 = 3 << 29;
/// Bytes that a stored message has around its body, roughly: fixed fields, topic, properties (protocol.md §6.1).
const STORED_OVERHEAD_BYTES: u64 = 250;
const RAMP: Duration = Duration::from_secs(2);
/// The general warm-up does not reach the code of a feature.
const FEATURE_RAMP: Duration = Duration::from_secs(5);

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    pub(crate) setup: Setup,
    pub(crate) goal: Option<Goal>,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Several messages in a request are a batch.
    Send {
        messages: u32,
        body_bytes: usize,
        shape: Shape,
    },
    Drain {
        connections: usize,
    },
    EndToEnd {
        messages_per_second: u32,
    },
    Feature(&'static dyn Feature),
    Store(&'static dyn StoreWorkload),
}

/// The server that a workload runs on. Workloads of one setup share a server, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Setup {
    Async,
    Sync,
    /// Parts of the message model, with the settings that they need.
    Model,
    /// Sends that come twice are told, which the original does not do.
    DuplicateWindow,
    /// Files of 1 GiB, as usual.
    LargeFiles,
    /// Many backlogs fit, and files go when somebody asks for it.
    MiddleFiles,
    /// The log takes a new file every second or so.
    SmallFiles,
    /// The log is looked at for damage all the time, fast. The original does not look.
    Scrub,
    Recovery,
}

impl Setup {
    pub(crate) const ALL: [Setup; 9] = [
        Setup::Async,
        Setup::Sync,
        Setup::Model,
        Setup::DuplicateWindow,
        Setup::LargeFiles,
        Setup::SmallFiles,
        Setup::MiddleFiles,
        Setup::Scrub,
        Setup::Recovery,
    ];

    /// What stands in the broker's properties, of OxMQ and of the original.
    pub(crate) fn broker_properties(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Setup::Async | Setup::LargeFiles | Setup::Recovery => &[],
            Setup::MiddleFiles => &[
                ("mappedFileSizeCommitLog", "268435456"),
                ("fileReservedTime", "0"),
                ("deleteWhen", "99"),
                ("cleanResourceInterval", "500"),
            ],
            Setup::SmallFiles => &[("mappedFileSizeCommitLog", "16777216")],
            Setup::Scrub => &[("scrubBytesPerSecond", "67108864"), ("scrubInterval", "1000")],
            Setup::Sync => &[("flushDiskType", "SYNC_FLUSH")],
            Setup::Model => &[("enablePropertyFilter", "true")],
            Setup::DuplicateWindow => &[("duplicateSendWindow", "60000")],
        }
    }

    pub(crate) fn has_scrub(self) -> bool {
        self == Setup::Scrub
    }

    pub(crate) fn exists_on(self, target: Target) -> bool {
        match self {
            Setup::DuplicateWindow | Setup::Scrub => target == Target::Oxmq,
            Setup::LargeFiles | Setup::MiddleFiles | Setup::SmallFiles | Setup::Recovery => target != Target::Floor,
            Setup::Async | Setup::Sync | Setup::Model => true,
        }
    }
}

/// A part of the message model under load. It may count anything as a message, as long as it is the same on every server.
pub(crate) trait Feature: Sync {
    /// Creates topics and whatever else must be there. Not measured.
    fn prepare(&self, addr: &str, scale: Scale, meter: &Meter) -> anyhow::Result<()>;

    fn run(&self, addr: &str, scale: Scale, plan: &Plan, meter: &Meter) -> anyhow::Result<Measure>;
}

/// How much a feature prepares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scale {
    /// Enough to see that the workload works.
    Quick,
    Full,
}

#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// At least this many times Java's messages per CPU-second.
    MessagesPerCpuSecond(f64),
    /// At most this part of Java's p99.
    P99(f64),
    /// p99.9 at most so many times that of [`QUIET`].
    P999OfQuiet(f64),
    /// At least this part of what the disk allows, and this many times Java's messages in a second.
    FlushLimit { of_disk: f64, of_java: f64 },
    /// p50 in milliseconds.
    Within(f64),
}

/// The workload that those with [`Goal::P999OfQuiet`] are compared with.
pub(crate) const QUIET: &str = "steady";

/// Sends of single messages or batches by so many connections, each with so many requests under way.
const fn sending(messages: u32, body_bytes: usize, connections: usize, in_flight: usize) -> Kind {
    let shape = Shape { connections, in_flight };
    Kind::Send {
        messages,
        body_bytes,
        shape,
    }
}

const fn send(name: &'static str, title: &'static str, kind: Kind, times_java: f64) -> Workload {
    let goal = Some(Goal::MessagesPerCpuSecond(times_java));
    row(name, title, kind, Setup::Async, goal)
}

const fn row(name: &'static str, title: &'static str, kind: Kind, setup: Setup, goal: Option<Goal>) -> Workload {
    Workload {
        name,
        title,
        kind,
        setup,
        goal,
    }
}

const fn feature(name: &'static str, title: &'static str, feature: &'static dyn Feature) -> Workload {
    let goal = Some(Goal::MessagesPerCpuSecond(5.0));
    row(name, title, Kind::Feature(feature), Setup::Model, goal)
}

const fn steady(name: &'static str, title: &'static str, setup: Setup, kind: &'static Steady) -> Workload {
    row(name, title, Kind::Store(kind), setup, Some(Goal::P999OfQuiet(1.5)))
}

const fn sync_flush(name: &'static str, title: &'static str, connections: usize, in_flight: usize) -> Workload {
    let (of_disk, of_java) = (0.8, 4.0);
    let kind = sending(1, 128, connections, in_flight);
    row(
        name,
        title,
        kind,
        Setup::Sync,
        Some(Goal::FlushLimit { of_disk, of_java }),
    )
}

const fn recovery(name: &'static str, title: &'static str, kind: &'static Recovery) -> Workload {
    row(
        name,
        title,
        Kind::Store(kind),
        Setup::Recovery,
        Some(Goal::Within(1000.0)),
    )
}

macro_rules! workloads {
    ($( $workload:expr, )*) => { pub(crate) const WORKLOADS: &[Workload] = &[$( $workload ),*]; };
}

workloads! {
    send("send-128-4x64", "send 128 B, 4 connections × 64 in flight", sending(1, 128, 4, 64), 10.0),
    send("send-128-16x1", "send 128 B, 16 connections × 1 in flight", sending(1, 128, 16, 1), 5.0),
    send("send-128-256x1", "send 128 B, 256 connections × 1 in flight", sending(1, 128, 256, 1), 5.0),
    send("batch-128", "send 128 B in batches of 32, 4 connections × 4 in flight", sending(32, 128, 4, 4), 8.0),
    send("send-1k-4x64", "send 1 KiB, 4 connections × 64 in flight", sending(1, 1024, 4, 64), 10.0),
    send("send-1k-16x1", "send 1 KiB, 16 connections × 1 in flight", sending(1, 1024, 16, 1), 5.0),
    send("send-1k-256x1", "send 1 KiB, 256 connections × 1 in flight", sending(1, 1024, 256, 1), 5.0),
    send("batch-1k", "send 1 KiB in batches of 32, 4 connections × 4 in flight", sending(32, 1024, 4, 4), 8.0),
    send("drain-128", "drain a backlog of 128 B by pull, 32 a pull, 8 queues", Kind::Drain { connections: 4 }, 5.0),
    row("end-to-end-1000", "end to end at 1,000 messages/s, 128 B",
        Kind::EndToEnd { messages_per_second: 1000 }, Setup::Async, Some(Goal::P99(0.25))),
    sync_flush("sync-flush-128-1x1", "SYNC_FLUSH, send 128 B, 1 in flight", 1, 1),
    sync_flush("sync-flush-128-4x4", "SYNC_FLUSH, send 128 B, 4 connections × 4 in flight", 4, 4),
    sync_flush("sync-flush-128-4x16", "SYNC_FLUSH, send 128 B, 4 connections × 16 in flight", 4, 16),
    sync_flush("sync-flush-128-4x64", "SYNC_FLUSH, send 128 B, 4 connections × 64 in flight", 4, 64),
    row("duplicate-window-128-4x64", "duplicateSendWindow, send 128 B, 4 connections × 64 in flight",
        sending(1, 128, 4, 64), Setup::DuplicateWindow, None),
    feature("orderly-128", "orderly consumption of a backlog of 128 B, 8 queues", &features::orderly::Orderly),
    feature("filter-tag-1pct", "1 % of a backlog of 128 B by tag (messages looked through)", &features::filter::TAG),
    feature("filter-sql-1pct", "1 % of a backlog of 128 B by SQL92 (messages looked through)",
        &features::filter::SQL),
    feature("idle-10000-groups", "10,000 groups wait, pulls held 8 s (CPU of a held pull)", &features::idle::Idle),
    feature("timers-1m", "1 M timer messages due over 60 s (CPU of a delivery)", &features::timers::Timers),
    feature("transactions", "transactions (half message, then its commit), 4 connections × 64 in flight",
        &features::transactions::Transactions),
    feature("pop-ack", "pop 128 B in batches of 32 and acknowledge each, 4 connections × 32 in flight",
        &features::pops::Pops),
    row(QUIET, "8,000 sends/s of 1 KiB, nothing beside", Kind::Store(&Steady(Beside::Nothing)), Setup::LargeFiles, None),
    steady("steady-allocate-1g", "the same while a file of 1 GiB is a quarter full, and the next is created",
        Setup::LargeFiles, &Steady(Beside::Place(250))),
    steady("steady-roll-1g", "the same while a file of 1 GiB becomes full",
        Setup::LargeFiles, &Steady(Beside::Place(1000))),
    steady("steady-rolls", "the same into files of 16 MiB", Setup::SmallFiles, &Steady(Beside::Nothing)),
    row("drain-cold-1k", "drain a backlog of 1 KiB that is on the disk only",
        Kind::Store(&DrainCold), Setup::MiddleFiles, Some(Goal::MessagesPerCpuSecond(5.0))),
    steady("steady-cold-reader", "the same beside a full-speed reader of such a backlog",
        Setup::MiddleFiles, &Steady(Beside::ColdReader)),
    steady("steady-deletion", "the same while files of 256 MiB are deleted",
        Setup::MiddleFiles, &Steady(Beside::Deletion)),
    steady("steady-scrub", "the same while 64 MiB/s are looked at for damage",
        Setup::Scrub, &Steady(Beside::Nothing)),
    recovery("recovery-1g", "from kill -9 to serving, 1 GiB of log", &Recovery(1)),
    recovery("recovery-4g", "from kill -9 to serving, 4 GiB of log", &Recovery(4)),
    recovery("recovery-10g", "from kill -9 to serving, 10 GiB of log", &Recovery(10)),
}

impl Workload {
    /// Whether a server that only appends and answers can take part.
    pub(crate) fn is_send(&self) -> bool {
        matches!(self.kind, Kind::Send { .. })
    }

    /// With how many messages in flight, and of how many bytes in the log.
    pub(crate) fn is_bound_by_flushes(&self) -> Option<(usize, usize)> {
        match self.kind {
            Kind::Send { body_bytes, shape, .. } if self.setup == Setup::Sync => {
                Some((shape.slots(), body_bytes + STORED_OVERHEAD_BYTES as usize))
            }
            _ => None,
        }
    }

    pub(crate) fn is_drain(&self) -> bool {
        matches!(self.kind, Kind::Drain { .. })
    }

    /// What must be done once before the workload runs.
    pub(crate) fn prepare(&self, addr: &str, scale: Scale, meter: &Meter) -> anyhow::Result<()> {
        match self.kind {
            Kind::Feature(feature) => feature.prepare(addr, scale, meter),
            _ => Ok(()),
        }
    }

    pub(crate) fn run(&self, addr: &str, scale: Scale, window: Duration, meter: &Meter) -> anyhow::Result<Measure> {
        let plan = |ramp| Plan {
            ramp,
            window,
            messages_max: u64::MAX,
        };
        match self.kind {
            Kind::Store(_) => unreachable!("it gets the server itself"),
            Kind::Feature(feature) => feature.run(addr, scale, &plan(FEATURE_RAMP), meter),
            Kind::Send {
                messages,
                body_bytes,
                shape,
            } => {
                let template = match messages {
                    1 => SendTemplate::single(SEND_TOPIC, body_bytes),
                    _ => SendTemplate::batch(SEND_TOPIC, body_bytes, messages),
                };
                let mut sends = Sends::new(template, shape.connections, shape.in_flight);
                load::run(addr, &mut sends, &storing(window, body_bytes), meter)
            }
            Kind::Drain { connections } => {
                let mut pulls = Pulls::new(BACKLOG_TOPIC, GROUP, connections);
                load::run(addr, &mut pulls, &plan(RAMP), meter)
            }
            Kind::EndToEnd { messages_per_second } => {
                let load = EndToEnd {
                    topic: END_TO_END_TOPIC,
                    group: GROUP,
                    body_bytes: 128,
                    messages_per_second,
                };
                load.run(addr, &plan(RAMP), meter)
            }
        }
    }
}

/// Pipelined sends for a while, unmeasured.
pub(crate) fn warm_up(addr: &str, span: Duration, meter: &Meter) -> anyhow::Result<Measure> {
    let mut sends = Sends::new(SendTemplate::single(SEND_TOPIC, 128), 4, 64);
    let plan = Plan {
        ramp: Duration::ZERO,
        ..storing(span, 128)
    };
    load::run(addr, &mut sends, &plan, meter)
}

/// Stores at least this many messages for [`Kind::Drain`], spread over all queues.
pub(crate) fn fill_backlog(addr: &str, messages: u64, meter: &Meter) -> anyhow::Result<()> {
    let template = SendTemplate::batch(BACKLOG_TOPIC, BACKLOG_BODY_BYTES, BATCH_MESSAGES);
    load::fill(addr, template, messages, meter)
}

fn storing(window: Duration, body_bytes: usize) -> Plan {
    let messages_max = STORED_BYTES_MAX / (body_bytes as u64 + STORED_OVERHEAD_BYTES);
    Plan {
        ramp: RAMP,
        window,
        messages_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), WORKLOADS.len());
    }
}
