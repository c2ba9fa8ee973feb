//! Replies that wait for the disk (SYNC_FLUSH), of one worker, in the order of their positions.
//!
//! All replies of a turn wait for the same position, so what is queued are turns: one flush releases everyone it
//! covers. Replies are written already when they come here; one whose time runs out first is rewritten with
//! FLUSH_DISK_TIMEOUT: the message is stored, but not known to be on disk.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use bytes::BytesMut;
use oxmq_protocol::{Frame, RemotingCommand, response_code};
use oxmq_remoting::{Connection, ReplyTo};

use crate::topic_cache::TopicState;

/// Replies that may wait at once on one worker.
const REPLIES_MAX: usize = 65_536;

#[derive(Default)]
pub(crate) struct FlushQueue {
    turns: VecDeque<Turn>,
    /// The turn that replies are added to.
    open: Turn,
    replies: usize,
    /// An empty turn, kept for its memory.
    spare: Turn,
}

#[derive(Default)]
struct Turn {
    end_offset: i64,
    deadline_ms: u64,
    bytes: BytesMut,
    /// When its replies were put.
    appended_ms: u64,
    replies: Vec<Waiting>,
}

struct Waiting {
    connection: Rc<Connection>,
    to: ReplyTo,
    topic: Option<Rc<TopicState>>,
    range: Range<usize>,
}

/// A reply that leaves.
pub(crate) struct Flushed<'a> {
    pub(crate) connection: &'a Rc<Connection>,
    pub(crate) to: &'a ReplyTo,
    pub(crate) topic: Option<&'a str>,
    pub(crate) code: i32,
    pub(crate) appended_ms: u64,
}

impl FlushQueue {
    pub(crate) fn len(&self) -> usize {
        self.replies
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.replies == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.replies >= REPLIES_MAX
    }

    /// Adds the reply that `write` appends to the open turn. It may leave when everything before `end_offset` is on disk.
    pub(crate) fn push(
        &mut self,
        end_offset: i64,
        connection: &Rc<Connection>,
        to: ReplyTo,
        topic: Option<&Rc<TopicState>>,
        write: impl FnOnce(&mut BytesMut),
    ) {
        let start = self.open.bytes.len();
        write(&mut self.open.bytes);
        self.open.end_offset = end_offset;
        self.open.replies.push(Waiting {
            connection: Rc::clone(connection),
            to,
            topic: topic.cloned(),
            range: start..self.open.bytes.len(),
        });
        self.replies += 1;
    }

    pub(crate) fn close_turn(&mut self, now_ms: u64, timeout_ms: u64) {
        if self.open.replies.is_empty() {
            return;
        }
        let mut turn = std::mem::replace(&mut self.open, std::mem::take(&mut self.spare));
        assert!(
            self.turns.back().is_none_or(|last| last.end_offset <= turn.end_offset),
            "positions only grow"
        );
        turn.appended_ms = now_ms;
        turn.deadline_ms = now_ms + timeout_ms;
        self.turns.push_back(turn);
    }

    /// Sends what is on disk, after a note of each reply.
    pub(crate) fn release(&mut self, flushed: i64, note: impl Fn(&Flushed<'_>)) {
        while let Some(turn) = self.turns.pop_front_if(|turn| turn.end_offset <= flushed) {
            for reply in &turn.replies {
                note(&turn.leaving(reply, response_code::SUCCESS));
                let bytes = &turn.bytes[reply.range.clone()];
                reply.connection.write(|out| out.extend_from_slice(bytes));
            }
            self.recycle(turn);
        }
    }

    /// Sends what has waited too long, after a note of each reply.
    pub(crate) fn expire(&mut self, now_ms: u64, note: impl Fn(&Flushed<'_>)) {
        while let Some(turn) = self.turns.pop_front_if(|turn| turn.deadline_ms <= now_ms) {
            for reply in &turn.replies {
                note(&turn.leaving(reply, response_code::FLUSH_DISK_TIMEOUT));
                let bytes = &turn.bytes[reply.range.clone()];
                reply.connection.write(|out| write_timeout(out, bytes));
            }
            self.recycle(turn);
        }
    }

    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.turns.front().map(|turn| turn.deadline_ms)
    }

    fn recycle(&mut self, mut turn: Turn) {
        self.replies -= turn.replies.len();
        turn.bytes.clear();
        turn.replies.clear();
        self.spare = turn;
    }
}

impl Turn {
    fn leaving<'a>(&self, reply: &'a Waiting, code: i32) -> Flushed<'a> {
        Flushed {
            connection: &reply.connection,
            to: &reply.to,
            topic: reply.topic.as_deref().map(TopicState::name),
            code,
            appended_ms: self.appended_ms,
        }
    }
}

/// The same reply, but saying that the flush took too long.
pub(crate) fn write_timeout(out: &mut BytesMut, reply: &[u8]) {
    let (frame, _) = Frame::peek(reply)
        .expect("a reply of ours is a frame")
        .expect("replies are kept whole");
    let mut command = RemotingCommand::decode(frame).expect("a reply of ours has a header");
    command.header.code = response_code::FLUSH_DISK_TIMEOUT;
    command.encode(frame.serialize, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxmq_protocol::SerializeType;

    #[test]
    fn a_reply_that_waited_too_long_says_so() {
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            let mut reply = RemotingCommand::response(7, response_code::SUCCESS, None);
            reply.header.ext_fields.set("msgId", "ID");
            let mut written = BytesMut::new();
            reply.encode(serialize, &mut written);
            let mut out = BytesMut::new();
            write_timeout(&mut out, &written);
            reply.header.code = response_code::FLUSH_DISK_TIMEOUT;
            let mut wanted = BytesMut::new();
            reply.encode(serialize, &mut wanted);
            assert_eq!(out, wanted);
        }
    }
}
