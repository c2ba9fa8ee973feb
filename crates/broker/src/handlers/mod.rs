//! Every request besides sends and pulls, a file per request or tight family.
//!
//! A handler is a function from a command to a reply or a [`Refusal`]. What may touch the disk runs on another thread,
//! so that no event loop waits for it; what asks a client first answers later.

mod assignment;
mod broker_config;
mod cleanup;
mod cold_data;
mod connections;
mod consume_queue;
mod consume_stats;
mod consumer_offset;
mod forward;
mod group_admin;
pub(crate) mod heartbeat;
mod lite;
mod peek;
mod plain_acl;
mod query_message;
mod queue_lock;
mod queue_offset;
mod recall;
mod replication;
mod reset_offset;
mod resume_check;
mod rocksdb;
mod runtime_info;
mod send_back;
pub(crate) mod static_topic;
mod subscriptions;
mod timer;
mod topic_admin;
mod topic_stats;
mod users;
mod view_stats;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use oxmq_protocol::json;
use oxmq_protocol::{FieldSet, RemotingCommand, RequestCode, response_code};
use oxmq_remoting::{Connection, audit};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::broker::Broker;
use crate::response::Refusal;

/// What a handler may use.
pub struct RequestContext<'a> {
    pub broker: &'a Arc<Broker>,
    pub connection: &'a Rc<Connection>,
}

/// What becomes of a request.
pub enum Outcome {
    Reply(RemotingCommand),
    Later(Pin<Box<dyn Future<Output = RemotingCommand>>>),
    /// May wait for the disk: to be run on a thread where that does no harm.
    Offload(Box<dyn FnOnce(&Broker) -> RemotingCommand + Send>),
    /// The same, and answered when what it changed is saved and name servers know of it.
    Change(Box<dyn FnOnce(&Broker) -> RemotingCommand + Send>),
    /// Answered with code 3.
    Unsupported,
}

/// A reply, or why there is none.
pub(crate) type Handled = Result<RemotingCommand, Refusal>;

/// A handler that needs nothing of the connection.
type Handler = fn(&Broker, &RemotingCommand) -> Handled;

