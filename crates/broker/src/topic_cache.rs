//! A worker's own view of the topics it meets: the configuration and the consume queues of each, looked up once.
//!
//! When the table of topics changes, a topic is compared with it before it is used again, so that a change costs nothing
//! for the others, of which there may be a hundred thousand.

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

/// May keep as many deleted topics as there are others.
#[derive(Default)]
pub(crate) struct TopicCache {
    topics: RefCell<HashMap<Box<[u8]>, Rc<TopicState>>>,
    /// The one asked for last: the next is often the same.
    last: RefCell<Option<Rc<TopicState>>>,
}

/// So many are kept without a look at how many topics there are.
const KEPT_TOPICS: usize = 256;

/// One topic as the send and pull paths need it.
pub(crate) struct TopicState {
    /// The generation of the table that it was compared with last.
    seen: Cell<u64>,
    pub(crate) config: Arc<TopicConfig>,
    pub(crate) is_closed_to_clients: bool,
    pub(crate) is_compaction: bool,
    pub(crate) is_batch_queue: bool,
    /// A light queue, which has no configuration of its own.
    pub(crate) is_light: bool,
    /// It declares how much may be sent to it.
    pub(crate) has_quota: bool,
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
        if let Some(last) = &*self.last.borrow()
            && last.seen.get() == generation
            && last.name().as_bytes() == name
        {
            return Some(Rc::clone(last));
        }
        let topic = self.find(broker, name, generation);
        self.last.replace(topic.clone());
        topic
    }

    fn find(&self, broker: &Broker, name: &[u8], generation: u64) -> Option<Rc<TopicState>> {
        let mut topics = self.topics.borrow_mut();
        if let Some(topic) = topics.get(name) {
            if topic.seen.get() == generation || topic.is_current(broker) {
                topic.seen.set(generation);
                return Some(Rc::clone(topic));
            }
            topics.remove(name);
        }
        let config = broker.topics.get(std::str::from_utf8(name).ok()?)?;
        let topic = Rc::new(TopicState::new(broker, config, generation));
        // Any name is one of a light queue; those that exist are few enough to keep.
        if !topic.is_light || broker.store.queue(topic.name(), 0).is_some() {
            let existing = || broker.topics.count() + broker.store.light_queues();
            if topics.len() >= KEPT_TOPICS && topics.len() >= 2 * existing() {
                topics.clear();
            }
            topics.insert(name.into(), Rc::clone(&topic));
        }
        Some(topic)
    }
}

impl TopicState {
    fn new(broker: &Broker, config: Arc<TopicConfig>, generation: u64) -> TopicState {
        let is_light = topic::is_lmq(&config.topic_name);
        let stats_name = if is_light {
            topic::LMQ_PREFIX
        } else {
            &config.topic_name
        };
        TopicState {
            seen: Cell::new(generation),
            is_light,
            is_batch_queue: broker.topics.queue_kind(&config.topic_name) == QueueKind::Batch,
            is_closed_to_clients: topic::is_closed_to_clients(&config.topic_name),
            is_compaction: config
                .attributes
                .get(attributes::CLEANUP_POLICY)
                .is_some_and(|policy| policy == attributes::COMPACTION),
            has_quota: [attributes::QUOTA_MESSAGES, attributes::QUOTA_BYTES]
                .iter()
                .any(|key| config.attributes.contains_key(*key)),
            mapping: broker.static_topics.get(&config.topic_name),
            stats: broker.stats.topic(stats_name),
            config,
            queues: RefCell::default(),
            next_queue: Cell::new(0),
        }
    }

    /// Whether this is still the topic of this name. A light queue has nothing to compare.
    fn is_current(&self, broker: &Broker) -> bool {
        let mapping = broker.static_topics.get(self.name());
        mapping.as_ref().map(Arc::as_ptr) == self.mapping.as_ref().map(Arc::as_ptr)
            && broker
                .topics
                .get(self.name())
                .is_some_and(|config| Arc::ptr_eq(&config, &self.config))
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
