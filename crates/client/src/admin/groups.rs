//! Consumer groups.

use oxmq_protocol::body::MessageRequestMode;
use oxmq_protocol::body::{
    SetMessageRequestModeRequestBody, SubscriptionGroupConfig, SubscriptionGroupList, SubscriptionGroupWrapper,
};
use oxmq_protocol::requests::{DeleteSubscriptionGroupHeader, GroupHeader, PagedGroupHeader, request};

use super::*;

impl Admin {
    /// Creates or changes a consumer group on every master of a cluster.
    pub async fn create_group(&self, cluster: &str, config: &SubscriptionGroupConfig) -> Result<(), ClientError> {
        for addr in self.masters(cluster).await? {
            self.create_group_on(&addr, config).await?;
        }
        Ok(())
    }

    /// Creates or changes a consumer group on one broker. Attributes are changes: `+name` sets one, `-name` takes it away.
    pub async fn create_group_on(&self, addr: &str, config: &SubscriptionGroupConfig) -> Result<(), ClientError> {
        self.hand::<request::UpdateAndCreateSubscriptionGroup>(addr, config)
            .await
    }

    /// Creates or changes several consumer groups on one broker.
    pub async fn create_groups_on(&self, addr: &str, configs: Vec<SubscriptionGroupConfig>) -> Result<(), ClientError> {
        let body = SubscriptionGroupList {
            group_config_list: configs,
        };
        self.hand::<request::UpdateAndCreateSubscriptionGroupList>(addr, &body)
            .await
    }

    /// Deletes a consumer group from one broker, and its offsets if `clean_offset`.
    pub async fn delete_group_on(&self, addr: &str, group: &str, clean_offset: bool) -> Result<(), ClientError> {
        let header = DeleteSubscriptionGroupHeader {
            group_name: group.to_owned(),
            clean_offset,
            remove_offset: None,
        };
        self.tell::<request::DeleteSubscriptionGroup>(addr, &header).await
    }

    /// A consumer group as one broker has it. Refused with 26 where it is not.
    pub async fn group_config_on(&self, addr: &str, group: &str) -> Result<SubscriptionGroupConfig, ClientError> {
        let header = GroupHeader {
            group: group.to_owned(),
        };
        self.ask::<request::GetSubscriptionGroupConfig, _>(addr, &header).await
    }

    /// Every consumer group that one broker has.
    pub async fn all_group_configs_on(&self, addr: &str) -> Result<SubscriptionGroupWrapper, ClientError> {
        let header = PagedGroupHeader::default();
        self.ask::<request::GetAllSubscriptionGroupConfig, _>(addr, &header)
            .await
    }

    /// Whether members of a group pull the messages of a topic or pop them, if they let the broker decide
    /// ([`client_rebalance(false)`](crate::PushConsumerBuilder::client_rebalance)). With `pop_share_queue_num` > 0 a member
    /// pops from its own queues and from those of so many others, else from all.
    pub async fn set_message_request_mode(
        &self,
        topic: &str,
        group: &str,
        mode: MessageRequestMode,
        pop_share_queue_num: i32,
    ) -> Result<(), ClientError> {
        for addr in self.masters_of_topic(topic).await? {
            self.set_message_request_mode_on(&addr, topic, group, mode, pop_share_queue_num)
                .await?;
        }
        Ok(())
    }

    /// The same on one broker.
    pub async fn set_message_request_mode_on(
        &self,
        addr: &str,
        topic: &str,
        group: &str,
        mode: MessageRequestMode,
        pop_share_queue_num: i32,
    ) -> Result<(), ClientError> {
        let body = SetMessageRequestModeRequestBody {
            consumer_group: group.to_owned(),
            mode,
            pop_share_queue_num,
            topic: topic.to_owned(),
        };
        self.hand::<request::SetMessageRequestMode>(addr, &body).await
    }
}
