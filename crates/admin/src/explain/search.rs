//! Looks for the message, and for everything else that has its id.

use crate::progress::followed;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use oxmq_protocol::body::GroupList;
use oxmq_protocol::message::{MessageExt, decode_messages};
use oxmq_protocol::message_id::{OffsetMessageId, unique_id_timestamp_ms};
use oxmq_protocol::requests::{QueryMessageHeader, TopicHeader, ViewMessageHeader, request};
use oxmq_protocol::{pop, topic};

use super::facts::{BrokerFacts, FromId, GroupFacts, Place, Record, TraceEvent, trace_events};
use super::gather::{Gathering, Question};

/// Topics that are asked when none is named.
const TOPICS_MAX: usize = 1000;
const GROUPS_MAX: usize = 64;
/// Messages with one key.
const FOUND_MAX: i32 = 32;
/// Search around the time in an id that the index does not know.
const AROUND_ID_MS: i64 = 60_000;
const AROUND_ID_MAX: usize = 10_000;

impl Gathering {
    /// The message itself, or several that have the key.
    pub(super) async fn find(&mut self, question: &Question) {
        let text = &question.text;
        let now = Timestamp::from_millisecond(self.facts.now_ms).unwrap_or_default();
        let utc_offset_ms = i64::from(TimeZone::system().to_offset(now).seconds()) * 1000;
        self.facts.from_id = FromId {
            made_ms: unique_id_timestamp_ms(text, self.facts.now_ms, utc_offset_ms).ok(),
            place: None,
        };
        let at: Option<OffsetMessageId> = text.parse().ok();
        // Ids of both kinds look alike: one that names none of the brokers is the other kind.
        let named = at.and_then(|id| {
            let broker = self
                .facts
                .brokers
                .iter()
                .find(|broker| broker.addr == id.store_host.to_string())?;
            Some((id, broker.name.clone(), broker.addr.clone()))
        });
        let mut found = Vec::new();
        if let Some((id, name, addr)) = named {
            self.facts.from_id = FromId {
                made_ms: None,
                place: Some((name.clone(), id.physical_offset)),
            };
            let header = ViewMessageHeader {
                topic: None,
                offset: id.physical_offset,
            };
            // A broker that has nothing there says so with an error.
            if let Ok(reply) = self.ask.call::<request::ViewMessageById>(&addr, &header).await
                && let Ok(messages) = decode_messages(&reply.body, true)
            {
                found = messages;
            }
            found
                .iter_mut()
                .for_each(|message| name.clone_into(&mut message.broker_name));
            self.add(found, false, &[]);
            return;
        }
        let topics = self.topics_to_ask(question);
        for unique in [true, false] {
            for topic in &topics {
                found.extend(self.query(topic, text, unique).await);
                if unique && !found.is_empty() {
                    break;
                }
            }
            if let Some(topic) = &question.topic {
                // What waits has other topics, too.
                found.retain(|message| is_for(message, topic));
            }
            if !found.is_empty() {
                break;
            }
        }
        let indexed = !found.is_empty();
        if let (true, Some(topic), Some(made)) = (found.is_empty(), &question.topic, self.facts.from_id.made_ms) {
            let (begin, end) = (made - AROUND_ID_MS, made + AROUND_ID_MS);
            let read = self
                .ask
                .admin
                .query_message_by_time(topic, begin, end, AROUND_ID_MAX)
                .await;
            let read = self.noted("queues", read).unwrap_or_default();
            found = read
                .into_iter()
                .filter(|message| message.unique_id() == Some(text))
                .collect();
        }
        self.facts.searched.topics = topics;
        self.newest_of(&mut found);
        self.add(found, indexed, &[]);
    }

    /// Keys may belong to several messages; the newest is explained.
    fn newest_of(&mut self, found: &mut Vec<MessageExt>) {
        found.sort_by_key(|message| message.store_timestamp);
        let Some(newest) = found.last().map(MessageExt::msg_id) else {
            return;
        };
        let others = found.iter().filter(|message| message.msg_id() != newest);
        let mut seen = BTreeSet::new();
        let lines = others.filter(|message| seen.insert(message.msg_id())).map(|message| {
            format!(
                "{} in {}@{}:{} at offset {}",
                message.msg_id(),
                message.topic,
                message.broker_name,
                message.queue_id,
                message.queue_offset
            )
        });
        self.facts.others = lines.collect();
        found.retain(|message| message.msg_id() == newest);
    }

