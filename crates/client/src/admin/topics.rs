//! Topics.

use bytes::Bytes;
use oxmq_protocol::body::{
    ClusterInfo, GroupList, TopicConfig, TopicConfigAndQueueMapping, TopicConfigList, TopicConfigSerializeWrapper,
    TopicList, TopicQueueMappingDetail, TopicStatsTable,
};
use oxmq_protocol::requests::{
    CreateTopicHeader, DeleteTopicInNamesrvHeader, PagedConfigHeader, TopicConfigHeader, TopicHeader, request,
};
use oxmq_protocol::{json, topic};

use super::*;

impl Admin {
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

    /// Creates or changes a topic on one broker. Attributes that it has already and that are not named stay.
    pub async fn create_topic_on(&self, addr: &str, config: &TopicConfig) -> Result<(), ClientError> {
        let attributes = config.attributes.iter().map(|(name, value)| format!("+{name}={value}"));
        let attributes = attributes.collect::<Vec<_>>().join(",");
        self.change_topic_on(addr, config, &attributes).await
    }

    /// The same with changes of attributes instead of those in `config`: `+message.type=FIFO,-cleanup.policy` adds or
    /// changes one and takes another away.
    pub async fn change_topic_on(&self, addr: &str, config: &TopicConfig, attributes: &str) -> Result<(), ClientError> {
        let header = create_topic_header(config, attributes);
        self.tell::<request::UpdateAndCreateTopic>(addr, &header).await
    }

    /// Creates or changes several topics on one broker.
    pub async fn create_topics_on(&self, addr: &str, configs: Vec<TopicConfig>) -> Result<(), ClientError> {
        let body = TopicConfigList {
            topic_config_list: configs,
        };
        self.hand::<request::UpdateAndCreateTopicList>(addr, &body).await
    }

    /// Creates or changes a broker's part of a static topic. Without `force` a broker refuses parts that do not go on
    /// where its own ends.
    pub async fn create_static_topic_on(
        &self,
        addr: &str,
        config: &TopicConfig,
        mapping: &TopicQueueMappingDetail,
        force: bool,
    ) -> Result<(), ClientError> {
        let header = CreateTopicHeader {
            force,
            ..create_topic_header(config, "")
        };
        let body = Bytes::from(json::to_vec(mapping));
        self.call::<request::UpdateAndCreateStaticTopic>(addr, &header, body)
            .await
            .map(drop)
    }

    /// Deletes a topic from every master of a cluster, then from the name servers.
    pub async fn delete_topic(&self, cluster: &str, topic: &str) -> Result<(), ClientError> {
        for addr in self.masters(cluster).await? {
            self.delete_topic_on(&addr, topic).await?;
        }
        self.forget_topic(cluster, topic).await
    }

    /// Deletes a topic from one broker.
    pub async fn delete_topic_on(&self, addr: &str, topic: &str) -> Result<(), ClientError> {
        self.tell::<request::DeleteTopicInBroker>(addr, &topic_header(topic))
            .await
    }

    /// Takes a topic of a cluster out of the routes of every name server.
    pub async fn forget_topic(&self, cluster: &str, topic: &str) -> Result<(), ClientError> {
        let header = DeleteTopicInNamesrvHeader {
            topic: topic.to_owned(),
            cluster_name: Some(cluster.to_owned()),
        };
        for addr in self.instance.name_server_addrs() {
            self.tell::<request::DeleteTopicInNamesrv>(addr, &header).await?;
        }
        Ok(())
    }

    /// A topic as one broker has it, with its part of a static topic. Refused with 17 where it is not.
    pub async fn topic_config_on(&self, addr: &str, topic: &str) -> Result<TopicConfigAndQueueMapping, ClientError> {
        let header = TopicConfigHeader {
            topic: topic.to_owned(),
            lo: Some(true),
            broker_name: None,
        };
        self.ask::<request::GetTopicConfig, _>(addr, &header).await
    }

    /// Every topic that one broker has.
    pub async fn all_topic_configs_on(&self, addr: &str) -> Result<TopicConfigSerializeWrapper, ClientError> {
        let header = PagedConfigHeader::default();
        self.ask::<request::GetAllTopicConfig, _>(addr, &header).await
    }

    /// Topics that the broker has for itself.
    pub async fn system_topics_on(&self, addr: &str) -> Result<BTreeSet<String>, ClientError> {
        let list: TopicList = self.ask::<request::GetSystemTopicListFromBroker, _>(addr, &()).await?;
        Ok(list.topic_list)
    }

    /// Smallest and largest offset of each queue of a topic.
    pub async fn topic_stats(&self, topic: &str) -> Result<TopicStatsTable, ClientError> {
        let mut stats = TopicStatsTable::default();
        for addr in self.masters_of_topic(topic).await? {
            let of_broker = self.topic_stats_on(&addr, topic).await?;
            stats.topic_put_tps += of_broker.topic_put_tps;
            stats.offset_table.0.extend(of_broker.offset_table);
        }
        Ok(stats)
    }

    /// The same of the queues that one broker has.
    pub async fn topic_stats_on(&self, addr: &str, topic: &str) -> Result<TopicStatsTable, ClientError> {
        self.ask::<request::GetTopicStatsInfo, _>(addr, &topic_header(topic))
            .await
    }

    /// Groups that consume a topic or have offsets in it, as the first of its brokers says that answers.
    pub async fn groups_of_topic(&self, topic: &str) -> Result<BTreeSet<String>, ClientError> {
        let header = topic_header(topic);
        let list = self.any_broker_of_topic::<request::QueryTopicConsumeByWho, GroupList>(topic, &header);
        Ok(list.await?.group_list)
    }

    /// The clusters of the brokers that have a topic.
    pub async fn clusters_of_topic(&self, topic: &str) -> Result<BTreeSet<String>, ClientError> {
        let info: ClusterInfo = self.cluster_info().await?;
        let route = self.topic_route(topic).await?;
        let has_topic =
            |names: &BTreeSet<String>| route.broker_datas.iter().any(|data| names.contains(&data.broker_name));
        let clusters = info
            .cluster_addr_table
            .into_iter()
            .filter(|(_, names)| has_topic(names));
        Ok(clusters.map(|(name, _)| name).collect())
    }
}

fn topic_header(topic: &str) -> TopicHeader {
    TopicHeader {
        topic: topic.to_owned(),
        broker_name: None,
    }
}

fn create_topic_header(config: &TopicConfig, attributes: &str) -> CreateTopicHeader {
    CreateTopicHeader {
        topic: config.topic_name.clone(),
        default_topic: Some(topic::AUTO_CREATE_TOPIC.to_owned()),
        read_queue_nums: config.read_queue_nums,
        write_queue_nums: config.write_queue_nums,
        perm: config.perm,
        topic_filter_type: config.topic_filter_type.name().to_owned(),
        topic_sys_flag: Some(config.topic_sys_flag),
        order: config.order,
        attributes: Some(attributes.to_owned()),
        force: false,
    }
}
