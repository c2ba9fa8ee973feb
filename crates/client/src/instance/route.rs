//! What a client makes of a topic's route (spec: behaviour.md §6.1, protocol.md §8.3).

use oxmq_protocol::body::{MASTER_ID, MessageQueue, QueueData, TopicRouteData};
use oxmq_protocol::perm;

/// Queues a topic gets when the first send creates it, unless the route of TBW102 says less.
const DEFAULT_TOPIC_QUEUE_NUMS: i32 = 4;

/// The route of one topic and the queues that follow from it.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicRoute {
    pub data: TopicRouteData,
    /// Where messages can be sent.
    pub publish: Vec<MessageQueue>,
    /// Where messages can be read.
    pub subscribe: Vec<MessageQueue>,
    /// The topic does not exist yet: this is where the first send would create it.
    pub is_fallback: bool,
}

/// One broker process of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddr {
    pub broker_id: i64,
    pub addr: String,
}

impl TopicRoute {
    pub(super) fn new(topic: &str, mut data: TopicRouteData) -> TopicRoute {
        // In one order and without what nobody uses, so that equal routes compare equal.
        data.queue_datas.sort();
        data.broker_datas.sort_by(|a, b| a.broker_name.cmp(&b.broker_name));
        data.filter_server_table.clear();
        TopicRoute {
            publish: publish_queues(topic, &data),
            subscribe: subscribe_queues(topic, &data),
            data,
            is_fallback: false,
        }
    }

    /// The route of a topic that does not exist, made from the one of TBW102.
    pub(super) fn fallback(topic: &str, mut data: TopicRouteData) -> TopicRoute {
        for queues in &mut data.queue_datas {
            let count = queues.read_queue_nums.min(DEFAULT_TOPIC_QUEUE_NUMS);
            queues.read_queue_nums = count;
            queues.write_queue_nums = count;
        }
        TopicRoute {
            is_fallback: true,
            ..TopicRoute::new(topic, data)
        }
    }

    /// Whether queues keep their place when brokers go: an ordered topic.
    pub fn is_ordered(&self) -> bool {
        self.order_conf().is_some()
    }

    /// The clusters of its brokers, each once.
    pub fn clusters(&self) -> Vec<&str> {
        let mut clusters: Vec<_> = self
            .data
            .broker_datas
            .iter()
            .map(|broker| broker.cluster.as_str())
            .collect();
        clusters.sort_unstable();
        clusters.dedup();
        clusters
    }

    fn order_conf(&self) -> Option<&str> {
        order_conf(&self.data)
    }
}

fn order_conf(data: &TopicRouteData) -> Option<&str> {
    data.order_topic_conf.as_deref().filter(|conf| !conf.is_empty())
}

fn publish_queues(topic: &str, data: &TopicRouteData) -> Vec<MessageQueue> {
    if let Some(conf) = order_conf(data) {
        return ordered_queues(topic, conf);
    }
    let has_master = |queues: &&QueueData| {
        data.broker(&queues.broker_name)
            .is_some_and(|broker| broker.broker_addrs.contains_key(&MASTER_ID))
    };
    data.queue_datas
        .iter()
        .filter(|queues| perm::is_writeable(queues.perm))
        .filter(has_master)
        .flat_map(|queues| numbered(topic, &queues.broker_name, queues.write_queue_nums))
        .collect()
}

fn subscribe_queues(topic: &str, data: &TopicRouteData) -> Vec<MessageQueue> {
    data.queue_datas
        .iter()
        .filter(|queues| perm::is_readable(queues.perm))
        .flat_map(|queues| numbered(topic, &queues.broker_name, queues.read_queue_nums))
        .collect()
}

/// The queues of `b0:4;b1:4`. An entry that cannot be read has none.
fn ordered_queues(topic: &str, conf: &str) -> Vec<MessageQueue> {
    conf.split(';')
        .filter_map(|entry| entry.split_once(':'))
        .filter_map(|(broker_name, count)| Some((broker_name, count.trim().parse::<i32>().ok()?)))
        .flat_map(|(broker_name, count)| numbered(topic, broker_name, count))
        .collect()
}

fn numbered(topic: &str, broker_name: &str, count: i32) -> impl Iterator<Item = MessageQueue> {
    (0..count).map(move |queue_id| MessageQueue::new(topic, broker_name, queue_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxmq_protocol::body::BrokerData;

    fn queues(broker_name: &str, perm: i32, read: i32, write: i32) -> QueueData {
        QueueData {
            broker_name: broker_name.into(),
            perm,
            read_queue_nums: read,
            write_queue_nums: write,
            ..QueueData::default()
        }
    }

    fn broker(broker_name: &str, broker_id: i64) -> BrokerData {
        BrokerData {
            broker_name: broker_name.into(),
            broker_addrs: [(broker_id, format!("{broker_name}:1"))].into(),
            ..BrokerData::default()
        }
    }

    fn route() -> TopicRouteData {
        TopicRouteData {
            queue_datas: vec![queues("b", 6, 3, 2), queues("a", 4, 1, 8), queues("slave", 6, 1, 1)],
            broker_datas: vec![broker("b", 0), broker("a", 0), broker("slave", 1)],
            ..TopicRouteData::default()
        }
    }

    fn names(queues: &[MessageQueue]) -> Vec<String> {
        queues
            .iter()
            .map(|queue| format!("{}{}", queue.broker_name, queue.queue_id))
            .collect()
    }

    #[test]
    fn messages_go_to_writable_queues_with_a_master() {
        assert_eq!(names(&TopicRoute::new("t", route()).publish), ["b0", "b1"]);
    }

    #[test]
    fn messages_come_from_readable_queues_of_any_broker() {
        assert_eq!(
            names(&TopicRoute::new("t", route()).subscribe),
            ["a0", "b0", "b1", "b2", "slave0"]
        );
    }

    #[test]
    fn an_ordered_topic_is_published_as_its_configuration_says() {
        let mut data = route();
        data.order_topic_conf = Some("x:2;broken;y:1;z:?".into());
        let route = TopicRoute::new("t", data);
        assert!(route.is_ordered());
        assert_eq!(names(&route.publish), ["x0", "x1", "y0"]);
    }

    #[test]
    fn a_missing_topic_gets_at_most_four_queues() {
        let data = TopicRouteData {
            queue_datas: vec![queues("a", 7, 8, 8), queues("b", 7, 2, 9)],
            broker_datas: vec![broker("a", 0), broker("b", 0)],
            ..TopicRouteData::default()
        };
        let route = TopicRoute::fallback("t", data);
        assert!(route.is_fallback);
        assert_eq!(names(&route.publish), ["a0", "a1", "a2", "a3", "b0", "b1"]);
    }

    #[test]
    fn the_order_in_which_a_route_is_listed_does_not_matter() {
        let mut other = route();
        other.queue_datas.reverse();
        other.broker_datas.reverse();
        other.filter_server_table.insert("a".into(), vec!["f".into()]);
        assert_eq!(TopicRoute::new("t", route()), TopicRoute::new("t", other));
    }
}
