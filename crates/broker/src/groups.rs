//! The consumer groups of this broker and what they may not read (spec: behaviour.md §5.1, storage.md §18.4).
//!
//! Owns `subscriptionGroup.json`. A change is in memory when the call returns and on disk after [`Groups::persist`],
//! which administrative requests wait for; groups created by their first heartbeat are saved right afterwards.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use hashbrown::HashMap;
use oxmq_protocol::body::{DataVersion, SubscriptionGroupConfig};
use oxmq_protocol::topic;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attributes::{self, AttributeError};
use crate::config_file::{ConfigFile, Unsaved};

/// Bit of the forbidden mask that takes the right to read: Java shifts by the index of the permission.
const READ_FORBIDDEN: i32 = 1 << 2;

const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

/// When an unknown group comes into being by being used.
#[derive(Debug, Clone, Copy)]
pub struct AutoCreate {
    /// `autoCreateSubscriptionGroup`
    pub any: bool,
    /// `enableCreateSysGroup`: those that start with `CID_RMQ_SYS_`.
    pub system: bool,
}

pub struct Groups {
    file: ConfigFile,
    unsaved: Unsaved,
    state: RwLock<State>,
    has_light_queues: bool,
}

/// group → topic → mask
pub type ForbiddenTable = BTreeMap<String, BTreeMap<String, i32>>;

#[derive(Default)]
struct State {
    version: DataVersion,
    table: HashMap<String, Arc<SubscriptionGroupConfig>>,
    forbidden: ForbiddenTable,
    /// Members of the stored configs that this version does not know.
    unknown: HashMap<String, Map<String, Value>>,
    /// Members of the file that this version does not know.
    unknown_members: Map<String, Value>,
}

/// Unknown members are kept, so that a newer broker finds them again.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct GroupFile {
    data_version: DataVersion,
    forbidden_table: ForbiddenTable,
    subscription_group_table: BTreeMap<String, StoredGroup>,
    #[serde(flatten)]
    unknown_members: Map<String, Value>,
}

#[derive(Serialize, Deserialize, Default)]
struct StoredGroup {
    #[serde(flatten)]
    config: SubscriptionGroupConfig,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

impl Groups {
    /// Reads `config/subscriptionGroup.json` and adds the groups that every broker has.
    pub fn open(file: ConfigFile, has_light_queues: bool) -> io::Result<Groups> {
        let stored: GroupFile = file.load()?.unwrap_or_default();
        let mut state = State {
            version: stored.data_version,
            forbidden: stored.forbidden_table,
            unknown_members: stored.unknown_members,
            ..State::default()
        };
        for (name, group) in stored.subscription_group_table {
            if topic::validate_group(&name).is_err() {
                tracing::warn!(
                    group = name,
                    "subscriptionGroup.json holds an illegal name, which is ignored"
                );
                continue;
            }
            if !group.unknown.is_empty() {
                state.unknown.insert(name.clone(), group.unknown);
            }
            state.table.insert(name, Arc::new(group.config));
        }
        for name in topic::SYSTEM_GROUPS {
            state
                .table
                .entry_ref(name)
                .or_insert_with(|| Arc::new(SubscriptionGroupConfig::new(name)));
        }
        Ok(Groups {
            file,
            unsaved: Unsaved::default(),
            state: RwLock::new(state),
            has_light_queues,
        })
    }

    /// A group of light queues exists as soon as it is named.
    pub fn get(&self, group: &str) -> Option<Arc<SubscriptionGroupConfig>> {
        if self.has_light_queues && topic::is_lmq(group) {
            return Some(Arc::new(SubscriptionGroupConfig::new(group)));
        }
        self.state.read().table.get(group).cloned()
    }

    pub fn contains(&self, group: &str) -> bool {
        (self.has_light_queues && topic::is_lmq(group)) || self.state.read().table.contains_key(group)
    }

