//! Whether a broker takes a new mapping of a static topic, and what it keeps of the old one.
//!
//! What has been told to clients does not change: an item keeps its physical queue and its place in the logical queue,
//! items are only added at the end and dropped at the begin, and an older epoch never replaces a newer one.

use std::cmp::Ordering;

use oxmq_protocol::body::{LogicQueueMappingItem, TopicQueueMappingDetail};
use thiserror::Error;

/// Why a mapping is refused, in the words of the original.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MappingError {
    #[error("The field is illegal, should not be negative")]
    Negative,
    #[error("The non-latest item has negative logic offset")]
    NoPlace,
    #[error("The gen does not increase monotonically")]
    GenerationOrder,
    #[error("The endOffset is smaller than the start offset")]
    EndBeforeStart,
    #[error("The base logic offset does not increase monotonically")]
    OffsetOrder,
    #[error("The max logic offset does not increase monotonically")]
    Overlap,
    #[error("Can't accept data with small epoch {new} < {old}")]
    OldEpoch { new: i64, old: i64 },
    #[error("Can't accept data with unmatched scope {new} != {old}")]
    Scope { new: String, old: String },
    #[error("Cannot accept equal epoch with null data")]
    QueueMissing,
    #[error("The new item list is null or empty")]
    NoItems,
    #[error("The new leader is different but epoch equal")]
    LeaderChanged,
    #[error("The item of gen {generation} is another than before")]
    ItemChanged { generation: i32 },
    #[error("The mapping is of {found}, not of {wanted}")]
    Misdirected { found: String, wanted: String },
}

/// The mapping that is valid behind `new`, which an administrator sends.
pub(super) fn updated(
    old: Option<&TopicQueueMappingDetail>,
    mut new: TopicQueueMappingDetail,
    force: bool,
) -> Result<TopicQueueMappingDetail, MappingError> {
    for items in new.hosted_queues.values() {
        check_items(items)?;
    }
    let Some(old) = old else { return Ok(new) };
    if !force {
        if new.epoch < old.epoch {
            let (new, old) = (new.epoch, old.epoch);
            return Err(MappingError::OldEpoch { new, old });
        }
        if new.scope != old.scope {
            let (new, old) = (new.scope, old.scope.clone());
            return Err(MappingError::Scope { new, old });
        }
    }
    let is_same_epoch = new.epoch == old.epoch;
    for (queue_id, old_items) in &old.hosted_queues {
        match new.hosted_queues.get(queue_id) {
            Some(new_items) if !force => keeps(old_items, new_items, is_same_epoch)?,
            Some(_) => {}
            None if is_same_epoch && !force => return Err(MappingError::QueueMissing),
            None => {
                new.hosted_queues.insert(*queue_id, old_items.clone());
            }
        }
    }
    Ok(new)
}

/// Items lie one behind the other, and only the last may be without a place.
fn check_items(items: &[LogicQueueMappingItem]) -> Result<(), MappingError> {
    for (at, item) in items.iter().enumerate() {
        if item.start_offset < 0 || item.generation < 0 || item.queue_id < 0 {
            return Err(MappingError::Negative);
        }
        let next = items.get(at + 1);
        if next.is_some() && !item.is_placed() {
            return Err(MappingError::NoPlace);
        }
        if next.is_some_and(|next| item.generation >= next.generation) {
            return Err(MappingError::GenerationOrder);
        }
        if item.end_offset != -1 && item.end_offset < item.start_offset {
            return Err(MappingError::EndBeforeStart);
        }
        if let Some(next) = next.filter(|next| next.logic_offset != -1) {
            if item.logic_offset >= next.logic_offset {
                return Err(MappingError::OffsetOrder);
            }
            if item.known_max() >= next.logic_offset {
                return Err(MappingError::Overlap);
            }
        }
    }
    Ok(())
}

/// Whether the items that both lists have are the same.
fn keeps(
    old: &[LogicQueueMappingItem],
    new: &[LogicQueueMappingItem],
    is_same_epoch: bool,
) -> Result<(), MappingError> {
    let Some(old_leader) = old.last() else { return Ok(()) };
    let new_leader = new.last().ok_or(MappingError::NoItems)?;
    let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
    while let (Some(before), Some(after)) = (olds.peek(), news.peek()) {
        match before.generation.cmp(&after.generation) {
            Ordering::Less => olds.next(),
            Ordering::Greater => news.next(),
            Ordering::Equal if is_same_item(before, after) => {
                news.next();
                olds.next()
            }
            Ordering::Equal => {
                let generation = before.generation;
                return Err(MappingError::ItemChanged { generation });
            }
        };
    }
    let queue = |item: &LogicQueueMappingItem| (item.generation, item.queue_id, item.start_offset);
    if is_same_epoch && (queue(old_leader) != queue(new_leader) || old_leader.bname != new_leader.bname) {
        return Err(MappingError::LeaderChanged);
    }
    Ok(())
}

fn is_same_item(before: &LogicQueueMappingItem, after: &LogicQueueMappingItem) -> bool {
    before.bname == after.bname
        && before.queue_id == after.queue_id
        && before.start_offset == after.start_offset
        && (before.logic_offset == -1 || before.logic_offset == after.logic_offset)
}
