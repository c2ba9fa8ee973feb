//! Which broker gets which logical queue of a static topic. Nothing here asks a broker.
//!
//! A logical queue has one leader, the broker of its last item, which holds all its items. Growing gives new queues to
//! brokers that have fewest and leaves the others alone. Remapping spreads the queues evenly over the wanted brokers and
//! moves no more of them than it has to: a broker takes queues or gives some away, never both.

use std::collections::{BTreeMap, BTreeSet};

use oxmq_client::TopicConfig;
use oxmq_protocol::body::{LogicQueueMappingItem, TopicConfigAndQueueMapping, TopicQueueMappingDetail};
use serde::{Deserialize, Serialize};

/// A later mapping has to be newer by this much, whatever clocks say.
const EPOCH_STEP_MS: i64 = 1000;
/// Logical offsets of a new leader begin at a multiple of this, behind those of the old one.
const BLOCK: i64 = 10_000;

/// A static topic on all brokers, in the form in which mqadmin keeps it in files.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Mapping {
    pub(super) broker_config_map: BTreeMap<String, TopicConfigAndQueueMapping>,
    /// Brokers that begin to lead a queue.
    pub(super) broker_to_map_in: BTreeSet<String>,
    /// Brokers that led it.
    pub(super) broker_to_map_out: BTreeSet<String>,
    pub(super) epoch: i64,
    pub(super) topic: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

impl Mapping {
    /// What brokers have now; it is refused when they do not agree.
    pub(super) fn of(
        topic: &str,
        brokers: BTreeMap<String, TopicConfigAndQueueMapping>,
        now_ms: i64,
    ) -> Result<Mapping, String> {
        let mut mapping = Mapping {
            epoch: now_ms,
            topic: topic.to_owned(),
            kind: "CREATE_OR_UPDATE".to_owned(),
            ..Mapping::default()
        };
        let mut agreed: Option<(i64, i32)> = None;
        for (name, config) in &brokers {
            let detail = config.mapping_detail.as_ref();
            let detail = detail.ok_or_else(|| format!("{topic} is no static topic on the broker {name}"))?;
            if detail.bname != *name || detail.topic != topic || detail.dirty {
                return Err(format!(
                    "the broker {name} holds the mapping of another broker or topic"
                ));
            }
            let this = (detail.epoch, detail.total_queues);
            if *agreed.get_or_insert(this) != this {
                return Err(format!(
                    "the broker {name} has another version of the mapping than the others"
                ));
            }
            mapping.epoch = detail.epoch;
        }
        mapping.broker_config_map = brokers;
        Ok(mapping)
    }

    /// Logical queue → the broker that leads it and all its items.
    fn queues(&self) -> BTreeMap<i32, (String, Vec<LogicQueueMappingItem>)> {
        let mut queues = BTreeMap::new();
        for (name, config) in &self.broker_config_map {
            let hosted = config.mapping_detail.iter().flat_map(|detail| &detail.hosted_queues);
            let led = hosted.filter(|(_, items)| items.last().is_some_and(|item| item.bname == *name));
            queues.extend(led.map(|(id, items)| (*id, (name.clone(), items.clone()))));
        }
        queues
    }

    /// The broker's part, an empty one if it has none yet.
    fn part(&mut self, name: &str) -> &mut TopicConfigAndQueueMapping {
        let topic = &self.topic;
        let none = || TopicConfigAndQueueMapping {
            config: TopicConfig::new(topic, 0, TopicConfig::default().perm),
            mapping_detail: Some(TopicQueueMappingDetail {
                bname: name.to_owned(),
                topic: topic.clone(),
                ..TopicQueueMappingDetail::default()
            }),
        };
        self.broker_config_map.entry(name.to_owned()).or_insert_with(none)
    }

    fn put(&mut self, name: &str, queue_id: i32, items: Vec<LogicQueueMappingItem>) {
        let detail = self.part(name).mapping_detail.get_or_insert_default();
        detail.hosted_queues.insert(queue_id, items);
    }

    /// Adds a physical queue to a broker; returns its id.
    fn add_queue(&mut self, name: &str) -> i32 {
        let config = &mut self.part(name).config;
        config.write_queue_nums += 1;
        config.read_queue_nums = config.read_queue_nums.max(config.write_queue_nums);
        config.write_queue_nums - 1
    }

    fn stamp(&mut self, total_queues: i32, now_ms: i64) {
        self.epoch = now_ms.max(self.epoch + EPOCH_STEP_MS);
        for config in self.broker_config_map.values_mut() {
            let detail = config.mapping_detail.get_or_insert_default();
            detail.epoch = self.epoch;
            detail.total_queues = total_queues;
        }
    }

