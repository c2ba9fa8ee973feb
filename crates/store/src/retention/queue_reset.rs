//! Queues of which no record exists any more begin anew, on request (spec: storage.md §12.2).
//!
//! Their files go, durably, before the numbering changes: entries of the old numbering would hide records of the new one
//! from a start. An append that comes in between keeps the old numbering.

use std::io;
use std::sync::Arc;

use crate::background::Engine;
use crate::consume_queue::ConsumeQueue;

impl Engine {
    pub(crate) fn reset_expired_queues(&self, keeps: &dyn Fn(&str) -> bool) -> Vec<(Arc<str>, i32)> {
        let log_min = self.log.segments().min();
        let mut done = Vec::new();
        for (topic, queue_id, kind) in self.queues.ids() {
            if keeps(&topic) {
                continue;
            }
            let last = self.queues.files(kind).last_entry(&topic, queue_id);
            if !last.is_ok_and(|last| last.is_some_and(|last| last.end() <= log_min)) {
                continue;
            }
            let Some(queue) = self.queues.get(&topic, queue_id) else {
                continue;
            };
            match self.reset(&queue) {
                Ok(true) => done.push((topic, queue_id)),
                Ok(false) => {}
                Err(error) => tracing::warn!(%topic, queue_id, %error, "an expired queue is not removed"),
            }
        }
        done
    }

    fn reset(&self, queue: &Arc<ConsumeQueue>) -> io::Result<bool> {
        let _no_write_out = self.dispatching.lock();
        let end_offset = queue.next_offset();
        let is_empty = queue.min_offset() == end_offset && queue.pending_before(i64::MAX).1.is_empty();
        if queue.is_deleted() || queue.compacted().is_some() || !is_empty || end_offset == 0 {
            return Ok(false);
        }
        self.queues.files(queue.kind()).remove(queue)?;
        queue.forget_files();
        Ok(self.log.renumber(queue, end_offset))
    }
}
