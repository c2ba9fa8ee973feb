//! What answers tell that later requests need: the kinds of placeholders.

use oxmq_protocol::message::decode_messages;
use oxmq_protocol::requests::SendMessageReply;
use oxmq_protocol::{FieldSet, RemotingCommand, RequestCode, response_code};

use super::script::{Memory, Step};

/// An offset id ends with the physical offset in so many hexadecimal digits.
const PHYSICAL_OFFSET_DIGITS: usize = 16;

/// Remembers, by kind: `id` offset ids, `phy` physical offsets, `off` queue offsets of messages; `recall` recall handles.
pub(super) fn learn(memory: &mut Memory, step: &Step, answer: &RemotingCommand) {
    use RequestCode as Code;
    // What is delayed lies in a queue that all actors share until it is due.
    if answer.header.code != response_code::SUCCESS || step.operation == "send-delayed" {
        return;
    }
    match RequestCode::from_code(step.code) {
        Some(Code::SendMessage | Code::SendMessageV2 | Code::SendBatchMessage) => {
            if let Ok(reply) = SendMessageReply::read(&answer.header.ext_fields) {
                for id in reply.msg_id.split(',') {
                    let digits = &id[id.len().saturating_sub(PHYSICAL_OFFSET_DIGITS)..];
                    let physical_offset = i64::from_str_radix(digits, 16).unwrap_or_default();
                    memory.learn("id", id.to_owned());
                    memory.learn("phy", physical_offset.to_string());
                    memory.learn("off", reply.queue_offset.to_string());
                }
                if let Some(handle) = reply.recall_handle {
                    memory.learn("recall", handle);
                }
            }
        }
        Some(Code::PullMessage | Code::LitePullMessage) => {
            for message in decode_messages(&answer.body, false).unwrap_or_default() {
                memory.learn("id", message.offset_msg_id());
                memory.learn("phy", message.physical_offset.to_string());
                memory.learn("off", message.queue_offset.to_string());
            }
        }
        _ => {}
    }
}
