//! Quotas: how many messages and bytes a second a topic takes, a consumer group gets, and a client sends and gets.
//!
//! Declared as attributes of topics and groups, and as defaults in the settings of the broker ([`Rates::of`]). Where nothing
//! is declared there is no [`Quota`], and nothing is looked up. What goes beyond a quota is slowed down, not lost: a worker
//! holds the request until there is room again ([`crate::worker`], `throttle.rs`), and refuses a send as busy only if that
//! would take longer than `quotaHoldTimeMills`.
//!
//! Topics of the system, retry and dead letter topics, and groups of the system have none: what a broker promised to keep
//! must not be held up by what clients do.

mod bucket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hashbrown::HashMap;
use oxmq_protocol::body::{SubscriptionGroupConfig, TopicConfig};
use oxmq_protocol::topic;
use oxmq_store::GetLimits;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::attributes::{Attributes, QUOTA_BYTES, QUOTA_MESSAGES};
use crate::config::BrokerConfig;
use bucket::Bucket;

/// What a quota is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Sends to a topic.
    Topic,
    /// Deliveries to a consumer group.
    Group,
    /// What one connection sends, and apart from that what it gets.
    Client,
}

impl Scope {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scope::Topic => "topic",
            Scope::Group => "group",
            Scope::Client => "client",
        }
    }
}

/// A second; 0 for any number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Rates {
    /// What the attributes say, else the default of the broker. An attribute of 0 takes the default away.
    pub(crate) fn of(attributes: &Attributes, default: Rates) -> Rates {
        let value = |key, default| match attributes.get(key) {
            None => default,
            Some(value) => value.parse().unwrap_or(default),
        };
        Rates {
            messages: value(QUOTA_MESSAGES, default.messages),
            bytes: value(QUOTA_BYTES, default.bytes),
        }
    }

    pub(crate) fn of_topics(config: &BrokerConfig) -> Rates {
        Rates {
            messages: config.quota_topic_messages_per_second,
            bytes: config.quota_topic_bytes_per_second,
        }
    }

    pub(crate) fn of_groups(config: &BrokerConfig) -> Rates {
        Rates {
            messages: config.quota_group_messages_per_second,
            bytes: config.quota_group_bytes_per_second,
        }
    }

    pub(crate) fn of_clients(config: &BrokerConfig) -> Rates {
        Rates {
            messages: config.quota_client_messages_per_second,
            bytes: config.quota_client_bytes_per_second,
        }
    }

    pub(crate) fn is_unlimited(self) -> bool {
        self == Rates::default()
    }
}

#[derive(Debug, Default)]
struct Buckets {
    rates: Rates,
    messages: Bucket,
    bytes: Bucket,
}

/// One quota and what it has held up.
#[derive(Debug)]
pub(crate) struct Quota {
    pub(crate) scope: Scope,
    /// Of the topic or group; that of a client is nothing.
    pub(crate) name: Box<str>,
    buckets: Mutex<Buckets>,
    /// Messages of sends, and pulls and pops, that were held.
    delayed: AtomicU64,
    /// Messages of sends that were refused.
    refused: AtomicU64,
}

