//! `config/consumerOrderInfo.json`: the last batches of orderly groups (spec: storage.md §18.5).

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::Pops;
use super::order::OrderInfo;
use crate::broker::Broker;

/// A batch that nobody has asked about for so long is forgotten, as in the original.
const IDLE_MS: i64 = 24 * 3600 * 1000;

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct OrderFile {
    /// `topic@group` → queue id
    table: BTreeMap<String, BTreeMap<i32, OrderInfo>>,
}

impl Pops {
    pub(super) fn load_orders(&self) -> io::Result<()> {
        let stored: OrderFile = self.order_file.load()?.unwrap_or_default();
        for (key, queues) in stored.table {
            let Some((topic, group)) = key.split_once('@') else {
                continue;
            };
            for (queue_id, order) in queues {
                self.queue(topic, group, queue_id).lock().order = Some(order);
            }
        }
        Ok(())
    }

    /// Something changed about an orderly batch.
    pub(crate) fn order_changed(&self) {
        self.unsaved.mark();
    }

    /// Writes the file if anything changed since it was written. `flush_log` makes the messages durable that it tells of.
    pub fn persist(&self, flush_log: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.unsaved.save(|| {
            let orders = self.orders();
            flush_log()?;
            self.order_file.save(&orders)
        })
    }

    fn orders(&self) -> OrderFile {
        let mut table: BTreeMap<String, BTreeMap<i32, OrderInfo>> = BTreeMap::new();
        for (topic, group, queue_id, queue) in self.all() {
            if let Some(order) = &queue.lock().order {
                let queues = table.entry(format!("{topic}@{group}")).or_default();
                queues.insert(queue_id, order.clone());
            }
        }
        OrderFile { table }
    }
}

/// Forgets batches of topics, groups and queues that are gone, and those that are a day old.
pub(crate) fn forget_old_orders(broker: &Broker, now: i64) {
    for (topic, group, queue_id, queue) in broker.pops.all() {
        let mut queue = queue.lock();
        let Some(order) = &queue.order else {
            continue;
        };
        let is_gone = now - order.last_consume_time() > IDLE_MS
            || !broker.groups.contains(&group)
            || broker
                .topics
                .get(&topic)
                .is_none_or(|config| queue_id >= config.read_queue_nums);
        if is_gone {
            queue.order = None;
            broker.pops.order_changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_file::ConfigFile;

    #[test]
    fn batches_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Pops::open(ConfigFile::in_folder(folder.path(), "consumerOrderInfo.json"), "c").unwrap();
        let pops = open();
        let order = OrderInfo::new(None, Some("a"), 5, 30_000, &[7, 8], 6);
        pops.queue("t", "g", 3).lock().order = Some(order.clone());
        pops.order_changed();
        pops.persist(|| Ok(())).unwrap();
        assert_eq!(open().queue("t", "g", 3).lock().order, Some(order));
    }
}
