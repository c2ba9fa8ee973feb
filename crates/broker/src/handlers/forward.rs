//! Requests that a consumer answers: GET_CONSUMER_RUNNING_INFO (307), CONSUME_MESSAGE_DIRECTLY (309) and
//! INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223) (spec: protocol.md §3.4, §3.5).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::body::GetConsumerStatusBody;
use oxmq_protocol::message_id::OffsetMessageId;
use oxmq_protocol::requests::{
    ConsumeMessageDirectlyHeader, ConsumerStatusHeader, GetConsumerRunningInfoHeader, request,
};
use oxmq_protocol::version::{V3_0_7_SNAPSHOT, V3_1_8_SNAPSHOT};
use oxmq_protocol::{RemotingCommand, json, response_code as code};
use oxmq_remoting::CallError;

use super::{Handled, fields, is_blank, success_unset};
use crate::broker::Broker;
use crate::response::Refusal;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn running_info(broker: Arc<Broker>, command: RemotingCommand) -> Handled {
    let header: GetConsumerRunningInfoHeader = fields(&command)?;
    call(&broker, &header.consumer_group, &header.client_id, command).await
}

pub(super) async fn consume_directly(broker: Arc<Broker>, mut command: RemotingCommand) -> Handled {
    let header: ConsumeMessageDirectlyHeader = fields(&command)?;
    let ext_fields = &mut command.header.ext_fields;
    ext_fields.set("brokerName", broker.config().broker_name.as_str());
    if let Some(config) = header.topic.as_deref().and_then(|topic| broker.topics.get(topic)) {
        ext_fields.set("topicSysFlag", config.topic_sys_flag.to_string());
    }
    if let Some(config) = broker.group(&header.consumer_group) {
        ext_fields.set("groupSysFlag", config.group_sys_flag.to_string());
    }
    let id = header.msg_id.as_deref().unwrap_or_default().parse::<OffsetMessageId>();
    let id = id.map_err(|error| Refusal::new(code::SYSTEM_ERROR, error.to_string()))?;
    command.body = read_record(&broker, id.physical_offset).await?;
    let client_id = header.client_id.unwrap_or_default();
    call(&broker, &header.consumer_group, &client_id, command).await
}

/// Reads on a thread that may wait. A message that is not there goes out as an empty body, as in the original.
async fn read_record(broker: &Arc<Broker>, physical_offset: i64) -> Result<Bytes, Refusal> {
    let broker = Arc::clone(broker);
    let read = tokio::task::spawn_blocking(move || broker.store.read_record(physical_offset)).await;
    let failed = |error: &dyn std::error::Error| Refusal::new(code::SYSTEM_ERROR, error.to_string());
    let record = read.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    Ok(record.unwrap_or_default())
}

/// Passes the request on to one member of the group and its answer back.
async fn call(broker: &Broker, group: &str, client_id: &str, mut request: RemotingCommand) -> Handled {
    let Some(client) = broker.consumers.find(group, client_id) else {
        let remark = format!("The Consumer <{group}> <{client_id}> not online");
        return Err(Refusal::new(code::SYSTEM_ERROR, remark));
    };
    if client.version < V3_1_8_SNAPSHOT {
        let remark = format!(
            "The Consumer <{client_id}> Version <{}> too low to finish, please upgrade it to V3_1_8_SNAPSHOT",
            client.version
        );
        return Err(Refusal::new(code::SYSTEM_ERROR, remark));
    }
    request.header.flag = 0;
    client
        .handle
        .call(request, CALL_TIMEOUT)
        .await
        .map_err(|error| match error {
            CallError::Timeout { .. } => Refusal::new(
                code::CONSUME_MSG_TIMEOUT,
                format!("consumer <{group}> <{client_id}> Timeout: {error}"),
            ),
            _ => Refusal::new(
                code::SYSTEM_ERROR,
                format!("invoke consumer <{group}> <{client_id}> Exception: {error}"),
            ),
        })
}

pub(super) async fn consumer_status(broker: Arc<Broker>, command: RemotingCommand) -> Handled {
    let header: ConsumerStatusHeader = fields(&command)?;
    let group = header.group.as_str();
    let members = broker
        .consumers
        .with_group(group, |group| group.clients.clone())
        .unwrap_or_default();
    if members.is_empty() {
        let remark = format!("No Any Consumer online in the consumer group: [{group}]");
        return Err(Refusal::new(code::SYSTEM_ERROR, remark));
    }
    let wanted = header.client_addr.as_deref().filter(|client_id| !is_blank(client_id));
    let request = ConsumerStatusHeader {
        client_addr: None,
        ..header.clone()
    };
    let mut status = GetConsumerStatusBody::default();
    for member in members.into_values() {
        if member.version < V3_0_7_SNAPSHOT {
            let remark = format!("the client does not support this feature. version={}", member.version);
            return Err(Refusal::new(code::SYSTEM_ERROR, remark));
        }
        if wanted.is_some_and(|wanted| wanted != member.client_id) {
            continue;
        }
        let request = RemotingCommand::request::<request::GetConsumerStatusFromClient>(&request, Bytes::new());
        let answer = member.handle.call(request, STATUS_TIMEOUT).await;
        let offsets = answer.ok().filter(|answer| answer.header.code == code::SUCCESS);
        let offsets = offsets.and_then(|answer| json::from_slice::<GetConsumerStatusBody>(&answer.body).ok());
        match offsets {
            Some(offsets) => {
                status
                    .consumer_table
                    .insert(member.client_id, offsets.message_queue_table);
            }
            None => tracing::warn!(group, client = member.client_id, "client does not tell its offsets"),
        }
    }
    Ok(success_unset().with_body(json::to_vec(&status)))
}
