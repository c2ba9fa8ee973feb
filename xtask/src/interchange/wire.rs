//! Requests to a broker, whichever it is: only what every version since 4.7.1 takes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use oxmq_protocol::body::{ConsumerOffsetSerializeWrapper, SubscriptionGroupConfig};
use oxmq_protocol::message_id::OffsetMessageId;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::requests::{
    ConsumerSendMsgBackHeader, CreateTopicHeader, EndTransactionHeader, PagedConfigHeader, PagedGroupHeader,
    PullMessageHeader, PullMessageReply, QueryMessageHeader, QueueHeader, SendMessageHeaderV2, SendMessageReply,
    UpdateConsumerOffsetHeader, ViewMessageHeader, request,
};
use oxmq_protocol::sys_flag::pull::SUBSCRIPTION;
use oxmq_protocol::{FieldSet, Message, RemotingCommand, Request, batch, json, response_code, sys_flag, topic};
use oxmq_remoting::{ClientConfig, RemotingClient};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);
/// A group that exists on every broker.
const READER: &str = "TOOLS_CONSUMER";
pub(super) const PRODUCERS: &str = "interchange-producers";

#[derive(Clone)]
pub(super) struct Wire {
    client: RemotingClient,
    addr: String,
}

/// Where the broker says that it has stored a message.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) queue_id: i32,
    pub(super) queue_offset: i64,
    pub(super) physical_offset: i64,
    pub(super) msg_id: String,
}

/// A table of the broker: configurations by name, as JSON.
pub(super) type Table = BTreeMap<String, Value>;

impl Wire {
    pub(super) fn new(addr: String) -> Wire {
        Wire {
            client: RemotingClient::new(ClientConfig::default(), None),
            addr,
        }
    }

    async fn call<R: Request>(&self, header: &R::Header, body: Bytes) -> anyhow::Result<(R::Reply, Bytes)> {
        let called = self.client.call::<R>(&self.addr, header, body, TIMEOUT).await;
        let reply = called.with_context(|| format!("{:?}", R::CODE))?;
        Ok((reply.fields, reply.body))
    }

    /// A request without a header and without an answer to read.
    pub(super) async fn request<R: Request<Header = ()>>(&self) -> anyhow::Result<()> {
        self.call::<R>(&(), Bytes::new()).await?;
        Ok(())
    }

    pub(super) async fn create_topic(
        &self,
        topic: &str,
        queues: i32,
        perm: i32,
        order: bool,
        attributes: &str,
    ) -> anyhow::Result<()> {
        let header = CreateTopicHeader {
            topic: topic.to_owned(),
            default_topic: Some(topic::AUTO_CREATE_TOPIC.to_owned()),
            read_queue_nums: queues,
            write_queue_nums: queues,
            perm,
            topic_filter_type: "SINGLE_TAG".to_owned(),
            topic_sys_flag: Some(0),
            order,
            attributes: Some(attributes.to_owned()).filter(|text| !text.is_empty()),
            ..CreateTopicHeader::default()
        };
        self.call::<request::UpdateAndCreateTopic>(&header, Bytes::new())
            .await
            .with_context(|| format!("topic {topic}"))?;
        Ok(())
    }

    pub(super) async fn create_group(&self, group: &SubscriptionGroupConfig) -> anyhow::Result<()> {
        let body = json::to_vec(group).into();
        self.call::<request::UpdateAndCreateSubscriptionGroup>(&(), body)
            .await?;
        Ok(())
    }

    pub(super) async fn send(&self, message: &Message, queue_id: i32, sys_flag: i32) -> anyhow::Result<Sent> {
        let mut header = header(&message.topic, queue_id);
        header.sys_flag = sys_flag;
        header.properties = Some(message.properties.encoded_text());
        self.sent(RemotingCommand::request::<request::SendMessageV2>(
            &header,
            message.body.clone(),
        ))
        .await
        .with_context(|| format!("{message:?}"))
    }

