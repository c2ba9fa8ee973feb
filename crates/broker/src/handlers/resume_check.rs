//! RESUME_CHECK_HALF_MESSAGE (323): a half message, perhaps one that was given up, is checked again from the beginning
//! (spec: behaviour.md §7.4).

use oxmq_protocol::message_id::OffsetMessageId;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::requests::ResumeCheckHalfMessageHeader;
use oxmq_protocol::{RemotingCommand, response_code as code};

use super::{Handled, fields, success};
use crate::broker::Broker;
use crate::response::Refusal;
use crate::transactions::half::Half;

pub(super) fn resume(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: ResumeCheckHalfMessageHeader = fields(command)?;
    let failed = || {
        let remark = "Exception was thrown when putting message back to RMQ_SYS_TRANS_HALF_TOPIC.";
        Refusal::new(code::SYSTEM_ERROR, remark)
    };
    let id: OffsetMessageId = header.msg_id.parse().map_err(|_| failed())?;
    let record = broker
        .store
        .read_record(id.physical_offset)
        .ok()
        .flatten()
        .ok_or_else(failed)?;
    let record = RecordRef::parse(&record).map_err(|_| failed())?;
    let half = Half::of(record).or_else(|| Half::given_up(record)).ok_or_else(failed)?;
    match broker.transactions.resume(broker, &half) {
        Ok(true) => Ok(success()),
        Ok(false) => Err(Refusal::new(
            code::SYSTEM_ERROR,
            "The transaction has ended or is being decided.",
        )),
        Err(error) => {
            tracing::warn!(%error, "a half message cannot be put back");
            let remark = "Put message back to RMQ_SYS_TRANS_HALF_TOPIC failed.";
            Err(Refusal::new(code::SYSTEM_ERROR, remark))
        }
    }
}
