//! Requests about the RocksDB that a broker of the original may keep things in, and this one does not:
//! CHECK_ROCKSDB_CQ_WRITE_PROGRESS (354), EXPORT_ROCKSDB_CONFIG_TO_JSON (355) and SWITCH_TIMER_ENGINE (5001), answered as
//! the original does without one.

use oxmq_protocol::body::CheckRocksdbCqWriteResult;
use oxmq_protocol::requests::{ExportRocksdbConfigHeader, SwitchTimerEngineHeader};
use oxmq_protocol::{RemotingCommand, response_code as code};

use super::{Handled, fields, success, success_json};
use crate::broker::Broker;
use crate::response::Refusal;

const CHECK_IN_PROGRESS: i32 = 2;
const TABLES: [&str; 3] = ["topics", "subscriptionGroups", "consumerOffsets"];

/// The original compares its consume queues with those in RocksDB meanwhile, and logs what it finds.
pub(super) fn check_queues(_: &Broker, _: &RemotingCommand) -> Handled {
    tracing::info!("no consume queue is in RocksDB, so none was compared");
    Ok(success_json(&CheckRocksdbCqWriteResult {
        check_result: None,
        check_status: CHECK_IN_PROGRESS,
    }))
}

/// The tables are JSON files already.
pub(super) fn export_tables(_: &Broker, command: &RemotingCommand) -> Handled {
    let header: ExportRocksdbConfigHeader = fields(command)?;
    let mut tables = header.config_type.split_terminator(';');
    match tables.find(|table| !TABLES.contains(table)) {
        Some(unknown) => {
            let remark = format!("Unknown config type: {unknown}");
            Err(Refusal::new(code::SYSTEM_ERROR, remark))
        }
        None => Ok(success()),
    }
}

/// To files, `F`, from where no other engine is: new timer messages leave their queue from now on.
pub(super) fn switch_timer_engine(broker: &Broker, command: &RemotingCommand) -> Handled {
    let refused = |remark| Err(Refusal::new(code::INVALID_PARAMETER, remark));
    if !broker.config().timer_wheel_enable {
        return refused("broker timerWheelEnable is false");
    }
    if command.header.ext_fields.is_empty() {
        return refused("param error, extFields is null");
    }
    let header: SwitchTimerEngineHeader = fields(command)?;
    match header.engine.as_deref() {
        Some("F") => {
            broker.change_config(|config| {
                config.timer_stop_enqueue = false;
                Ok::<_, Refusal>(())
            })?;
            let remark = "switch timer engine success".to_owned();
            Ok(RemotingCommand::response(0, code::SUCCESS, Some(remark)))
        }
        Some("R") => refused("timerRocksDBEnable must be configured true when broker start"),
        _ => refused("param error"),
    }
}