    /// Lets the topic have so many logical queues, the new ones on these brokers and those that have some already.
    pub(super) fn grow(&mut self, total_queues: i32, targets: &BTreeSet<String>, now_ms: i64) -> Result<(), String> {
        let queues = self.queues();
        let known = queues.len() as i32;
        if total_queues <= known {
            return Err(format!(
                "a static topic can only get more queues: it has {known} and shall have {total_queues}"
            ));
        }
        let mut led: BTreeMap<String, i32> = targets.iter().map(|name| (name.clone(), 0)).collect();
        for name in self.broker_config_map.keys() {
            led.entry(name.clone()).or_default();
        }
        for (leader, _) in queues.values() {
            *led.entry(leader.clone()).or_default() += 1;
        }
        for queue_id in known..total_queues {
            let fewest = led.iter_mut().min_by_key(|(_, count)| **count);
            let (name, count) = fewest.ok_or("no broker is named")?;
            *count += 1;
            let name = name.clone();
            let item = LogicQueueMappingItem {
                bname: name.clone(),
                queue_id: self.add_queue(&name),
                ..LogicQueueMappingItem::default()
            };
            self.put(&name, queue_id, vec![item]);
        }
        self.stamp(total_queues, now_ms);
        Ok(())
    }

    /// Lets these brokers lead all queues.
    pub(super) fn remap(&mut self, targets: &BTreeSet<String>, now_ms: i64) -> Result<(), String> {
        let queues = self.queues();
        let total = queues.len();
        if total == 0 || targets.is_empty() {
            return Err("there are no queues or no brokers for them".to_owned());
        }
        // Who has most keeps most, so that few queues move.
        let mut by_count: Vec<(usize, &String)> = targets
            .iter()
            .map(|name| (queues.values().filter(|(leader, _)| leader == name).count(), name))
            .collect();
        by_count.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        let share = |index: usize| total / targets.len() + usize::from(index < total % targets.len());
        let mut room: BTreeMap<&String, usize> = by_count
            .iter()
            .enumerate()
            .map(|(index, (_, name))| (*name, share(index)))
            .collect();
        let mut homeless = Vec::new();
        for (queue_id, (leader, _)) in &queues {
            match room.get_mut(leader) {
                Some(left) if *left > 0 => *left -= 1,
                _ => homeless.push(*queue_id),
            }
        }
        let mut places = room
            .into_iter()
            .flat_map(|(name, left)| std::iter::repeat_n(name, left));
        self.kind = "REMAPPING".to_owned();
        for queue_id in homeless {
            let to = places.next().ok_or("the shares do not add up")?;
            let (from, items) = &queues[&queue_id];
            let mut items = items.clone();
            items.push(LogicQueueMappingItem {
                bname: to.clone(),
                generation: items.last().map_or(0, |last| last.generation + 1),
                logic_offset: -1,
                queue_id: self.add_queue(to),
                ..LogicQueueMappingItem::default()
            });
            self.put(to, queue_id, items.clone());
            self.put(from, queue_id, items);
            self.broker_to_map_in.insert(to.clone());
            self.broker_to_map_out.insert(from.clone());
        }
        self.stamp(total as i32, now_ms);
        Ok(())
    }

    /// Queues that were moved away from a broker and have no logical offset on their new leader: id and old item.
    pub(super) fn moved_from(&self, name: &str) -> Vec<(i32, LogicQueueMappingItem)> {
        let detail = self
            .broker_config_map
            .get(name)
            .and_then(|config| config.mapping_detail.as_ref());
        let hosted = detail.into_iter().flat_map(|detail| &detail.hosted_queues);
        let moved = hosted.filter_map(|(id, items)| match &items[..] {
            [.., old, new] if new.logic_offset <= 0 => Some((*id, old.clone())),
            _ => None,
        });
        moved.collect()
    }

    /// Lets the new leader of a queue go on behind the old one, which has messages up to this physical offset.
    pub(super) fn place(&mut self, queue_id: i32, from: &str, old_max: i64) {
        let detail = self.part(from).mapping_detail.get_or_insert_default();
        let Some(items) = detail.hosted_queues.get_mut(&queue_id) else {
            return;
        };
        if let [.., old, new] = &mut items[..] {
            new.logic_offset = round_up(old.to_logic(old_max));
        }
        let items = items.clone();
        if let Some(leader) = items.last().map(|item| item.bname.clone()) {
            self.put(&leader, queue_id, items);
        }
    }

