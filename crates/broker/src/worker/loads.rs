//! Requests for queues that nobody has used since the start. Where such a queue ends is looked for in its files, which is
//! not for a worker: a read thread loads it, and the request is served as if it had just come.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use oxmq_protocol::scan::scan;
use oxmq_protocol::{Frame, SerializeType, response_code as code};
use oxmq_remoting::{Connection, ReplyTo, RequestGuard};

use super::{AWAY_REPLY_BYTES, Away, Worker};
use crate::broker::Broker;
use crate::read_threads::{Done, Lane};
use crate::response::Refusal;

/// A request that waits for its queue.
pub(super) struct Kept {
    pub(super) request: RequestGuard,
    pub(super) to: ReplyTo,
    serialize: SerializeType,
    header: Bytes,
    body: Bytes,
}

impl Kept {
    pub(super) fn new(request: RequestGuard, to: ReplyTo, frame: &Frame<'_>) -> Kept {
        Kept {
            request,
            to,
            serialize: frame.serialize,
            header: Bytes::copy_from_slice(frame.header),
            body: Bytes::copy_from_slice(frame.body),
        }
    }
}

impl Worker {
    /// Keeps the request for later if its queue has to be loaded. False when there is nothing to wait for.
    pub(super) fn load_first(
        &self,
        connection: &Rc<Connection>,
        to: ReplyTo,
        frame: &Frame<'_>,
        topic: &[u8],
        queue_id: i32,
    ) -> bool {
        let Some(topic) = self.topics.get(&self.broker, topic) else {
            return false;
        };
        if topic.is_at_hand(&self.broker, queue_id) {
            return false;
        }
        let kept = Kept::new(connection.begin_request(AWAY_REPLY_BYTES), to, frame);
        let config = Arc::clone(&topic.config);
        let load = Box::new(move |broker: &Arc<Broker>| {
            let queue = broker.store.queue(&config.topic_name, queue_id);
            Done::Loaded(queue.is_none_or(|queue| !queue.is_unreadable()))
        });
        self.hand_over(Lane::Disk, Away::Kept(kept), load);
        true
    }

    pub(super) fn loaded(&self, kept: &Kept, is_readable: bool) {
        if !is_readable {
            let refusal = Refusal::new(code::SYSTEM_ERROR, "the files of the consume queue cannot be read");
            return kept
                .request
                .connection()
                .reply(kept.to, refusal.into_command(kept.to.opaque));
        }
        self.serve_kept(kept);
        self.turn.request_turn_end();
    }

    /// Serves the request, which may be served and which its quotas have let pass, as if it had just come.
    pub(super) fn serve_kept(&self, kept: &Kept) {
        let frame = Frame {
            serialize: kept.serialize,
            header: &kept.header,
            body: &kept.body,
        };
        self.throttle.passing.set(true);
        let header = scan(kept.serialize, &kept.header);
        if let Err(reason) = self.take(kept.request.connection(), frame, header) {
            tracing::debug!(%reason, "a request that was read before cannot be read");
        }
        self.throttle.passing.set(false);
    }
}
