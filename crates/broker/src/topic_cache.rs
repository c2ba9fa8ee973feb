//! A worker's own view of the topics it meets: the configuration and the consume queues of each, looked up once and good
//! until the table of topics changes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use oxmq_protocol::body::{TopicConfig, TopicQueueMappingDetail};
use oxmq_protocol::topic;
use oxmq_store::{ConsumeQueue, QueueKind};

use crate::attributes;
use crate::broker::Broker;
use crate::stats::TopicStats;

/// Holds existing topics only, so their number bounds it.
#[derive(Default)]
pub(crate) struct TopicCache {
    generation: Cell<u64>,
    topics: RefCell<HashMap<Box<[u8]>, Rc<TopicState>>>,
    /// The one asked for last: the next is often the same.
    last: RefCell<Option<Rc<TopicState>>>,
}

/// One topic as the send and pull paths need it.
pub(crate) struct TopicState {
    pub(crate) config: Arc<TopicConfig>,
    pub(crate) is_closed_to_clients: bool,
    pub(crate) is_compaction: bool,
    pub(crate) is_batch_queue: bool,
    /// A light queue, which has no configuration of its own.
    pub(crate) is_light: bool,
    /// Of a static topic, whose clients name logical queues.
    pub(crate) mapping: Option<Arc<TopicQueueMappingDetail>>,
    pub(crate) stats: Arc<TopicStats>,
    /// By queue id, as far as they were asked for.
    queues: RefCell<Vec<Option<Arc<ConsumeQueue>>>>,
    next_queue: Cell<u32>,
}

impl TopicCache {
    #[inline]
    pub(crate) fn get(&self, broker: &Broker, name: &[u8]) -> Option<Rc<TopicState>> {
        let generation = broker.topics.generation();
        if self.generation.replace(generation) != generation {
            self.topics.borrow_mut().clear();
            self.last.take();
        }
        if let Some(last) = &*self.last.borrow()
            && last.name().as_bytes() == name
        {
            return Some(Rc::clone(last));
        }
        let topic = self.find(broker, name)?;
        self.last.replace(Some(Rc::clone(&topic)));
        Some(topic)
    }

    fn find(&self, broker: &Broker, name: &[u8]) -> Option<Rc<TopicState>> {
        let mut topics = self.topics.borrow_mut();
        if let Some(topic) = topics.get(name) {
            return Some(Rc::clone(topic));
        }
        let config = broker.topics.get(std::str::from_utf8(name).ok()?)?;
        let topic = Rc::new(TopicState::new(broker, config));
        // Any name is one of a light queue; those that exist are few enough to keep.
        if !topic.is_light || broker.store.queue(topic.name(), 0).is_some() {
            topics.insert(name.into(), Rc::clone(&topic));
        }
        Some(topic)
    }
}

impl TopicState {
    fn new(broker: &Broker, config: Arc<TopicConfig>) -> TopicState {
        let is_light = topic::is_lmq(&config.topic_name);
        let stats_name = if is_light {
            topic::LMQ_PREFIX
        } else {
            &config.topic_name
        };
        TopicState {
            is_light,
            is_batch_queue: broker.topics.queue_kind(&config.topic_name) == QueueKind::Batch,
            is_closed_to_clients: topic::is_closed_to_clients(&config.topic_name),
            is_compaction: config
                .attributes
                .get(attributes::CLEANUP_POLICY)
                .is_some_and(|policy| policy == attributes::COMPACTION),
            mapping: broker.static_topics.get(&config.topic_name),
            stats: broker.stats.topic(stats_name),
            config,
            queues: RefCell::default(),
            next_queue: Cell::new(0),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.topic_name
    }

    /// One of the queues that may be written to, in turn. There must be one.
    pub(crate) fn any_write_queue(&self) -> i32 {
        let turn = self.next_queue.get();
        self.next_queue.set(turn.wrapping_add(1));
        (turn % self.config.write_queue_nums.max(1) as u32) as i32
    }

    /// Whether nothing has to be read before the queue can be used.
    #[inline]
    pub(crate) fn is_at_hand(&self, broker: &Broker, queue_id: i32) -> bool {
        let is_known = |index| matches!(self.queues.borrow().get(index), Some(Some(_)));
        usize::try_from(queue_id).map_or(true, is_known) || broker.store.is_at_hand(self.name(), queue_id)
    }

    /// The queue id is one that the configuration allows.
    #[inline]
    pub(crate) fn queue(&self, broker: &Broker, queue_id: i32) -> Arc<ConsumeQueue> {
        let mut queues = self.queues.borrow_mut();
        let index = queue_id as usize;
        if index >= queues.len() {
            queues.resize(index + 1, None);
        }
        let queue = queues[index].get_or_insert_with(|| broker.store.queue_or_create(self.name(), queue_id));
        let queue = Arc::clone(queue);
        if queue.is_unreadable() {
            queues[index] = None;
        }
        queue
    }
}
