//! Looking after a cluster: topics and groups; offsets of groups in [`offsets`]; finding messages again in [`messages`].

mod messages;
mod offsets;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::body::{
    ClusterInfo, KvTable, SubscriptionGroupConfig, TopicConfig, TopicList, TopicRouteData, TopicStatsTable,
};
use oxmq_protocol::requests::{CreateTopicHeader, DeleteTopicInNamesrvHeader, TopicHeader, request};
use oxmq_protocol::{Request, json, topic};
use oxmq_remoting::Reply;

use crate::error::ClientError;
use crate::instance::{Boundary, Instance, InstanceConfig};

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

    /// Clusters, their brokers and the addresses of these.
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

    /// A broker's figures about itself.
    pub async fn broker_runtime_info(&self, addr: &str) -> Result<KvTable, ClientError> {
        let reply = self
            .call::<request::GetBrokerRuntimeInfo>(addr, &(), Bytes::new())
            .await?;
        Ok(json::from_slice(&reply.body)?)
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
        self.instance.call::<R>(addr, header, body, self.timeout).await
    }
}
