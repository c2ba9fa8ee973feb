//! A line in the log for each request that takes longer than `slowRequestThreshold`.
//!
//! All that a request costs for it is a look at the clock when it is answered, which the metrics take as well; requests of
//! one turn that were appended together share one. A request that waits because it asked to, for messages or its quota, is
//! not slow.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oxmq_protocol::{Frame, RemotingCommand, RequestCode};
use oxmq_remoting::{LogLimit, ReplyTo};

use crate::config::BrokerConfig;
use crate::read_threads::ThreadTimes;

/// Lines in five seconds; what comes beyond is counted.
const LINES_MAX: u32 = 50;

#[derive(Debug)]
pub(crate) struct SlowRequests {
    /// 0 for no lines.
    threshold_ms: AtomicU64,
    limit: LogLimit,
}

/// What is known of a slow request besides its code, and where its time went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct About<'a> {
    pub(crate) topic: Option<&'a str>,
    pub(crate) group: Option<&'a str>,
    pub(crate) thread: Option<ThreadTimes>,
    /// When its reply began to wait for the disk, by the worker's clock.
    pub(crate) appended_ms: Option<u64>,
}

/// An answer that was given.
pub(crate) struct Answer<'a> {
    pub(crate) to: &'a ReplyTo,
    pub(crate) peer: SocketAddr,
    pub(crate) code: i32,
    /// As many were answered at once that came together.
    pub(crate) times: u64,
    pub(crate) took: Duration,
    /// By the worker's clock.
    pub(crate) now_ms: u64,
}

/// Topic and group of a request that left its turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    pub(crate) topic: Option<String>,
    pub(crate) group: Option<String>,
}

impl Names {
    pub(crate) fn of(frame: Frame<'_>) -> Box<Names> {
        let Ok(RemotingCommand { header, .. }) = RemotingCommand::decode(frame) else {
            return Box::default();
        };
        let first = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| header.ext_fields.get(name))
                .map(str::to_owned)
        };
        Box::new(Names {
            topic: first(&["topic"]),
            group: first(&["consumerGroup", "group", "groupName", "producerGroup"]),
        })
    }
}

impl SlowRequests {
    pub(crate) fn new(config: &BrokerConfig) -> SlowRequests {
        SlowRequests {
            threshold_ms: AtomicU64::new(config.slow_request_threshold_ms),
            limit: LogLimit::of(LINES_MAX),
        }
    }

    pub(crate) fn set_config(&self, config: &BrokerConfig) {
        self.threshold_ms
            .store(config.slow_request_threshold_ms, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.threshold_ms.load(Ordering::Relaxed) > 0
    }

    /// Whether a request is slow that has taken so long.
    #[inline]
    pub(crate) fn is_slow(&self, to: &ReplyTo, took: Duration) -> bool {
        let threshold_ms = self.threshold_ms.load(Ordering::Relaxed);
        threshold_ms > 0 && took.as_millis() >= u128::from(threshold_ms) && !to.suspended
    }

    #[cold]
    pub(crate) fn log(&self, answer: &Answer<'_>, about: About<'_>) {
        let Some(left_out) = self.limit.admit() else { return };
        let millis = |duration: Duration| duration.as_millis() as u64;
        tracing::warn!(
            code = answer.to.code,
            request = RequestCode::from_code(answer.to.code).map(tracing::field::debug),
            peer = %answer.peer,
            topic = about.topic,
            group = about.group,
            answer = answer.code,
            requests = (answer.times > 1).then_some(answer.times),
            took_ms = millis(answer.took),
            queued_ms = about.thread.map(|times| millis(times.queued)),
            worked_ms = about.thread.map(|times| millis(times.worked)),
            flush_ms = about
                .appended_ms
                .map(|appended_ms| answer.now_ms.saturating_sub(appended_ms)),
            left_out = (left_out > 0).then_some(left_out),
            "slow request"
        );
    }
}
