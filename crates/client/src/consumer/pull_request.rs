//! One pull from one queue (11, 361): what is asked, and what the answer means (spec: protocol.md §7).

use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::body::{MASTER_ID, MessageQueue, SubscriptionData};
use oxmq_protocol::message::{MessageExt, decode_messages};
use oxmq_protocol::requests::{PullMessageHeader, PullMessageReply, request};
use oxmq_protocol::sys_flag::pull;
use oxmq_protocol::{FieldSet, RemotingCommand, property, response_code};
use oxmq_remoting::CallError;

use super::broker_calls::BrokerCalls;
use crate::error::ClientError;

/// Pulls beyond the time the broker may hold them: it looks at its clock every 5 s only.
const TIMEOUT_OF_HELD_PULL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct PullRequest<'a> {
    pub(crate) queue: &'a MessageQueue,
    pub(crate) queue_offset: i64,
    pub(crate) max_msg_nums: i32,
    pub(crate) max_msg_bytes: i32,
    /// How long the broker may wait for a message; none answers at once.
    pub(crate) suspend: Option<Duration>,
    /// Stored as the group's offset along with the pull.
    pub(crate) commit_offset: Option<i64>,
    pub(crate) subscription: &'a SubscriptionData,
    /// The broker filters by the subscription in the request, not by the one of the heartbeat.
    pub(crate) send_subscription: bool,
    /// Says that it is a lite pull consumer that asks.
    pub(crate) is_lite: bool,
    /// Where the last answer told to go.
    pub(crate) broker_id: i64,
}

/// What a pull brought.
#[derive(Debug, Clone)]
pub struct PullResult {
    pub status: PullStatus,
    /// Where the next pull begins.
    pub next_begin_offset: i64,
    pub min_offset: i64,
    pub max_offset: i64,
    pub messages: Vec<MessageExt>,
    /// The broker of the group that the next pull should go to.
    pub(crate) suggested_broker_id: i64,
}

/// What a pull found at its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullStatus {
    Found,
    /// The end of the queue is reached.
    NoNewMsg,
    /// There were messages, but none that the subscription takes.
    NoMatchedMsg,
    /// The queue does not have this offset; `next_begin_offset` is the nearest it has.
    OffsetIllegal,
}

impl PullStatus {
    fn from_code(code: i32) -> Option<PullStatus> {
        match code {
            response_code::SUCCESS => Some(PullStatus::Found),
            response_code::PULL_NOT_FOUND => Some(PullStatus::NoNewMsg),
            response_code::PULL_RETRY_IMMEDIATELY => Some(PullStatus::NoMatchedMsg),
            response_code::PULL_OFFSET_MOVED => Some(PullStatus::OffsetIllegal),
            _ => None,
        }
    }
}

impl PullRequest<'_> {
    fn header(&self, group: &str, broker_id: i64) -> PullMessageHeader {
        // Only a master stores offsets.
        let commit_offset = self.commit_offset.filter(|_| broker_id == MASTER_ID);
        let mut sys_flag = 0;
        if commit_offset.is_some() {
            sys_flag |= pull::COMMIT_OFFSET;
        }
        if self.suspend.is_some() {
            sys_flag |= pull::SUSPEND;
        }
        if self.send_subscription {
            sys_flag |= pull::SUBSCRIPTION;
        }
        if self.is_lite {
            sys_flag |= pull::LITE_PULL;
        }
        let subscription = self.subscription;
        let version_counts = !self.send_subscription || !subscription.is_tag_type();
        PullMessageHeader {
            consumer_group: group.to_owned(),
            topic: self.queue.topic.clone(),
            queue_id: self.queue.queue_id,
            queue_offset: self.queue_offset,
            max_msg_nums: self.max_msg_nums,
            sys_flag,
            commit_offset: commit_offset.unwrap_or(0),
            suspend_timeout_millis: self.suspend.unwrap_or_default().as_millis() as i64,
            subscription: self.send_subscription.then(|| subscription.sub_string.clone()),
            sub_version: if version_counts { subscription.sub_version } else { 0 },
            expression_type: Some(subscription.expression_type.clone()),
            max_msg_bytes: Some(self.max_msg_bytes),
            request_source: None,
            lo: None,
            broker_name: Some(self.queue.broker_name.clone()),
        }
    }
}

impl BrokerCalls {
    /// A pull of an application that does it by itself, with the topics that it knows in the messages: from the master, with its own subscription, nothing committed.
    pub(crate) async fn pull_once(
        &self,
        queue: &MessageQueue,
        subscription: &SubscriptionData,
        queue_offset: i64,
        max_nums: u32,
        suspend: Option<Duration>,
    ) -> Result<PullResult, ClientError> {
        let pull = PullRequest {
            queue,
            queue_offset,
            max_msg_nums: i32::try_from(max_nums).unwrap_or(i32::MAX),
            max_msg_bytes: i32::MAX,
            suspend,
            commit_offset: None,
            subscription,
            send_subscription: true,
            is_lite: false,
            broker_id: MASTER_ID,
        };
        let mut result = self.pull(&pull).await?;
        let stripped = result.messages.into_iter();
        result.messages = stripped
            .map(|message| self.namespace().strip_message(message))
            .collect();
        Ok(result)
    }

