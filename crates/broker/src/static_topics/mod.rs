//! Static topics: topics whose logical queues stay the same in number while brokers come and go (spec: behaviour.md §11).
//!
//! An administrator's tool decides where each logical queue lies and tells every broker (513). A broker keeps what it is
//! told in `topicQueueMapping.json`, serves the logical queues that it leads, and reads what lies in older items on other
//! brokers from there. Invariants:
//!
//! - A logical queue is served only by the broker that its last item names; everybody else answers 501, so that no two
//!   brokers give out the same logical offset.
//! - A logical offset that has been told to a client means the same message as long as that message exists: items keep
//!   their places ([`update`]).
//! - Clients see logical queue ids and offsets only; physical ones stay between brokers, whose requests say `lo=false`.

mod pulls;
mod queue;
mod sends;
#[cfg(test)]
mod tests;
mod update;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oxmq_protocol::body::{DataVersion, TopicQueueMappingDetail, TopicQueueMappingInfo};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::config_file::{ConfigFile, Unsaved};
pub(crate) use pulls::{Answer, MappedPull, Unmapped};
pub(crate) use queue::LogicQueue;
pub(crate) use sends::MappedSend;
pub use update::MappingError;

/// The mappings of this broker.
pub struct StaticTopics {
    file: ConfigFile,
    unsaved: Unsaved,
    state: RwLock<State>,
    /// Most brokers have none, and their requests need not look.
    is_empty: AtomicBool,
}

#[derive(Default)]
struct State {
    version: DataVersion,
    table: BTreeMap<String, Arc<TopicQueueMappingDetail>>,
}

/// `topicQueueMapping.json`.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct MappingFile {
    data_version: DataVersion,
    topic_queue_mapping_info_map: BTreeMap<String, TopicQueueMappingDetail>,
}

impl StaticTopics {
    /// Reads `config/topicQueueMapping.json`.
    pub fn open(file: ConfigFile) -> io::Result<StaticTopics> {
        let stored: MappingFile = file.load()?.unwrap_or_default();
        let table = stored.topic_queue_mapping_info_map.into_iter();
        let state = State {
            version: stored.data_version,
            table: table.map(|(topic, detail)| (topic, Arc::new(detail))).collect(),
        };
        Ok(StaticTopics {
            file,
            unsaved: Unsaved::default(),
            is_empty: AtomicBool::new(state.table.is_empty()),
            state: RwLock::new(state),
        })
    }

    pub fn get(&self, topic: &str) -> Option<Arc<TopicQueueMappingDetail>> {
        if self.is_empty.load(Ordering::Acquire) {
            return None;
        }
        self.state.read().table.get(topic).cloned()
    }

    /// Takes the mapping that an administrator sends. `force`: whatever is known already, as far as it can be checked.
    pub fn update(&self, detail: TopicQueueMappingDetail, force: bool, now: i64) -> Result<(), MappingError> {
        let mut state = self.state.write();
        let old = state.table.get(&detail.topic).map(Arc::as_ref);
        let detail = update::updated(old, detail, force)?;
        state.table.insert(detail.topic.clone(), Arc::new(detail));
        state.version.advance(now);
        self.changed(&state);
        Ok(())
    }

    pub fn delete(&self, topic: &str, now: i64) {
        let mut state = self.state.write();
        if state.table.remove(topic).is_some() {
            state.version.advance(now);
            self.changed(&state);
        }
    }

    /// What name servers are told about these topics.
    pub fn infos<'a>(&self, topics: impl Iterator<Item = &'a str>) -> BTreeMap<String, TopicQueueMappingInfo> {
        if self.is_empty.load(Ordering::Acquire) {
            return BTreeMap::new();
        }
        let state = self.state.read();
        let infos = topics.filter_map(|topic| Some((topic.to_owned(), state.table.get(topic)?.to_info())));
        infos.collect()
    }

    /// Everything, with its version.
    pub fn snapshot(&self) -> (DataVersion, BTreeMap<String, TopicQueueMappingDetail>) {
        let state = self.state.read();
        let table = state.table.iter();
        let table = table.map(|(topic, detail)| (topic.clone(), TopicQueueMappingDetail::clone(detail)));
        (state.version, table.collect())
    }

    /// Writes the file if anything changed since it was written.
    pub fn persist(&self) -> io::Result<()> {
        self.unsaved.save(|| {
            let (data_version, topic_queue_mapping_info_map) = self.snapshot();
            self.file.save(&MappingFile {
                data_version,
                topic_queue_mapping_info_map,
            })
        })
    }

    fn changed(&self, state: &State) {
        self.is_empty.store(state.table.is_empty(), Ordering::Release);
        self.unsaved.mark();
    }
}
