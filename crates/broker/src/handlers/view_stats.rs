//! VIEW_BROKER_STATS_DATA (315) (spec: behaviour.md §13).

use oxmq_protocol::requests::ViewBrokerStatsHeader;
use oxmq_protocol::{RemotingCommand, response_code as code};

use super::{Handled, fields, success_json};
use crate::broker::Broker;
use crate::response::Refusal;

pub(super) fn view(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: ViewBrokerStatsHeader = fields(command)?;
    let (name, key) = (header.stats_name, header.stats_key);
    match broker.stats.view(&name, &key) {
        Some(data) => Ok(success_json(&data)),
        None => Err(Refusal::new(
            code::SYSTEM_ERROR,
            format!("The stats <{name}> <{key}> not exist"),
        )),
    }
}
