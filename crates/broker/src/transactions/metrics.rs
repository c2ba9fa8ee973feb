//! How many half messages of each topic wait for their end. Owns `config/transactionMetrics`, whose form is the
//! original's (spec: storage.md §17).

use std::collections::BTreeMap;
use std::io;

use hashbrown::HashMap;
use oxmq_protocol::body::DataVersion;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::config_file::{ConfigFile, Unsaved};

pub struct TransactionMetrics {
    file: ConfigFile,
    unsaved: Unsaved,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    version: DataVersion,
    counts: HashMap<String, Count>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Count {
    count: i64,
    time_stamp: i64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Stored {
    data_version: DataVersion,
    transaction_count: BTreeMap<String, Count>,
}

impl TransactionMetrics {
    pub(super) fn open(file: ConfigFile) -> io::Result<TransactionMetrics> {
        let stored: Stored = file.load()?.unwrap_or_default();
        Ok(TransactionMetrics {
            file,
            unsaved: Unsaved::default(),
            state: Mutex::new(State {
                version: stored.data_version,
                counts: stored.transaction_count.into_iter().collect(),
            }),
        })
    }

    /// So many half messages came, or went where `change` is negative.
    pub(crate) fn add(&self, topic: &str, change: i64, now: i64) {
        let mut state = self.state.lock();
        state.version.advance(now);
        let count = state.counts.entry_ref(topic).or_default();
        count.count += change;
        count.time_stamp = now;
        drop(state);
        self.unsaved.mark();
    }

    pub fn count(&self, topic: &str) -> i64 {
        self.state.lock().counts.get(topic).map_or(0, |count| count.count)
    }

    /// By topic.
    pub(crate) fn counts(&self) -> Vec<(String, i64)> {
        let state = self.state.lock();
        let counts = state.counts.iter();
        counts.map(|(topic, count)| (topic.clone(), count.count)).collect()
    }

    pub(crate) fn remove_topic(&self, topic: &str) {
        if self.state.lock().counts.remove(topic).is_some() {
            self.unsaved.mark();
        }
    }

    /// Writes the file if anything changed since it was written.
    pub(crate) fn persist(&self) -> io::Result<()> {
        self.unsaved.save(|| {
            let state = self.state.lock();
            let stored = Stored {
                data_version: state.version,
                transaction_count: state
                    .counts
                    .iter()
                    .map(|(topic, count)| (topic.clone(), *count))
                    .collect(),
            };
            drop(state);
            self.file.save(&stored)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_java_broker_is_read_and_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = || ConfigFile::in_folder(folder.path(), "transactionMetrics");
        let text = r#"{"dataVersion":{"counter":4,"stateVersion":0,"timestamp":1757000002000},"transactionCount":{"OrderTopic":{"count":3,"timeStamp":1757000002000}}}"#;
        std::fs::write(folder.path().join("transactionMetrics"), text).unwrap();
        let metrics = TransactionMetrics::open(file()).unwrap();
        metrics.add("OrderTopic", -1, 5);
        metrics.add("other", 2, 6);
        metrics.persist().unwrap();
        let read = TransactionMetrics::open(file()).unwrap();
        assert_eq!((read.count("OrderTopic"), read.count("other")), (2, 2));
        assert_eq!(read.state.lock().version.counter, 6);
    }
}
