//! One POP, and what is said of its messages afterwards (200050, 200051, 200053; spec: protocol.md §3.3, behaviour.md §10).

use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use oxmq_protocol::body::{MASTER_ID, MessageQueue, SubscriptionData};
use oxmq_protocol::message::{MessageExt, decode_messages};
use oxmq_protocol::pop::{ReceiptHandle, RetryFlag};
use oxmq_protocol::requests::{
    AckMessageHeader, ChangeInvisibleTimeHeader, PopMessageHeader, PopMessageReply, request,
};
use oxmq_protocol::{FieldSet, RemotingCommand, property, response_code};
use oxmq_remoting::CallError;

use super::broker_calls::BrokerCalls;
use super::pull_request::takes;
use crate::clock::now_millis;
use crate::error::ClientError;
use crate::namespace::Namespace;

/// Beyond the time for which the broker may hold a request.
const TIMEOUT_SLACK: Duration = Duration::from_secs(10);
const ACK_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) struct PopRequest<'a> {
    /// With a queue id of -1: any queue of the broker.
    pub(crate) queue: &'a MessageQueue,
    pub(crate) max_msg_nums: i32,
    /// For how long nobody else gets the messages.
    pub(crate) invisible_time: Duration,
    /// How long the broker may wait for a message.
    pub(crate) poll_time: Duration,
    /// Where a group begins that is new.
    pub(crate) from_min: bool,
    pub(crate) subscription: &'a SubscriptionData,
}

/// What a POP brought.
#[derive(Debug, Default)]
pub(crate) struct Popped {
    pub(crate) messages: Vec<MessageExt>,
    /// Messages that the subscription does not take by the text of their tags. They are to be acknowledged.
    pub(crate) rejected: Vec<MessageExt>,
    /// The broker has too many requests waiting.
    pub(crate) is_polling_full: bool,
}

impl BrokerCalls {
    pub(crate) async fn pop(&self, pop: &PopRequest<'_>) -> Result<Popped, ClientError> {
        let queue = pop.queue;
        let header = PopMessageHeader {
            consumer_group: self.group.clone(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            max_msg_nums: pop.max_msg_nums,
            invisible_time: pop.invisible_time.as_millis() as i64,
            poll_time: pop.poll_time.as_millis() as i64,
            born_time: now_millis(),
            init_mode: i32::from(!pop.from_min),
            exp_type: Some(pop.subscription.expression_type.clone()),
            exp: Some(pop.subscription.sub_string.clone()),
            order: Some(false),
            attempt_id: None,
            broker_name: Some(queue.broker_name.clone()),
        };
        let broker = self.broker(queue, MASTER_ID).await?;
        let request = RemotingCommand::request::<request::PopMessage>(&header, Bytes::new());
        let timeout = pop.poll_time + TIMEOUT_SLACK;
        let response = self.instance.remoting().invoke(&broker.addr, request, timeout).await?;
        read_response(pop, response)
    }

    /// The message is consumed.
    pub(crate) async fn ack(&self, message: &MessageExt) -> Result<(), ClientError> {
        let handle = receipt_handle(message)?;
        let (topic, queue_offset) = real_place(&handle, message, self.namespace(), &self.group);
        let header = AckMessageHeader {
            consumer_group: self.group.clone(),
            topic,
            queue_id: handle.queue_id,
            extra_info: handle.to_string(),
            offset: queue_offset,
            broker_name: Some(handle.broker_name.to_owned()),
        };
        let master = self.instance.master_addr(handle.broker_name)?;
        self.instance
            .call::<request::AckMessage>(&master, &header, Bytes::new(), ACK_TIMEOUT)
            .await?;
        Ok(())
    }

    /// The message comes again after this time, unless it is acknowledged before. Returns its new receipt handle: the old
    /// one is no good any more.
    pub(crate) async fn change_invisible_time(
        &self,
        message: &MessageExt,
        invisible_time: Duration,
    ) -> Result<String, ClientError> {
        let handle = receipt_handle(message)?;
        let (topic, queue_offset) = real_place(&handle, message, self.namespace(), &self.group);
        let header = ChangeInvisibleTimeHeader {
            consumer_group: self.group.clone(),
            topic,
            queue_id: handle.queue_id,
            extra_info: handle.to_string(),
            offset: queue_offset,
            invisible_time: invisible_time.as_millis() as i64,
            suspend: Some(false),
            broker_name: Some(handle.broker_name.to_owned()),
        };
        let master = self.instance.master_addr(handle.broker_name)?;
        let called =
            self.instance
                .call::<request::ChangeMessageInvisibleTime>(&master, &header, Bytes::new(), ACK_TIMEOUT);
        let fields = called.await?.fields;
        let renewed = ReceiptHandle {
            start_offset: queue_offset,
            pop_time: fields.pop_time,
            invisible_time: fields.invisible_time,
            revive_queue: fields.revive_qid,
            queue_offset: Some(queue_offset),
            ..handle
        };
        Ok(renewed.to_string())
    }
}

/// What a message shows for having been popped.
pub(crate) fn receipt_handle(message: &MessageExt) -> Result<ReceiptHandle<'_>, ClientError> {
    let text = message.property(property::POP_CK).unwrap_or_default();
    ReceiptHandle::parse(text).map_err(|error| ClientError::ReceiptHandle(error.to_string()))
}

