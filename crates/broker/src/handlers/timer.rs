//! GET_TIMER_CHECK_POINT (60) and GET_TIMER_METRICS (61): what a slave copies (spec: protocol.md §3.6).

use oxmq_protocol::RemotingCommand;

use super::{Handled, success_unset};
use crate::broker::Broker;

pub(super) fn checkpoint(broker: &Broker, _: &RemotingCommand) -> Handled {
    Ok(success_unset().with_body(broker.timers.checkpoint().to_vec()))
}

pub(super) fn metrics(broker: &Broker, _: &RemotingCommand) -> Handled {
    Ok(success_unset().with_body(broker.timers.metrics.to_json()))
}
