//! How the queues of a static topic lie on brokers (spec: behaviour.md §11).
//!
//! A static topic has logical queues whose number does not depend on brokers. Each is a sequence of physical queues, the
//! items; the last is the one that is written to. Offsets of an item are mapped into the logical queue by a constant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{TopicConfig, TopicQueueMappingInfo};

/// The scope of a mapping that does not name one.
pub const GLOBAL_SCOPE: &str = "__global__";

/// One physical queue of a logical queue. All but the last logical offset and the end are fixed once written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogicQueueMappingItem {
    pub bname: String,
    /// Physical queue offset behind the last message; below `start_offset` while it is not decided.
    pub end_offset: i64,
    #[serde(rename = "gen")]
    pub generation: i32,
    /// Where the item begins in the logical queue; negative while that is not decided.
    pub logic_offset: i64,
    pub queue_id: i32,
    /// Physical queue offset of the first message.
    pub start_offset: i64,
    pub time_of_end: i64,
    pub time_of_start: i64,
}

/// What one broker knows about a static topic: body of 513, in the reply of 351, an entry of `topicQueueMapping.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicQueueMappingDetail {
    pub bname: String,
    /// Not kept up to date; see [`TopicQueueMappingDetail::to_info`].
    pub curr_id_map: BTreeMap<i32, i32>,
    pub dirty: bool,
    pub epoch: i64,
    /// By logical queue id, the oldest item first.
    pub hosted_queues: BTreeMap<i32, Vec<LogicQueueMappingItem>>,
    pub scope: String,
    pub topic: String,
    pub total_queues: i32,
}

/// Reply of 351.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfigAndQueueMapping {
    #[serde(flatten)]
    pub config: TopicConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping_detail: Option<TopicQueueMappingDetail>,
}

impl Default for LogicQueueMappingItem {
    fn default() -> LogicQueueMappingItem {
        LogicQueueMappingItem {
            bname: String::new(),
            end_offset: -1,
            generation: 0,
            logic_offset: 0,
            queue_id: 0,
            start_offset: 0,
            time_of_end: -1,
            time_of_start: -1,
        }
    }
}

impl Default for TopicQueueMappingDetail {
    fn default() -> TopicQueueMappingDetail {
        TopicQueueMappingDetail {
            bname: String::new(),
            curr_id_map: BTreeMap::new(),
            dirty: false,
            epoch: 0,
            hosted_queues: BTreeMap::new(),
            scope: GLOBAL_SCOPE.to_owned(),
            topic: String::new(),
            total_queues: 0,
        }
    }
}

impl TopicQueueMappingDetail {
    /// What name servers are told: the logical queues that this broker leads, with their physical ids.
    pub fn to_info(&self) -> TopicQueueMappingInfo {
        let led = self.hosted_queues.iter().filter_map(|(queue_id, items)| {
            let leader = items.last().filter(|item| item.bname == self.bname)?;
            Some((*queue_id, leader.queue_id))
        });
        TopicQueueMappingInfo {
            bname: self.bname.clone(),
            curr_id_map: led.collect(),
            dirty: false,
            epoch: self.epoch,
            scope: GLOBAL_SCOPE.to_owned(),
            topic: self.topic.clone(),
            total_queues: self.total_queues,
        }
    }
}

/// Offsets come from the network, so sums saturate.
impl LogicQueueMappingItem {
    /// Whether it is decided where the item begins in the logical queue.
    pub fn is_placed(&self) -> bool {
        self.logic_offset >= 0
    }

    /// The physical queue offset behind its last message, once that is decided.
    pub fn end(&self) -> Option<i64> {
        (self.end_offset > self.start_offset).then_some(self.end_offset)
    }

    /// The logical offset of a physical one. What lies before the item is its begin.
    pub fn to_logic(&self, physical: i64) -> i64 {
        let distance = physical.max(self.start_offset).saturating_sub(self.start_offset);
        self.logic_offset.saturating_add(distance)
    }

    /// As [`Self::to_logic`], but not beyond the end, and -1 while the item has no place.
    pub fn to_logic_within(&self, physical: i64) -> i64 {
        if !self.is_placed() {
            return -1;
        }
        match self.end_offset >= self.start_offset {
            true => self.to_logic(physical.min(self.end_offset)),
            false => self.to_logic(physical),
        }
    }

    /// The physical offset of a logical one.
    pub fn to_physical(&self, logic: i64) -> i64 {
        logic
            .saturating_sub(self.logic_offset)
            .saturating_add(self.start_offset)
    }

    /// The logical offset behind the last message as far as the mapping itself knows it.
    pub fn known_max(&self) -> i64 {
        let count = self.end_offset.saturating_sub(self.start_offset).max(0);
        self.logic_offset.saturating_add(count)
    }
}
