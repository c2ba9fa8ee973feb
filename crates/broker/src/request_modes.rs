//! How groups get the messages of a topic, where that was set: by pulling or by POP (spec: behaviour.md §10.3,
//! storage.md §18.5). Owns `messageRequestMode.json`.

use std::io;

use oxmq_protocol::body::{MessageRequestMode, MessageRequestModeTable, SetMessageRequestModeRequestBody};
use oxmq_protocol::json;
use parking_lot::RwLock;

use crate::config::BrokerConfig;
use crate::config_file::{ConfigFile, Unsaved};

pub struct RequestModes {
    file: ConfigFile,
    unsaved: Unsaved,
    table: RwLock<MessageRequestModeTable>,
}

impl RequestModes {
    /// Reads `config/messageRequestMode.json`.
    pub fn open(file: ConfigFile) -> io::Result<RequestModes> {
        let table = file.load()?.unwrap_or_default();
        Ok(RequestModes {
            file,
            unsaved: Unsaved::default(),
            table: RwLock::new(table),
        })
    }

    /// How the group gets the messages of the topic. Retry topics of pulling groups are pulled, unless it was set.
    pub fn mode(&self, topic: &str, group: &str, config: &BrokerConfig) -> (MessageRequestMode, i32) {
        let table = self.table.read();
        let set = table
            .message_request_mode_map
            .get(topic)
            .and_then(|groups| groups.get(group));
        if let Some(set) = set {
            return (set.mode, set.pop_share_queue_num);
        }
        match oxmq_protocol::topic::is_retry(topic) {
            true => (MessageRequestMode::Pull, 0),
            false => (config.default_message_request_mode, config.default_pop_share_queue_num),
        }
    }

    pub fn set(&self, mode: SetMessageRequestModeRequestBody) {
        let mut table = self.table.write();
        let groups = table.message_request_mode_map.entry(mode.topic.clone()).or_default();
        groups.insert(mode.consumer_group.clone(), mode);
        self.unsaved.mark();
    }

    /// The body of GET_ALL_MESSAGE_REQUEST_MODE.
    pub fn to_body(&self) -> Vec<u8> {
        json::to_vec(&*self.table.read())
    }

    /// Writes the file if anything changed since it was written.
    pub fn persist(&self) -> io::Result<()> {
        self.unsaved.save(|| self.file.save(&*self.table.read()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || RequestModes::open(ConfigFile::in_folder(folder.path(), "messageRequestMode.json")).unwrap();
        let config = BrokerConfig {
            default_message_request_mode: MessageRequestMode::Pop,
            default_pop_share_queue_num: 3,
            ..BrokerConfig::default()
        };
        let modes = open();
        assert_eq!(modes.mode("t", "g", &config), (MessageRequestMode::Pop, 3));
        assert_eq!(modes.mode("%RETRY%g", "g", &config), (MessageRequestMode::Pull, 0));
        modes.set(SetMessageRequestModeRequestBody {
            consumer_group: "g".into(),
            mode: MessageRequestMode::Pull,
            pop_share_queue_num: 1,
            topic: "t".into(),
        });
        modes.persist().unwrap();
        let modes = open();
        assert_eq!(modes.mode("t", "g", &config), (MessageRequestMode::Pull, 1));
        assert_eq!(modes.mode("t", "other", &config), (MessageRequestMode::Pop, 3));
    }
}
