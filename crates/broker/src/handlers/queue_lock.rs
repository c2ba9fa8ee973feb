//! LOCK_BATCH_MQ (41) and UNLOCK_BATCH_MQ (42) (spec: behaviour.md §5.5).

use oxmq_protocol::RemotingCommand;
use oxmq_protocol::body::{LockBatchRequestBody, LockBatchResponseBody};

use super::{Handled, body, success, success_json};
use crate::broker::Broker;

pub(super) fn lock(broker: &Broker, command: &RemotingCommand) -> Handled {
    let request: LockBatchRequestBody = body(command)?;
    let now = broker.now_ms();
    let held = broker
        .queue_locks
        .lock(&request.consumer_group, &request.client_id, request.mq_set, now);
    Ok(success_json(&LockBatchResponseBody { lock_ok_mq_set: held }))
}

pub(super) fn unlock(broker: &Broker, command: &RemotingCommand) -> Handled {
    let request: LockBatchRequestBody = body(command)?;
    broker
        .queue_locks
        .unlock(&request.consumer_group, &request.client_id, &request.mq_set);
    Ok(success())
}
