//! The requests of a client that does many things at a time.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use oxmq_protocol::body::{ConsumerData, HeartbeatData, SubscriptionData};
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::requests::{
    CreateTopicHeader, PullMessageHeader, SendMessageHeader, SendMessageHeaderV2, SendMessageReply, request,
};
use oxmq_protocol::{FieldSet, RemotingCommand, Request, SerializeType, json};
use oxmq_remoting::{ClientConfig, RemotingClient, RequestHandler};
use tokio::sync::mpsc;

pub(crate) use oxmq_tests::DEADLINE;

pub(crate) use crate::node::Node;
use crate::node::{producer, topic_header};

impl Node {
    pub(crate) fn client(&self) -> Client {
        self.client_with(SerializeType::Json)
    }

    /// A producer that answers the broker's requests like this, and what they are.
    pub(crate) async fn producer(
        &self,
        client_id: &str,
        group: &str,
        code: Option<i32>,
    ) -> (Client, mpsc::UnboundedReceiver<RemotingCommand>) {
        let (requests, asked) = mpsc::unbounded_channel();
        let client = Client {
            addr: self.addr().to_string(),
            remoting: RemotingClient::new(ClientConfig::default(), Some(Arc::new(Asked { requests, code }))),
        };
        client.heart_beat(&producer(client_id, group)).await;
        (client, asked)
    }

    pub(crate) fn client_with(&self, serialize: SerializeType) -> Client {
        let config = ClientConfig {
            serialize,
            ..ClientConfig::default()
        };
        Client {
            addr: self.addr().to_string(),
            remoting: RemotingClient::new(config, None),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) addr: String,
    pub(crate) remoting: RemotingClient,
}

impl Client {
    pub(crate) async fn invoke(&self, command: RemotingCommand) -> RemotingCommand {
        self.remoting.invoke(&self.addr, command, DEADLINE).await.unwrap()
    }

    pub(crate) async fn call<R: Request>(&self, header: &R::Header, body: impl Into<Bytes>) -> RemotingCommand {
        self.invoke(RemotingCommand::request::<R>(header, body.into())).await
    }

    pub(crate) async fn create_topic(&self, topic: &str, queues: i32, order: bool) {
        let header = CreateTopicHeader {
            order,
            ..topic_header(topic, queues)
        };
        let reply = self.call::<request::UpdateAndCreateTopic>(&header, Bytes::new()).await;
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    }

    /// Sends one message by 310.
    pub(crate) async fn send(&self, header: &SendMessageHeaderV2, body: &'static str) -> RemotingCommand {
        self.call::<request::SendMessageV2>(header, body).await
    }

    pub(crate) async fn send_v1(&self, header: &SendMessageHeader, body: &'static str) -> RemotingCommand {
        self.call::<request::SendMessage>(header, body).await
    }

    pub(crate) async fn pull(&self, header: &PullMessageHeader) -> RemotingCommand {
        self.call::<request::PullMessage>(header, Bytes::new()).await
    }

    pub(crate) async fn heart_beat(&self, data: &HeartbeatData) {
        let reply = self.call::<request::HeartBeat>(&(), json::to_vec(data)).await;
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    }

    /// Makes the group known as one that consumes this topic.
    pub(crate) async fn subscribe(&self, group: &str, topic: &str, expression: &str, sub_version: i64) {
        let subscription = SubscriptionData::parse(topic, expression, sub_version).unwrap();
        self.subscribe_to(group, subscription).await;
    }

    pub(crate) async fn subscribe_to(&self, group: &str, subscription: SubscriptionData) {
        let heartbeat = HeartbeatData {
            client_id: "client-1".into(),
            consumer_data_set: vec![ConsumerData {
                group_name: group.into(),
                subscription_data_set: vec![subscription],
                ..ConsumerData::default()
            }],
            ..HeartbeatData::default()
        };
        self.heart_beat(&heartbeat).await;
    }
}

/// Passes on what a broker asks, and answers it with a code or not at all.
struct Asked {
    requests: mpsc::UnboundedSender<RemotingCommand>,
    code: Option<i32>,
}

impl RequestHandler for Asked {
    fn handle(
        &self,
        _: &str,
        request: RemotingCommand,
    ) -> Pin<Box<dyn Future<Output = Option<RemotingCommand>> + Send>> {
        let opaque = request.header.opaque;
        // A test that has ended asks nothing.
        let _ = self.requests.send(request);
        let answer = self.code.map(|code| RemotingCommand::response(opaque, code, None));
        Box::pin(std::future::ready(answer))
    }
}

pub(crate) fn message(topic: &str, queue_id: i32) -> SendMessageHeaderV2 {
    SendMessageHeaderV2 {
        producer_group: "pg".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id,
        born_timestamp: 1_700_000_000_000,
        properties: Some(properties(&[("UNIQ_KEY", "K1"), ("WAIT", "true")])),
        reconsume_times: Some(0),
        ..SendMessageHeaderV2::default()
    }
}

pub(crate) fn properties(entries: &[(&str, &str)]) -> String {
    entries
        .iter()
        .map(|(name, value)| format!("{name}\u{1}{value}\u{2}"))
        .collect()
}

/// A pull with a subscription of its own.
pub(crate) fn pull(topic: &str, queue_id: i32, queue_offset: i64) -> PullMessageHeader {
    PullMessageHeader {
        consumer_group: "cg".into(),
        topic: topic.into(),
        queue_id,
        queue_offset,
        max_msg_nums: 32,
        sys_flag: 4,
        subscription: Some("*".into()),
        expression_type: Some("TAG".into()),
        ..PullMessageHeader::default()
    }
}

pub(crate) fn batch(items: &[(&str, &str)]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for (properties, body) in items {
        out.put_i32((22 + body.len() + properties.len()) as i32);
        out.put_bytes(0, 12);
        out.put_i32(body.len() as i32);
        out.put_slice(body.as_bytes());
        out.put_i16(properties.len() as i16);
        out.put_slice(properties.as_bytes());
    }
    out.to_vec()
}

pub(crate) fn sent(reply: &RemotingCommand) -> SendMessageReply {
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    SendMessageReply::read(&reply.header.ext_fields).unwrap()
}

#[track_caller]
pub(crate) fn refused(reply: &RemotingCommand, code: i32, remark: &str) {
    assert_eq!(
        (reply.header.code, reply.header.remark.as_deref()),
        (code, Some(remark))
    );
}

/// The records of a pull reply.
pub(crate) fn records(reply: &RemotingCommand) -> Vec<RecordRef<'_>> {
    let mut rest = &reply.body[..];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let record = RecordRef::parse(rest).unwrap();
        record.verify_crc().unwrap();
        rest = &rest[record.total_size()..];
        records.push(record);
    }
    records
}