/// Until when nobody else gets the message, in milliseconds since 1970.
pub(crate) fn invisible_until(message: &MessageExt) -> Option<i64> {
    let handle = receipt_handle(message).ok()?;
    Some(handle.pop_time.saturating_add(handle.invisible_time))
}

/// The topic, as servers know it, and the queue offset at which the broker handed the message out.
fn real_place(handle: &ReceiptHandle<'_>, message: &MessageExt, namespace: &Namespace, group: &str) -> (String, i64) {
    let flag = RetryFlag::parse(handle.retry).unwrap_or(RetryFlag::Normal);
    let queue_offset = handle.queue_offset.unwrap_or(message.queue_offset);
    (flag.real_topic(&namespace.wrap(&message.topic), group), queue_offset)
}

fn read_response(pop: &PopRequest<'_>, response: RemotingCommand) -> Result<Popped, ClientError> {
    match response.header.code {
        response_code::SUCCESS => {}
        response_code::POLLING_FULL => {
            return Ok(Popped {
                is_polling_full: true,
                ..Popped::default()
            });
        }
        response_code::POLLING_TIMEOUT | response_code::PULL_NOT_FOUND => return Ok(Popped::default()),
        code => {
            return Err(ClientError::Call(CallError::Response {
                code,
                remark: response.header.remark.unwrap_or_default(),
            }));
        }
    }
    let reply = PopMessageReply::read(&response.header.ext_fields)?;
    let mut messages = decode_messages(&response.body, true)?;
    give_handles(&mut messages, &reply, &pop.queue.broker_name);
    let (messages, rejected) = messages
        .into_iter()
        .partition(|message| takes(pop.subscription, message));
    Ok(Popped {
        messages,
        rejected,
        is_polling_full: false,
    })
}

/// Queue of a reply: the flag of its topic and its id.
type Key = (RetryFlag, i32);

/// Puts the receipt handle into each message that does not bring one. The broker lists the offsets of each queue in the
/// order of its messages.
fn give_handles(messages: &mut [MessageExt], reply: &PopMessageReply, broker_name: &str) {
    let starts: HashMap<Key, i64> = entries(reply.start_offset_info.as_deref())
        .filter_map(|(key, start)| Some((key, start.parse().ok()?)))
        .collect();
    let offsets: HashMap<Key, Vec<i64>> = entries(reply.msg_offset_info.as_deref())
        .map(|(key, list)| (key, list.split(',').filter_map(|offset| offset.parse().ok()).collect()))
        .collect();
    let mut ranks: HashMap<Key, usize> = HashMap::new();
    let mut firsts: HashMap<Key, i64> = HashMap::new();
    for message in messages {
        message.broker_name = broker_name.into();
        let brought = receipt_handle(message).ok().map(|handle| handle.retry.to_owned());
        let flag = match &brought {
            Some(flag) => RetryFlag::parse(flag).unwrap_or(RetryFlag::Normal),
            None => RetryFlag::of_topic(&message.topic),
        };
        let key = (flag, message.queue_id);
        let rank = ranks.entry(key).or_default();
        let listed = offsets.get(&key).and_then(|offsets| offsets.get(*rank).copied());
        *rank += 1;
        let first = *firsts.entry(key).or_insert(message.queue_offset);
        let properties = &mut message.message.properties;
        if brought.is_none() {
            let digit = flag.digit().to_string();
            let handle = ReceiptHandle {
                start_offset: starts.get(&key).copied().unwrap_or(first),
                pop_time: reply.pop_time,
                invisible_time: reply.invisible_time,
                revive_queue: reply.revive_qid,
                retry: &digit,
                broker_name,
                queue_id: message.queue_id,
                queue_offset: Some(listed.unwrap_or(message.queue_offset)),
            };
            properties.set(property::POP_CK, handle.to_string());
        }
        if properties.get(property::FIRST_POP_TIME).is_none() {
            properties.set(property::FIRST_POP_TIME, reply.pop_time.to_string());
        }
    }
}