impl Quota {
    pub(crate) fn new(scope: Scope, name: &str) -> Quota {
        Quota {
            scope,
            name: name.into(),
            buckets: Mutex::default(),
            delayed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_rates(&self, now: u64, rates: Rates) {
        let mut buckets = self.buckets.lock();
        if buckets.rates != rates {
            buckets.rates = rates;
            buckets.messages.set_rate(now, rates.messages);
            buckets.bytes.set_rate(now, rates.bytes);
        }
    }

    pub(crate) fn count_delayed(&self, messages: u64) {
        self.delayed.fetch_add(messages, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self, messages: u64) {
        self.refused.fetch_add(messages, Ordering::Relaxed);
    }

    /// Delayed and refused.
    pub(crate) fn counts(&self) -> [u64; 2] {
        [&self.delayed, &self.refused].map(|count| count.load(Ordering::Relaxed))
    }
}

/// Something has to wait for a quota.
#[derive(Debug)]
pub(crate) struct Exceeded {
    pub(crate) quota: Arc<Quota>,
    pub(crate) wait_ns: u64,
}

/// The quotas that one request comes under, those of clients first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Applied(SmallVec<[Arc<Quota>; 2]>);

impl Applied {
    pub(crate) fn add(&mut self, quota: Arc<Quota>) {
        self.0.push(quota);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes what a send needs, and says what it has to wait for: those that come later wait longer. An error, and nothing
    /// is taken, if it were longer than `wait_max_ns`.
    pub(crate) fn reserve(
        &self,
        now: u64,
        messages: u64,
        bytes: u64,
        wait_max_ns: u64,
    ) -> Result<Option<Exceeded>, Exceeded> {
        let mut locked = self.lock();
        let exceeded = self.longest(&mut locked, |buckets| {
            buckets.messages.wait_ns(now, 1).max(buckets.bytes.wait_ns(now, 1))
        });
        let exceeded = match exceeded.filter(|exceeded| exceeded.wait_ns > 0) {
            Some(exceeded) if exceeded.wait_ns > wait_max_ns => return Err(exceeded),
            exceeded => exceeded,
        };
        for buckets in &mut locked {
            buckets.messages.take(messages);
            buckets.bytes.take(bytes);
        }
        Ok(exceeded)
    }

    /// Takes what there is for a delivery, up to what is wanted, if that is worth a reply.
    pub(crate) fn grant(&self, now: u64, messages: usize, bytes: usize) -> Result<Grant, Exceeded> {
        let (mut messages, mut bytes) = (messages as u64, bytes as u64);
        let mut locked = self.lock();
        let exceeded = self.longest(&mut locked, |buckets| {
            let messages = messages.min(buckets.messages.portion());
            let bytes = bytes.min(buckets.bytes.portion());
            buckets
                .messages
                .wait_ns(now, messages)
                .max(buckets.bytes.wait_ns(now, bytes))
        });
        if let Some(exceeded) = exceeded.filter(|exceeded| exceeded.wait_ns > 0) {
            return Err(exceeded);
        }
        for buckets in &mut locked {
            messages = messages.min(buckets.messages.available(now));
            bytes = bytes.min(buckets.bytes.available(now));
        }
        for buckets in &mut locked {
            buckets.messages.take(messages);
            buckets.bytes.take(bytes);
        }
        Ok(Grant {
            quotas: self.clone(),
            messages,
            bytes,
        })
    }

    /// The lock of one quota is held while that of the next is taken; clients' come first for all, so nobody waits in a ring.
    fn lock(&self) -> SmallVec<[MutexGuard<'_, Buckets>; 2]> {
        self.0.iter().map(|quota| quota.buckets.lock()).collect()
    }

    fn longest(
        &self,
        locked: &mut [MutexGuard<'_, Buckets>],
        mut wait_ns: impl FnMut(&mut Buckets) -> u64,
    ) -> Option<Exceeded> {
        let waits = self
            .0
            .iter()
            .zip(locked)
            .map(|(quota, buckets)| (quota, wait_ns(buckets)));
        let (quota, wait_ns) = waits.max_by_key(|(_, wait_ns)| *wait_ns)?;
        let quota = Arc::clone(quota);
        Some(Exceeded { quota, wait_ns })
    }
}

/// What a delivery may take. What it does not use goes back.
#[derive(Debug)]
pub(crate) struct Grant {
    quotas: Applied,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Grant {
    pub(crate) fn limits(&self) -> GetLimits {
        GetLimits {
            count: self.messages as usize,
            bytes: self.bytes as usize,
        }
    }

    /// The first message is delivered whatever its size.
    pub(crate) fn used(&mut self, messages: usize, bytes: usize) {
        let (messages, bytes) = (messages as u64, bytes as u64);
        for quota in &self.quotas.0 {
            let mut buckets = quota.buckets.lock();
            buckets.messages.take(messages.saturating_sub(self.messages));
            buckets.bytes.take(bytes.saturating_sub(self.bytes));
        }
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        for quota in &self.quotas.0 {
            let mut buckets = quota.buckets.lock();
            buckets.messages.give_back(self.messages);
            buckets.bytes.give_back(self.bytes);
        }
    }
}

type Named = HashMap<Box<str>, Arc<Quota>>;

/// The quotas of topics and groups, as far as any was needed.
#[derive(Debug)]
pub(crate) struct Quotas {
    started: Instant,
    /// Whether any default is set.
    has_defaults: AtomicBool,
    topics: Mutex<Named>,
    groups: Mutex<Named>,
    /// What was held and refused for the quotas of connections, which come and go.
    pub(crate) clients: Quota,
}

impl Quotas {
    pub(crate) fn new(config: &BrokerConfig) -> Quotas {
        let quotas = Quotas {
            started: Instant::now(),
            has_defaults: AtomicBool::new(false),
            topics: Mutex::default(),
            groups: Mutex::default(),
            clients: Quota::new(Scope::Client, ""),
        };
        quotas.set_config(config);
        quotas
    }

    pub(crate) fn set_config(&self, config: &BrokerConfig) {
        let defaults = [
            Rates::of_topics(config),
            Rates::of_groups(config),
            Rates::of_clients(config),
        ];
        let any = defaults.iter().any(|rates| !rates.is_unlimited());
        self.has_defaults.store(any, Ordering::Relaxed);
    }

    /// Whether there may be a quota for something that declares none.
    #[inline]
    pub(crate) fn has_defaults(&self) -> bool {
        self.has_defaults.load(Ordering::Relaxed)
    }

    /// Nanoseconds since the start: the clock of buckets.
    pub(crate) fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// For sends to a topic.
    pub(crate) fn of_topic(&self, config: &BrokerConfig, topic: &TopicConfig) -> Option<Arc<Quota>> {
        let name = &topic.topic_name;
        let rates = Rates::of(&topic.attributes, Rates::of_topics(config));
        let is_exempt = topic::is_system_topic(name) || topic::is_retry(name) || topic::is_dlq(name);
        (!is_exempt && !rates.is_unlimited()).then(|| self.named(&self.topics, Scope::Topic, name, rates))
    }

    /// For deliveries to a group.
    pub(crate) fn of_group(&self, config: &BrokerConfig, group: &SubscriptionGroupConfig) -> Option<Arc<Quota>> {
        let name = &group.group_name;
        let rates = Rates::of(&group.attributes, Rates::of_groups(config));
        (!topic::is_system_group(name) && !rates.is_unlimited())
            .then(|| self.named(&self.groups, Scope::Group, name, rates))
    }

    fn named(&self, quotas: &Mutex<Named>, scope: Scope, name: &str, rates: Rates) -> Arc<Quota> {
        let mut quotas = quotas.lock();
        let quota = match quotas.get(name) {
            Some(quota) => Arc::clone(quota),
            None => {
                let quota = Arc::new(Quota::new(scope, name));
                quotas.insert(name.into(), Arc::clone(&quota));
                quota
            }
        };
        drop(quotas);
        quota.set_rates(self.now_ns(), rates);
        quota
    }

    /// Forgets the quota of a topic that is deleted.
    pub(crate) fn forget_topic(&self, topic: &str) {
        self.topics.lock().remove(topic);
    }

    pub(crate) fn forget_group(&self, group: &str) {
        self.groups.lock().remove(group);
    }

    /// All that were needed so far, in the order of their names.
    pub(crate) fn all(&self) -> Vec<Arc<Quota>> {
        let [topics, groups] = [&self.topics, &self.groups].map(|quotas| {
            let mut quotas: Vec<_> = quotas.lock().values().cloned().collect();
            quotas.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            quotas
        });
        [topics, groups].concat()
    }
}
