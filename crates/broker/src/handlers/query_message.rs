//! QUERY_MESSAGE (12) and VIEW_MESSAGE_BY_ID (33) (spec: protocol.md §3.4). Both read the disk.

use bytes::BytesMut;
use oxmq_protocol::frame::FRAME_BYTES_MAX;
use oxmq_protocol::requests::{QueryMessageHeader, QueryMessageReply, ViewMessageHeader};
use oxmq_protocol::{RemotingCommand, response_code as code};

use super::{Handled, fields, success, success_with};
use crate::broker::Broker;
use crate::response::Refusal;

/// What a reply may carry: a longer frame would be refused by every client.
const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - 64 * 1024;

pub(super) fn query(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: QueryMessageHeader = fields(command)?;
    if header.max_num < 0 && !header.unique_key_query {
        let remark = format!("the field maxNum is negative: {}", header.max_num);
        return Err(Refusal::new(code::SYSTEM_ERROR, remark));
    }
    let settings = broker.config();
    let asked = if header.unique_key_query {
        settings.default_query_max_num
    } else {
        header.max_num
    };
    let max_num = asked.clamp(0, settings.max_msgs_num_batch) as usize;
    let (begin, end) = (header.begin_timestamp, header.end_timestamp);
    let found = broker.store.query(&header.topic, &header.key, max_num, begin, end);
    let mut body = BytesMut::new();
    for record in &found.records {
        if body.len() + record.len() > BODY_BYTES_MAX {
            break;
        }
        body.extend_from_slice(record);
    }
    let reply = QueryMessageReply {
        index_last_update_timestamp: found.last_update_timestamp,
        index_last_update_phyoffset: found.last_update_physical_offset,
    };
    if body.is_empty() {
        let remark = "can not find message, maybe time range not correct".to_owned();
        return Ok(RemotingCommand::response(0, code::QUERY_NOT_FOUND, Some(remark)).with_fields(&reply));
    }
    Ok(success_with(&reply).with_body(body.freeze()))
}

pub(super) fn view(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: ViewMessageHeader = fields(command)?;
    let record = broker.store.read_record(header.offset);
    match record.map_err(|error| Refusal::new(code::SYSTEM_ERROR, error.to_string()))? {
        Some(record) => Ok(success().with_body(record)),
        None => Err(Refusal::new(
            code::SYSTEM_ERROR,
            format!("can not find message by the offset, {}", header.offset),
        )),
    }
}
