//! Who is connected: producers and consumers by group, learned from heartbeats (spec: behaviour.md §5.2, §5.3).
//!
//! Both tables decide only; what has to be told to clients comes back as a value. `H` is the handle through which a
//! client is reached, a connection handle in the broker and a plain name in tests. A client is identified by its
//! connection: the same client id on a new connection is a new member.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use oxmq_protocol::body::{ConsumeFromWhere, ConsumeType, ConsumerData, MessageModel, SubscriptionData};
use oxmq_protocol::version::Language;
use parking_lot::{Mutex, RwLock};

/// A client that sends no heartbeat for this long is gone.
pub const CLIENT_EXPIRED_MS: i64 = 120_000;

/// One connection of a producer or consumer.
#[derive(Debug, Clone)]
pub struct Client<H> {
    pub connection: u64,
    pub client_id: String,
    pub address: String,
    pub language: Language,
    pub version: i32,
    pub last_update: i64,
    pub handle: H,
}

/// Members of a group that must be told that its members or subscriptions changed.
pub type Notice<H> = Option<GroupNotice<H>>;

/// NOTIFY_CONSUMER_IDS_CHANGED for these members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupNotice<H> {
    pub group: String,
    pub members: Vec<H>,
}

/// Producers by group.
pub struct Producers<H> {
    groups: RwLock<HashMap<String, BTreeMap<u64, Client<H>>>>,
    turn: AtomicUsize,
    /// By client id, whatever its groups: the connection that registered last. Locked while `groups` is.
    by_client_id: RwLock<HashMap<String, Client<H>>>,
}

/// Consumers by group, with what each group subscribes to.
pub struct Consumers<H> {
    groups: RwLock<HashMap<String, ConsumerGroup<H>>>,
    /// The last notice of each group that is still to be sent.
    deferred: Mutex<HashMap<String, Vec<H>>>,
}

/// What the members of one group last said about it.
#[derive(Debug)]
pub struct ConsumerGroup<H> {
    pub consume_type: ConsumeType,
    pub message_model: MessageModel,
    pub consume_from_where: ConsumeFromWhere,
    pub subscriptions: HashMap<String, Arc<SubscriptionData>>,
    pub clients: BTreeMap<u64, Client<H>>,
    /// Of the last heartbeat; 0 for clients that send every heartbeat in full.
    fingerprint: i32,
}

/// The outcome of one consumer group's part of a heartbeat.
#[derive(Debug)]
pub struct Registered<H> {
    pub notice: Notice<H>,
    /// The group's fingerprint was another one: the client should send its subscriptions in full.
    pub fingerprint_changed: bool,
}

impl<H> Default for Producers<H> {
    fn default() -> Self {
        Producers {
            groups: RwLock::default(),
            turn: AtomicUsize::new(0),
            by_client_id: RwLock::default(),
        }
    }
}

impl<H> Default for Consumers<H> {
    fn default() -> Self {
        Consumers {
            groups: RwLock::default(),
            deferred: Mutex::default(),
        }
    }
}

impl<H: Clone> Producers<H> {
    pub fn register(&self, group: &str, client: Client<H>) {
        let mut groups = self.groups.write();
        self.by_client_id
            .write()
            .insert(client.client_id.clone(), client.clone());
        groups.entry_ref(group).or_default().insert(client.connection, client);
    }

    /// The producer with this client id.
    pub fn find(&self, client_id: &str) -> Option<Client<H>> {
        self.by_client_id.read().get(client_id).cloned()
    }

    pub fn is_known(&self, group: &str) -> bool {
        self.groups.read().contains_key(group)
    }

    pub fn unregister(&self, group: &str, connection: u64) {
        let mut groups = self.groups.write();
        if let Some(clients) = groups.get_mut(group) {
            clients.remove(&connection);
            if clients.is_empty() {
                groups.remove(group);
            }
        }
        self.forget_absent(&groups);
    }

    pub fn on_close(&self, connection: u64) {
        let is_member = |clients: &BTreeMap<u64, Client<H>>| clients.contains_key(&connection);
        if !self.groups.read().values().any(is_member) {
            return;
        }
        self.retain(|client| client.connection != connection);
    }

