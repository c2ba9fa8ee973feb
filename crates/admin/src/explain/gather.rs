//! Asks for everything about a message. What cannot be asked is noted and left out. Records are looked for in
//! [`search`](super::search); here is what surrounds them.

use std::collections::BTreeMap;
use std::fmt::Display;

use oxmq_client::{Admin, ClientError, ClusterInfo};
use oxmq_protocol::body::{
    ConsumerConnection, ConsumerRunningInfo, MASTER_ID, MessageQueue, SubscriptionGroupWrapper, TopicConfig,
};
use oxmq_protocol::message::MessageExt;
use oxmq_protocol::pop::{self, ACK_TAG, BATCH_ACK_TAG, CHECKPOINT_TAG, PopAck, PopCheckpoint};
use oxmq_protocol::properties_file::Property;
use oxmq_protocol::requests::{ConsumerGroupHeader, QueryConsumerOffsetHeader, SearchOffsetHeader, request};
use oxmq_protocol::{delay_level, json, perm, property, topic};

use super::facts::{BrokerFacts, Facts, GroupFacts, MemberFacts, Place, Record, Slave, TopicFacts};
use super::judge::primary;
use crate::ask::{Ask, AskedMember};
use crate::text::bytes_max;

/// Members of a group that are asked about themselves.
const MEMBERS_MAX: usize = 16;
/// How much of a queue is read to find the end of a transaction, or a checkpoint of POP.
const READ_MAX: i64 = 4096;
/// A checkpoint whose time is over for so long has led to a copy, if the message was not acknowledged.
const REVIVED_MS: i64 = 30_000;
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

pub(super) struct Gathering {
    pub(super) ask: Ask,
    /// By broker name.
    pub(super) topics: BTreeMap<String, BTreeMap<String, TopicConfig>>,
    groups: BTreeMap<String, SubscriptionGroupWrapper>,
    pub(super) facts: Facts,
}

impl Gathering {
    /// Notes what failed.
    pub(super) fn noted<T, E: Display>(&mut self, what: &str, result: Result<T, E>) -> Option<T> {
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