    /// Gives brokers that hold nothing an empty part, so that all know the topic.
    pub(super) fn complete(&mut self, names: impl IntoIterator<Item = String>) {
        let known = self
            .broker_config_map
            .values()
            .find_map(|config| config.mapping_detail.as_ref());
        let total_queues = known.map_or(0, |detail| detail.total_queues);
        let epoch = self.epoch;
        for name in names {
            if !self.broker_config_map.contains_key(&name) {
                let detail = self.part(&name).mapping_detail.get_or_insert_default();
                detail.epoch = epoch;
                detail.total_queues = total_queues;
            }
        }
    }
}

/// To a block that is at least half a block away.
fn round_up(logic_offset: i64) -> i64 {
    let blocks = if logic_offset % BLOCK < BLOCK / 2 { 1 } else { 2 };
    (logic_offset / BLOCK).saturating_add(blocks).saturating_mul(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(bits: u8) -> BTreeSet<String> {
        (0..4)
            .filter(|bit| bits >> bit & 1 == 1)
            .map(|bit| format!("b{bit}"))
            .collect()
    }

    fn counts(mapping: &Mapping) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (leader, _) in mapping.queues().into_values() {
            *counts.entry(leader).or_default() += 1;
        }
        counts
    }

    fn check(mapping: &Mapping, total: i32) {
        let queues = mapping.queues();
        assert_eq!(
            queues.keys().copied().collect::<Vec<_>>(),
            (0..total).collect::<Vec<_>>()
        );
        let mut physical = BTreeSet::new();
        for (_, items) in queues.values() {
            for item in items {
                assert!(
                    physical.insert((item.bname.clone(), item.queue_id)),
                    "a queue is used twice"
                );
                assert!(item.queue_id < mapping.broker_config_map[&item.bname].config.write_queue_nums);
            }
            assert!(items.is_sorted_by_key(|item| item.generation));
        }
        let again = Mapping::of("t", mapping.broker_config_map.clone(), 0);
        assert_eq!(again.map(|again| again.epoch), Ok(mapping.epoch));
    }

    #[test]
    fn offsets_of_a_new_leader_are_well_behind() {
        assert_eq!([0, 4999, 5000, 12_345].map(round_up), [10_000, 10_000, 20_000, 20_000]);
    }

    #[test]
    fn brokers_have_to_agree() {
        let mut mapping = Mapping::of("t", BTreeMap::new(), 5).unwrap();
        mapping.grow(2, &names(3), 7).unwrap();
        assert_eq!(mapping.epoch, 1005);
        let mut brokers = mapping.broker_config_map.clone();
        brokers.get_mut("b1").unwrap().mapping_detail.as_mut().unwrap().epoch = 3;
        assert!(Mapping::of("t", brokers, 9).is_err());
        assert!(Mapping::of("other", mapping.broker_config_map.clone(), 9).is_err());
        assert!(mapping.grow(2, &names(3), 9).is_err());
    }

    proptest! {
        #[test]
        fn queues_are_spread_and_few_move(first in 1..16u8, more in 0..16u8, last in 1..16u8, few in 1..9i32, many in 1..9i32) {
            let mut mapping = Mapping::of("t", BTreeMap::new(), 5).unwrap();
            mapping.grow(few, &names(first), 10).unwrap();
            check(&mapping, few);
            mapping.grow(few + many, &names(more), 20).unwrap();
            check(&mapping, few + many);
            let before = counts(&mapping);
            mapping.remap(&names(last), 30).unwrap();
            check(&mapping, few + many);
            let after = counts(&mapping);
            prop_assert!(after.keys().all(|name| names(last).contains(name)));
            let shares: Vec<usize> = names(last).iter().map(|name| after.get(name).copied().unwrap_or(0)).collect();
            prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
            prop_assert!(mapping.broker_to_map_in.is_disjoint(&mapping.broker_to_map_out));
            for name in &mapping.broker_to_map_out.clone() {
                for (queue_id, _) in mapping.moved_from(name) {
                    mapping.place(queue_id, name, 7);
                }
                prop_assert!(mapping.moved_from(name).is_empty());
            }
            let kept = |name: &String| before.get(name).copied().unwrap_or(0).min(after[name]);
            let moved: usize = after.keys().map(|name| after[name] - kept(name)).sum();
            let new_items = mapping.queues().values().filter(|(_, items)| items.len() > 1).count();
            prop_assert_eq!(moved, new_items);
            check(&mapping, few + many);
        }
    }
}
