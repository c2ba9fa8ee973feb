//! What a worker notes of its answers: how long they took, for the metrics and the log of slow requests.

use oxmq_remoting::{Connection, ReplyTo};

use super::loads::Kept;
use super::{Away, Worker};
use crate::flush_queue::Flushed;
use crate::read_threads::ThreadTimes;
use crate::slow_requests::{About, Answer, Names};

/// A slow request that came back from another thread and is answered in this turn.
pub(super) struct SlowAway {
    connection: u64,
    opaque: i32,
    names: Names,
    times: ThreadTimes,
}

impl SlowAway {
    fn about(&self) -> About<'_> {
        About {
            topic: self.names.topic.as_deref(),
            group: self.names.group.as_deref(),
            thread: Some(self.times),
            appended_ms: None,
        }
    }
}

impl Worker {
    /// A request was answered, or as many that came together. `taken` is false where the connection was gone.
    pub(super) fn note_answer(
        &self,
        connection: &Connection,
        to: &ReplyTo,
        code: i32,
        taken: bool,
        times: u64,
        about: About<'_>,
    ) {
        if !self.notes_answers() {
            return;
        }
        let took = to.received.elapsed();
        if let Some(rpc) = &self.rpc {
            rpc.record(to, code, taken, times, took);
        }
        let slow = &self.broker.slow_requests;
        if !slow.is_slow(to, took) {
            return;
        }
        let answer = Answer {
            to,
            peer: connection.peer_addr(),
            code,
            times,
            took,
            now_ms: self.now_ms(),
        };
        let away = self.slow_away.borrow();
        let away = away
            .iter()
            .find(|away| away.connection == connection.id() && away.opaque == to.opaque);
        slow.log(&answer, away.map_or(about, SlowAway::about));
    }

    /// Whether anybody wants to know how long requests take.
    pub(super) fn notes_answers(&self) -> bool {
        self.rpc.is_some() || self.broker.slow_requests.is_on()
    }

    /// A reply leaves that waited for the disk.
    pub(super) fn note_flushed(&self, flushed: &Flushed<'_>) {
        let about = About {
            topic: flushed.topic,
            appended_ms: Some(flushed.appended_ms),
            ..About::default()
        };
        let connection = flushed.connection;
        self.note_answer(
            connection,
            flushed.to,
            flushed.code,
            connection.takes_output(),
            1,
            about,
        );
    }

    /// Answers what has waited for the disk until this time.
    pub(super) fn flush_times_out(&self, now_ms: u64) {
        self.flushes
            .borrow_mut()
            .expire(now_ms, |flushed| self.note_flushed(flushed));
    }

    /// Keeps for the rest of the turn what the log says of a request that came back, if it is slow.
    pub(super) fn note_away(&self, away: &Away, times: ThreadTimes) {
        let (request, to) = match away {
            Away::Pull(request, pull) => (request, &pull.to),
            Away::Pop(request, to, _) | Away::Command(request, to, _) | Away::End(request, to, ..) => (request, to),
            Away::Kept(Kept { request, to, .. }) => (request, to),
        };
        if !self.broker.slow_requests.is_slow(to, to.received.elapsed()) {
            return;
        }
        let names = |topic: Option<&str>, group: Option<&str>| Names {
            topic: topic.map(str::to_owned),
            group: group.map(str::to_owned),
        };
        let names = match away {
            Away::Pull(_, pull) => names(Some(pull.topic.name()), Some(&pull.group.group_name)),
            Away::Pop(_, _, pop) => names(Some(&pop.topic.topic_name), Some(&pop.group)),
            Away::End(_, _, header, _) => names(None, Some(&header.producer_group)),
            Away::Command(_, _, names) => Names::clone(names),
            Away::Kept(_) => Names::default(),
        };
        self.slow_away.borrow_mut().push(SlowAway {
            connection: request.connection().id(),
            opaque: to.opaque,
            names,
            times,
        });
    }
}