/// Handles a request whose code stands in the request table.
pub fn handle(context: &RequestContext<'_>, code: RequestCode, command: RemotingCommand) -> Outcome {
    use RequestCode as Code;
    let broker = &**context.broker;
    let command = match static_topic::intercept(context, code, command) {
        Ok(outcome) => return outcome,
        Err(command) => command,
    };
    match code {
        Code::HeartBeat => reply(&command, heartbeat::heart_beat(context, &command)),
        Code::UnregisterClient => reply(&command, heartbeat::unregister(context, &command)),
        Code::CheckClientConfig => reply(&command, heartbeat::check_client_config(broker, &command)),
        Code::LockBatchMq => reply(&command, queue_lock::lock(broker, &command)),
        Code::UnlockBatchMq => reply(&command, queue_lock::unlock(broker, &command)),

        Code::QueryConsumerOffset => consumer_offset::query(broker, command),
        Code::UpdateConsumerOffset => reply(&command, consumer_offset::update(broker, &command)),
        Code::GetAllConsumerOffset => offload(command, consumer_offset::all),
        Code::GetTimerCheckPoint => offload(command, timer::checkpoint),
        Code::GetTimerMetrics => offload(command, timer::metrics),
        Code::GetAllDelayOffset => reply(&command, consumer_offset::all_delays(broker, &command)),
        // With these it deletes what they have consumed.
        Code::QueryCorrectionOffset if command.header.ext_fields.get("filterGroups").is_some() => {
            audited(context, code, command, consumer_offset::correct)
        }
        Code::QueryCorrectionOffset => reply(&command, consumer_offset::correct(broker, &command)),
        Code::CloneGroupOffset => audited(context, code, command, consumer_offset::clone_group),
        Code::InvokeBrokerToResetOffset => audited(context, code, command, reset_offset::reset),

        Code::GetMaxOffset => reply(&command, queue_offset::max(broker, &command)),
        Code::GetMinOffset => reply(&command, queue_offset::min(broker, &command)),
        Code::SearchOffsetByTimestamp => offload(command, queue_offset::by_time),
        Code::GetEarliestMsgStoreTime => offload(command, queue_offset::earliest_time),
        Code::QueryConsumeQueue => offload(command, consume_queue::query),

        Code::QueryMessage => offload(command, query_message::query),
        Code::ViewMessageById => offload(command, query_message::view),
        Code::ConsumerSendMsgBack => offload(command, send_back::send_back),
        Code::RecallMessage => later(context, command, recall::recall),
        Code::ResumeCheckHalfMessage => audited(context, code, command, resume_check::resume),

        Code::UpdateAndCreateTopic => audited(context, code, command, topic_admin::update),
        Code::UpdateAndCreateTopicList => audited(context, code, command, topic_admin::update_list),
        Code::UpdateAndCreateStaticTopic => audited(context, code, command, static_topic::update),
        Code::DeleteTopicInBroker => audited(context, code, command, topic_admin::delete),
        Code::GetAllTopicConfig => offload(command, topic_admin::all),
        Code::GetTopicConfig => reply(&command, topic_admin::get(broker, &command)),
        Code::GetSystemTopicListFromBroker => reply(&command, topic_admin::system_topics(broker)),

        Code::UpdateAndCreateSubscriptionGroup => audited(context, code, command, group_admin::update),
        Code::UpdateAndCreateSubscriptionGroupList => audited(context, code, command, group_admin::update_list),
        Code::DeleteSubscriptionGroup => audited(context, code, command, group_admin::delete),
        Code::UpdateAndGetGroupForbidden => audited(context, code, command, group_admin::forbid),
        Code::GetAllSubscriptionGroupConfig => offload(command, group_admin::all),
        Code::GetSubscriptionGroupConfig => reply(&command, group_admin::get(broker, &command)),

        Code::UpdateBrokerConfig => audited(context, code, command, broker_config::update),
        Code::GetBrokerConfig => reply(&command, broker_config::get(broker, &command)),
        Code::GetBrokerRuntimeInfo => offload(command, runtime_info::get),
        Code::GetBrokerHaStatus => reply(&command, replication::status(broker, &command)),
        Code::ResetMasterFlushOffset => reply(&command, replication::reset_flush_offset(broker, &command)),
        Code::GetBrokerEpochCache => reply(&command, replication::epochs(broker, &command)),
        Code::ViewBrokerStatsData => reply(&command, view_stats::view(broker, &command)),
        Code::GetTopicStatsInfo => offload(command, topic_stats::get),
        Code::GetConsumeStats => offload(command, consume_stats::of_group),
        Code::GetBrokerConsumeStats => offload(command, consume_stats::of_broker),
        Code::QueryConsumeTimeSpan => offload(command, consume_stats::time_span),
        Code::CleanExpiredConsumeQueue => audited(context, code, command, cleanup::expired_consume_queues),
        Code::DeleteExpiredCommitLog => audited(context, code, command, cleanup::expired_commit_log),
        Code::CleanUnusedTopic => audited(context, code, command, cleanup::unused_topics),

        Code::UpdateColdDataFlowCtrConfig => audited(context, code, command, cold_data::set_thresholds),
        Code::RemoveColdDataFlowCtrConfig => audited(context, code, command, cold_data::remove_threshold),
        Code::GetColdDataFlowCtrInfo => reply(&command, cold_data::show(broker, &command)),
        Code::SetCommitLogReadMode => audited(context, code, command, cold_data::set_read_ahead),
        Code::CheckRocksdbCqWriteProgress => reply(&command, rocksdb::check_queues(broker, &command)),
        Code::ExportRocksdbConfigToJson => reply(&command, rocksdb::export_tables(broker, &command)),
        Code::SwitchTimerEngine => audited(context, code, command, rocksdb::switch_timer_engine),

        Code::GetConsumerListByGroup => reply(&command, connections::consumer_ids(broker, &command)),
        Code::GetConsumerConnectionList => reply(&command, connections::of_consumers(broker, &command)),
        Code::GetProducerConnectionList => reply(&command, connections::of_producers(broker, &command)),
        Code::GetAllProducerInfo => reply(&command, connections::all_producers(broker, &command)),
        Code::QueryTopicConsumeByWho => reply(&command, subscriptions::groups_of_topic(broker, &command)),
        Code::QueryTopicsByConsumer => reply(&command, subscriptions::topics_of_group(broker, &command)),
        Code::QuerySubscriptionByConsumer => reply(&command, subscriptions::of_group(broker, &command)),

        Code::QueryAssignment => later(context, command, assignment::query),
        Code::SetMessageRequestMode => audited(context, code, command, assignment::set_mode),
        Code::GetAllMessageRequestMode => reply(&command, assignment::all_modes(broker)),
        Code::PeekMessage => offload(command, peek::peek),
        // What POP knows never lies in a RocksDB here, so that there is nothing to bring back from it.
        Code::PopRollback => reply(&command, Ok(success())),
        Code::GetBrokerLiteInfo => offload(command, lite::of_broker),
        Code::GetParentTopicInfo => offload(command, lite::of_parent),
        Code::GetLiteTopicInfo => reply(&command, lite::of_topic(broker, &command)),
        Code::GetLiteClientInfo => reply(&command, lite::of_client(broker, &command)),
        Code::GetLiteGroupInfo => reply(&command, lite::of_group(broker, &command)),
        Code::TriggerLiteDispatch => reply(&command, lite::dispatch(broker, &command)),
        Code::PollingInfo => reply(&command, peek::polling_info(broker, &command)),

        Code::AuthCreateUser => audited(context, code, command, users::create),
        Code::AuthUpdateUser => audited(context, code, command, users::update),
        Code::AuthDeleteUser => audited(context, code, command, users::delete),
        Code::AuthGetUser => reply(&command, users::get(broker, &command)),
        Code::AuthListUser => offload(command, users::list),
        Code::AuthCreateAcl | Code::AuthUpdateAcl => audited(context, code, command, users::put_acl),
        Code::AuthDeleteAcl => audited(context, code, command, users::delete_acl),
        Code::AuthGetAcl => reply(&command, users::get_acl(broker, &command)),
        Code::AuthListAcl => offload(command, users::list_acls),
        Code::UpdateAndCreateAclConfig
        | Code::DeleteAclConfig
        | Code::UpdateGlobalWhiteAddrsConfig
        | Code::GetBrokerClusterAclInfo
        | Code::GetBrokerClusterAclConfig
            if broker.access.plain.is_none() =>
        {
            Outcome::Unsupported
        }
        Code::UpdateAndCreateAclConfig => audited(context, code, command, plain_acl::update),
        Code::DeleteAclConfig => audited(context, code, command, plain_acl::delete),
        Code::UpdateGlobalWhiteAddrsConfig => audited(context, code, command, plain_acl::set_white_addresses),
        Code::GetBrokerClusterAclInfo => reply(&command, plain_acl::versions(broker, &command)),
        Code::GetBrokerClusterAclConfig => reply(&command, plain_acl::all(broker, &command)),

        Code::GetConsumerRunningInfo => later(context, command, forward::running_info),
        Code::ConsumeMessageDirectly => later(context, command, forward::consume_directly),
        Code::InvokeBrokerToGetConsumerStatus => later(context, command, forward::consumer_status),
        _ => Outcome::Unsupported,
    }
}

