//! A broker as a whole: what its parts share, how it starts and how it stops.
//!
//! Start: store (which recovers), tables, system topics, listeners, background thread. Stop, in reverse: no more
//! connections, what is in flight is answered and parked pulls with it, name servers are told, tables are saved, the
//! store is flushed and closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, Guard};
use oxmq_protocol::body::SubscriptionGroupConfig;
use oxmq_protocol::message_id::UniqueIds;
use oxmq_remoting::ConnectionHandle;
use oxmq_store::MessageStore;

use crate::clients::{Consumers, Producers};
use crate::config::BrokerConfig;
use crate::consumer_offsets::ConsumerOffsets;
use crate::groups::{AutoCreate, Groups};
use crate::queue_locks::QueueLocks;
use crate::stats::Stats;
use crate::topics::Topics;

/// What all threads of a broker share. Lives in an `Arc`.
pub struct Broker {
    config: ArcSwap<BrokerConfig>,
    pub store: Arc<MessageStore>,
    pub topics: Topics,
    pub groups: Groups,
    pub consumer_offsets: ConsumerOffsets,
    pub producers: Producers<ConnectionHandle>,
    pub consumers: Consumers<ConnectionHandle>,
    pub queue_locks: QueueLocks,
    pub stats: Stats,
    /// `brokerIP1:listenPort`, as every message carries it.
    pub store_host: SocketAddr,
    /// When this broker was started, in milliseconds since the epoch.
    pub started_at: i64,
    /// Properties that every message of a client gets, as text.
    pub(crate) stamp: Vec<u8>,
    pub(crate) delay_level_max: u8,
    unique_ids: UniqueIds,
}

impl Broker {
    /// The settings as they are now.
    pub fn config(&self) -> Guard<Arc<BrokerConfig>> {
        self.config.load()
    }

    /// Replaces the settings. Those that are not live take effect at the next start.
    pub fn set_config(&self, config: BrokerConfig) {
        self.config.store(Arc::new(config));
    }

    /// Milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |elapsed| elapsed.as_millis() as i64)
    }

    /// The group, created if it may come into being by being used.
    pub fn group(&self, group: &str) -> Option<Arc<SubscriptionGroupConfig>> {
        if let Some(known) = self.groups.get(group) {
            return Some(known);
        }
        let config = self.config();
        let auto = AutoCreate {
            any: config.auto_create_subscription_group,
            system: config.enable_create_sys_group,
        };
        self.groups.get_or_create(group, auto, self.now_ms())
    }

    /// A new UNIQ_KEY: its digits and how many they are.
    pub(crate) fn next_unique_id(&self) -> ([u8; 56], usize) {
        self.unique_ids.next_digits(self.now_ms())
    }
}