    /// Drops clients without a recent heartbeat and says how to reach them, so that they can be disconnected.
    pub fn expire(&self, now: i64) -> Vec<H> {
        let mut expired = Vec::new();
        self.retain(|client| {
            let live = now - client.last_update <= CLIENT_EXPIRED_MS;
            if !live {
                expired.push(client.handle.clone());
            }
            live
        });
        expired
    }

    /// One client of the group, each in its turn.
    pub fn next(&self, group: &str) -> Option<Client<H>> {
        let groups = self.groups.read();
        let clients = groups.get(group)?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % clients.len();
        clients.values().nth(turn).cloned()
    }

    pub fn clients(&self, group: &str) -> Vec<Client<H>> {
        let groups = self.groups.read();
        groups
            .get(group)
            .map_or_else(Vec::new, |clients| clients.values().cloned().collect())
    }

    pub fn all(&self) -> BTreeMap<String, Vec<Client<H>>> {
        let groups = self.groups.read();
        groups
            .iter()
            .map(|(group, clients)| (group.clone(), clients.values().cloned().collect()))
            .collect()
    }

    fn retain(&self, mut keep: impl FnMut(&Client<H>) -> bool) {
        let mut groups = self.groups.write();
        groups.retain(|_, clients| {
            clients.retain(|_, client| keep(client));
            !clients.is_empty()
        });
        self.forget_absent(&groups);
    }

    /// Client ids whose connection is in no group any more are not found either.
    fn forget_absent(&self, groups: &HashMap<String, BTreeMap<u64, Client<H>>>) {
        let is_present = |client: &Client<H>| groups.values().any(|clients| clients.contains_key(&client.connection));
        self.by_client_id.write().retain(|_, client| is_present(client));
    }
}

impl<H: Clone> Consumers<H> {
    /// One group of a heartbeat. Type, model and start of the group become those of the last heartbeat. A new
    /// connection, a new topic or a topic that is no longer subscribed is a change; a newer version of a known
    /// subscription replaces it silently. `without_subscriptions`: the client says that they did not change.
    pub fn register(
        &self,
        data: ConsumerData,
        client: Client<H>,
        fingerprint: i32,
        without_subscriptions: bool,
        notify: bool,
    ) -> Registered<H> {
        let mut groups = self.groups.write();
        let group = groups.entry_ref(&data.group_name).or_insert_with(|| ConsumerGroup {
            consume_type: data.consume_type,
            message_model: data.message_model,
            consume_from_where: data.consume_from_where,
            subscriptions: HashMap::new(),
            clients: BTreeMap::new(),
            fingerprint,
        });
        let fingerprint_changed = group.fingerprint != fingerprint;
        group.fingerprint = fingerprint;
        group.consume_type = data.consume_type;
        group.message_model = data.message_model;
        group.consume_from_where = data.consume_from_where;
        let joined = group.clients.insert(client.connection, client).is_none();
        let resubscribed = !without_subscriptions && group.subscribe(data.subscription_data_set);
        let changed = joined || resubscribed;
        Registered {
            notice: (changed && notify).then(|| group.notice(&data.group_name)).flatten(),
            fingerprint_changed,
        }
    }

    pub fn unregister(&self, group: &str, connection: u64, notify: bool) -> Notice<H> {
        let mut groups = self.groups.write();
        let members = groups.get_mut(group)?;
        members.clients.remove(&connection);
        if members.clients.is_empty() {
            groups.remove(group);
            return None;
        }
        notify.then(|| members.notice(group)).flatten()
    }

    /// The connection is gone: it leaves every group, and whoever remains there is told.
    pub fn on_close(&self, connection: u64) -> Vec<GroupNotice<H>> {
        let is_member = |group: &ConsumerGroup<H>| group.clients.contains_key(&connection);
        if !self.groups.read().values().any(is_member) {
            return Vec::new();
        }
        let mut notices = Vec::new();
        self.groups.write().retain(|name, group| {
            if group.clients.remove(&connection).is_some() {
                notices.extend(group.notice(name));
            }
            !group.clients.is_empty()
        });
        notices
    }

