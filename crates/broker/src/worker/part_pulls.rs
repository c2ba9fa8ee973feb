//! Pulls from a part of a logical queue that lies on another broker: passed on, and the answer mapped.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use oxmq_protocol::requests::{PullMessageReply, request};
use oxmq_protocol::{FieldSet, RemotingCommand, response_code as code};
use oxmq_remoting::{Connection, ReplyTo};
use oxmq_store::GetStatus;

use super::Worker;
use crate::pull::{PullError, PullReply, PullRequest};
use crate::reply;
use crate::response::Refusal;
use crate::static_topics::MappedPull;

/// Room that an answer is taken to need while it is under way.
const PART_REPLY_BYTES: usize = super::AWAY_REPLY_BYTES;

impl Worker {
    pub(super) fn pull_elsewhere(
        &self,
        connection: &Rc<Connection>,
        to: ReplyTo,
        request: &PullRequest<'_>,
        mapped: MappedPull,
    ) {
        let part = RemotingCommand::request::<request::PullMessage>(&request.to_part(&mapped), Default::default());
        let broker = Arc::clone(&self.broker);
        let guard = connection.begin_request(PART_REPLY_BYTES);
        self.answer_later(async move {
            let timeout = Duration::from_millis(broker.config().forward_timeout_ms);
            let answer = broker.peers.call(mapped.broker_name(), part, timeout).await;
            let answer = answer.map_err(|error| PullError::Elsewhere(error.to_string()));
            match answer.and_then(|answer| part_reply(answer, &mapped)) {
                Ok((reply, messages)) => {
                    let connection = guard.connection();
                    connection.answered(&to, reply.code);
                    connection.write(|out| reply::put_pull(out, to, &reply, &messages));
                }
                Err(error) => guard
                    .connection()
                    .reply(to, Refusal::from(&error).into_command(to.opaque)),
            }
        });
    }
}

/// The answer of another broker as the consumer gets it.
fn part_reply(answer: RemotingCommand, mapped: &MappedPull) -> Result<(PullReply, bytes::Bytes), PullError> {
    let status = match answer.header.code {
        code::SUCCESS => GetStatus::Found,
        code::PULL_NOT_FOUND => GetStatus::OffsetOverflowOne,
        code::PULL_RETRY_IMMEDIATELY => GetStatus::NoMatchedMessage,
        code::PULL_OFFSET_MOVED => GetStatus::OffsetOverflowBadly,
        other => {
            let remark = answer.header.remark.unwrap_or_default();
            return Err(PullError::Elsewhere(format!(
                "{} answers {other}: {remark}",
                mapped.broker_name()
            )));
        }
    };
    let fields = PullMessageReply::read(&answer.header.ext_fields)?;
    let reply = PullReply {
        code: answer.header.code,
        status,
        next_begin_offset: fields.next_begin_offset,
        min_offset: fields.min_offset,
        max_offset: fields.max_offset,
        suggest_which_broker_id: fields.suggest_which_broker_id,
        topic_sys_flag: fields.topic_sys_flag.unwrap_or(0),
        group_sys_flag: fields.group_sys_flag.unwrap_or(0),
        offset_delta: None,
    };
    Ok((reply.of_logical_queue(mapped), answer.body))
}
