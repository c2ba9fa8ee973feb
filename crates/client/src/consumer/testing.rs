//! Messages for the tests of decisions.

use std::sync::Arc;

use oxmq_protocol::message::{Message, MessageExt};

/// A message of the topic `t` with ten bytes.
pub(crate) fn message_at(queue_offset: i64) -> Arc<MessageExt> {
    Arc::new(MessageExt {
        message: Message::new("t", "0123456789"),
        broker_name: "b".into(),
        queue_id: 0,
        queue_offset,
        physical_offset: 1000 + queue_offset,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: ([127, 0, 0, 1], 1).into(),
        store_timestamp: 2,
        store_host: ([127, 0, 0, 1], 2).into(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: 0,
        store_size: 100,
    })
}
