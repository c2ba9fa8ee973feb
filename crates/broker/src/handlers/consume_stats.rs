//! How far groups are: GET_CONSUME_STATS (208), QUERY_CONSUME_TIME_SPAN (303), GET_BROKER_CONSUME_STATS (317)
//! (spec: behaviour.md §5.4). All read store times from the disk.

use std::collections::BTreeMap;

use oxmq_protocol::body::{
    ConsumeStats, ConsumeStatsList, MessageQueue, OffsetWrapper, QueryConsumeTimeSpanBody, QueueTimeSpan, TopicConfig,
};
use oxmq_protocol::requests::{GetBrokerConsumeStatsHeader, GetConsumeStatsHeader, TopicGroupHeader};
use oxmq_protocol::{RemotingCommand, response_code as code};

use super::{Handled, fields, is_blank, success_json};
use crate::broker::Broker;
use crate::response::Refusal;

pub(super) fn of_group(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: GetConsumeStatsHeader = fields(command)?;
    let group = header.consumer_group.as_str();
    let mut all = ConsumeStats::default();
    for topic in topics_asked(broker, &header) {
        let Some(config) = broker.topics.get(&topic) else {
            continue;
        };
        if !broker.is_consumed(group, &topic) {
            continue;
        }
        for queue_id in 0..config.read_queue_nums {
            let mut offsets = offsets(broker, group, &topic, queue_id);
            let pulled = broker.consumer_offsets.pulled(group, &topic, queue_id);
            offsets.pull_offset = offsets.consumer_offset.max(pulled.unwrap_or(-1));
            all.offset_table.insert(broker.message_queue(&topic, queue_id), offsets);
        }
        all.consume_tps += broker.stats.group_get_tps(&topic, group);
    }
    Ok(success_json(&all))
}

/// A list, one topic, or all on which the group has an offset.
fn topics_asked(broker: &Broker, header: &GetConsumeStatsHeader) -> Vec<String> {
    let list = header.topic_list.iter().flat_map(|list| list.split(';'));
    let list: Vec<String> = list.filter(|topic| !is_blank(topic)).map(str::to_owned).collect();
    match &header.topic {
        _ if !list.is_empty() => list,
        Some(topic) if !is_blank(topic) => vec![topic.clone()],
        _ => broker.consumer_offsets.topics_of(&header.consumer_group),
    }
}

pub(super) fn of_broker(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: GetBrokerConsumeStatsHeader = fields(command)?;
    let mut list = ConsumeStatsList {
        broker_addr: Some(broker.config().broker_addr()),
        ..ConsumeStatsList::default()
    };
    for group in broker.groups.names() {
        let topics = broker.consumer_offsets.topics_of(&group).into_iter();
        let stats: Vec<ConsumeStats> = topics
            .filter_map(|topic| broker.topics.get(&topic))
            .filter(|config| !header.is_order || config.order)
            .filter(|config| broker.is_consumed(&group, &config.topic_name))
            .map(|config| of_topic(broker, &group, &config))
            .collect();
        // Groups may commit any offset.
        let differences = stats.iter().map(ConsumeStats::total_diff);
        list.total_diff = differences.fold(list.total_diff, i64::wrapping_add);
        list.consume_stats_list.push(BTreeMap::from([(group, stats)]));
    }
    Ok(success_json(&list))
}

fn of_topic(broker: &Broker, group: &str, config: &TopicConfig) -> ConsumeStats {
    let topic = config.topic_name.as_str();
    let queues = 0..config.write_queue_nums;
    ConsumeStats {
        consume_tps: broker.stats.group_get_tps(topic, group),
        offset_table: queues
            .map(|queue_id| {
                let queue = broker.message_queue(topic, queue_id);
                (queue, offsets(broker, group, topic, queue_id))
            })
            .collect(),
    }
}

fn offsets(broker: &Broker, group: &str, topic: &str, queue_id: i32) -> OffsetWrapper {
    let consumer_offset = broker
        .consumer_offsets
        .query(group, topic, queue_id)
        .unwrap_or(-1)
        .max(0);
    OffsetWrapper {
        broker_offset: broker.max_offset(topic, queue_id),
        consumer_offset,
        last_timestamp: match consumer_offset {
            0 => 0,
            _ => broker.store_time(topic, queue_id, consumer_offset - 1).max(0),
        },
        pull_offset: 0,
    }
}

pub(super) fn time_span(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: TopicGroupHeader = fields(command)?;
    let topic = header.topic.unwrap_or_default();
    let Some(config) = broker.topics.get(&topic) else {
        return Err(Refusal::new(code::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist")));
    };
    let spans = (0..config.write_queue_nums).map(|queue_id| span(broker, &topic, &header.group, queue_id));
    Ok(success_json(&QueryConsumeTimeSpanBody {
        consume_time_span_set: spans.collect(),
    }))
}

fn span(broker: &Broker, topic: &str, group: &str, queue_id: i32) -> QueueTimeSpan {
    let max_offset = broker.max_offset(topic, queue_id);
    let consumer_offset = broker.consumer_offsets.query(group, topic, queue_id).unwrap_or(-1);
    let min_time_stamp = broker.earliest_time(topic, queue_id);
    let max_time_stamp = broker.store_time(topic, queue_id, max_offset - 1);
    let consume_time_stamp = match consumer_offset {
        ..=0 => min_time_stamp,
        _ => broker.store_time(topic, queue_id, consumer_offset - 1),
    };
    QueueTimeSpan {
        consume_time_stamp,
        consume_time_stamp_str: Some(broker.local_time(consume_time_stamp)),
        delay_time: match consumer_offset < max_offset {
            true => broker.now_ms() - broker.store_time(topic, queue_id, consumer_offset),
            false => 0,
        },
        max_time_stamp,
        max_time_stamp_str: Some(broker.local_time(max_time_stamp)),
        message_queue: broker.message_queue(topic, queue_id),
        min_time_stamp,
        min_time_stamp_str: Some(broker.local_time(min_time_stamp)),
    }
}

impl Broker {
    /// This queue as clients name it.
    pub(crate) fn message_queue(&self, topic: &str, queue_id: i32) -> MessageQueue {
        MessageQueue::new(topic, self.config().broker_name.as_str(), queue_id)
    }

    /// `yyyy-MM-dd#HH:mm:ss:SSS` in local time.
    fn local_time(&self, millis: i64) -> String {
        let time = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
        let local = time.to_zoned(jiff::tz::TimeZone::system());
        format!("{}:{:03}", local.strftime("%Y-%m-%d#%H:%M:%S"), local.millisecond())
    }
}
