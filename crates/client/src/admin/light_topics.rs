//! Light topics: the queues of a topic of message.type LITE that groups bound to it subscribe to one by one.

use oxmq_protocol::body::{BrokerLiteInfo, LiteClientInfo, LiteGroupInfo, LiteTopicInfo, ParentTopicInfo};
use oxmq_protocol::requests::{
    LiteClientHeader, LiteGroupHeader, LiteTopicHeader, TopicHeader, TriggerLiteDispatchHeader, request,
};

use super::Admin;
use crate::error::ClientError;

impl Admin {
    /// How many light queues and subscriptions a broker has.
    pub async fn broker_lite_info_on(&self, addr: &str) -> Result<BrokerLiteInfo, ClientError> {
        self.ask::<request::GetBrokerLiteInfo, _>(addr, &()).await
    }

    /// The light topics of a topic as one broker has them.
    pub async fn parent_topic_info_on(&self, addr: &str, topic: &str) -> Result<ParentTopicInfo, ClientError> {
        let header = TopicHeader {
            topic: topic.to_owned(),
            broker_name: None,
        };
        self.ask::<request::GetParentTopicInfo, _>(addr, &header).await
    }

    /// Offsets and subscribers of a light topic.
    pub async fn lite_topic_info_on(&self, addr: &str, header: &LiteTopicHeader) -> Result<LiteTopicInfo, ClientError> {
        self.ask::<request::GetLiteTopicInfo, _>(addr, header).await
    }

    /// What a client subscribes to.
    pub async fn lite_client_info_on(
        &self,
        addr: &str,
        header: &LiteClientHeader,
    ) -> Result<LiteClientInfo, ClientError> {
        self.ask::<request::GetLiteClientInfo, _>(addr, header).await
    }

    /// How far a group is in its light topics.
    pub async fn lite_group_info_on(&self, addr: &str, header: &LiteGroupHeader) -> Result<LiteGroupInfo, ClientError> {
        self.ask::<request::GetLiteGroupInfo, _>(addr, header).await
    }

    /// Lets a broker look again at everything that waits for a group's clients, or one of them.
    pub async fn trigger_lite_dispatch_on(
        &self,
        addr: &str,
        group: &str,
        client_id: Option<&str>,
    ) -> Result<(), ClientError> {
        let header = TriggerLiteDispatchHeader {
            group: group.to_owned(),
            client_id: client_id.map(str::to_owned),
        };
        self.tell::<request::TriggerLiteDispatch>(addr, &header).await
    }
}
