//! Who is connected: GET_CONSUMER_LIST_BY_GROUP (38), GET_CONSUMER_CONNECTION_LIST (203),
//! GET_PRODUCER_CONNECTION_LIST (204) and GET_ALL_PRODUCER_INFO (328) (spec: protocol.md §5.4).

use oxmq_protocol::body::{
    Connection, ConsumerConnection, ConsumerIdList, ProducerConnection, ProducerInfo, ProducerTableInfo,
    SubscriptionData,
};
use oxmq_protocol::requests::{ConsumerGroupHeader, ProducerGroupHeader};
use oxmq_protocol::{RemotingCommand, response_code as code};

use super::{Handled, fields, success_json};
use crate::broker::Broker;
use crate::clients::{Client, ConsumerGroup};
use crate::response::Refusal;

pub(super) fn consumer_ids(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: ConsumerGroupHeader = fields(command)?;
    let consumer_id_list = broker.consumers.client_ids(&header.consumer_group);
    if consumer_id_list.is_empty() {
        let remark = format!("no consumer for this group, {}", header.consumer_group);
        return Err(Refusal::new(code::SYSTEM_ERROR, remark));
    }
    Ok(success_json(&ConsumerIdList { consumer_id_list }))
}

pub(super) fn of_consumers(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: ConsumerGroupHeader = fields(command)?;
    let group = header.consumer_group;
    match broker.consumers.with_group(&group, connections_of) {
        Some(connections) => Ok(success_json(&connections)),
        None => Err(Refusal::new(
            code::CONSUMER_NOT_ONLINE,
            format!("the consumer group[{group}] not online"),
        )),
    }
}

fn connections_of<H>(group: &ConsumerGroup<H>) -> ConsumerConnection {
    let subscriptions = group.subscriptions.iter();
    ConsumerConnection {
        connection_set: group.clients.values().map(connection).collect(),
        consume_from_where: group.consume_from_where,
        consume_type: group.consume_type,
        message_model: group.message_model,
        subscription_table: subscriptions
            .map(|(topic, data)| (topic.clone(), SubscriptionData::clone(data)))
            .collect(),
    }
}

pub(super) fn of_producers(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: ProducerGroupHeader = fields(command)?;
    let clients = broker.producers.clients(&header.producer_group);
    if clients.is_empty() {
        let remark = format!("the producer group[{}] not exist", header.producer_group);
        return Err(Refusal::new(code::SYSTEM_ERROR, remark));
    }
    Ok(success_json(&ProducerConnection {
        connection_set: clients.iter().map(connection).collect(),
    }))
}

pub(super) fn all_producers(broker: &Broker, _: &RemotingCommand) -> Handled {
    let groups = broker.producers.all().into_iter();
    let data = groups.map(|(group, clients)| (group, clients.iter().map(producer).collect()));
    Ok(success_json(&ProducerTableInfo { data: data.collect() }))
}

fn connection<H>(client: &Client<H>) -> Connection {
    Connection {
        client_addr: client.address.clone(),
        client_id: client.client_id.clone(),
        language: client.language.name().to_owned(),
        version: client.version,
    }
}

fn producer<H>(client: &Client<H>) -> ProducerInfo {
    ProducerInfo {
        client_id: client.client_id.clone(),
        language: client.language.name().to_owned(),
        last_update_timestamp: client.last_update,
        remote_ip: format!("/{}", client.address),
        version: client.version,
    }
}
