//! The routes that a client knows, by topic.

use std::sync::Arc;

use hashbrown::HashMap;
use oxmq_protocol::body::{MASTER_ID, TopicRouteData};
use parking_lot::Mutex;

use super::route::{BrokerAddr, TopicRoute};

/// Snapshots of routes. A route that could not be refreshed stays as it was.
#[derive(Default)]
pub(super) struct Routes {
    topics: Mutex<HashMap<String, Arc<TopicSlot>>>,
}

/// One topic. The lock is held while fetching, so that callers share the answer.
#[derive(Default)]
pub(super) struct TopicSlot {
    pub(super) fetching: tokio::sync::Mutex<()>,
    pub(super) route: arc_swap::ArcSwapOption<TopicRoute>,
}

impl Routes {
    pub(super) fn slot(&self, topic: &str) -> Arc<TopicSlot> {
        let mut topics = self.topics.lock();
        if let Some(slot) = topics.get(topic) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(TopicSlot::default());
        topics.insert(topic.to_owned(), Arc::clone(&slot));
        slot
    }

    /// Every topic that somebody has asked for.
    pub(super) fn topics(&self) -> Vec<String> {
        self.topics.lock().keys().cloned().collect()
    }

    /// Every broker that a route names, once.
    pub(super) fn brokers(&self) -> Vec<(String, BrokerAddr)> {
        let mut brokers = Vec::new();
        self.each(|data| {
            for broker in &data.broker_datas {
                for (broker_id, addr) in &broker.broker_addrs {
                    let addr = BrokerAddr {
                        broker_id: *broker_id,
                        addr: addr.clone(),
                    };
                    brokers.push((broker.broker_name.clone(), addr));
                }
            }
        });
        brokers.sort_by(|a, b| (&a.0, a.1.broker_id, &a.1.addr).cmp(&(&b.0, b.1.broker_id, &b.1.addr)));
        brokers.dedup();
        brokers
    }

    /// The broker of a group with this id; else the next id; else any (spec: protocol.md §7.5).
    pub(super) fn broker(&self, broker_name: &str, preferred_id: i64) -> Option<BrokerAddr> {
        let mut found = None;
        self.each(|data| {
            let Some(broker) = data.broker(broker_name).filter(|_| found.is_none()) else {
                return;
            };
            let addrs = &broker.broker_addrs;
            let by_id = |id: i64| addrs.get_key_value(&id);
            found = by_id(preferred_id)
                .or_else(|| by_id(preferred_id.saturating_add(1)))
                .or_else(|| addrs.first_key_value())
                .map(|(broker_id, addr)| BrokerAddr {
                    broker_id: *broker_id,
                    addr: addr.clone(),
                });
        });
        found
    }

    pub(super) fn master(&self, broker_name: &str) -> Option<String> {
        self.broker(broker_name, MASTER_ID)
            .filter(|broker| broker.broker_id == MASTER_ID)
            .map(|broker| broker.addr)
    }

    fn each(&self, mut see: impl FnMut(&TopicRouteData)) {
        for slot in self.topics.lock().values() {
            if let Some(route) = &*slot.route.load() {
                see(&route.data);
            }
        }
    }
}
