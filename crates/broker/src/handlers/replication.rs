//! GET_BROKER_HA_STATUS (907), RESET_MASTER_FLUSH_OFFSET (908) and GET_BROKER_EPOCH_CACHE (1007), as a master without
//! slaves and controller answers them.

use oxmq_protocol::body::HaRuntimeInfo;
use oxmq_protocol::{RemotingCommand, response_code};

use super::{Handled, success, success_json};
use crate::broker::Broker;
use crate::response::Refusal;

pub(super) fn status(broker: &Broker, _: &RemotingCommand) -> Handled {
    Ok(success_json(&HaRuntimeInfo {
        master: true,
        master_commit_log_max_offset: broker.store.written(),
        ..HaRuntimeInfo::default()
    }))
}

/// Slaves keep the offset; a master has none.
pub(super) fn reset_flush_offset(_: &Broker, _: &RemotingCommand) -> Handled {
    Ok(success())
}

pub(super) fn epochs(_: &Broker, _: &RemotingCommand) -> Handled {
    Err(Refusal::new(
        response_code::SYSTEM_ERROR,
        "this request only for controllerMode ",
    ))
}
