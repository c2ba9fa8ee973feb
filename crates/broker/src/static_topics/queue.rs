//! One logical queue of a static topic, as the broker sees it that leads it.

use oxmq_protocol::body::{LogicQueueMappingItem, TopicQueueMappingDetail};

/// The queue is led elsewhere, or nobody here knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotLeader;

/// A logical queue whose last item lies on this broker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogicQueue<'a> {
    pub(crate) id: i32,
    /// Not empty.
    pub(crate) items: &'a [LogicQueueMappingItem],
}

impl<'a> LogicQueue<'a> {
    pub(crate) fn led_here(detail: &'a TopicQueueMappingDetail, id: i32) -> Result<LogicQueue<'a>, NotLeader> {
        let items = detail.hosted_queues.get(&id).ok_or(NotLeader)?;
        match items.last() {
            Some(leader) if leader.bname == detail.bname => Ok(LogicQueue { id, items }),
            _ => Err(NotLeader),
        }
    }

    /// The queue that a send gets which leaves the choice to the broker: the first that is known here.
    pub(crate) fn any(detail: &'a TopicQueueMappingDetail) -> Result<LogicQueue<'a>, NotLeader> {
        let first = detail.hosted_queues.keys().next().ok_or(NotLeader)?;
        LogicQueue::led_here(detail, *first)
    }

    /// The item that is written to.
    pub(crate) fn leader(&self) -> &'a LogicQueueMappingItem {
        &self.items[self.items.len() - 1]
    }

    /// The item that holds a logical offset, the first for one that lies before all. Nothing while no item has a place.
    pub(crate) fn holding(&self, logic: i64) -> Option<&'a LogicQueueMappingItem> {
        let mut placed = self.items.iter().filter(|item| item.is_placed());
        let behind = placed.clone().rfind(|item| logic >= item.logic_offset);
        behind.or_else(|| placed.next())
    }

    /// The item that reading goes on with behind this one.
    pub(crate) fn after(&self, item: &LogicQueueMappingItem) -> Option<&'a LogicQueueMappingItem> {
        let at = self
            .items
            .iter()
            .position(|other| other.generation == item.generation)?;
        self.items.get(at + 1).filter(|next| next.is_placed())
    }

    pub(crate) fn first(&self) -> Option<&'a LogicQueueMappingItem> {
        self.holding(0)
    }

    pub(crate) fn last(&self) -> Option<&'a LogicQueueMappingItem> {
        self.holding(i64::MAX)
    }
}
