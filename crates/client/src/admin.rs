//! Looking after a cluster: topics, groups, offsets, and finding messages again.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::body::{
    ClusterInfo, ConsumeStats, KvTable, MessageQueue, SubscriptionGroupConfig, TopicConfig, TopicList, TopicRouteData,
    TopicStatsTable,
};
use oxmq_protocol::message::{MessageExt, decode_messages};
use oxmq_protocol::message_id::{OffsetMessageId, unique_id_timestamp_ms};
use oxmq_protocol::requests::{
    CreateTopicHeader, DeleteTopicInNamesrvHeader, GetConsumeStatsHeader, QueryMessageHeader, TopicHeader,
    ViewMessageHeader, request,
};
use oxmq_protocol::{Request, json, response_code, topic};
use oxmq_remoting::Reply;

use crate::clock::{now_millis, utc_offset_millis};
use crate::error::ClientError;
use crate::instance::{Instance, InstanceConfig};

/// The store may be a moment behind the client's clock, so a search begins so much before the time in a message id.
const UNIQUE_ID_CLOCK_SLACK_MS: i64 = 60_000;

/// How many messages with one unique id are looked at: the id is one message's, its hash is not.
const UNIQUE_ID_QUERY_MAX: i32 = 32;

/// Administrative calls. Clones share the connections.
#[derive(Clone)]
pub struct Admin {
    instance: Instance,
    timeout: Duration,
}

impl Admin {
    /// An admin client of its own. `name_server` is `host:port`, several with `;` between them.
    pub async fn connect(name_server: impl Into<String>) -> Result<Admin, ClientError> {
        let config = InstanceConfig {
            name_server: name_server.into(),
            ..InstanceConfig::default()
        };
        Ok(Admin::with_instance(Instance::start(config).await?))
    }

    /// Uses the connections of a producer or consumer.
    pub fn with_instance(instance: Instance) -> Admin {
        let timeout = instance.config().api_timeout;
        Admin { instance, timeout }
    }

    /// Closes the connections, for all that share them.
    pub async fn shutdown(&self) {
        self.instance.shutdown().await;
    }

    /// Where a topic is, asked of a name server now.
    pub async fn topic_route(&self, topic: &str) -> Result<TopicRouteData, ClientError> {
        Ok(self.instance.refresh_route(topic).await?.data.clone())
    }

    pub async fn cluster_info(&self) -> Result<ClusterInfo, ClientError> {
        let reply = self
            .instance
            .call_name_server::<request::GetBrokerClusterInfo>(&())
            .await?;
        Ok(json::from_slice(&reply.body)?)
    }

    /// Every topic that a name server knows.
    pub async fn topics(&self) -> Result<BTreeSet<String>, ClientError> {
        let reply = self
            .instance
            .call_name_server::<request::GetAllTopicListFromNameserver>(&())
            .await?;
        Ok(json::from_slice::<TopicList>(&reply.body)?.topic_list)
    }

    /// Creates or changes a topic on every master of a cluster.
    pub async fn create_topic(&self, cluster: &str, config: &TopicConfig) -> Result<(), ClientError> {
        for addr in self.masters(cluster).await? {
            self.create_topic_on(&addr, config).await?;
        }
        Ok(())
    }

    /// Creates or changes a topic on one broker.
    pub async fn create_topic_on(&self, addr: &str, config: &TopicConfig) -> Result<(), ClientError> {
        topic::validate_topic(&config.topic_name)?;
        let attributes = config.attributes.iter().map(|(name, value)| format!("+{name}={value}"));
        let header = CreateTopicHeader {
            topic: config.topic_name.clone(),
            default_topic: Some(topic::AUTO_CREATE_TOPIC.to_owned()),
            read_queue_nums: config.read_queue_nums,
            write_queue_nums: config.write_queue_nums,
            perm: config.perm,
            topic_filter_type: config.topic_filter_type.name().to_owned(),
            topic_sys_flag: Some(config.topic_sys_flag),
            order: config.order,
            attributes: Some(attributes.collect::<Vec<_>>().join(",")),
            force: false,
        };
        self.call::<request::UpdateAndCreateTopic>(addr, &header, Bytes::new())
            .await?;
        Ok(())
    }