/// `0 3 10;1 0 5`: flag, queue id and the rest.
fn entries(text: Option<&str>) -> impl Iterator<Item = (Key, &str)> {
    text.unwrap_or_default().split(';').filter_map(|entry| {
        let (flag, rest) = entry.split_once(' ')?;
        let (queue_id, value) = rest.split_once(' ')?;
        Some(((RetryFlag::parse(flag)?, queue_id.parse().ok()?), value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::testing::message_at;

    fn reply() -> PopMessageReply {
        PopMessageReply {
            pop_time: 1000,
            invisible_time: 60_000,
            revive_qid: 4,
            start_offset_info: Some("0 3 10;0 1 5;1 0 2".into()),
            msg_offset_info: Some("0 3 10,12;0 1 5;1 0 2".into()),
            ..PopMessageReply::default()
        }
    }

    fn message(queue_id: i32, queue_offset: i64) -> MessageExt {
        let mut message = (*message_at(queue_offset)).clone();
        message.queue_id = queue_id;
        message
    }

    #[test]
    fn each_message_gets_the_handle_of_its_queue() {
        let mut retried = message(0, 2);
        retried
            .message
            .properties
            .set(property::POP_CK, "2 900 30000 7 1 broker-a 0 2");
        retried.message.properties.set(property::FIRST_POP_TIME, "17");
        let mut messages = vec![message(3, 10), message(1, 5), message(3, 12), retried];
        give_handles(&mut messages, &reply(), "broker-a");
        let handles: Vec<_> = messages
            .iter()
            .map(|message| message.property(property::POP_CK).unwrap())
            .collect();
        assert_eq!(
            handles,
            [
                "10 1000 60000 4 0 broker-a 3 10",
                "5 1000 60000 4 0 broker-a 1 5",
                "10 1000 60000 4 0 broker-a 3 12",
                "2 900 30000 7 1 broker-a 0 2",
            ]
        );
        let first_pops: Vec<_> = messages
            .iter()
            .map(|message| message.property(property::FIRST_POP_TIME))
            .collect();
        assert_eq!(first_pops, [Some("1000"), Some("1000"), Some("1000"), Some("17")]);
        assert_eq!(invisible_until(&messages[0]), Some(61_000));
    }

    #[test]
    fn without_a_list_offsets_are_those_of_the_messages() {
        let mut messages = vec![message(3, 10), message(3, 12)];
        let bare = PopMessageReply {
            start_offset_info: None,
            msg_offset_info: None,
            ..reply()
        };
        give_handles(&mut messages, &bare, "broker-a");
        let handle = receipt_handle(&messages[1]).unwrap();
        assert_eq!((handle.start_offset, handle.queue_offset), (10, Some(12)));
    }

    #[test]
    fn a_message_is_acknowledged_where_it_was_handed_out() {
        let mut retried = message(0, 2);
        retried
            .message
            .properties
            .set(property::POP_CK, "2 900 30000 7 2 broker-a 5 9");
        let handle = receipt_handle(&retried).unwrap();
        assert_eq!(
            real_place(&handle, &retried, &Namespace::default(), "g"),
            ("%RETRY%g+t".to_owned(), 9)
        );
        assert!(receipt_handle(&message(0, 1)).is_err());
    }
}