    /// Topics of applications first, then what waits, then copies.
    fn topics_to_ask(&mut self, question: &Question) -> Vec<String> {
        if let Some(topic) = &question.topic {
            let waiting = [topic::SCHEDULE_TOPIC, topic::TIMER_TOPIC, topic::TRANS_HALF_TOPIC];
            return std::iter::once(topic.clone())
                .chain(waiting.map(str::to_owned))
                .collect();
        }
        let all: BTreeSet<&String> = self.topics.values().flat_map(BTreeMap::keys).collect();
        let asked = [
            topic::SCHEDULE_TOPIC,
            topic::TIMER_TOPIC,
            topic::TRANS_HALF_TOPIC,
            topic::TRANS_CHECK_MAX_TIME_TOPIC,
        ];
        let rank = |name: &str| match () {
            () if asked.contains(&name) => Some(1),
            () if topic::is_retry(name) || topic::is_dlq(name) => Some(2),
            () if topic::is_system_topic(name) || self.topics.contains_key(name) => None,
            () => Some(0),
        };
        let mut topics: Vec<(i32, String)> = all
            .into_iter()
            .filter_map(|name| Some((rank(name)?, name.clone())))
            .collect();
        topics.sort();
        self.facts.searched.topics_left_out = topics.len().saturating_sub(TOPICS_MAX);
        topics.truncate(TOPICS_MAX);
        topics.into_iter().map(|(_, name)| name).collect()
    }

    /// Asks each broker that has the topic, by unique id or by key.
    async fn query(&mut self, topic: &str, text: &str, unique: bool) -> Vec<MessageExt> {
        let header = QueryMessageHeader {
            topic: topic.to_owned(),
            key: text.to_owned(),
            max_num: FOUND_MAX,
            begin_timestamp: 0,
            end_timestamp: i64::MAX,
            unique_key_query: unique,
            ..QueryMessageHeader::default()
        };
        let mut found = Vec::new();
        let has_topic =
            |broker: &&BrokerFacts| self.topics.get(&broker.name).is_some_and(|all| all.contains_key(topic));
        let brokers: Vec<_> = self.facts.brokers.iter().filter(has_topic).cloned().collect();
        for broker in brokers {
            let answer = self.ask.query(&broker.name, &broker.addr, &header).await;
            found.extend(self.noted(&broker.name, answer).unwrap_or_default());
        }
        found.retain(|message| {
            let has_it = match unique {
                true => message.unique_id() == Some(text),
                false => message.keys().any(|key| key == text),
            };
            message.topic == topic && has_it
        });
        found
    }

    /// Adds records, each once.
    fn add(&mut self, messages: Vec<MessageExt>, indexed: bool, groups: &[String]) {
        for message in messages {
            let same = |record: &&mut Record| {
                let known = &record.message;
                (
                    known.broker_name == message.broker_name,
                    known.physical_offset,
                    known.queue_offset,
                ) == (true, message.physical_offset, message.queue_offset)
            };
            if let Some(known) = self.facts.records.iter_mut().find(same) {
                known.indexed |= indexed;
                known.place = Place::of(&known.message.topic, groups);
                continue;
            }
            let place = Place::of(&message.topic, groups);
            self.facts.records.push(Record {
                message,
                place,
                indexed,
            });
        }
        self.facts.records.sort_by_key(|record| record.message.store_timestamp);
    }

