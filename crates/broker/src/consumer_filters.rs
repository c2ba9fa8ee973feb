//! The expressions that groups subscribe with, learned from heartbeats (spec: behaviour.md §4.4, storage.md §18.5).
//!
//! Owns `consumerFilter.json`, so that after a restart pulls are served before the first heartbeat. An entry lives while
//! its group subscribes; then it is dead, is still used by pulls, and is forgotten after `filterDataCleanTimeSpan`. A
//! version of the subscription never goes back: an older one is ignored, the same one revives a dead entry. A newer one
//! that does not compile removes the entry, and its pulls are refused.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use hashbrown::HashMap;
use oxmq_filter::{BloomFilter, Expression};
use oxmq_protocol::body::{EXPRESSION_TYPE_SQL92, SubscriptionData};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::config_file::{ConfigFile, Unsaved};
use crate::expression_cache::{Compiled, ExpressionCache};

/// Entries beyond these are not taken in, and their pulls are refused.
const ENTRIES_MAX: usize = 65_536;

/// After a restart everything counts as dead since this long before it.
const DEAD_BEFORE_LOAD_MS: i64 = 30_000;

pub struct ConsumerFilters {
    file: ConfigFile,
    unsaved: Unsaved,
    bloom: BloomFilter,
    cache: ExpressionCache,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    /// group → topic
    groups: HashMap<String, BTreeMap<String, Entry>>,
    count: usize,
}

struct Entry {
    data: FilterData,
    expression: Arc<Expression>,
}

