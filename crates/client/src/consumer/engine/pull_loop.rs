//! Pulling one queue, as long as it is ours (spec: behaviour.md §6.5).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oxmq_protocol::body::MASTER_ID;
use oxmq_protocol::message::MessageExt;
use oxmq_protocol::{property, response_code, topic};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Engine, OwnedQueue};
use crate::clock::now_millis;
use crate::consumer::pull_request::{PullRequest, PullResult, PullStatus};
use crate::error::ClientError;

const DELAY_AFTER_ERROR: Duration = Duration::from_secs(1);
const DELAY_WHILE_SUSPENDED: Duration = Duration::from_secs(1);
const DELAY_AFTER_BROKER_FLOW_CONTROL: Duration = Duration::from_millis(20);
/// A full cache is looked at again when messages are done, and by this time at the latest.
const FLOW_CONTROL_RECHECK: Duration = Duration::from_secs(1);

/// Where the loop stands.
struct Cursor {
    queue_offset: i64,
    broker_id: i64,
}

/// What comes after one turn of the loop.
enum Next {
    Pull,
    PullAfter(Duration),
    PullWithRoom,
    End,
}

pub(super) async fn pull_loop(engine: Arc<Engine>, owned: Arc<OwnedQueue>, queue_offset: i64) {
    let mut cursor = Cursor {
        queue_offset,
        broker_id: MASTER_ID,
    };
    loop {
        let next = tokio::select! {
            biased;
            () = owned.wait_dropped() => return,
            next = engine.turn(&owned, &mut cursor) => next,
        };
        match next {
            Next::Pull if engine.config.pull_interval.is_zero() => {}
            Next::Pull => owned.sleep(engine.config.pull_interval).await,
            Next::PullAfter(delay) => owned.sleep(delay).await,
            Next::PullWithRoom => {
                tokio::select! {
                    () = owned.room.notified() => {}
                    () = owned.sleep(FLOW_CONTROL_RECHECK) => {}
                }
            }
            Next::End => return,
        }
    }
}

impl Engine {
    async fn turn(self: &Arc<Self>, owned: &Arc<OwnedQueue>, cursor: &mut Cursor) -> Next {
        if self.suspended.load(Ordering::Relaxed) || owned.is_paused() {
            return Next::PullAfter(DELAY_WHILE_SUSPENDED);
        }
        if self.is_full(owned) {
            return Next::PullWithRoom;
        }
        if self.holds_locks() && !owned.is_locked() {
            return Next::PullAfter(DELAY_AFTER_ERROR);
        }
        let started = Instant::now();
        match self.pull(owned, cursor).await {
            Ok(result) => {
                if result.status == PullStatus::Found {
                    let (topic, millis) = (&owned.queue.topic, started.elapsed().as_millis() as i64);
                    let mut statistics = self.statistics.lock();
                    statistics.pulled(topic, result.messages.len(), millis, now_millis());
                }
                self.handle_result(owned, cursor, result)
            }
            Err(error) => self.handle_error(owned, &error),
        }
    }

    fn is_full(&self, owned: &OwnedQueue) -> bool {
        let limits = &self.config.flow_limits;
        if limits
            .messages_of_all
            .is_some_and(|max| self.queues.lock().cached() > max)
        {
            return true;
        }
        let queues_of_topic = match limits.is_shared() {
            true => self.queues.lock().count_of_topic(&owned.queue.topic),
            false => 1,
        };
        let process = &owned.state.lock().process;
        process.flow_control(limits, queues_of_topic).is_some()
    }

    async fn pull(&self, owned: &OwnedQueue, cursor: &Cursor) -> Result<PullResult, ClientError> {
        let queue = &owned.queue;
        // An unsubscribed topic's queues are given up by the next rebalance.
        let subscription = self.subscription(&queue.topic).ok_or(ClientError::ShutDown)?;
        let commits = self.is_clustering() && !self.is_polled();
        owned.state.lock().last_pull_timestamp = now_millis();
        self.calls
            .pull(&PullRequest {
                queue,
                queue_offset: cursor.queue_offset,
                max_msg_nums: self.config.pull_batch_size as i32,
                max_msg_bytes: self.config.pull_batch_bytes_max,
                suspend: Some(self.config.pull_suspend),
                commit_offset: self.offsets.get(queue).filter(|offset| commits && *offset > 0),
                subscription: &subscription,
                send_subscription: self.config.send_subscription,
                is_lite: self.is_polled(),
                broker_id: cursor.broker_id,
            })
            .await
    }

    fn handle_result(self: &Arc<Self>, owned: &Arc<OwnedQueue>, cursor: &mut Cursor, result: PullResult) -> Next {
        let queue = &owned.queue;
        if result.status == PullStatus::OffsetIllegal {
            warn!(%queue, asked = cursor.queue_offset, corrected = result.next_begin_offset, "offset out of range");
            self.restart_at(queue, result.next_begin_offset);
            return Next::End;
        }
        cursor.queue_offset = result.next_begin_offset;
        cursor.broker_id = result.suggested_broker_id;
        if result.messages.is_empty() {
            // Nothing before this offset is left to do, so it is as good as consumed. What was polled is another matter:
            // the application commits it.
            if !self.is_polled() && owned.state.lock().process.is_empty() {
                self.offsets.advance(queue, cursor.queue_offset);
            }
            return Next::Pull;
        }
        let messages = result.messages.into_iter().map(|message| self.prepare(message));
        self.deliver(owned, messages.collect());
        Next::Pull
    }

    fn handle_error(&self, owned: &OwnedQueue, error: &ClientError) -> Next {
        debug!(queue = %owned.queue, %error, "pull failed");
        if error.response_code() == Some(response_code::FLOW_CONTROL) {
            return Next::PullAfter(DELAY_AFTER_BROKER_FLOW_CONTROL);
        }
        self.heartbeat_if_unknown(error);
        Next::PullAfter(DELAY_AFTER_ERROR)
    }

    /// The broker does not know of us, for instance after a restart.
    pub(super) fn heartbeat_if_unknown(&self, error: &ClientError) {
        if let Some(
            response_code::SUBSCRIPTION_NOT_EXIST
            | response_code::SUBSCRIPTION_NOT_LATEST
            | response_code::SUBSCRIPTION_GROUP_NOT_EXIST,
        ) = error.response_code()
        {
            self.calls.instance.request_heartbeat();
        }
    }

    /// A message from the group's retry topic shows the topic it was sent to, as the application knows it.
    pub(super) fn prepare(&self, mut message: MessageExt) -> Arc<MessageExt> {
        if topic::group_of_retry(&message.topic) == Some(self.calls.group.as_str())
            && let Some(origin) = message.property(property::RETRY_TOPIC).map(str::to_owned)
        {
            message.message.topic = origin;
        }
        Arc::new(self.calls.namespace().strip_message(message))
    }
}