    pub(super) async fn send_batch(&self, messages: &[Message], queue_id: i32) -> anyhow::Result<Sent> {
        let mut header = header(&messages[0].topic, queue_id);
        header.batch = true;
        let body = batch::encode(messages);
        self.sent(RemotingCommand::request::<request::SendBatchMessage>(&header, body))
            .await
            .with_context(|| format!("{messages:?}"))
    }

    async fn sent(&self, request: RemotingCommand) -> anyhow::Result<Sent> {
        let response = self.client.invoke(&self.addr, request, TIMEOUT).await?;
        ensure!(
            response.header.code == response_code::SUCCESS,
            "refused with {}: {:?}",
            response.header.code,
            response.header.remark
        );
        let reply = SendMessageReply::read(&response.header.ext_fields)?;
        // The id of a batch is that of each of its messages.
        let first = reply.msg_id.split(',').next().unwrap_or_default();
        let id: OffsetMessageId = first.parse().with_context(|| reply.msg_id.clone())?;
        Ok(Sent {
            queue_id: reply.queue_id,
            queue_offset: reply.queue_offset,
            physical_offset: id.physical_offset,
            msg_id: reply.msg_id,
        })
    }

    /// Commits or rolls back what this half message has begun.
    pub(super) async fn end_transaction(
        &self,
        group: &str,
        half: &Sent,
        unique_id: &str,
        commit: bool,
    ) -> anyhow::Result<()> {
        let header = EndTransactionHeader {
            producer_group: group.to_owned(),
            tran_state_table_offset: half.queue_offset,
            commit_log_offset: half.physical_offset,
            commit_or_rollback: match commit {
                true => sys_flag::TRANSACTION_COMMIT,
                false => sys_flag::TRANSACTION_ROLLBACK,
            },
            msg_id: unique_id.to_owned(),
            transaction_id: Some(unique_id.to_owned()),
            ..EndTransactionHeader::default()
        };
        self.call::<request::EndTransaction>(&header, Bytes::new()).await?;
        Ok(())
    }

    /// Level -1 makes it a dead letter.
    pub(super) async fn send_back(
        &self,
        group: &str,
        topic: &str,
        message: &Sent,
        delay_level: i32,
    ) -> anyhow::Result<()> {
        let header = ConsumerSendMsgBackHeader {
            offset: message.physical_offset,
            group: group.to_owned(),
            delay_level,
            origin_msg_id: Some(message.msg_id.clone()),
            origin_topic: Some(topic.to_owned()),
            max_reconsume_times: Some(16),
            ..ConsumerSendMsgBackHeader::default()
        };
        self.call::<request::ConsumerSendMsgBack>(&header, Bytes::new()).await?;
        Ok(())
    }

    pub(super) async fn commit(&self, group: &str, topic: &str, queue_id: i32, offset: i64) -> anyhow::Result<()> {
        let header = UpdateConsumerOffsetHeader {
            consumer_group: Some(group.to_owned()),
            topic: Some(topic.to_owned()),
            queue_id: Some(queue_id),
            commit_offset: Some(offset),
            broker_name: None,
        };
        self.call::<request::UpdateConsumerOffset>(&header, Bytes::new())
            .await?;
        Ok(())
    }

    /// Minimum and maximum of a queue.
    pub(super) async fn bounds(&self, topic: &str, queue_id: i32) -> anyhow::Result<(i64, i64)> {
        let header = QueueHeader {
            topic: topic.to_owned(),
            queue_id,
            ..QueueHeader::default()
        };
        let (max, _) = self.call::<request::GetMaxOffset>(&header, Bytes::new()).await?;
        let (min, _) = self.call::<request::GetMinOffset>(&header, Bytes::new()).await?;
        // The original has -1 for a queue of batches in which there was none.
        Ok((min.offset.max(0), max.offset))
    }

