use std::collections::BTreeMap;

use super::{MessageModel, MessageQueue, bodies};
use crate::json::text_enum;
use crate::settings::{BadValue, SettingValue};

text_enum! {
    /// How the members of a group get the messages of a topic.
    pub enum MessageRequestMode {
        #[default]
        Pull = "PULL",
        Pop = "POP",
    }
}

impl SettingValue for MessageRequestMode {
    const TYPE_NAME: &'static str = "PULL, POP";

    fn parse(text: &str) -> Result<MessageRequestMode, BadValue> {
        MessageRequestMode::from_name(text).ok_or_else(|| BadValue {
            text: text.to_owned(),
            expected: format!("one of {}", Self::TYPE_NAME),
        })
    }

    fn text(&self) -> Option<String> {
        Some(self.name().to_owned())
    }
}

bodies! {
    /// Body of 400.
    pub struct QueryAssignmentRequestBody {
        client_id: String,
        consumer_group: String,
        message_model: MessageModel,
        strategy_name: String,
        topic: String,
    }

    /// Reply of 400. Without a list the client keeps what it has.
    pub struct QueryAssignmentResponseBody {
        #[serde(skip_serializing_if = "Option::is_none")]
        message_queue_assignments: Option<Vec<MessageQueueAssignment>>,
    }

    /// A queue id of -1 stands for all queues of the broker.
    pub struct MessageQueueAssignment {
        #[serde(skip_serializing_if = "Option::is_none")]
        attachments: Option<BTreeMap<String, String>>,
        message_queue: MessageQueue,
        mode: MessageRequestMode,
    }

    /// Body of 401, and what `messageRequestMode.json` and the reply of 402 hold.
    pub struct SetMessageRequestModeRequestBody {
        consumer_group: String,
        mode: MessageRequestMode,
        pop_share_queue_num: i32,
        topic: String,
    }

    /// Reply of 402, by topic and group.
    pub struct MessageRequestModeTable {
        message_request_mode_map: BTreeMap<String, BTreeMap<String, SetMessageRequestModeRequestBody>>,
    }
}
