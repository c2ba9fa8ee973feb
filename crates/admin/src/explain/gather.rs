//! Asks for everything about a message. What cannot be asked is noted and left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use oxmq_client::{Admin, ClientError, ClusterInfo};
use oxmq_protocol::body::{
    ConsumerConnection, ConsumerRunningInfo, GroupList, MASTER_ID, MessageQueue, SubscriptionGroupWrapper, TopicConfig,
};
use oxmq_protocol::message::MessageExt;
use oxmq_protocol::message_id::{OffsetMessageId, unique_id_timestamp_ms};
use oxmq_protocol::pop::{self, ACK_TAG, BATCH_ACK_TAG, CHECKPOINT_TAG, PopAck, PopCheckpoint};
use oxmq_protocol::properties_file::Property;
use oxmq_protocol::requests::{
    ConsumerGroupHeader, QueryConsumerOffsetHeader, QueryMessageHeader, SearchOffsetHeader, TopicHeader,
    ViewMessageHeader, request,
};
use oxmq_protocol::{delay_level, json, perm, property, topic};

use super::facts::{
    BrokerFacts, Facts, FromId, GroupFacts, MemberFacts, Place, Record, Slave, TopicFacts, TraceEvent, trace_events,
};
use super::judge::primary;
use crate::ask::{Ask, AskedMember};
use crate::text::bytes_max;

/// Topics that are asked when none is named.
const TOPICS_MAX: usize = 1000;
const GROUPS_MAX: usize = 64;
/// Members of a group that are asked about themselves.
const MEMBERS_MAX: usize = 16;
/// Messages with one key.
const FOUND_MAX: i32 = 32;
/// How much of a queue is read to find the end of a transaction, or a checkpoint of POP.
const READ_MAX: i64 = 4096;
/// A checkpoint whose time is over for so long has led to a copy, if the message was not acknowledged.
const REVIVED_MS: i64 = 30_000;
/// Search around the time in an id that the index does not know.
const AROUND_ID_MS: i64 = 60_000;
const AROUND_ID_MAX: usize = 10_000;
/// The bit in a group's mask that forbids reading.
const FORBIDDEN_READ: i32 = perm::READ;

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Offset message id, unique id or key.
    pub text: String,
    pub topic: Option<String>,
    pub group: Option<String>,
}

/// Asks the servers. Only a cluster that cannot be found at all is an error.
pub async fn gather(admin: &Admin, question: &Question, now_ms: i64) -> Result<Facts, ClientError> {
    let ask = Ask { admin: admin.clone() };
    let cluster = admin.cluster_info().await?;
    let mut gathering = Gathering {
        ask,
        topics: BTreeMap::new(),
        groups: BTreeMap::new(),
        facts: Facts {
            now_ms,
            question: question.text.clone(),
            asked_group: question.group.clone(),
            ..Facts::default()
        },
    };
    gathering.brokers(&cluster).await;
    gathering.find(question).await;
    gathering.copies(question).await;
    gathering.circumstances().await;
    Ok(gathering.facts)
}

struct Gathering {
    ask: Ask,
    /// By broker name.
    topics: BTreeMap<String, BTreeMap<String, TopicConfig>>,
    groups: BTreeMap<String, SubscriptionGroupWrapper>,
    facts: Facts,
}

