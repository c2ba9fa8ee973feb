//! UPDATE_COLD_DATA_FLOW_CTR_CONFIG (2001), REMOVE_COLD_DATA_FLOW_CTR_CONFIG (2002), GET_COLD_DATA_FLOW_CTR_INFO (2003) and
//! SET_COMMITLOG_READ_MODE (2004) (spec: protocol.md §3.7).

use oxmq_protocol::requests::ReadAheadModeHeader;
use oxmq_protocol::topic::RETRY_TOPIC_LENGTH_MAX;
use oxmq_protocol::{RemotingCommand, properties_file, response_code as code};

use super::{Handled, fields, success, success_json};
use crate::broker::Broker;
use crate::cold_reads::THRESHOLDS_MAX;
use crate::response::Refusal;

/// Thresholds of groups, `group=bytes`. One that is no number changes nothing, as in the original.
pub(super) fn set_thresholds(broker: &Broker, command: &RemotingCommand) -> Handled {
    for entry in properties_file::parse(&command.body) {
        let threshold = entry.value.parse().ok();
        let Some(threshold) = threshold.filter(|_| entry.key.len() <= RETRY_TOPIC_LENGTH_MAX) else {
            tracing::warn!(group = entry.key, value = entry.value, "not a threshold of cold reads");
            continue;
        };
        if !broker.cold_flow.set_threshold(&entry.key, threshold) {
            let remark = format!("there are thresholds for {THRESHOLDS_MAX} groups already");
            return Err(Refusal::new(code::SYSTEM_ERROR, remark));
        }
    }
    Ok(success())
}

/// The body is the name of the group.
pub(super) fn remove_threshold(broker: &Broker, command: &RemotingCommand) -> Handled {
    broker
        .cold_flow
        .remove_threshold(&String::from_utf8_lossy(&command.body));
    Ok(success())
}

pub(super) fn show(broker: &Broker, _: &RemotingCommand) -> Handled {
    Ok(success_json(&broker.cold_flow.shown()))
}

/// 0 reads ahead, 1 does not; the setting `dataReadAheadEnable` from now on.
pub(super) fn set_read_ahead(broker: &Broker, command: &RemotingCommand) -> Handled {
    let refused = |remark| Refusal::new(code::SYSTEM_ERROR, remark);
    if command.header.ext_fields.is_empty() {
        return Err(refused("set commitlog readahead mode param error"));
    }
    let mode = fields::<ReadAheadModeHeader>(command).ok();
    let mode: Option<i32> = mode.and_then(|header| header.read_ahead_mode.parse().ok());
    let enabled = match mode {
        Some(0) => true,
        Some(1) => false,
        Some(_) => {
            let remark = "set commitlog readahead mode param value error";
            return Err(Refusal::new(code::INVALID_PARAMETER, remark));
        }
        None => return Err(refused("set commitlog readahead mode failed")),
    };
    broker.change_config(|config| {
        config.data_read_ahead_enable = enabled;
        Ok::<_, Refusal>(())
    })?;
    let remark = format!("set commitlog readahead mode success, mode: {}", i32::from(!enabled));
    Ok(RemotingCommand::response(0, code::SUCCESS, Some(remark)))
}