    /// The group, created with default settings if that is allowed and its name is legal.
    pub fn get_or_create(&self, group: &str, auto: AutoCreate, now: i64) -> Option<Arc<SubscriptionGroupConfig>> {
        if let Some(known) = self.get(group) {
            return Some(known);
        }
        let allowed = auto.any || (auto.system && group.starts_with(SYSTEM_GROUP_PREFIX));
        if !allowed || topic::validate_group(group).is_err() {
            return None;
        }
        let mut state = self.state.write();
        let mut created = false;
        let config = state.table.entry_ref(group).or_insert_with(|| {
            created = true;
            Arc::new(SubscriptionGroupConfig::new(group))
        });
        let config = Arc::clone(config);
        if created {
            self.changed(&mut state, now);
        }
        Some(config)
    }

    /// Creates or replaces groups on behalf of an administrator: all of them, or none on an error. The attributes of
    /// `configs` are changes with signed keys.
    pub fn update(&self, configs: Vec<SubscriptionGroupConfig>, now: i64) -> Result<(), AttributeError> {
        let mut state = self.state.write();
        let mut checked = Vec::with_capacity(configs.len());
        for config in configs {
            let current = state.table.get(&config.group_name).map(|known| &known.attributes);
            let attributes = attributes::apply_changes(attributes::GROUP, current, &config.attributes)?;
            checked.push(SubscriptionGroupConfig { attributes, ..config });
        }
        for config in checked {
            state.table.insert(config.group_name.clone(), Arc::new(config));
        }
        self.changed(&mut state, now);
        Ok(())
    }

    pub fn delete(&self, group: &str, now: i64) {
        let mut state = self.state.write();
        state.forbidden.remove(group);
        state.unknown.remove(group);
        if state.table.remove(group).is_some() {
            self.changed(&mut state, now);
        }
    }

    pub fn is_read_forbidden(&self, group: &str, topic: &str) -> bool {
        let state = self.state.read();
        let mask = state.forbidden.get(group).and_then(|topics| topics.get(topic));
        mask.is_some_and(|mask| mask & READ_FORBIDDEN != 0)
    }

    pub fn set_read_forbidden(&self, group: &str, topic: &str, forbidden: bool, now: i64) {
        let mut state = self.state.write();
        let topics = state.forbidden.entry(group.to_owned()).or_default();
        let mask = topics.get(topic).copied().unwrap_or(0) & !READ_FORBIDDEN;
        match mask | if forbidden { READ_FORBIDDEN } else { 0 } {
            0 => topics.remove(topic),
            mask => topics.insert(topic.to_owned(), mask),
        };
        if topics.is_empty() {
            state.forbidden.remove(group);
        }
        self.changed(&mut state, now);
    }

    /// All groups with the version and prohibitions they belong to.
    pub fn snapshot(&self) -> (DataVersion, Vec<Arc<SubscriptionGroupConfig>>, ForbiddenTable) {
        let state = self.state.read();
        (
            state.version,
            state.table.values().cloned().collect(),
            state.forbidden.clone(),
        )
    }

    pub fn count(&self) -> usize {
        self.names().len()
    }

    pub fn names(&self) -> Vec<String> {
        self.state.read().table.keys().cloned().collect()
    }

    /// Waits until there is something to save.
    pub(crate) async fn wait_unsaved(&self) {
        self.unsaved.changed().await;
    }

    /// Writes the file if anything changed since it was written.
    pub fn persist(&self) -> io::Result<()> {
        self.unsaved.save(|| self.file.save(&self.stored()))
    }

    fn stored(&self) -> GroupFile {
        let state = self.state.read();
        let stored = |(name, config): (&String, &Arc<SubscriptionGroupConfig>)| {
            let unknown = state.unknown.get(name).cloned().unwrap_or_default();
            let config = SubscriptionGroupConfig::clone(config);
            (name.clone(), StoredGroup { config, unknown })
        };
        GroupFile {
            data_version: state.version,
            forbidden_table: state.forbidden.clone(),
            subscription_group_table: state.table.iter().map(stored).collect(),
            unknown_members: state.unknown_members.clone(),
        }
    }