    /// Everything else that has the id of the message.
    pub(super) async fn copies(&mut self, question: &Question) {
        let Some(first) = self.facts.records.last() else { return };
        let first_topic = first.first_topic().to_owned();
        let groups = self.groups_of(&first_topic, question.group.as_deref()).await;
        let messages: Vec<_> = self.facts.records.iter().map(|record| record.message.clone()).collect();
        let Some(unique_id) = messages
            .last()
            .and_then(|message| message.unique_id())
            .map(str::to_owned)
        else {
            self.add(messages, false, &groups);
            return self.named_groups(groups, first_topic);
        };
        let waiting = [
            topic::SCHEDULE_TOPIC,
            topic::TIMER_TOPIC,
            topic::TRANS_HALF_TOPIC,
            topic::TRANS_CHECK_MAX_TIME_TOPIC,
        ];
        let mut topics: Vec<String> = waiting.map(str::to_owned).to_vec();
        topics.push(first_topic.clone());
        for group in &groups {
            topics.push(topic::retry_topic(group));
            topics.push(topic::dlq_topic(group));
            topics.push(pop::retry_topic_v1(&first_topic, group));
            topics.push(pop::retry_topic_v2(&first_topic, group));
        }
        // Refreshes the places of what was found before the groups were known.
        self.add(messages, false, &groups);
        for topic in followed("topics", topics) {
            let found = self.query(&topic, &unique_id, true).await;
            self.add(found, true, &groups);
        }
        for message in self.query_trace(&unique_id).await {
            let body = String::from_utf8_lossy(&message.body).into_owned();
            self.facts.trace.extend(trace_events(&body, &unique_id));
        }
        self.facts.trace.sort_by_key(|event: &TraceEvent| event.time_ms);
        self.facts.trace.dedup();
        self.named_groups(groups, first_topic);
    }

    fn named_groups(&mut self, groups: Vec<String>, topic_name: String) {
        self.facts.groups = groups
            .into_iter()
            .map(|name| GroupFacts {
                name,
                ..GroupFacts::default()
            })
            .collect();
        self.facts.topic.name = topic_name;
    }

    async fn query_trace(&mut self, unique_id: &str) -> Vec<MessageExt> {
        let header = QueryMessageHeader {
            topic: topic::TRACE_TOPIC.to_owned(),
            key: unique_id.to_owned(),
            max_num: FOUND_MAX,
            begin_timestamp: 0,
            end_timestamp: i64::MAX,
            ..QueryMessageHeader::default()
        };
        let mut found = Vec::new();
        for broker in self.facts.brokers.clone() {
            // A cluster without traces need not have the topic.
            found.extend(
                self.ask
                    .query(&broker.name, &broker.addr, &header)
                    .await
                    .unwrap_or_default(),
            );
        }
        found
    }

    /// Groups that are online or have offsets on the topic (300), and the one that is asked about.
    async fn groups_of(&mut self, topic_name: &str, asked: Option<&str>) -> Vec<String> {
        let mut groups: BTreeSet<String> = asked.map(str::to_owned).into_iter().collect();
        let header = TopicHeader {
            topic: topic_name.to_owned(),
            broker_name: None,
        };
        for broker in self.facts.brokers.clone() {
            if self
                .topics
                .get(&broker.name)
                .is_none_or(|topics| !topics.contains_key(topic_name))
            {
                continue;
            }
            let answer = self
                .ask
                .json::<request::QueryTopicConsumeByWho, GroupList>(&broker.addr, &header)
                .await;
            let list = self.noted(&broker.name, answer).unwrap_or_default().group_list;
            groups.extend(list.into_iter().filter(|group| !topic::is_system_group(group)));
        }
        if groups.len() > GROUPS_MAX {
            let rest = groups.len() - GROUPS_MAX;
            self.facts
                .searched
                .failures
                .push(format!("{rest} groups beyond the first {GROUPS_MAX}; name one with -g"));
        }
        let first = groups
            .into_iter()
            .filter(|group| Some(group.as_str()) != asked)
            .take(GROUPS_MAX);
        asked.map(str::to_owned).into_iter().chain(first).collect()
    }
}

fn is_for(message: &MessageExt, topic: &str) -> bool {
    let record = Record {
        message: message.clone(),
        place: Place::of(&message.topic, &[]),
        indexed: true,
    };
    message.topic == topic || record.first_topic() == topic
}
