//! QUERY_ASSIGNMENT (400), SET_MESSAGE_REQUEST_MODE (401) and GET_ALL_MESSAGE_REQUEST_MODE (402): the broker deals queues
//! to the members of a group (spec: behaviour.md §10.3, protocol.md §3.3).

use std::sync::Arc;

use oxmq_protocol::allocate::{AllocateAveragely, AllocateAveragelyByCircle, AllocateStrategy, allocate};
use oxmq_protocol::body::{
    MessageModel, MessageQueue, MessageQueueAssignment, MessageRequestMode, QueryAssignmentRequestBody,
    QueryAssignmentResponseBody, SetMessageRequestModeRequestBody,
};
use oxmq_protocol::{RemotingCommand, response_code as code, topic};

use super::{Handled, body, heartbeat, success, success_json};
use crate::broker::Broker;
use crate::response::Refusal;

/// Needs the route of the topic, which a name server may have to be asked for.
pub(super) async fn query(broker: Arc<Broker>, command: RemotingCommand) -> Handled {
    let request: QueryAssignmentRequestBody = body(&command)?;
    let config = broker.config().clone();
    let (mode, share) = broker
        .request_modes
        .mode(&request.topic, &request.consumer_group, &config);
    let queues = broker.routes.readable_queues(&broker, &request.topic).await;
    let dealt = queues.and_then(|queues| {
        if request.message_model == MessageModel::Broadcasting || !config.server_load_balancer_enable {
            return Some(queues);
        }
        let members = broker.consumers.client_ids(&request.consumer_group);
        let strategy = strategy(&request.strategy_name)?;
        match mode {
            _ if members.is_empty() => None,
            MessageRequestMode::Pull => Some(allocate(strategy, queues, members, &request.client_id)),
            MessageRequestMode::Pop => Some(allocate_for_pop(strategy, queues, members, &request.client_id, share)),
        }
    });
    let assignment = |message_queue| MessageQueueAssignment {
        attachments: None,
        message_queue,
        mode,
    };
    Ok(success_json(&QueryAssignmentResponseBody {
        message_queue_assignments: dealt.map(|queues| queues.into_iter().map(assignment).collect()),
    }))
}

fn strategy(name: &str) -> Option<&'static dyn AllocateStrategy> {
    let known: [&'static dyn AllocateStrategy; 2] = [&AllocateAveragely, &AllocateAveragelyByCircle];
    known.into_iter().find(|strategy| strategy.name() == name)
}

/// Members that pop may share queues: with a share of n each gets its own and those of the next n members, without one all
/// of every broker.
fn allocate_for_pop(
    strategy: &dyn AllocateStrategy,
    mut queues: Vec<MessageQueue>,
    mut members: Vec<String>,
    client_id: &str,
    share: i32,
) -> Vec<MessageQueue> {
    members.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    let share = usize::try_from(share).unwrap_or(0);
    if share == 0 || share + 1 >= members.len() {
        for queue in &mut queues {
            queue.queue_id = -1;
        }
        queues.sort();
        queues.dedup();
        return queues;
    }
    let Some(index) = members.iter().position(|member| member == client_id) else {
        return Vec::new();
    };
    if members.len() > queues.len() {
        queues.sort();
        return queues.get(index % queues.len().max(1)).cloned().into_iter().collect();
    }
    let sharing = (0..=share).map(|next| &members[(index + next) % members.len()]);
    let mut dealt: Vec<_> = sharing
        .flat_map(|member| allocate(strategy, queues.clone(), members.clone(), member))
        .collect();
    dealt.sort();
    dealt.dedup();
    dealt
}

pub(super) fn set_mode(broker: &Broker, command: &RemotingCommand) -> Handled {
    let request: SetMessageRequestModeRequestBody = body(command)?;
    let refuse = |code, remark: String| Err(Refusal::new(code, remark));
    if topic::is_retry(&request.topic) {
        return refuse(code::NO_PERMISSION, "retry topic is not allowed to set mode".to_owned());
    }
    if !broker.topics.contains(&request.topic) {
        return refuse(code::TOPIC_NOT_EXIST, format!("topic[{}] not exist", request.topic));
    }
    if broker.group(&request.consumer_group).is_none() {
        return refuse(
            code::SUBSCRIPTION_GROUP_NOT_EXIST,
            "subscription group does not exist".to_owned(),
        );
    }
    let group = request.consumer_group.clone();
    broker.request_modes.set(request);
    heartbeat::notify_group(broker, &group);
    Ok(success())
}

pub(super) fn all_modes(broker: &Broker) -> Handled {
    Ok(success().with_body(broker.request_modes.to_body()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dealt(queue_count: i32, member_count: usize, index: usize, share: i32) -> Vec<i32> {
        let queues = (0..queue_count).map(|id| MessageQueue::new("t", "b", id)).collect();
        let members = (0..member_count).map(|member| format!("c{member:03}")).collect();
        let client_id = format!("c{index:03}");
        let dealt = allocate_for_pop(&AllocateAveragely, queues, members, &client_id, share);
        dealt.into_iter().map(|queue| queue.queue_id).collect()
    }

    #[test]
    fn members_share_queues() {
        for share in [-1, 0, 2, 3] {
            assert_eq!(dealt(8, 3, 1, share), [-1], "share {share}");
        }
        assert_eq!(dealt(4, 4, 0, 1), [0, 1]);
        assert_eq!(dealt(4, 4, 3, 1), [0, 3]);
        assert_eq!(dealt(4, 4, 3, 2), [0, 1, 3]);
        assert_eq!(dealt(2, 4, 3, 1), [1], "more members than queues");
        assert!(dealt(4, 4, 9, 1).is_empty(), "no member");
        assert!(dealt(0, 4, 1, 1).is_empty());
    }

    proptest! {
        #[test]
        fn every_queue_has_as_many_owners_as_share_it(queue_count in 1..40i32, member_count in 3..12usize, share in 1..5i32) {
            prop_assume!(queue_count as usize >= member_count && (share as usize) < member_count - 1);
            let mut owners = vec![0; queue_count as usize];
            for member in 0..member_count {
                for queue_id in dealt(queue_count, member_count, member, share) {
                    owners[queue_id as usize] += 1;
                }
            }
            prop_assert!(owners.iter().all(|count| *count == share + 1), "{owners:?}");
        }
    }
}