    /// Stored records from this queue offset on and the next queue offset; nothing where there are none.
    pub(super) async fn pull(
        &self,
        topic: &str,
        queue_id: i32,
        queue_offset: i64,
    ) -> anyhow::Result<Option<(Vec<Bytes>, i64)>> {
        let header = PullMessageHeader {
            consumer_group: READER.to_owned(),
            topic: topic.to_owned(),
            queue_id,
            queue_offset,
            max_msg_nums: 32,
            sys_flag: SUBSCRIPTION,
            subscription: Some("*".to_owned()),
            expression_type: Some("TAG".to_owned()),
            ..PullMessageHeader::default()
        };
        let request = RemotingCommand::request::<request::PullMessage>(&header, Bytes::new());
        let response = self.client.invoke(&self.addr, request, TIMEOUT).await?;
        match response.header.code {
            response_code::SUCCESS => {
                let reply = PullMessageReply::read(&response.header.ext_fields)?;
                Ok(Some((records(&response.body)?, reply.next_begin_offset)))
            }
            response_code::PULL_NOT_FOUND => Ok(None),
            code => anyhow::bail!("pull: {code} {:?}", response.header.remark),
        }
    }

    /// The stored record at this physical offset.
    pub(super) async fn view(&self, physical_offset: i64) -> anyhow::Result<Bytes> {
        let header = ViewMessageHeader {
            topic: None,
            offset: physical_offset,
        };
        Ok(self.call::<request::ViewMessageById>(&header, Bytes::new()).await?.1)
    }

    /// Stored records that the index finds.
    pub(super) async fn query(&self, topic: &str, key: &str, is_unique: bool) -> anyhow::Result<Vec<Bytes>> {
        let header = QueryMessageHeader {
            topic: topic.to_owned(),
            key: key.to_owned(),
            max_num: 64,
            begin_timestamp: 0,
            end_timestamp: i64::MAX,
            unique_key_query: is_unique,
            ..QueryMessageHeader::default()
        };
        let request = RemotingCommand::request::<request::QueryMessage>(&header, Bytes::new());
        let response = self.client.invoke(&self.addr, request, TIMEOUT).await?;
        records(&response.body)
    }

    pub(super) async fn topics(&self) -> anyhow::Result<Table> {
        let header = PagedConfigHeader::default();
        let (_, body) = self.call::<request::GetAllTopicConfig>(&header, Bytes::new()).await?;
        table(&body, "topicConfigTable")
    }

    pub(super) async fn groups(&self) -> anyhow::Result<Table> {
        let header = PagedGroupHeader::default();
        let called = self.call::<request::GetAllSubscriptionGroupConfig>(&header, Bytes::new());
        table(&called.await?.1, "subscriptionGroupTable")
    }

    pub(super) async fn consumer_offsets(&self) -> anyhow::Result<ConsumerOffsetSerializeWrapper> {
        let (_, body) = self.call::<request::GetAllConsumerOffset>(&(), Bytes::new()).await?;
        Ok(json::from_slice(&body)?)
    }
}

fn table(body: &[u8], member: &str) -> anyhow::Result<Table> {
    let mut whole: Value = json::from_slice(body)?;
    Ok(serde_json::from_value(whole[member].take())?)
}

/// The stored records that a body consists of.
fn records(body: &Bytes) -> anyhow::Result<Vec<Bytes>> {
    let mut records = Vec::new();
    let mut rest = body.clone();
    while !rest.is_empty() {
        let size = RecordRef::parse(&rest)?.total_size();
        records.push(rest.split_to(size));
    }
    Ok(records)
}

fn header(topic: &str, queue_id: i32) -> SendMessageHeaderV2 {
    SendMessageHeaderV2 {
        producer_group: PRODUCERS.to_owned(),
        topic: topic.to_owned(),
        default_topic: topic::AUTO_CREATE_TOPIC.to_owned(),
        default_topic_queue_nums: 4,
        queue_id,
        born_timestamp: crate::now_ms(),
        ..SendMessageHeaderV2::default()
    }
}
