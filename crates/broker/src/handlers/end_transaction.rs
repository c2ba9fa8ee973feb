//! END_TRANSACTION (37). This broker keeps no half messages yet, so that there is never one to end (spec: behaviour.md
//! §7.2).

use oxmq_protocol::requests::EndTransactionHeader;
use oxmq_protocol::{RemotingCommand, response_code as code, sys_flag};

use super::{Handled, fields};
use crate::response::Refusal;

pub(super) fn end(command: &RemotingCommand) -> Handled {
    let header: EndTransactionHeader = fields(command)?;
    let known = [
        sys_flag::TRANSACTION_NONE,
        sys_flag::TRANSACTION_COMMIT,
        sys_flag::TRANSACTION_ROLLBACK,
    ];
    let remark = match known.contains(&header.commit_or_rollback) {
        true => "Find prepared transaction message failed",
        false => "commitOrRollback field wrong",
    };
    Err(Refusal::new(code::SYSTEM_ERROR, remark))
}
