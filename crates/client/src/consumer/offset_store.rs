//! A group's progress in its queues: in memory, and from time to time on the broker or in a file (spec: behaviour.md §6.8).

use std::collections::BTreeMap;
use std::path::Path;

use oxmq_protocol::body::{MessageModel, MessageQueue, QueueMap};
use parking_lot::Mutex;
use tracing::{debug, warn};

use super::broker_calls::BrokerCalls;
use super::offset_file::OffsetFile;
use crate::error::ClientError;

/// Consumer offsets: the next one to consume, by queue.
pub(crate) struct OffsetStore {
    table: Mutex<OffsetTable>,
    backing: Backing,
}

enum Backing {
    /// Clustering: the broker keeps what the members of the group share.
    Broker(BrokerCalls),
    /// Broadcasting: every client for itself.
    File(OffsetFile),
}

/// The offsets in memory. Consuming only moves them forward; a reset holds them until the queue is given up.
#[derive(Debug, Default)]
struct OffsetTable(BTreeMap<MessageQueue, Entry>);

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: i64,
    /// Set by a reset. What is still being consumed from before must not undo it.
    frozen: bool,
}

impl OffsetTable {
    fn advance(&mut self, queue: &MessageQueue, offset: i64) {
        match self.0.get_mut(queue) {
            Some(entry) if !entry.frozen => entry.offset = entry.offset.max(offset),
            Some(_) => {}
            None => self.put(queue, offset, false),
        }
    }

    fn put(&mut self, queue: &MessageQueue, offset: i64, frozen: bool) {
        self.0.insert(queue.clone(), Entry { offset, frozen });
    }

    fn get(&self, queue: &MessageQueue) -> Option<i64> {
        self.0.get(queue).map(|entry| entry.offset)
    }

    fn snapshot(&self) -> QueueMap<i64> {
        let offsets = self.0.iter().map(|(queue, entry)| (queue.clone(), entry.offset));
        offsets.collect()
    }
}

impl OffsetStore {
    /// `local_dir` is where files are, for broadcasting.
    pub(crate) fn open(calls: &BrokerCalls, model: MessageModel, local_dir: &Path) -> Result<OffsetStore, ClientError> {
        let mut table = OffsetTable::default();
        let backing = match model {
            MessageModel::Clustering => Backing::Broker(calls.clone()),
            MessageModel::Broadcasting => {
                let file = OffsetFile::new(local_dir, calls.instance.client_id(), &calls.group);
                for (queue, offset) in file.load()? {
                    table.put(&queue, offset, false);
                }
                Backing::File(file)
            }
        };
        Ok(OffsetStore {
            table: Mutex::new(table),
            backing,
        })
    }

    /// Everything below `offset` is consumed.
    pub(crate) fn advance(&self, queue: &MessageQueue, offset: i64) {
        self.table.lock().advance(queue, offset);
    }

    /// Moves either way.
    pub(crate) fn set(&self, queue: &MessageQueue, offset: i64) {
        self.table.lock().put(queue, offset, false);
    }

    /// Moves either way and stays until [`OffsetStore::forget`].
    pub(crate) fn set_and_freeze(&self, queue: &MessageQueue, offset: i64) {
        self.table.lock().put(queue, offset, true);
    }

    pub(crate) fn get(&self, queue: &MessageQueue) -> Option<i64> {
        self.table.lock().get(queue)
    }

    pub(crate) fn snapshot(&self) -> QueueMap<i64> {
        self.table.lock().snapshot()
    }

    /// What is kept outside of memory; it is in memory from now on.
    pub(crate) async fn read(&self, queue: &MessageQueue) -> Result<Option<i64>, ClientError> {
        match &self.backing {
            Backing::Broker(calls) => {
                let offset = calls.query_offset(queue).await?;
                if let Some(offset) = offset {
                    self.set(queue, offset);
                }
                Ok(offset)
            }
            Backing::File(_) => Ok(self.get(queue)),
        }
    }

    /// Saves one queue and waits until it is saved.
    pub(crate) async fn persist(&self, queue: &MessageQueue) -> Result<(), ClientError> {
        let Some(offset) = self.get(queue) else {
            return Ok(());
        };
        match &self.backing {
            Backing::Broker(calls) => calls.commit_offset(queue, offset).await,
            Backing::File(file) => self.save(file).await,
        }
    }

    /// Saves these queues, as the timer does: brokers are told and not asked for an answer.
    pub(crate) async fn persist_all(&self, queues: &[MessageQueue]) {
        match &self.backing {
            Backing::Broker(calls) => {
                for queue in queues {
                    let Some(offset) = self.get(queue) else {
                        continue;
                    };
                    if let Err(error) = calls.commit_offset_oneway(queue, offset).await {
                        debug!(%queue, %error, "offset not sent");
                    }
                }
            }
            Backing::File(file) => {
                if let Err(error) = self.save(file).await {
                    warn!(%error, "offsets not saved");
                }
            }
        }
    }

    /// The queue is no longer ours. A file keeps its offset for the next time.
    pub(crate) fn forget(&self, queue: &MessageQueue) {
        let mut table = self.table.lock();
        match &self.backing {
            Backing::Broker(_) => drop(table.0.remove(queue)),
            Backing::File(_) => {
                if let Some(entry) = table.0.get_mut(queue) {
                    entry.frozen = false;
                }
            }
        }
    }

    async fn save(&self, file: &OffsetFile) -> Result<(), ClientError> {
        let (file, offsets) = (file.clone(), self.snapshot());
        let saved = tokio::task::spawn_blocking(move || file.save(offsets)).await;
        saved.unwrap_or(Err(ClientError::ShutDown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consuming_moves_forward_and_a_reset_stays() {
        let queue = MessageQueue::new("t", "b", 0);
        let mut table = OffsetTable::default();
        table.advance(&queue, 5);
        table.advance(&queue, 3);
        assert_eq!(table.get(&queue), Some(5));
        table.put(&queue, 2, true);
        table.advance(&queue, 9);
        assert_eq!(table.get(&queue), Some(2));
    }
}