impl Gathering {
    /// Notes what failed.
    fn noted<T, E: Display>(&mut self, what: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.facts.searched.failures.push(format!("{what}: {error}"));
                None
            }
        }
    }

    async fn brokers(&mut self, cluster: &ClusterInfo) {
        for (name, data) in &cluster.broker_addr_table {
            let Some(addr) = data.master() else {
                self.facts
                    .searched
                    .failures
                    .push(format!("{name}: no master is registered"));
                continue;
            };
            let runtime = self.ask.admin.broker_runtime_info(addr).await;
            let Some(runtime) = self.noted(name, runtime) else {
                continue;
            };
            let config = self.ask.admin.broker_config(addr).await;
            let config = self.noted(name, config).unwrap_or_default();
            let mut broker = broker_facts(name, addr, &runtime.table, &config);
            for (id, slave) in data.broker_addrs.iter().filter(|(id, _)| **id != MASTER_ID) {
                let written = self.ask.admin.broker_runtime_info(slave).await.ok();
                broker.slaves.push(Slave {
                    addr: format!("slave {id} at {slave}"),
                    written: written.and_then(|table| table.table.get("commitLogMaxOffset")?.parse().ok()),
                });
            }
            let topics = self.ask.admin.all_topic_configs_on(addr).await;
            let topics = self.noted(name, topics).unwrap_or_default();
            self.topics.insert(name.clone(), topics.topic_config_table);
            let groups = self.ask.admin.all_group_configs_on(addr).await;
            let groups = self.noted(name, groups).unwrap_or_default();
            self.groups.insert(name.clone(), groups);
            self.facts.brokers.push(broker);
        }
    }

    fn addr_of(&self, broker_name: &str) -> Option<String> {
        let broker = self.facts.brokers.iter().find(|broker| broker.name == broker_name)?;
        Some(broker.addr.clone())
    }

    /// The message itself, or several that have the key.
    async fn find(&mut self, question: &Question) {
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
                && let Ok(messages) = oxmq_protocol::message::decode_messages(&reply.body, true)
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
    async fn copies(&mut self, question: &Question) {
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
        for topic in topics {
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

    /// What surrounds the record that the answer is about: its queue, the groups, transaction and checkpoints.
    async fn circumstances(&mut self) {
        let Some(record) = primary(&self.facts).cloned() else {
            return;
        };
        let broker_name = record.message.broker_name.clone();
        let Some(addr) = self.addr_of(&broker_name) else { return };
        let queue = record.queue();
        let bounds = self.ask.bounds(&addr, &queue).await;
        let bounds = self.noted("queue bounds", bounds);
        let config = self
            .topics
            .get(&broker_name)
            .and_then(|topics| topics.get(&self.facts.topic.name));
        self.facts.topic = TopicFacts {
            name: self.facts.topic.name.clone(),
            perm: config.map(|config| config.perm),
            read_queue_nums: config.map(|config| config.read_queue_nums),
            min_offset: bounds.map(|(min, _)| min),
            max_offset: bounds.map(|(_, max)| max),
        };
        let mut groups = std::mem::take(&mut self.facts.groups);
        for group in &mut groups {
            self.group(group, &record, &addr).await;
        }
        self.members(&mut groups, &record, &addr).await;
        self.facts.groups = groups;
        self.checkpoints(&addr, &broker_name).await;
        if record.place == Place::Half {
            self.facts.transaction_ended = self.transaction_ended(&addr, &record).await;
        }
    }

    async fn group(&mut self, group: &mut GroupFacts, record: &Record, addr: &str) {
        let topic_name = &self.facts.topic.name;
        if let Some(all) = self.groups.get(&record.message.broker_name) {
            let config = all.subscription_group_table.get(&group.name);
            group.consume_enable = config.map(|config| config.consume_enable);
            group.broadcast_enable = config.map(|config| config.consume_broadcast_enable);
            let mask = all
                .forbidden_table
                .get(&group.name)
                .and_then(|topics| topics.get(topic_name));
            group.readable = Some(mask.is_none_or(|mask| mask & FORBIDDEN_READ == 0));
        }
        let header = ConsumerGroupHeader {
            consumer_group: group.name.clone(),
            broker_name: None,
        };
        // A group that is not online is answered with an error.
        group.connection = self
            .ask
            .json::<request::GetConsumerConnectionList, ConsumerConnection>(addr, &header)
            .await
            .ok();
        if record.place == Place::Topic {
            group.offset = self.offset(addr, &group.name, &record.queue()).await;
        }
        let retried: Vec<_> = self
            .facts
            .records
            .iter()
            .filter(|record| matches!(record.place, Place::Retry { .. }))
            .cloned()
            .collect();
        for copy in retried {
            let Some(addr) = self.addr_of(&copy.message.broker_name) else {
                continue;
            };
            if let Some(offset) = self.offset(&addr, &group.name, &copy.queue()).await {
                group.retry_offsets.insert(copy.queue(), offset);
            }
        }
    }

    async fn members(&self, groups: &mut [GroupFacts], record: &Record, addr: &str) {
        let asked = groups.iter().flat_map(|group| {
            let connections = group
                .connection
                .iter()
                .flat_map(|connection| &connection.connection_set);
            connections.take(MEMBERS_MAX).map(|member| AskedMember {
                group: group.name.clone(),
                client_id: member.client_id.clone(),
                addr: addr.to_owned(),
            })
        });
        for (member, told) in self.ask.members(asked.collect()).await {
            if let Some(group) = groups.iter_mut().find(|group| group.name == member.group) {
                group
                    .members
                    .push(member_facts(&member.client_id, told, &record.queue()));
            }
        }
    }

    /// Where the group is in a queue (14); `None` when it has no offset there.
    async fn offset(&self, addr: &str, group: &str, queue: &MessageQueue) -> Option<i64> {
        let header = QueryConsumerOffsetHeader {
            consumer_group: group.to_owned(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            set_zero_if_not_found: Some(false),
            broker_name: Some(queue.broker_name.clone()),
        };
        let reply = self
            .ask
            .call::<request::QueryConsumerOffset>(addr, &header)
            .await
            .ok()?;
        Some(reply.fields.offset).filter(|offset| *offset >= 0)
    }

    /// Checkpoints wait in the timer topic until shortly before their messages come again.
    async fn checkpoints(&mut self, addr: &str, broker_name: &str) {
        let queue = MessageQueue::new(topic::TIMER_TOPIC, broker_name, 0);
        let Ok((min, max)) = self.ask.bounds(addr, &queue).await else {
            return;
        };
        let mut at = min.max(max - READ_MAX);
        let (mut checkpoints, mut acks) = (Vec::<PopCheckpoint>::new(), Vec::<PopAck>::new());
        while at < max
            && let Ok(Some((messages, next))) = self.ask.read(addr, &queue, at).await
        {
            at = next;
            let of_pop = |message: &&MessageExt| {
                message
                    .property(property::REAL_TOPIC)
                    .is_some_and(|next| next.starts_with(&pop::revive_topic("")))
            };
            for message in messages.iter().filter(of_pop) {
                match message.tags() {
                    Some(CHECKPOINT_TAG) => checkpoints.extend(json::from_slice(&message.body).ok()),
                    Some(ACK_TAG | BATCH_ACK_TAG) => acks.extend(json::from_slice(&message.body).ok()),
                    _ => {}
                }
            }
        }
        let now = self.facts.now_ms;
        for group in &mut self.facts.groups {
            let is_copy = |record: &&Record| match &record.place {
                Place::Topic => true,
                Place::Retry { group: name } => *name == group.name,
                _ => false,
            };
            // A message that came again is handed out from its retry topic.
            let Some(record) = self.facts.records.iter().rfind(is_copy) else {
                continue;
            };
            let message = &record.message;
            let hands_out = |checkpoint: &&PopCheckpoint| {
                let same = (&checkpoint.group, &checkpoint.topic, checkpoint.queue_id)
                    == (&group.name, &message.topic, message.queue_id);
                same && checkpoint.index_of(message.queue_offset).is_some()
                    && now < checkpoint.revive_time() + REVIVED_MS
            };
            let newest = checkpoints
                .iter()
                .filter(hands_out)
                .max_by_key(|checkpoint| checkpoint.pop_time);
            let acknowledged = |checkpoint: &PopCheckpoint| {
                acks.iter().any(|ack| {
                    (&ack.group, &ack.topic, ack.queue_id, ack.pop_time)
                        == (
                            &checkpoint.group,
                            &checkpoint.topic,
                            checkpoint.queue_id,
                            checkpoint.pop_time,
                        )
                        && ack.offsets().contains(&message.queue_offset)
                })
            };
            group.checkpoint = newest.filter(|checkpoint| !acknowledged(checkpoint)).cloned();
        }
    }

    /// Whether an op record names the newest half message; `None` when there was more to read.
    async fn transaction_ended(&mut self, addr: &str, half: &Record) -> Option<bool> {
        let queue = MessageQueue::new(
            topic::TRANS_OP_HALF_TOPIC,
            &half.message.broker_name,
            half.message.queue_id,
        );
        let header = SearchOffsetHeader {
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            timestamp: half.message.store_timestamp,
            ..SearchOffsetHeader::default()
        };
        let from = self.ask.call::<request::SearchOffsetByTimestamp>(addr, &header).await;
        let from = self.noted("op records", from)?.fields.offset.max(0);
        let mut at = from;
        loop {
            let read = self.ask.read(addr, &queue, at).await;
            let Some((messages, next)) = self.noted("op records", read)? else {
                return Some(false);
            };
            let named = |message: &MessageExt| {
                let body = String::from_utf8_lossy(&message.body).into_owned();
                body.split(',')
                    .any(|offset| offset.trim().parse() == Ok(half.message.queue_offset))
            };
            if messages.iter().any(named) {
                return Some(true);
            }
            at = next;
            if at - from > READ_MAX {
                return None;
            }
        }
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

fn broker_facts(name: &str, addr: &str, runtime: &BTreeMap<String, String>, config: &[Property]) -> BrokerFacts {
    let setting = |key: &str| {
        let setting = config.iter().find(|property| property.key == key)?;
        Some(setting.value.as_str())
    };
    let number = |key: &str| runtime.get(key).and_then(|text| text.parse::<i64>().ok());
    let levels = setting("messageDelayLevel").unwrap_or(delay_level::DEFAULT);
    BrokerFacts {
        name: name.to_owned(),
        addr: addr.to_owned(),
        perm: setting("brokerPermission").and_then(|text| text.parse().ok()),
        flush_disk_type: setting("flushDiskType").map(str::to_owned),
        written: number("commitLogMaxOffset"),
        unflushed_max: runtime
            .get("remainHowManyDataToFlush")
            .and_then(|text| bytes_max(text))
            .map(|count| count as i64),
        log_min: number("commitLogMinOffset"),
        earliest_ms: number("earliestMessageTimeStamp"),
        index_enabled: setting("messageIndexEnable").map(|text| text == "true"),
        delay_levels_ms: delay_level::parse(levels).unwrap_or_default(),
        slaves: Vec::new(),
    }
}

fn member_facts(client_id: &str, told: ConsumerRunningInfo, queue: &MessageQueue) -> MemberFacts {
    let property = |name: &str| told.properties.get(name).map(String::as_str);
    MemberFacts {
        client_id: client_id.to_owned(),
        started_ms: property("PROP_CONSUMER_START_TIMESTAMP").and_then(|text| text.parse().ok()),
        is_orderly: property("PROP_CONSUMEORDERLY") == Some("true"),
        pops: !told.mq_pop_table.is_empty(),
        queue: told.mq_table.0.get(queue).cloned(),
    }
}
