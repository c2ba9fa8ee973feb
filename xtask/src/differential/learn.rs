//! What answers tell that later requests need: the kinds of placeholders.

use oxmq_protocol::message::decode_messages;
use oxmq_protocol::requests::{PopMessageReply, SendMessageReply};
use oxmq_protocol::{FieldSet, RemotingCommand, RequestCode, response_code};

use super::script::{Memory, Step};

/// An offset id ends with the physical offset in so many hexadecimal digits.
const PHYSICAL_OFFSET_DIGITS: usize = 16;

/// Remembers, by kind: `id` offset ids, `phy` physical offsets, `off` queue offsets of messages; `recall` recall handles;
/// `half` and `halfqueue` where a half message lies; of popped messages `handle` and `popped` (queue offset), of pops
/// `poptime`, `revive` (queue) and `start` (first offset).
pub(super) fn learn(memory: &mut Memory, step: &Step, answer: &RemotingCommand) {
    use RequestCode as Code;
    // What is delayed lies in a queue that all actors share until it is due. Light messages are not sent back.
    let is_kept_apart = step.operation == "send-delayed" || step.operation.starts_with("light");
    if answer.header.code != response_code::SUCCESS || is_kept_apart {
        return;
    }
    if step.operation == "send-half" {
        return learn_half(memory, answer);
    }
    match RequestCode::from_code(step.code) {
        Some(Code::SendMessage | Code::SendMessageV2 | Code::SendBatchMessage) => {
            if let Ok(reply) = SendMessageReply::read(&answer.header.ext_fields) {
                let ids = (step.operation != "send-timer").then(|| reply.msg_id.split(','));
                for id in ids.into_iter().flatten() {
                    memory.learn("id", id.to_owned());
                    memory.learn("phy", physical_offset(id));
                    memory.learn("off", reply.queue_offset.to_string());
                }
                if let Some(handle) = reply.recall_handle {
                    memory.learn("recall", handle);
                }
            }
        }
        Some(Code::PopMessage) if step.operation == "pop-in-order" => {
            learn_pop(memory, answer, ["orderedhandle", "orderedpopped"]);
        }
        Some(Code::PopMessage) => learn_pop(memory, answer, ["handle", "popped"]),
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

fn learn_half(memory: &mut Memory, answer: &RemotingCommand) {
    if let Ok(reply) = SendMessageReply::read(&answer.header.ext_fields) {
        memory.learn("half", physical_offset(&reply.msg_id));
        memory.learn("halfqueue", reply.queue_offset.to_string());
    }
}

fn learn_pop(memory: &mut Memory, answer: &RemotingCommand, [handles, offsets]: [&'static str; 2]) {
    let Ok(reply) = PopMessageReply::read(&answer.header.ext_fields) else {
        return;
    };
    let messages = decode_messages(&answer.body, false).unwrap_or_default();
    let start = messages.first().map_or(0, |message| message.queue_offset);
    for message in &messages {
        let handle = format!(
            "{start} {} {} {} 0 broker-a {} {}",
            reply.pop_time, reply.invisible_time, reply.revive_qid, message.queue_id, message.queue_offset
        );
        memory.learn(handles, handle);
        memory.learn(offsets, message.queue_offset.to_string());
    }
    if handles != "handle" {
        return;
    }
    memory.learn("poptime", reply.pop_time.to_string());
    memory.learn("revive", reply.revive_qid.to_string());
    memory.learn("start", start.to_string());
}

/// The end of an offset id.
fn physical_offset(id: &str) -> String {
    let digits = &id[id.len().saturating_sub(PHYSICAL_OFFSET_DIGITS)..];
    i64::from_str_radix(digits, 16).unwrap_or_default().to_string()
}