    /// Deletes a topic from every master of a cluster, then from the name servers.
    pub async fn delete_topic(&self, cluster: &str, topic: &str) -> Result<(), ClientError> {
        let header = TopicHeader {
            topic: topic.to_owned(),
            broker_name: None,
        };
        for addr in self.masters(cluster).await? {
            self.call::<request::DeleteTopicInBroker>(&addr, &header, Bytes::new())
                .await?;
        }
        let header = DeleteTopicInNamesrvHeader {
            topic: topic.to_owned(),
            cluster_name: Some(cluster.to_owned()),
        };
        for addr in self.instance.name_server_addrs() {
            self.call::<request::DeleteTopicInNamesrv>(addr, &header, Bytes::new())
                .await?;
        }
        Ok(())
    }

    /// Creates or changes a consumer group on every master of a cluster.
    pub async fn create_group(&self, cluster: &str, config: &SubscriptionGroupConfig) -> Result<(), ClientError> {
        topic::validate_group(&config.group_name)?;
        let body = Bytes::from(json::to_vec(config));
        for addr in self.masters(cluster).await? {
            self.call::<request::UpdateAndCreateSubscriptionGroup>(&addr, &(), body.clone())
                .await?;
        }
        Ok(())
    }

    /// The offset after the last message of a queue.
    pub async fn max_offset(&self, queue: &MessageQueue) -> Result<i64, ClientError> {
        self.instance.max_offset(queue).await
    }

    /// The offset of the first message that still exists.
    pub async fn min_offset(&self, queue: &MessageQueue) -> Result<i64, ClientError> {
        self.instance.min_offset(queue).await
    }

    /// The offset of the first message stored at or after a time, in milliseconds since 1970.
    pub async fn search_offset(&self, queue: &MessageQueue, timestamp_ms: i64) -> Result<i64, ClientError> {
        self.instance.search_offset(queue, timestamp_ms).await
    }

    /// Smallest and largest offset of each queue of a topic.
    pub async fn topic_stats(&self, topic: &str) -> Result<TopicStatsTable, ClientError> {
        let header = TopicHeader {
            topic: topic.to_owned(),
            broker_name: None,
        };
        let mut stats = TopicStatsTable::default();
        for addr in self.masters_of_topic(topic).await? {
            let reply = self
                .call::<request::GetTopicStatsInfo>(&addr, &header, Bytes::new())
                .await?;
            let of_broker: TopicStatsTable = json::from_slice(&reply.body)?;
            stats.topic_put_tps += of_broker.topic_put_tps;
            stats.offset_table.0.extend(of_broker.offset_table);
        }
        Ok(stats)
    }

    /// How far a group is with what it consumes.
    pub async fn consume_stats(&self, group: &str) -> Result<ConsumeStats, ClientError> {
        let header = GetConsumeStatsHeader {
            consumer_group: group.to_owned(),
            topic: None,
            topic_list: None,
        };
        let mut stats = ConsumeStats::default();
        for addr in self.masters_of_topic(&topic::retry_topic(group)).await? {
            let reply = self
                .call::<request::GetConsumeStats>(&addr, &header, Bytes::new())
                .await?;
            let of_broker: ConsumeStats = json::from_slice(&reply.body)?;
            stats.consume_tps += of_broker.consume_tps;
            stats.offset_table.0.extend(of_broker.offset_table);
        }
        Ok(stats)
    }

    /// A broker's figures about itself.
    pub async fn broker_runtime_info(&self, addr: &str) -> Result<KvTable, ClientError> {
        let reply = self
            .call::<request::GetBrokerRuntimeInfo>(addr, &(), Bytes::new())
            .await?;
        Ok(json::from_slice(&reply.body)?)
    }

