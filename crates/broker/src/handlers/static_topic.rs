//! Static topics: UPDATE_AND_CREATE_STATIC_TOPIC (513), and the requests about offsets (14, 15, 29, 30, 31, 32) that name a
//! logical queue (spec: behaviour.md §11).
//!
//! Such a request is answered by asking the items of the queue, here or on other brokers, with `lo=false`. Each item is
//! asked by the ordinary request for its physical queue, and what it says is mapped into the logical queue.

use std::sync::Arc;
use std::time::Duration;

use oxmq_protocol::body::{LogicQueueMappingItem, TopicQueueMappingDetail};
use oxmq_protocol::requests::CreateTopicHeader;
use oxmq_protocol::{RemotingCommand, RequestCode, response_code as code};

use super::{
    Handled, Outcome, RequestContext, body, consumer_offset, fields, later, queue_offset, success, topic_admin,
};
use crate::broker::Broker;
use crate::response::Refusal;
use crate::static_topics::{LogicQueue, MappingError};

pub(super) fn update(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: CreateTopicHeader = fields(command)?;
    let detail: TopicQueueMappingDetail = body(command)?;
    let force = header.force;
    let config = topic_admin::config_of(header)?;
    topic_admin::check(broker, &config)?;
    let own_name = broker.config().broker_name.clone();
    let is_for_us = (config.topic_name.as_str(), own_name.as_str());
    let is_of = (detail.topic.as_str(), detail.bname.as_str());
    if is_of != is_for_us {
        return Err(refused(&MappingError::Misdirected {
            found: format!("{} on {}", is_of.0, is_of.1),
            wanted: format!("{} on {}", is_for_us.0, is_for_us.1),
        }));
    }
    let now = broker.now_ms();
    // The mapping first: whoever hears of the topic's change looks it up.
    let updated = broker.static_topics.update(detail, force, now);
    updated.map_err(|error| refused(&error))?;
    let updated = broker.topics.update(vec![config], now);
    updated.map_err(|error| refused(&error))?;
    Ok(success())
}

fn refused(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(code::SYSTEM_ERROR, error.to_string())
}

/// The answer to a request that names a queue of a static topic. Gives the request back when it does not.
pub(super) fn intercept(
    context: &RequestContext<'_>,
    code: RequestCode,
    command: RemotingCommand,
) -> Result<Outcome, RemotingCommand> {
    use RequestCode as Code;
    let is_about_offsets = matches!(
        code,
        Code::QueryConsumerOffset
            | Code::UpdateConsumerOffset
            | Code::SearchOffsetByTimestamp
            | Code::GetMaxOffset
            | Code::GetMinOffset
            | Code::GetEarliestMsgStoreTime
    );
    if !is_about_offsets {
        return Err(command);
    }
    let ext_fields = &command.header.ext_fields;
    let topic = ext_fields.get("topic").unwrap_or_default();
    let Some(detail) = context.broker.static_topics.get(topic) else {
        return Err(command);
    };
    if ext_fields.get("lo").is_some_and(|lo| lo.eq_ignore_ascii_case("false")) {
        return Err(command);
    }
    let Some(queue_id) = ext_fields.get("queueId").and_then(|id| id.parse().ok()) else {
        return Err(command);
    };
    Ok(later(context, command, move |broker, command| async move {
        let queue = LogicQueue::led_here(&detail, queue_id).map_err(|_| not_leader(&detail, queue_id))?;
        let asked = Asked { broker, code, command };
        match code {
            Code::QueryConsumerOffset => asked.consumer_offset(queue).await,
            Code::UpdateConsumerOffset => asked.commit(queue).await,
            Code::SearchOffsetByTimestamp => asked.by_time(queue).await,
            Code::GetMaxOffset => {
                let item = queue.last().ok_or_else(no_place)?;
                asked.offset(item, LogicQueueMappingItem::to_logic).await
            }
            Code::GetMinOffset => {
                let item = queue.first().ok_or_else(no_place)?;
                asked.offset(item, LogicQueueMappingItem::to_logic_within).await
            }
            _ => asked.ask(queue.first().ok_or_else(no_place)?).await,
        }
    }))
}

pub(crate) fn not_leader(detail: &TopicQueueMappingDetail, queue_id: i32) -> Refusal {
    let remark = format!(
        "{}-{queue_id} does not exit in request process of current broker {}",
        detail.topic, detail.bname
    );
    Refusal::new(code::NOT_LEADER_FOR_QUEUE, remark)
}

fn no_place() -> Refusal {
    Refusal::new(code::SYSTEM_ERROR, "the logical queue has no place for messages yet")
}

