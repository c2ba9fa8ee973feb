//! UPDATE_BROKER_CONFIG (25) and GET_BROKER_CONFIG (26) (spec: protocol.md §3.5).

use std::io;
use std::path::Path;

use oxmq_protocol::body::DataVersion;
use oxmq_protocol::requests::GetBrokerConfigReply;
use oxmq_protocol::settings::{Settings, UpdateError};
use oxmq_protocol::{RemotingCommand, json, response_code as code};
use oxmq_store::config_file;

use super::{Handled, saved, success, success_with};
use crate::BrokerConfig;
use crate::broker::Broker;
use crate::response::Refusal;

/// Refused by RocketMQ whatever `configBlackList` says. It was a part of command lines once (CVE-2023-33246).
const NEVER_REMOTE: &str = "rocketmqHome";

pub(super) fn update(broker: &Broker, command: &RemotingCommand) -> Handled {
    let changed = broker.change_config(|config| {
        let black_list = format!("{};{NEVER_REMOTE}", config.config_black_list);
        let changed = config.update(&command.body, &black_list).map_err(|error| match error {
            UpdateError::NotRemote(_) => Refusal::new(code::NO_PERMISSION, "Can not update config in black list."),
            other => Refusal::new(code::SYSTEM_ERROR, other.to_string()),
        })?;
        saved(write(config))?;
        Ok::<_, Refusal>(changed)
    })?;
    if changed.contains(&"brokerPermission") {
        broker.topics.bump_version(broker.now_ms());
    }
    Ok(success())
}

pub(super) fn get(broker: &Broker, _: &RemotingCommand) -> Handled {
    let version = json::to_vec(&DataVersion::at(broker.started_at));
    let reply = GetBrokerConfigReply {
        version: String::from_utf8_lossy(&version).into_owned(),
    };
    Ok(success_with(&reply).with_body(broker.config().text()))
}

/// Writes the file that remote changes go to, if there is one.
fn write(config: &BrokerConfig) -> io::Result<()> {
    match &config.broker_config_path {
        Some(path) => config_file::save_as_readable(Path::new(path), config.to_properties().as_bytes()),
        None => Ok(()),
    }
}