/// An expression of a group, as pulls see it.
#[derive(Debug, Clone)]
pub(crate) struct Registered {
    pub(crate) expression: Arc<Expression>,
    pub(crate) client_version: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FilterData {
    bloom_filter_data: Option<BloomFilterData>,
    born_time: i64,
    client_version: i64,
    consumer_group: String,
    dead: bool,
    /// 0 while it lives.
    dead_time: i64,
    expression: String,
    expression_type: String,
    topic: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BloomFilterData {
    bit_num: u32,
    bit_pos: Vec<u32>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct FilterFile {
    filter_data_by_topic: BTreeMap<String, TopicFilters>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct TopicFilters {
    group_filter_data: BTreeMap<String, FilterData>,
    topic: String,
}

impl ConsumerFilters {
    /// Reads `config/consumerFilter.json`. Entries made with another Bloom filter are ignored, as in the original.
    pub fn open(file: ConfigFile, bloom: BloomFilter, now: i64) -> io::Result<ConsumerFilters> {
        let stored: FilterFile = file.load()?.unwrap_or_default();
        let filters = ConsumerFilters {
            file,
            unsaved: Unsaved::default(),
            bloom,
            cache: ExpressionCache::default(),
            state: RwLock::default(),
        };
        let mut state = State::default();
        let topics = stored.filter_data_by_topic.into_values();
        for mut data in topics.flat_map(|topic| topic.group_filter_data.into_values()) {
            let key = (data.consumer_group.clone(), data.topic.clone());
            if data.bloom_filter_data != Some(filters.bloom_of(&key.0, &key.1)) {
                tracing::info!(
                    group = key.0,
                    topic = key.1,
                    "an expression kept with another bloom filter is ignored"
                );
                continue;
            }
            if data.dead_time == 0 {
                data.die((now - DEAD_BEFORE_LOAD_MS).max(data.born_time));
            }
            match filters.compile(&data.expression_type, &data.expression) {
                Ok(expression) => state.insert(Entry { data, expression }),
                Err(error) => tracing::warn!(group = key.0, topic = key.1, error, "a kept expression is ignored"),
            }
        }
        *filters.state.write() = state;
        Ok(filters)
    }

    /// Takes in what a heartbeat says of a group. What it does not mention is dead.
    pub(crate) fn register(&self, group: &str, subscriptions: &[SubscriptionData], now: i64) {
        for subscription in subscriptions.iter().filter(|subscription| !subscription.is_tag_type()) {
            self.register_one(group, subscription, now);
        }
        let is_gone = |topic: &str| subscriptions.iter().all(|subscription| subscription.topic != topic);
        self.bury(group, is_gone, now);
    }

    /// What groups filter by of which nobody is connected is dead.
    pub(crate) fn expire(&self, is_online: impl Fn(&str) -> bool, now: i64) {
        let offline: Vec<String> = {
            let state = self.state.read();
            let groups = state.groups.keys().filter(|group| !is_online(group));
            groups.cloned().collect()
        };
        for group in offline {
            self.bury(&group, |_| true, now);
        }
    }

    pub(crate) fn get(&self, group: &str, topic: &str) -> Option<Registered> {
        let state = self.state.read();
        let entry = state.groups.get(group)?.get(topic)?;
        Some(Registered {
            expression: Arc::clone(&entry.expression),
            client_version: entry.data.client_version,
        })
    }

    /// All expressions of a group by their topic.
    pub(crate) fn of_group(&self, group: &str) -> BTreeMap<String, Arc<Expression>> {
        let state = self.state.read();
        let topics = state.groups.get(group).into_iter().flatten();
        topics
            .map(|(topic, entry)| (topic.clone(), Arc::clone(&entry.expression)))
            .collect()
    }

    /// As JSON, for administrators.
    pub(crate) fn data(&self, group: &str, topic: &str) -> Option<FilterData> {
        let state = self.state.read();
        Some(state.groups.get(group)?.get(topic)?.data.clone())
    }

    /// The expression, or in words why there is none.
    pub(crate) fn compile(&self, expression_type: &str, expression: &str) -> Result<Arc<Expression>, String> {
        if expression_type != EXPRESSION_TYPE_SQL92 {
            return Err(format!("there are no expressions of type {expression_type}"));
        }
        let compiled: Compiled = self.cache.compile(expression);
        compiled.map_err(|error| error.to_string())
    }

    /// Forgets what is dead for longer than `span_ms`.
    pub(crate) fn clean(&self, now: i64, span_ms: u64) {
        let is_old = |entry: &Entry| {
            let dead_for = now.saturating_sub(entry.data.dead_time);
            entry.data.dead && u64::try_from(dead_for).is_ok_and(|dead_for| dead_for >= span_ms)
        };
        if !self.state.read().groups.values().flat_map(BTreeMap::values).any(is_old) {
            return;
        }
        let mut state = self.state.write();
        let mut count = 0;
        state.groups.retain(|_, topics| {
            topics.retain(|_, entry| !is_old(entry));
            count += topics.len();
            !topics.is_empty()
        });
        state.count = count;
        self.unsaved.mark();
    }

    /// Writes the file if anything changed since it was written.
    pub fn persist(&self) -> io::Result<()> {
        self.unsaved.save(|| self.file.save(&self.stored()))
    }

    fn register_one(&self, group: &str, subscription: &SubscriptionData, now: i64) {
        let (topic, version) = (&subscription.topic, subscription.sub_version);
        let (kind, text) = (&subscription.expression_type, &subscription.sub_string);
        let known = self.data(group, topic);
        if let Some(known) = &known
            && version <= known.client_version
            && !(version == known.client_version && known.dead)
        {
            return;
        }
        let is_same = |known: &FilterData| {
            known.client_version == version || (known.expression == *text && known.expression_type == *kind)
        };
        let compiled = match known {
            Some(known) if is_same(&known) => None,
            _ if text.is_empty() => return,
            _ => Some(self.compile(kind, text)),
        };
        let mut state = self.state.write();
        match compiled {
            None => state.revive(group, topic, version),
            Some(Ok(expression)) if state.count < ENTRIES_MAX => {
                tracing::info!(
                    group,
                    topic,
                    version,
                    expression = text,
                    "a group filters by an expression"
                );
                let data = FilterData {
                    bloom_filter_data: Some(self.bloom_of(group, topic)),
                    born_time: now,
                    client_version: version,
                    consumer_group: group.to_owned(),
                    dead: false,
                    dead_time: 0,
                    expression: text.clone(),
                    expression_type: kind.clone(),
                    topic: topic.clone(),
                };
                state.insert(Entry { data, expression });
            }
            Some(Ok(_)) => tracing::warn!(group, topic, "there are too many expressions for one more"),
            Some(Err(error)) => {
                tracing::warn!(group, topic, expression = text, error, "an expression is refused");
                if !state.remove(group, topic) {
                    return;
                }
            }
        }
        self.unsaved.mark();
    }

    fn bury(&self, group: &str, is_gone: impl Fn(&str) -> bool, now: i64) {
        let dies = |topic: &str, entry: &Entry| !entry.data.dead && is_gone(topic);
        let concerned = {
            let state = self.state.read();
            let mut topics = state.groups.get(group).into_iter().flatten();
            topics.any(|(topic, entry)| dies(topic, entry))
        };
        if !concerned {
            return;
        }
        let mut state = self.state.write();
        for (topic, entry) in state.groups.get_mut(group).into_iter().flatten() {
            if dies(topic, entry) {
                entry.data.die(now);
            }
        }
        self.unsaved.mark();
    }

    fn bloom_of(&self, group: &str, topic: &str) -> BloomFilterData {
        BloomFilterData {
            bit_num: self.bloom.bits(),
            bit_pos: self.bloom.positions(&format!("{group}#{topic}")),
        }
    }

    fn stored(&self) -> FilterFile {
        let mut file = FilterFile::default();
        let state = self.state.read();
        for entry in state.groups.values().flat_map(BTreeMap::values) {
            let data = entry.data.clone();
            let topic = file.filter_data_by_topic.entry(data.topic.clone()).or_default();
            topic.topic.clone_from(&data.topic);
            topic.group_filter_data.insert(data.consumer_group.clone(), data);
        }
        file
    }
}

impl State {
    fn insert(&mut self, entry: Entry) {
        let topics = self.groups.entry_ref(&entry.data.consumer_group).or_default();
        let replaced = topics.insert(entry.data.topic.clone(), entry);
        self.count += usize::from(replaced.is_none());
    }

    fn remove(&mut self, group: &str, topic: &str) -> bool {
        let Some(topics) = self.groups.get_mut(group) else {
            return false;
        };
        let removed = topics.remove(topic).is_some();
        if topics.is_empty() {
            self.groups.remove(group);
        }
        self.count -= usize::from(removed);
        removed
    }

    fn revive(&mut self, group: &str, topic: &str, version: i64) {
        let entry = self.groups.get_mut(group).and_then(|topics| topics.get_mut(topic));
        if let Some(Entry { data, .. }) = entry {
            data.client_version = version;
            data.dead = false;
            data.dead_time = 0;
        }
    }
}

impl FilterData {
    fn die(&mut self, at: i64) {
        self.dead_time = at;
        self.dead = true;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use oxmq_protocol::json;

    use super::*;

    fn open(folder: &Path, now: i64) -> ConsumerFilters {
        let file = ConfigFile::in_folder(folder, "consumerFilter.json");
        ConsumerFilters::open(file, BloomFilter::new(20, 32), now).unwrap()
    }

    fn sql(topic: &str, expression: &str, version: i64) -> SubscriptionData {
        SubscriptionData {
            topic: topic.into(),
            expression_type: EXPRESSION_TYPE_SQL92.into(),
            sub_string: expression.into(),
            sub_version: version,
            ..SubscriptionData::default()
        }
    }

    fn known(filters: &ConsumerFilters, topic: &str) -> Option<(String, i64, bool)> {
        let data = filters.data("g", topic)?;
        Some((data.expression, data.client_version, data.dead))
    }

    #[test]
    fn versions_do_not_go_back() {
        let folder = tempfile::tempdir().unwrap();
        let filters = open(folder.path(), 0);
        let register = |expression: &str, version| filters.register("g", &[sql("t", expression, version)], 1000);
        let is = |expression: &str, version, dead| {
            assert_eq!(known(&filters, "t"), Some((expression.into(), version, dead)));
        };
        register("a = 1", 5);
        is("a = 1", 5, false);
        register("a = 2", 5);
        register("a = 2", 4);
        is("a = 1", 5, false);
        register("a = 1", 6);
        is("a = 1", 6, false);
        register("a = 2", 7);
        is("a = 2", 7, false);
        filters.expire(|group| group != "g", 2000);
        is("a = 2", 7, true);
        register("a = 2", 6);
        is("a = 2", 7, true);
        register("a = 9", 7);
        is("a = 2", 7, false);
        assert!(filters.get("g", "t").unwrap().expression.matches(b"a\x012\x02"));
    }

    #[test]
    fn what_does_not_compile_takes_the_old_expression_away() {
        let folder = tempfile::tempdir().unwrap();
        let filters = open(folder.path(), 0);
        filters.register("g", &[sql("t", "a >", 5)], 1000);
        assert_eq!(known(&filters, "t"), None);
        filters.register("g", &[sql("t", "a > 5", 6)], 1000);
        assert!(known(&filters, "t").is_some());
        filters.register("g", &[sql("t", "a >", 7)], 1000);
        assert_eq!(known(&filters, "t"), None);
        let other_type = SubscriptionData {
            expression_type: "XPATH".into(),
            ..sql("t", "a > 5", 8)
        };
        filters.register("g", &[other_type], 1000);
        assert_eq!(known(&filters, "t"), None);
    }

    #[test]
    fn what_a_heartbeat_leaves_out_dies_and_is_forgotten_later() {
        let folder = tempfile::tempdir().unwrap();
        let filters = open(folder.path(), 0);
        filters.register("g", &[sql("t", "a = 1", 5), sql("u", "a = 2", 5)], 1000);
        let tags = SubscriptionData::parse("u", "x", 6).unwrap();
        filters.register("g", &[tags], 2000);
        assert_eq!(known(&filters, "t").map(|(_, _, dead)| dead), Some(true));
        // As in the original: a topic that is subscribed in another way keeps its old expression alive.
        assert_eq!(known(&filters, "u").map(|(_, _, dead)| dead), Some(false));
        filters.clean(2000 + 99, 100);
        assert!(filters.get("g", "t").is_some());
        filters.clean(2000 + 100, 100);
        assert!(filters.get("g", "t").is_none() && filters.get("g", "u").is_some());
        assert_eq!(filters.of_group("g").len(), 1);
    }

    #[test]
    fn a_restart_finds_expressions_that_wait_for_their_groups() {
        let folder = tempfile::tempdir().unwrap();
        let filters = open(folder.path(), 0);
        filters.register("g", &[sql("t", "a = 1", 5)], 90_000);
        filters.register("h", &[sql("t", "a = 2", 5)], 50_000);
        filters.persist().unwrap();
        let filters = open(folder.path(), 100_000);
        let dead_time = |group: &str| filters.data(group, "t").map(|data| (data.dead, data.dead_time));
        assert_eq!(dead_time("g"), Some((true, 90_000)));
        assert_eq!(dead_time("h"), Some((true, 70_000)));
        assert_eq!(filters.get("h", "t").unwrap().client_version, 5);
        filters.register("h", &[sql("t", "a = 2", 5)], 100_500);
        assert_eq!(dead_time("h"), Some((false, 0)));
    }

    #[test]
    fn another_bloom_filter_makes_the_file_worthless() {
        let folder = tempfile::tempdir().unwrap();
        let filters = open(folder.path(), 0);
        filters.register("g", &[sql("t", "a = 1", 5)], 1000);
        filters.persist().unwrap();
        let file = ConfigFile::in_folder(folder.path(), "consumerFilter.json");
        let filters = ConsumerFilters::open(file, BloomFilter::new(10, 32), 0).unwrap();
        assert!(filters.get("g", "t").is_none());
    }

    #[test]
    fn the_file_has_the_form_of_the_original() {
        let folder = tempfile::tempdir().unwrap();
        let filters = open(folder.path(), 0);
        filters.register("group_a", &[sql("OrderTopic", "color = 'red'", 7)], 1000);
        let written = String::from_utf8(json::to_vec(&filters.stored())).unwrap();
        let expected = "{\"filterDataByTopic\":{\"OrderTopic\":{\"groupFilterData\":{\"group_a\":{\"bloomFilterData\":\
                        {\"bitNum\":112,\"bitPos\":[102,77,33]},\"bornTime\":1000,\"clientVersion\":7,\
                        \"consumerGroup\":\"group_a\",\"dead\":false,\"deadTime\":0,\"expression\":\"color = 'red'\",\
                        \"expressionType\":\"SQL92\",\"topic\":\"OrderTopic\"}},\"topic\":\"OrderTopic\"}}}";
        assert_eq!(written, expected);
    }
}
