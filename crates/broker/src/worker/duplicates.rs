//! Sends that were sent before: the answer of the first, under the promise of the first.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use oxmq_protocol::message_id::OffsetMessageId;
use oxmq_protocol::requests::SendMessageReply;
use oxmq_protocol::response_code::{FLUSH_DISK_TIMEOUT, SYSTEM_BUSY};
use oxmq_remoting::{Connection, ReplyTo};

use super::{StagedSend, Worker};
use crate::broker::Broker;
use crate::config::FlushDiskType;
use crate::duplicates::{Fingerprint, First, Known};
use crate::response::{OVERLOAD, Refusal};
use crate::send::{DuplicateSend, SendStage};

/// How often a repeated send looks for the outcome of the first, while that is being stored.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

impl Worker {
    /// Says where the sends of a turn were stored.
    pub(super) fn settle_duplicates(&self, stage: &SendStage, staged: &[StagedSend]) {
        let Some(window) = &self.broker.duplicates else {
            return;
        };
        for send in staged {
            let send = &send.staged;
            let entries = &stage.batch.entries[send.entries.clone()];
            window.settle(&stage.entered[send.entered.clone()], |number| First {
                physical_offset: entries[number].physical_offset,
                len: entries[number].len,
                queue_id: send.queue_id_for_producer(),
                queue_offset: send.offset_for_producer(entries[number].queue_offset),
                timer_out_ms: send.timer_out_ms.unwrap_or(0),
            });
        }
    }

    pub(super) fn answer_duplicate(&self, connection: &Rc<Connection>, to: ReplyTo, topic: &str, send: DuplicateSend) {
        let guard = connection.begin_request(0);
        let (broker, replies) = (Arc::clone(&self.broker), self.replies.clone());
        let (this, topic) = (self.this.clone(), topic.to_owned());
        self.answer_later(async move {
            let Some(places) = places(&broker, &send.prints).await else {
                // The first was refused, perhaps because of the disk. The client may try again.
                let refusal = Refusal::new(SYSTEM_BUSY, OVERLOAD);
                return guard.connection().reply(to, replies.refused_send(to.opaque, refusal));
            };
            let is_flushed = !send.wait_store || flushed(&broker, &places).await;
            topic_is_safe(&broker).await;
            let first = &places[0];
            let recall_handle = match first.timer_out_ms {
                0 => None,
                out_ms => this
                    .upgrade()
                    .map(|worker| worker.recall_handle(&topic, send.key.as_bytes(), out_ms)),
            };
            let fields = SendMessageReply {
                msg_id: message_ids(&broker, &places),
                queue_id: first.queue_id,
                queue_offset: first.queue_offset,
                transaction_id: (!send.key.is_empty()).then_some(send.key),
                recall_handle,
                ..SendMessageReply::default()
            };
            let mut reply = replies.reply_message(to.opaque, Ok(()), Some(&fields));
            if !is_flushed {
                reply.header.code = FLUSH_DISK_TIMEOUT;
            }
            tracing::debug!(
                topic,
                msg_id = fields.msg_id,
                "a message was sent again and is not stored again"
            );
            guard.connection().reply(to, reply);
        });
    }
}

/// Where the first send was stored, once that is known. Nothing when it was not.
async fn places(broker: &Broker, prints: &[Fingerprint]) -> Option<Vec<First>> {
    let window = broker.duplicates.as_ref()?;
    loop {
        let mut places = Vec::with_capacity(prints.len());
        for print in prints {
            match window.look_up(*print, broker.now_ms()) {
                Known::Stored(first) => places.push(first),
                Known::Pending => break,
                Known::No => return None,
            }
        }
        if places.len() == prints.len() {
            return Some(places);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Whether what the first promises holds in time.
async fn flushed(broker: &Broker, places: &[First]) -> bool {
    if broker.flush_disk_type != FlushDiskType::SyncFlush {
        return true;
    }
    let end = places.iter().map(First::end_offset).max().unwrap_or(0);
    broker.is_flushed(end).await
}

/// The first send may have made its topic, and its answer waits until that is saved and announced.
async fn topic_is_safe(broker: &Arc<Broker>) {
    // A failure is logged where it happens.
    let _ = broker.saver.saved().await;
    broker.registration.announced().await;
}

fn message_ids(broker: &Broker, places: &[First]) -> String {
    let ids = places.iter().map(|place| {
        let id = OffsetMessageId {
            store_host: broker.store_host,
            physical_offset: place.physical_offset,
        };
        id.to_string()
    });
    ids.collect::<Vec<_>>().join(",")
}