    /// The message that an offset message id points at.
    pub async fn view_message(&self, offset_msg_id: &str) -> Result<MessageExt, ClientError> {
        let id: OffsetMessageId = offset_msg_id
            .parse()
            .map_err(|error| ClientError::Config(format!("{offset_msg_id}: {error}")))?;
        let header = ViewMessageHeader {
            topic: None,
            offset: id.physical_offset,
        };
        let reply = self
            .call::<request::ViewMessageById>(&id.store_host.to_string(), &header, Bytes::new())
            .await?;
        let message = decode_messages(&reply.body, true)?.into_iter().next();
        message.ok_or_else(|| ClientError::Config(format!("no message at {offset_msg_id}")))
    }

    /// Messages of a topic with this key, stored between two times, at most `max_num` of each broker.
    pub async fn query_message(
        &self,
        topic: &str,
        key: &str,
        max_num: i32,
        begin_timestamp_ms: i64,
        end_timestamp_ms: i64,
    ) -> Result<Vec<MessageExt>, ClientError> {
        let header = QueryMessageHeader {
            topic: topic.to_owned(),
            key: key.to_owned(),
            max_num,
            begin_timestamp: begin_timestamp_ms,
            end_timestamp: end_timestamp_ms,
            ..QueryMessageHeader::default()
        };
        let mut found = self.query(&header).await?;
        found.retain(|message| message.keys().any(|of_message| of_message == key));
        Ok(found)
    }

    /// The message to which its producer gave this id.
    pub async fn query_message_by_unique_id(
        &self,
        topic: &str,
        unique_id: &str,
    ) -> Result<Option<MessageExt>, ClientError> {
        // Ids of other makers hold no time: search everything.
        let made =
            unique_id_timestamp_ms(unique_id, now_millis(), utc_offset_millis()).unwrap_or(UNIQUE_ID_CLOCK_SLACK_MS);
        let header = QueryMessageHeader {
            topic: topic.to_owned(),
            key: unique_id.to_owned(),
            max_num: UNIQUE_ID_QUERY_MAX,
            begin_timestamp: made - UNIQUE_ID_CLOCK_SLACK_MS,
            end_timestamp: i64::MAX,
            unique_key_query: true,
            ..QueryMessageHeader::default()
        };
        let found = self.query(&header).await?;
        Ok(found.into_iter().find(|message| message.unique_id() == Some(unique_id)))
    }

    /// Asks every broker of the topic. Brokers find by hash, so what they find may be of another topic.
    async fn query(&self, header: &QueryMessageHeader) -> Result<Vec<MessageExt>, ClientError> {
        let mut found = Vec::new();
        for addr in self.masters_of_topic(&header.topic).await? {
            let called = self.call::<request::QueryMessage>(&addr, header, Bytes::new()).await;
            match called {
                Ok(reply) => found.extend(decode_messages(&reply.body, true)?),
                Err(error) if error.response_code() == Some(response_code::QUERY_NOT_FOUND) => {}
                Err(error) => return Err(error),
            }
        }
        found.retain(|message| message.topic == header.topic);
        Ok(found)
    }

    async fn masters(&self, cluster: &str) -> Result<Vec<String>, ClientError> {
        let info = self.cluster_info().await?;
        let names = info.cluster_addr_table.get(cluster);
        let masters: Vec<_> = names
            .into_iter()
            .flatten()
            .filter_map(|name| info.broker_addr_table.get(name)?.master())
            .map(str::to_owned)
            .collect();
        match masters.is_empty() {
            true => Err(ClientError::Config(format!("the cluster {cluster} has no masters"))),
            false => Ok(masters),
        }
    }

    async fn masters_of_topic(&self, topic: &str) -> Result<Vec<String>, ClientError> {
        let route = self.topic_route(topic).await?;
        let masters = route.broker_datas.iter().filter_map(|broker| broker.master());
        Ok(masters.map(str::to_owned).collect())
    }

    async fn call<R: Request>(&self, addr: &str, header: &R::Header, body: Bytes) -> Result<Reply<R>, ClientError> {
        let remoting = self.instance.remoting();
        Ok(remoting.call::<R>(addr, header, body, self.timeout).await?)
    }
}