    fn changed(&self, state: &mut State, now: i64) {
        state.version.advance(now);
        self.unsaved.mark();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const ANY: AutoCreate = AutoCreate {
        any: true,
        system: false,
    };
    const SYSTEM: AutoCreate = AutoCreate {
        any: false,
        system: true,
    };

    fn open(folder: &Path) -> Groups {
        Groups::open(ConfigFile::in_folder(folder, "subscriptionGroup.json"), false).unwrap()
    }

    #[test]
    fn unknown_groups_are_created_where_that_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let groups = open(folder.path());
        assert!(groups.get_or_create("g", SYSTEM, 1).is_none());
        assert!(groups.get_or_create("CID_RMQ_SYS_x", SYSTEM, 1).is_some());
        let created = groups.get_or_create("g", ANY, 2).unwrap();
        assert_eq!((created.retry_queue_nums, created.retry_max_times), (1, 16));
        assert!(groups.get_or_create("bad group", ANY, 2).is_none());
        assert!(groups.get_or_create(&"g".repeat(121), ANY, 2).is_none());
        assert!(groups.contains("TOOLS_CONSUMER"));
        let (version, all, _) = groups.snapshot();
        assert_eq!((version.counter, version.timestamp), (2, 2));
        assert_eq!(all.len(), topic::SYSTEM_GROUPS.len() + 2);
    }

    #[test]
    fn groups_and_prohibitions_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let groups = open(folder.path());
        let config = SubscriptionGroupConfig {
            retry_max_times: 3,
            ..SubscriptionGroupConfig::new("g")
        };
        groups.update(vec![config], 1).unwrap();
        groups.set_read_forbidden("g", "orders", true, 1);
        groups.persist().unwrap();
        let groups = open(folder.path());
        assert_eq!(groups.get("g").unwrap().retry_max_times, 3);
        assert!(groups.is_read_forbidden("g", "orders"));
        assert!(!groups.is_read_forbidden("g", "other"));
        groups.set_read_forbidden("g", "orders", false, 1);
        assert!(!groups.is_read_forbidden("g", "orders"));
        assert!(groups.snapshot().2.is_empty());
        groups.set_read_forbidden("g", "orders", true, 1);
        groups.delete("g", 1);
        assert!(!groups.is_read_forbidden("g", "orders") && !groups.contains("g"));
    }

    #[test]
    fn the_file_of_a_java_broker_is_read_and_its_unknown_members_kept() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"dataVersion":{"counter":5,"stateVersion":0,"timestamp":1757000000789},
            "forbiddenTable":{"group_a":{"OrderTopic":4}},"subscriptionGroupTable":{"group_a":{"attributes":{},
            "brokerId":0,"consumeBroadcastEnable":false,"consumeEnable":true,"consumeFromMinEnable":true,
            "consumeMessageOrderly":false,"consumeTimeoutMinute":15,"groupName":"group_a","colour":"red",
            "groupRetryPolicy":{"type":"CUSTOMIZED"},"groupSysFlag":0,"notifyConsumerIdsChangedEnable":true,
            "retryMaxTimes":16,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}}}"#;
        std::fs::write(folder.path().join("subscriptionGroup.json"), text).unwrap();
        let groups = open(folder.path());
        assert!(groups.is_read_forbidden("group_a", "OrderTopic"));
        assert!(!groups.get("group_a").unwrap().consume_broadcast_enable);
        groups.get_or_create("g", ANY, 1);
        groups.persist().unwrap();
        let written = std::fs::read_to_string(folder.path().join("subscriptionGroup.json")).unwrap();
        assert!(written.contains(r#""colour":"red""#), "{written}");
    }
}
