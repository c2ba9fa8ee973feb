//! How far groups are behind, computed when it is asked for (spec: behaviour.md §14).
//!
//! Counts are in memory. Times of storing may have to be read from the disk: after [`TIME_MAX`] no more are read, and the
//! groups that are left have counts without latencies.

use std::time::{Duration, Instant};

use oxmq_protocol::body::{ConsumeType, TopicConfig};
use oxmq_protocol::pop::{retry_topic_v1, retry_topic_v2};
use oxmq_protocol::{perm, topic};

use crate::broker::Broker;

/// Time for reading times.
const TIME_MAX: Duration = Duration::from_secs(2);

/// What a group has before it on a topic, or on the retry topic of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lag {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) is_retry: bool,
    /// Messages not consumed; those of them that consumers have; those that nobody has.
    pub(crate) messages: i64,
    pub(crate) in_flight: i64,
    pub(crate) ready: i64,
    /// Ages of the oldest that is not consumed, and of the oldest that nobody has; 0 where there is none.
    pub(crate) latency_ms: Option<i64>,
    pub(crate) queueing_ms: Option<i64>,
}

/// Every connected group on every topic that it subscribes to.
pub(crate) fn all(broker: &Broker) -> Vec<Lag> {
    let mut groups = Vec::new();
    broker.consumers.each(|name, group| {
        let topics: Vec<String> = group.subscriptions.keys().cloned().collect();
        groups.push((name.to_owned(), group.consume_type, topics));
    });
    let mut reader = Reader {
        broker,
        now: broker.now_ms(),
        until: Instant::now() + TIME_MAX,
    };
    let mut all = Vec::new();
    for (group, consume_type, topics) in groups {
        if !broker.groups.contains(&group) {
            continue;
        }
        for topic in topics.iter().filter(|topic| !topic::is_retry(topic)) {
            let Some(config) = broker.topics.get(topic).filter(|config| is_open(broker, config)) else {
                continue;
            };
            let is_pop = consume_type == ConsumeType::Pop;
            all.push(reader.lag(&group, topic, Some(&config), is_pop, false));
            if is_pop {
                let retry = retry_topic(broker, topic, &group);
                all.push(reader.lag(&group, topic, retry.as_deref(), true, true));
            }
        }
    }
    all
}

fn is_open(broker: &Broker, config: &TopicConfig) -> bool {
    let perm = config.perm & broker.config().broker_permission;
    perm::is_readable(perm) || perm::is_writeable(perm)
}

/// Where messages come again that nobody acknowledged.
fn retry_topic(broker: &Broker, topic: &str, group: &str) -> Option<std::sync::Arc<TopicConfig>> {
    let config = broker.config();
    let open = |name: String| broker.topics.get(&name).filter(|retry| is_open(broker, retry));
    let v1 = || open(retry_topic_v1(topic, group));
    match config.enable_retry_topic_v2 {
        true => open(retry_topic_v2(topic, group))
            .or_else(|| config.retrieve_message_from_pop_retry_topic_v1.then(v1).flatten()),
        false => v1(),
    }
}

struct Reader<'a> {
    broker: &'a Broker,
    now: i64,
    until: Instant,
}

/// A queue of a group: the first message that is not consumed, the first that nobody has, and the end.
struct Place {
    consumed: i64,
    handed_out: i64,
    in_flight: i64,
    end: i64,
}

impl Reader<'_> {
    /// `config` is that of the topic that is looked at: `topic`, or its retry topic.
    fn lag(&mut self, group: &str, topic: &str, config: Option<&TopicConfig>, is_pop: bool, is_retry: bool) -> Lag {
        let mut lag = Lag {
            group: group.to_owned(),
            topic: topic.to_owned(),
            is_retry,
            messages: 0,
            in_flight: 0,
            ready: 0,
            latency_ms: Some(0),
            queueing_ms: Some(0),
        };
        let Some(config) = config else { return lag };
        let name = config.topic_name.as_str();
        let (mut unconsumed, mut queueing) = (None, None);
        for queue_id in 0..config.write_queue_nums {
            let place = match is_pop {
                true => self.popped(group, name, queue_id),
                false => self.pulled(group, name, queue_id),
            };
            lag.messages += (place.end - place.consumed).max(0);
            lag.in_flight += place.in_flight.max(0);
            lag.ready += (place.end - place.handed_out).max(0);
            if Instant::now() >= self.until {
                (lag.latency_ms, lag.queueing_ms) = (None, None);
                continue;
            }
            let older = |oldest: &mut Option<i64>, from: i64| {
                let time = match from {
                    from if (0..place.end).contains(&from) => self.broker.store_time(name, queue_id, from),
                    _ => 0,
                };
                if time > 0 {
                    *oldest = Some(oldest.map_or(time, |known| known.min(time)));
                }
            };
            older(&mut unconsumed, place.consumed);
            older(&mut queueing, place.handed_out);
        }
        let age = |oldest: Option<i64>| oldest.map_or(0, |time| self.now - time);
        lag.latency_ms = lag.latency_ms.map(|_| age(unconsumed));
        lag.queueing_ms = lag.queueing_ms.map(|_| age(queueing));
        lag
    }

    fn pulled(&self, group: &str, topic: &str, queue_id: i32) -> Place {
        let offsets = &self.broker.consumer_offsets;
        let end = self.broker.max_offset(topic, queue_id).max(0);
        let committed = offsets.query(group, topic, queue_id).filter(|offset| *offset >= 0);
        let pulled = offsets.pulled(group, topic, queue_id).filter(|offset| *offset >= 0);
        let in_flight = match (committed, pulled) {
            (Some(committed), Some(pulled)) => pulled - committed,
            _ => 0,
        };
        Place {
            consumed: committed.unwrap_or(end),
            handed_out: pulled.unwrap_or(end),
            in_flight,
            end,
        }
    }

    fn popped(&self, group: &str, topic: &str, queue_id: i32) -> Place {
        let end = self.broker.max_offset(topic, queue_id).max(0);
        let committed = self.broker.consumer_offsets.query(group, topic, queue_id);
        let committed = committed.filter(|offset| *offset >= 0);
        let queue = self.broker.pops.known_queue(topic, group, queue_id);
        let (handed_out, in_flight) = match queue {
            Some(queue) => {
                let queue = queue.lock();
                (queue.next_offset(committed), queue.in_flight())
            }
            None => (committed, 0),
        };
        let handed_out = handed_out.unwrap_or(end);
        Place {
            consumed: handed_out - in_flight,
            handed_out,
            in_flight,
            end,
        }
    }
}