    /// Drops members without a recent heartbeat. As in the original nobody is told: closing their connections is.
    pub fn expire(&self, now: i64, timeout_ms: i64) -> Vec<H> {
        let mut expired = Vec::new();
        self.groups.write().retain(|_, group| {
            group.clients.retain(|_, client| {
                let live = now - client.last_update <= timeout_ms;
                if !live {
                    expired.push(client.handle.clone());
                }
                live
            });
            !group.clients.is_empty()
        });
        expired
    }

    /// Keeps notices for later. The last one of a group says it all.
    pub fn defer(&self, notices: &[GroupNotice<H>]) {
        let mut deferred = self.deferred.lock();
        for notice in notices {
            deferred.insert(notice.group.clone(), notice.members.clone());
        }
    }

    /// Takes out what was kept.
    pub fn take_deferred(&self) -> Vec<GroupNotice<H>> {
        let deferred = std::mem::take(&mut *self.deferred.lock());
        deferred
            .into_iter()
            .map(|(group, members)| GroupNotice { group, members })
            .collect()
    }

    pub fn subscription(&self, group: &str, topic: &str) -> Option<Arc<SubscriptionData>> {
        self.groups.read().get(group)?.subscriptions.get(topic).cloned()
    }

    /// What pulls of the group need to know, or `None` while nobody of it is connected.
    pub fn group_info(&self, group: &str) -> Option<(ConsumeType, MessageModel)> {
        let groups = self.groups.read();
        groups.get(group).map(|group| (group.consume_type, group.message_model))
    }

    /// Reads one group.
    pub fn with_group<T>(&self, group: &str, read: impl FnOnce(&ConsumerGroup<H>) -> T) -> Option<T> {
        self.groups.read().get(group).map(read)
    }

    /// Reads all groups, which nobody changes meanwhile.
    pub fn each(&self, mut read: impl FnMut(&str, &ConsumerGroup<H>)) {
        self.groups.read().iter().for_each(|(name, group)| read(name, group));
    }

    pub fn client_ids(&self, group: &str) -> Vec<String> {
        self.with_group(group, |group| {
            let mut ids: Vec<String> = group.clients.values().map(|client| client.client_id.clone()).collect();
            ids.dedup();
            ids
        })
        .unwrap_or_default()
    }

    pub fn find(&self, group: &str, client_id: &str) -> Option<Client<H>> {
        self.with_group(group, |group| {
            let mut clients = group.clients.values();
            clients.find(|client| client.client_id == client_id).cloned()
        })
        .flatten()
    }

    /// Groups with a live subscription to the topic.
    pub fn groups_of(&self, topic: &str) -> Vec<String> {
        let groups = self.groups.read();
        groups
            .iter()
            .filter(|(_, group)| group.subscriptions.contains_key(topic))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

impl<H: Clone> ConsumerGroup<H> {
    /// Replaces what the group subscribes to; true when topics came or went.
    fn subscribe(&mut self, subscriptions: Vec<SubscriptionData>) -> bool {
        let mut changed = false;
        let mut gone: Vec<String> = self.subscriptions.keys().cloned().collect();
        for data in subscriptions {
            gone.retain(|topic| *topic != data.topic);
            match self.subscriptions.get_mut(&data.topic) {
                None => {
                    self.subscriptions.insert(data.topic.clone(), Arc::new(data));
                    changed = true;
                }
                Some(known) if data.sub_version > known.sub_version => *known = Arc::new(data),
                Some(_) => {}
            }
        }
        for topic in &gone {
            self.subscriptions.remove(topic);
        }
        changed || !gone.is_empty()
    }

    /// Members of a broadcasting group do not share queues, so they are never told.
    fn notice(&self, name: &str) -> Notice<H> {
        if self.message_model == MessageModel::Broadcasting || self.clients.is_empty() {
            return None;
        }
        Some(GroupNotice {
            group: name.to_owned(),
            members: self.clients.values().map(|client| client.handle.clone()).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
