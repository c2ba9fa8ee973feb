//! Questions that go to one broker and are too special for [`Admin`].

use std::time::Duration;

use bytes::Bytes;
use oxmq_client::{Admin, ClientError};
use oxmq_protocol::body::{ConsumerRunningInfo, MessageQueue};
use oxmq_protocol::message::{MessageExt, decode_messages};
use oxmq_protocol::requests::{
    GetConsumerRunningInfoHeader, PullMessageHeader, QueryMessageHeader, QueueHeader, request,
};
use oxmq_protocol::{Request, json, response_code, sys_flag};
use oxmq_remoting::Reply;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

/// A broker that does not answer holds the command up for so long.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Clients need not answer: pull consumers and those of other languages do not.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(2);
/// The group that tools pull for; every broker knows it.
const TOOLS_GROUP: &str = "TOOLS_CONSUMER";

/// A consumer, and the broker through which it is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AskedMember {
    pub(crate) group: String,
    pub(crate) client_id: String,
    pub(crate) addr: String,
}

#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) admin: Admin,
}

impl Ask {
    pub(crate) async fn call<R: Request>(&self, addr: &str, header: &R::Header) -> Result<Reply<R>, ClientError> {
        Ok(self
            .admin
            .instance()
            .remoting()
            .call::<R>(addr, header, Bytes::new(), TIMEOUT)
            .await?)
    }

    /// An answer whose body is JSON.
    pub(crate) async fn json<R: Request, T: DeserializeOwned>(
        &self,
        addr: &str,
        header: &R::Header,
    ) -> Result<T, ClientError> {
        Ok(json::from_slice(&self.call::<R>(addr, header).await?.body)?)
    }

    /// What members of groups tell about themselves (307), all asked at once. Those that do not answer are left out.
    pub(crate) async fn members(&self, members: Vec<AskedMember>) -> Vec<(AskedMember, ConsumerRunningInfo)> {
        let mut asking = JoinSet::new();
        for member in members {
            let admin = self.admin.clone();
            let header = GetConsumerRunningInfoHeader {
                consumer_group: member.group.clone(),
                client_id: member.client_id.clone(),
                jstack_enable: false,
            };
            asking.spawn(async move {
                let remoting = admin.instance().remoting();
                let called = remoting.call::<request::GetConsumerRunningInfo>(
                    &member.addr,
                    &header,
                    Bytes::new(),
                    MEMBER_TIMEOUT,
                );
                let told = json::from_slice(&called.await.ok()?.body).ok()?;
                Some((member, told))
            });
        }
        let mut told = Vec::new();
        while let Some(answered) = asking.join_next().await {
            told.extend(answered.ok().flatten());
        }
        told.sort_by(|(one, _): &(AskedMember, _), (other, _)| one.cmp(other));
        told
    }

    /// First offset of a queue and the one after its last.
    pub(crate) async fn bounds(&self, addr: &str, queue: &MessageQueue) -> Result<(i64, i64), ClientError> {
        let header = QueueHeader {
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            committed: None,
            broker_name: Some(queue.broker_name.clone()),
        };
        let min = self.call::<request::GetMinOffset>(addr, &header).await?.fields.offset;
        let max = self.call::<request::GetMaxOffset>(addr, &header).await?.fields.offset;
        Ok((min, max))
    }

    /// Messages of one broker by the index (12), with its name in them. What it finds by hash may be others.
    pub(crate) async fn query(
        &self,
        broker_name: &str,
        addr: &str,
        header: &QueryMessageHeader,
    ) -> Result<Vec<MessageExt>, ClientError> {
        match self.call::<request::QueryMessage>(addr, header).await {
            Ok(reply) => named(broker_name, decode_messages(&reply.body, true)?),
            Err(error) if error.response_code() == Some(response_code::QUERY_NOT_FOUND) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Messages of a queue from an offset on, and where to go on; nothing at its end.
    pub(crate) async fn read(
        &self,
        addr: &str,
        queue: &MessageQueue,
        queue_offset: i64,
    ) -> Result<Option<(Vec<MessageExt>, i64)>, ClientError> {
        let header = PullMessageHeader {
            consumer_group: TOOLS_GROUP.into(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            queue_offset,
            max_msg_nums: 32,
            sys_flag: sys_flag::pull::SUBSCRIPTION,
            subscription: Some("*".into()),
            expression_type: Some("TAG".into()),
            broker_name: Some(queue.broker_name.clone()),
            ..PullMessageHeader::default()
        };
        let nothing = [
            response_code::PULL_NOT_FOUND,
            response_code::PULL_RETRY_IMMEDIATELY,
            response_code::PULL_OFFSET_MOVED,
        ];
        match self.call::<request::PullMessage>(addr, &header).await {
            Ok(reply) => {
                let messages = named(&queue.broker_name, decode_messages(&reply.body, true)?)?;
                let next = reply.fields.next_begin_offset;
                Ok((next > queue_offset).then_some((messages, next)))
            }
            Err(error) if error.response_code().is_some_and(|code| nothing.contains(&code)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn named(broker_name: &str, mut messages: Vec<MessageExt>) -> Result<Vec<MessageExt>, ClientError> {
    for message in &mut messages {
        broker_name.clone_into(&mut message.broker_name);
    }
    Ok(messages)
}
