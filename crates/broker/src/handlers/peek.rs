//! PEEK_MESSAGE (200052): messages as a pop would hand them out, without handing them out; and POLLING_INFO (200055)
//! (spec: behaviour.md §10.3).

use bytes::BytesMut;
use oxmq_protocol::body::TopicConfig;
use oxmq_protocol::pop::{BATCH_MAX, retry_topic_v1, retry_topic_v2};
use oxmq_protocol::requests::{PeekMessageHeader, PollingInfoHeader, PollingInfoReply, PopMessageReply};
use oxmq_protocol::{RemotingCommand, perm, response_code as code};
use oxmq_store::{GetLimits, GetStatus, Wait};

use super::{Handled, fields, success_with};
use crate::broker::Broker;
use crate::pop::waiters::Key;
use crate::pop::{PopError, next_offset, readable_topic, usable_group};
use crate::response::Refusal;

/// Messages that are in retry topics go first in one of so many requests.
const RETRY_FIRST_EVERY: u64 = 5;

pub(super) fn peek(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: PeekMessageHeader = fields(command)?;
    let topic = checked(broker, &header.topic, header.queue_id, &header.consumer_group)?;
    let config = broker.config();
    let retry_topic = match config.enable_retry_topic_v2 {
        true => retry_topic_v2(&header.topic, &header.consumer_group),
        false => retry_topic_v1(&header.topic, &header.consumer_group),
    };
    let retry = broker.topics.get(&retry_topic);
    let turn = broker.pops.turn();
    let mut peek = Peek {
        broker,
        group: &header.consumer_group,
        count_max: usize::try_from(header.max_msg_nums).unwrap_or(0).min(BATCH_MAX),
        messages: BytesMut::new(),
        count: 0,
        rest: 0,
    };
    let retry_first = turn.is_multiple_of(RETRY_FIRST_EVERY);
    if let Some(retry) = retry.as_ref().filter(|_| retry_first) {
        peek.look_into_all(retry, turn);
    }
    match header.queue_id {
        queue_id @ 0.. => peek.look_into(&topic.topic_name, queue_id),
        _ => peek.look_into_all(&topic, turn),
    }
    if let Some(retry) = retry.filter(|_| !retry_first && peek.count < peek.count_max) {
        peek.look_into_all(&retry, turn);
    }
    let (code, remark) = match peek.count {
        0 => (code::PULL_NOT_FOUND, "NO_MESSAGE_IN_QUEUE"),
        _ => (code::SUCCESS, "FOUND"),
    };
    let reply = PopMessageReply {
        pop_time: 0,
        invisible_time: 0,
        revive_qid: 0,
        rest_num: peek.rest,
        start_offset_info: None,
        msg_offset_info: None,
        order_count_info: None,
    };
    let response = RemotingCommand::response(0, code, Some(remark.to_owned())).with_fields(&reply);
    Ok(response.with_body(peek.messages.freeze()))
}

pub(super) fn polling_info(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: PollingInfoHeader = fields(command)?;
    checked(broker, &header.topic, header.queue_id, &header.consumer_group)?;
    let key = Key::new(&header.topic, &header.consumer_group, header.queue_id);
    let polling_num = broker.pops.polling.count(&key) as i32;
    Ok(success_with(&PollingInfoReply { polling_num }))
}

fn checked(broker: &Broker, topic: &str, queue_id: i32, group: &str) -> Result<std::sync::Arc<TopicConfig>, Refusal> {
    let config = broker.config();
    if !perm::is_readable(config.broker_permission) {
        return Err((&PopError::BrokerNotPeekable(config.broker_ip1.clone())).into());
    }
    let topic = readable_topic(broker, topic, queue_id, broker.store_host).map_err(|error| Refusal::from(&error))?;
    usable_group(broker, group).map_err(|error| Refusal::from(&error))?;
    Ok(topic)
}

struct Peek<'a> {
    broker: &'a Broker,
    group: &'a str,
    count_max: usize,
    messages: BytesMut,
    count: usize,
    rest: i64,
}

impl Peek<'_> {
    fn look_into_all(&mut self, topic: &TopicConfig, turn: u64) {
        let count = topic.read_queue_nums;
        for index in 0..count {
            let queue_id = (turn % 100) as i32 + index;
            self.look_into(&topic.topic_name, queue_id % count);
        }
    }

    fn look_into(&mut self, topic: &str, queue_id: i32) {
        let queue = self.broker.store.queue_or_create(topic, queue_id);
        let mut from = next_offset(self.broker, &queue, self.group);
        self.rest += queue.max_offset() - from;
        if self.count >= self.count_max {
            return;
        }
        for _ in 0..2 {
            let limits = GetLimits::count(self.count_max - self.count);
            let got = self.broker.store.get_messages(
                &queue,
                from,
                &limits,
                &mut |_: i64| true,
                Wait::Allowed,
                &mut self.messages,
            );
            match got {
                Ok(got) if matches!(got.status, GetStatus::OffsetTooSmall | GetStatus::OffsetOverflowBadly) => {
                    from = got.next_begin_offset;
                }
                Ok(got) => {
                    self.count += got.count;
                    return;
                }
                Err(error) => {
                    tracing::warn!(topic, queue_id, %error, "a queue cannot be read");
                    return;
                }
            }
        }
    }
}
