//! Who consumes what: QUERY_TOPIC_CONSUME_BY_WHO (300), QUERY_TOPICS_BY_CONSUMER (343) and
//! QUERY_SUBSCRIPTION_BY_CONSUMER (345) (spec: protocol.md §3.5).

use oxmq_protocol::RemotingCommand;
use oxmq_protocol::body::{GroupList, QuerySubscriptionBody, SubscriptionData, TopicList};
use oxmq_protocol::requests::{GroupHeader, TopicGroupHeader, TopicHeader};

use super::{Handled, fields, success_json};
use crate::broker::Broker;

/// Groups that are connected, and groups that left an offset.
pub(super) fn groups_of_topic(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: TopicHeader = fields(command)?;
    let live = broker.consumers.groups_of(&header.topic);
    let with_offsets = broker.consumer_offsets.groups_of(&header.topic);
    Ok(success_json(&GroupList {
        group_list: live.into_iter().chain(with_offsets).collect(),
    }))
}

pub(super) fn topics_of_group(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: GroupHeader = fields(command)?;
    Ok(success_json(&TopicList {
        broker_addr: Some(broker.config().broker_addr()),
        topic_list: broker.consumer_offsets.topics_of(&header.group).into_iter().collect(),
    }))
}

pub(super) fn of_group(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: TopicGroupHeader = fields(command)?;
    let topic = header.topic.as_deref().unwrap_or_default();
    let subscription = broker.subscription(&header.group, topic);
    Ok(success_json(&QuerySubscriptionBody {
        group: header.group,
        subscription_data: subscription.map(|subscription| SubscriptionData::clone(&subscription)),
        topic: header.topic,
    }))
}