/// A request of a client, to be asked of items.
struct Asked {
    broker: Arc<Broker>,
    code: RequestCode,
    command: RemotingCommand,
}

impl Asked {
    /// The offset that one item tells, in the logical queue.
    async fn offset(&self, item: &LogicQueueMappingItem, map: fn(&LogicQueueMappingItem, i64) -> i64) -> Handled {
        let reply = self.ask(item).await?;
        Ok(mapped(reply, |offset| map(item, offset)))
    }

    /// From the newest item on: the first in which something is older than the time asked for holds the offset.
    async fn by_time(&self, queue: LogicQueue<'_>) -> Handled {
        let mut earliest = Err(no_place());
        for item in queue.items.iter().rev().filter(|item| item.is_placed()) {
            let reply = self.ask(item).await?;
            let found = reply.header.code == code::SUCCESS;
            let is_inside = !found || offset_of(&reply).is_some_and(|offset| offset > item.start_offset);
            earliest = Ok(mapped(reply, |offset| item.to_logic(offset)));
            if is_inside {
                break;
            }
        }
        earliest
    }

    /// The newest item on which the group has an offset.
    async fn consumer_offset(mut self, queue: LogicQueue<'_>) -> Handled {
        if let [only] = queue.items
            && only.logic_offset == 0
        {
            return self.offset(only, LogicQueueMappingItem::to_logic).await;
        }
        self.command.header.ext_fields.set("setZeroIfNotFound", "false");
        for item in queue.items.iter().rev() {
            let reply = self.ask(item).await?;
            match reply.header.code {
                code::SUCCESS => return Ok(mapped(reply, |offset| item.to_logic(offset))),
                code::QUERY_NOT_FOUND => {}
                other => {
                    return Err(Refusal::new(
                        code::SYSTEM_ERROR,
                        format!("Unknown response code {other}"),
                    ));
                }
            }
        }
        Err(Refusal::new(
            code::QUERY_NOT_FOUND,
            "Not found, maybe this group consumer boot first",
        ))
    }

    /// The item that holds the offset keeps it.
    async fn commit(mut self, queue: LogicQueue<'_>) -> Handled {
        let ext_fields = &mut self.command.header.ext_fields;
        let offset = ext_fields.get("commitOffset").and_then(|offset| offset.parse().ok());
        let item = queue.holding(offset.unwrap_or(0)).ok_or_else(no_place)?;
        if let Some(offset) = offset {
            ext_fields.set("commitOffset", item.to_physical(offset).to_string());
        }
        self.ask(item).await
    }

    /// Asks one item for its part, by the same request about its physical queue.
    async fn ask(&self, item: &LogicQueueMappingItem) -> Handled {
        let mut request = self.command.clone();
        let ext_fields = &mut request.header.ext_fields;
        ext_fields.set("queueId", item.queue_id.to_string());
        ext_fields.set("bname", item.bname.as_str());
        ext_fields.set("lo", "false");
        let broker = Arc::clone(&self.broker);
        let (own_name, timeout_ms) = {
            let config = broker.config();
            (config.broker_name.clone(), config.forward_timeout_ms)
        };
        if item.bname == own_name {
            let code = self.code;
            // Some of them may have to look at the disk.
            let asked = tokio::task::spawn_blocking(move || ask_here(&broker, code, &request)).await;
            return asked.unwrap_or_else(|error| Err(refused(&error)));
        }
        let timeout = Duration::from_millis(timeout_ms);
        let answer = self.broker.peers.call(&item.bname, request, timeout).await;
        answer.map_err(|error| refused(&error))
    }
}

fn ask_here(broker: &Broker, code: RequestCode, command: &RemotingCommand) -> Handled {
    let answered = match code {
        RequestCode::QueryConsumerOffset => consumer_offset::query_now(broker, command),
        RequestCode::UpdateConsumerOffset => consumer_offset::update(broker, command),
        RequestCode::SearchOffsetByTimestamp => queue_offset::by_time(broker, command),
        RequestCode::GetMaxOffset => queue_offset::max(broker, command),
        RequestCode::GetMinOffset => queue_offset::min(broker, command),
        _ => queue_offset::earliest_time(broker, command),
    };
    // Refusals are answers here as they are from another broker.
    answered.or_else(|refusal| Ok(refusal.into_command(command.header.opaque)))
}

fn offset_of(reply: &RemotingCommand) -> Option<i64> {
    reply.header.ext_fields.get("offset")?.parse().ok()
}

/// The reply with its offset mapped.
fn mapped(mut reply: RemotingCommand, map: impl FnOnce(i64) -> i64) -> RemotingCommand {
    if let Some(offset) = offset_of(&reply) {
        reply.header.ext_fields.set("offset", map(offset).to_string());
    }
    reply
}