fn reply(command: &RemotingCommand, handled: Handled) -> Outcome {
    Outcome::Reply(settle(command.header.opaque, handled))
}

fn offload(command: RemotingCommand, handler: Handler) -> Outcome {
    Outcome::Offload(Box::new(move |broker| {
        let handled = handler(broker, &command);
        settle(command.header.opaque, handled)
    }))
}

/// An administrative change, with a line in the log that says who asked for what.
fn audited(context: &RequestContext<'_>, code: RequestCode, command: RemotingCommand, handler: Handler) -> Outcome {
    let peer = context.connection.peer_addr();
    Outcome::Change(Box::new(move |broker| {
        let handled = handler(broker, &command);
        let refused = handled.as_ref().err().map(|refusal| refusal.remark.as_str());
        audit(code, &command, peer, refused);
        settle(command.header.opaque, handled)
    }))
}

fn later<F>(
    context: &RequestContext<'_>,
    command: RemotingCommand,
    handler: impl FnOnce(Arc<Broker>, RemotingCommand) -> F,
) -> Outcome
where
    F: Future<Output = Handled> + 'static,
{
    let opaque = command.header.opaque;
    let handled = handler(Arc::clone(context.broker), command);
    Outcome::Later(Box::pin(async move { settle(opaque, handled.await) }))
}

/// The response, whichever way it went, under the request's opaque.
fn settle(opaque: i32, handled: Handled) -> RemotingCommand {
    match handled {
        Ok(mut response) => {
            response.header.opaque = opaque;
            response
        }
        Err(refusal) => refusal.into_command(opaque),
    }
}

/// The typed fields of a request.
fn fields<F: FieldSet>(command: &RemotingCommand) -> Result<F, Refusal> {
    F::read(&command.header.ext_fields).map_err(|error| Refusal::from(&error))
}

/// The JSON body of a request.
fn body<T: DeserializeOwned>(command: &RemotingCommand) -> Result<T, Refusal> {
    json::from_slice(&command.body).map_err(|error| Refusal::new(response_code::SYSTEM_ERROR, error.to_string()))
}

fn success() -> RemotingCommand {
    RemotingCommand::response(0, response_code::SUCCESS, None)
}

/// Success with the remark that the original forgets to clear in some handlers.
fn success_unset() -> RemotingCommand {
    let remark = "not set any response code".to_owned();
    RemotingCommand::response(0, response_code::SUCCESS, Some(remark))
}

fn success_with(fields: &impl FieldSet) -> RemotingCommand {
    success().with_fields(fields)
}

fn success_json(body: &impl Serialize) -> RemotingCommand {
    success().with_body(json::to_vec(body))
}

fn saved(result: std::io::Result<()>) -> Result<(), Refusal> {
    result.map_err(|error| unsaved(&error))
}

/// A change that could not be saved is in memory but would be lost by a restart, which the caller has to know.
pub(crate) fn unsaved(error: &std::io::Error) -> Refusal {
    tracing::error!(%error, "a change cannot be saved");
    let remark = format!("the change cannot be saved: {error}");
    Refusal::new(response_code::SYSTEM_ERROR, remark)
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}
