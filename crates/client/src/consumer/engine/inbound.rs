//! What brokers ask of a consumer (spec: protocol.md §3: 40, 220, 221, 307, 309).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use oxmq_protocol::body::{
    ConsumeMessageDirectlyResult, ConsumeResult, ConsumerRunningInfo, GetConsumerStatusBody, PopProcessQueueInfo,
    ProcessQueueInfo, QueueMap, ResetOffsetBody,
};
use oxmq_protocol::message::decode_messages;
use oxmq_protocol::requests::{ConsumerStatusHeader, ResetOffsetHeader};
use oxmq_protocol::version::CURRENT_VERSION_NAME;
use oxmq_protocol::{FieldSet, RemotingCommand, RequestCode, json, response_code};
use tracing::{debug, info};

use super::{Delivery, Engine, OwnedQueue};
use crate::clock::now_millis;
use crate::consumer::listener::{self, ConsumeOrderlyStatus, ConsumeStatus};
use crate::error::ClientError;

impl Engine {
    pub(super) async fn answer(self: Arc<Self>, request: RemotingCommand) -> Option<RemotingCommand> {
        let opaque = request.header.opaque;
        let answered = match RequestCode::from_code(request.header.code)? {
            RequestCode::NotifyConsumerIdsChanged => {
                self.request_rebalance();
                return None;
            }
            RequestCode::ResetConsumerClientOffset => self.reset_offsets(&request),
            RequestCode::GetConsumerStatusFromClient => self.status(&request),
            RequestCode::GetConsumerRunningInfo => Ok(json::to_vec(&self.running_info())),
            RequestCode::ConsumeMessageDirectly => self.consume_directly(&request).await,
            _ => return None,
        };
        Some(match answered {
            Ok(body) => RemotingCommand::response(opaque, response_code::SUCCESS, None).with_body(body),
            Err(error) => {
                debug!(code = request.header.code, %error, "request of a broker refused");
                RemotingCommand::response(opaque, response_code::SYSTEM_ERROR, Some(error.to_string()))
            }
        })
    }

    /// 220: queues that are ours start again where they are told.
    fn reset_offsets(self: &Arc<Self>, request: &RemotingCommand) -> Result<Vec<u8>, ClientError> {
        let header = ResetOffsetHeader::read(&request.header.ext_fields)?;
        let body: ResetOffsetBody = json::from_slice(&request.body)?;
        for (queue, offset) in body.offset_table {
            if queue.topic == header.topic && self.queues.lock().get(&queue).is_some() {
                info!(%queue, offset, group = self.calls.group, "offset reset by an operator");
                self.restart_at(&queue, offset);
            }
        }
        Ok(Vec::new())
    }

    /// 221: the offsets of one topic.
    fn status(&self, request: &RemotingCommand) -> Result<Vec<u8>, ClientError> {
        let header = ConsumerStatusHeader::read(&request.header.ext_fields)?;
        let offsets = self.offsets.snapshot().into_iter();
        let body = GetConsumerStatusBody {
            consumer_table: BTreeMap::new(),
            message_queue_table: offsets.filter(|(queue, _)| queue.topic == header.topic).collect(),
        };
        Ok(json::to_vec(&body))
    }

    /// 307.
    fn running_info(&self) -> ConsumerRunningInfo {
        let properties = [
            ("PROP_NAMESERVER_ADDR", self.calls.instance.config().name_server.clone()),
            ("PROP_CONSUME_TYPE", self.config.consume_type.name().to_owned()),
            ("PROP_CONSUMEORDERLY", self.is_orderly().to_string()),
            ("PROP_THREADPOOL_CORE_SIZE", self.config.consume_concurrency.to_string()),
            ("PROP_CONSUMER_START_TIMESTAMP", self.start_timestamp.to_string()),
            ("PROP_CLIENT_VERSION", CURRENT_VERSION_NAME.to_owned()),
        ];
        let properties = properties.map(|(name, value)| (name.to_owned(), value));
        let subscriptions = self.subscriptions.lock().clone();
        let queues = self.queues.lock().all();
        let (statistics, now) = (self.statistics.lock(), now_millis());
        ConsumerRunningInfo {
            properties: properties.into(),
            mq_pop_table: queues
                .iter()
                .filter(|owned| owned.is_pop())
                .map(|owned| (owned.queue.clone(), pop_process_queue_info(owned)))
                .collect::<QueueMap<_>>(),
            mq_table: queues
                .iter()
                .filter(|owned| !owned.is_pop())
                .map(|owned| (owned.queue.clone(), self.process_queue_info(owned)))
                .collect::<QueueMap<_>>(),
            status_table: subscriptions
                .keys()
                .map(|topic| (topic.clone(), statistics.status(topic, now)))
                .collect(),
            subscription_set: subscriptions.values().map(|data| (**data).clone()).collect(),
            ..ConsumerRunningInfo::default()
        }
    }

    fn process_queue_info(&self, owned: &OwnedQueue) -> ProcessQueueInfo {
        let state = owned.state.lock();
        let process = &state.process;
        ProcessQueueInfo {
            cached_msg_count: process.len() as i32,
            cached_msg_min_offset: process.min_offset().unwrap_or(0),
            cached_msg_max_offset: process.max_offset().unwrap_or(0),
            cached_msg_size_in_mib: (process.bytes() >> 20) as i32,
            commit_offset: self.offsets.get(&owned.queue).unwrap_or(-1),
            droped: owned.is_dropped(),
            locked: state.lock.is_held(tokio::time::Instant::now()),
            last_pull_timestamp: state.last_pull_timestamp,
            last_consume_timestamp: state.last_consume_timestamp,
            ..ProcessQueueInfo::default()
        }
    }

    /// 309: the listener gets a message that an operator has chosen. Nothing is committed.
    async fn consume_directly(&self, request: &RemotingCommand) -> Result<Vec<u8>, ClientError> {
        let messages = decode_messages(&request.body, true)?;
        let messages = messages.into_iter().map(|message| self.prepare(message)).collect();
        let started = Instant::now();
        let consume_result = match &self.delivery {
            Delivery::Concurrent { listener, .. } => match listener::run(listener, messages).await {
                Some(ConsumeStatus::Success) => ConsumeResult::Success,
                Some(_) => ConsumeResult::Later,
                None => ConsumeResult::ThrowException,
            },
            Delivery::Orderly { listener } => match listener::run(listener, messages).await {
                Some(ConsumeOrderlyStatus::Success) => ConsumeResult::Success,
                Some(_) => ConsumeResult::Later,
                None => ConsumeResult::ThrowException,
            },
            _ => return Err(ClientError::Config("this consumer has no listener".to_owned())),
        };
        Ok(json::to_vec(&ConsumeMessageDirectlyResult {
            auto_commit: true,
            consume_result,
            order: self.is_orderly(),
            remark: None,
            spent_time_mills: started.elapsed().as_millis() as i64,
        }))
    }
}

fn pop_process_queue_info(owned: &OwnedQueue) -> PopProcessQueueInfo {
    let state = owned.state.lock();
    PopProcessQueueInfo {
        droped: owned.is_dropped(),
        last_pop_timestamp: state.last_pull_timestamp,
        wait_ack_count: state.popped as i32,
    }
}