    /// Pulls once. Messages that the subscription does not take by the text of their tags are left out.
    pub(crate) async fn pull(&self, pull: &PullRequest<'_>) -> Result<PullResult, ClientError> {
        let broker = self.broker(pull.queue, pull.broker_id).await?;
        let header = pull.header(&self.group, broker.broker_id);
        let request = match pull.is_lite {
            true => RemotingCommand::request::<request::LitePullMessage>(&header, Bytes::new()),
            false => RemotingCommand::request::<request::PullMessage>(&header, Bytes::new()),
        };
        let timeout = match pull.suspend {
            Some(suspend) => TIMEOUT_OF_HELD_PULL.max(suspend + TIMEOUT),
            None => TIMEOUT,
        };
        let response = self.instance.remoting().invoke(&broker.addr, request, timeout).await?;
        read_response(pull, response)
    }
}

fn read_response(pull: &PullRequest<'_>, response: RemotingCommand) -> Result<PullResult, ClientError> {
    let Some(status) = PullStatus::from_code(response.header.code) else {
        return Err(ClientError::Call(CallError::Response {
            code: response.header.code,
            remark: response.header.remark.unwrap_or_default(),
        }));
    };
    let reply = PullMessageReply::read(&response.header.ext_fields)?;
    let messages = match status {
        PullStatus::Found => read_messages(pull, &response.body, &reply)?,
        _ => Vec::new(),
    };
    Ok(PullResult {
        status,
        next_begin_offset: reply.next_begin_offset,
        min_offset: reply.min_offset,
        max_offset: reply.max_offset,
        messages,
        suggested_broker_id: reply.suggest_which_broker_id,
    })
}

fn read_messages(
    pull: &PullRequest<'_>,
    body: &Bytes,
    reply: &PullMessageReply,
) -> Result<Vec<MessageExt>, ClientError> {
    let mut messages = decode_messages(body, true)?;
    let delta = reply.offset_delta.unwrap_or(0);
    messages.iter_mut().for_each(|message| message.queue_offset += delta);
    // An inner batch is stored as one entry of which a consumer may need only the end.
    messages.retain(|message| message.queue_offset >= pull.queue_offset && takes(pull.subscription, message));
    let (min_offset, max_offset) = (reply.min_offset.to_string(), reply.max_offset.to_string());
    for message in &mut messages {
        message.broker_name.clone_from(&pull.queue.broker_name);
        let properties = &mut message.message.properties;
        properties.set(property::MIN_OFFSET, min_offset.as_str());
        properties.set(property::MAX_OFFSET, max_offset.as_str());
    }
    Ok(messages)
}

/// The broker compares hashes of tags only.
pub(crate) fn takes(subscription: &SubscriptionData, message: &MessageExt) -> bool {
    !subscription.is_tag_type() || subscription.matches_tag(message.tags())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::testing::message_at;
    use bytes::BytesMut;

    fn found(tags: &[&str]) -> RemotingCommand {
        let mut body = BytesMut::new();
        for (offset, tag) in tags.iter().enumerate() {
            let mut message = (*message_at(offset as i64)).clone();
            message.message = message.message.with_tags(*tag);
            message.encode(&mut body).unwrap();
        }
        let reply = PullMessageReply {
            suggest_which_broker_id: 1,
            next_begin_offset: 9,
            min_offset: 0,
            max_offset: 12,
            offset_delta: Some(100),
            ..PullMessageReply::default()
        };
        RemotingCommand::response(1, 0, None)
            .with_fields(&reply)
            .with_body(body)
    }

    fn check(subscription: &SubscriptionData, response: RemotingCommand) -> Result<PullResult, ClientError> {
        let pull = PullRequest {
            queue: &MessageQueue::new("t", "b", 0),
            queue_offset: 101,
            max_msg_nums: 32,
            max_msg_bytes: 1,
            suspend: None,
            commit_offset: Some(3),
            subscription,
            send_subscription: false,
            is_lite: false,
            broker_id: 0,
        };
        assert_eq!(pull.header("g", 0).sys_flag, 1);
        assert_eq!(pull.header("g", 1).sys_flag, 0);
        read_response(&pull, response)
    }

    #[test]
    fn tags_are_compared_by_their_text() {
        // Aa and BB have the same hash.
        let subscription = SubscriptionData::parse("t", "Aa", 1).unwrap();
        let result = check(&subscription, found(&["Aa", "BB", "Aa"])).unwrap();
        let [message] = &result.messages[..] else {
            panic!("{result:?}")
        };
        assert_eq!((message.queue_offset, &*message.broker_name), (102, "b"));
        assert_eq!(message.property(property::MAX_OFFSET), Some("12"));
        assert_eq!((result.next_begin_offset, result.suggested_broker_id), (9, 1));
    }

    #[test]
    fn codes_become_a_status_or_an_error() {
        let all = SubscriptionData::default();
        for (code, status) in [
            (19, PullStatus::NoNewMsg),
            (20, PullStatus::NoMatchedMsg),
            (21, PullStatus::OffsetIllegal),
        ] {
            let mut response = found(&[]);
            response.header.code = code;
            assert_eq!(check(&all, response).unwrap().status, status);
        }
        let refused = check(&all, RemotingCommand::response(1, 24, Some("why".into())));
        assert_eq!(refused.unwrap_err().response_code(), Some(24));
    }
}
