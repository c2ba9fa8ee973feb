//! GET_TOPIC_STATS_INFO (202) (spec: protocol.md §5.5). Reads store times from the disk.

use oxmq_protocol::body::{MessageQueue, TopicOffset, TopicStatsTable};
use oxmq_protocol::requests::TopicHeader;
use oxmq_protocol::{RemotingCommand, response_code as code};

use super::{Handled, fields, success_json};
use crate::broker::Broker;
use crate::response::Refusal;

pub(super) fn get(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: TopicHeader = fields(command)?;
    let topic = header.topic.as_str();
    let Some(config) = broker.topics.get(topic) else {
        return Err(Refusal::new(code::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist")));
    };
    let broker_name = &broker.config().broker_name;
    let queue_nums = config.read_queue_nums.max(config.write_queue_nums);
    let offsets = (0..queue_nums).map(|queue_id| {
        let queue = MessageQueue::new(topic, broker_name.as_str(), queue_id);
        (queue, offsets(broker, topic, queue_id))
    });
    Ok(success_json(&TopicStatsTable {
        offset_table: offsets.collect(),
        topic_put_tps: broker.stats.topic_put_tps(topic),
    }))
}

fn offsets(broker: &Broker, topic: &str, queue_id: i32) -> TopicOffset {
    let Some(queue) = broker.store.queue(topic, queue_id) else {
        return TopicOffset::default();
    };
    let max_offset = queue.max_offset();
    TopicOffset {
        last_update_timestamp: match max_offset {
            0 => 0,
            _ => broker.store_time(topic, queue_id, max_offset - 1),
        },
        max_offset,
        min_offset: queue.min_offset().max(0),
    }
}
