//! Producers and consumers that are connected.

use oxmq_protocol::body::{
    ConsumeMessageDirectlyResult, ConsumerConnection, ConsumerRunningInfo, GetConsumerStatusBody, ProducerConnection,
    ProducerTableInfo,
};
use oxmq_protocol::requests::{
    ConsumeMessageDirectlyHeader, ConsumerGroupHeader, ConsumerStatusHeader, GetConsumerRunningInfoHeader,
    ProducerGroupHeader, request,
};
use oxmq_protocol::topic;

use super::*;

impl Admin {
    /// The consumers of a group, as a broker of its retry topic sees them. Refused with 206 when there are none.
    pub async fn consumer_connections(&self, group: &str) -> Result<ConsumerConnection, ClientError> {
        let header = consumer_group(group);
        self.any_broker_of_topic::<request::GetConsumerConnectionList, _>(&topic::retry_topic(group), &header)
            .await
    }

    /// The same as one broker sees them.
    pub async fn consumer_connections_on(&self, addr: &str, group: &str) -> Result<ConsumerConnection, ClientError> {
        self.ask::<request::GetConsumerConnectionList, _>(addr, &consumer_group(group))
            .await
    }

    /// The producers of a group, as a broker of the topic sees them. Refused with 1 when there are none.
    pub async fn producer_connections(&self, topic: &str, group: &str) -> Result<ProducerConnection, ClientError> {
        let header = ProducerGroupHeader {
            producer_group: group.to_owned(),
        };
        self.any_broker_of_topic::<request::GetProducerConnectionList, _>(topic, &header)
            .await
    }

    /// Every producer that is connected to a broker.
    pub async fn all_producers_on(&self, addr: &str) -> Result<ProducerTableInfo, ClientError> {
        self.ask::<request::GetAllProducerInfo, _>(addr, &()).await
    }

    /// What a consumer says of itself, asked through a broker. `stacks` asks for those of its threads.
    pub async fn consumer_running_info(
        &self,
        group: &str,
        client_id: &str,
        stacks: bool,
    ) -> Result<ConsumerRunningInfo, ClientError> {
        let header = GetConsumerRunningInfoHeader {
            consumer_group: group.to_owned(),
            client_id: client_id.to_owned(),
            jstack_enable: stacks,
        };
        self.any_broker_of_topic::<request::GetConsumerRunningInfo, _>(&topic::retry_topic(group), &header)
            .await
    }

    /// Lets a consumer consume this message now, and tells what became of it. The broker at `addr` has the message.
    pub async fn consume_message_directly(
        &self,
        addr: &str,
        header: &ConsumeMessageDirectlyHeader,
    ) -> Result<ConsumeMessageDirectlyResult, ClientError> {
        self.ask::<request::ConsumeMessageDirectly, _>(addr, header).await
    }

    /// Where each consumer of a group is in a topic by its own account, asked through the topic's first broker.
    pub async fn consumer_status(
        &self,
        topic: &str,
        group: &str,
        client_id: Option<&str>,
    ) -> Result<GetConsumerStatusBody, ClientError> {
        let header = ConsumerStatusHeader {
            topic: topic.to_owned(),
            group: group.to_owned(),
            client_addr: client_id.map(str::to_owned),
        };
        self.any_broker_of_topic::<request::InvokeBrokerToGetConsumerStatus, _>(topic, &header)
            .await
    }
}

fn consumer_group(group: &str) -> ConsumerGroupHeader {
    ConsumerGroupHeader {
        consumer_group: group.to_owned(),
        broker_name: None,
    }
}
