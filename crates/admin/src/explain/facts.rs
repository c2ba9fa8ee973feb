//! What was found out about a message, before anybody draws a conclusion from it.

use std::collections::BTreeMap;

use oxmq_protocol::body::{ConsumerConnection, MessageQueue, ProcessQueueInfo};
use oxmq_protocol::message::MessageExt;
use oxmq_protocol::pop::{self, PopCheckpoint};
use oxmq_protocol::{property, topic};

/// Everything that one answer is made of.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub now_ms: i64,
    /// As it was typed.
    pub question: String,
    /// The group that the question is about, if it names one.
    pub asked_group: Option<String>,
    pub searched: Searched,
    /// What an id says about itself, for messages that are not there.
    pub from_id: FromId,
    /// The message, its copies and its duplicates, in the order in which they were stored.
    pub records: Vec<Record>,
    /// Other messages with the same key, by their ids.
    pub others: Vec<String>,
    pub brokers: Vec<BrokerFacts>,
    /// Of the topic that the message is for, on the broker that has it.
    pub topic: TopicFacts,
    pub groups: Vec<GroupFacts>,
    pub trace: Vec<TraceEvent>,
    /// Whether an op record names one of the half messages; `None` without half messages, or when not all was read.
    pub transaction_ended: Option<bool>,
}

/// Where was looked.
#[derive(Debug, Clone, Default)]
pub struct Searched {
    pub topics: Vec<String>,
    /// Topics beyond the bound.
    pub topics_left_out: usize,
    /// What could not be asked, in words.
    pub failures: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub struct FromId {
    /// When a client made the id.
    pub made_ms: Option<i64>,
    /// Where an offset message id points to: broker name and physical offset.
    pub place: Option<(String, i64)>,
}

/// One record in a commit log.
#[derive(Debug, Clone)]
pub struct Record {
    pub message: MessageExt,
    pub place: Place,
    /// Found through the index.
    pub indexed: bool,
}

/// What a record is by the topic that it lies in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Where consumers get it.
    Topic,
    Retry {
        group: String,
    },
    DeadLetter {
        group: String,
    },
    /// Waits for its delay level.
    Level,
    /// Waits for a time of its own.
    Timer,
    /// Waits for its transaction.
    Half,
    /// Its producer did not say how the transaction ended.
    GivenUp,
}

impl Place {
    /// `groups` tells the group from the topic in names of POP's retry topics.
    pub fn of(topic_name: &str, groups: &[String]) -> Place {
        let popped = |group: &&String| pop::normal_topic(topic_name, group) != topic_name;
        let retried = |name: &str| {
            let longest = groups.iter().filter(popped).max_by_key(|group| group.len());
            match (groups.iter().any(|group| group == name), longest) {
                (false, Some(group)) => group.clone(),
                _ => name.to_owned(),
            }
        };
        match topic_name {
            topic::SCHEDULE_TOPIC => Place::Level,
            topic::TIMER_TOPIC => Place::Timer,
            topic::TRANS_HALF_TOPIC => Place::Half,
            topic::TRANS_CHECK_MAX_TIME_TOPIC => Place::GivenUp,
            _ => match (
                topic::group_of_retry(topic_name),
                topic_name.strip_prefix(topic::DLQ_PREFIX),
            ) {
                (Some(name), _) => Place::Retry { group: retried(name) },
                (None, Some(group)) => Place::DeadLetter {
                    group: group.to_owned(),
                },
                (None, None) => Place::Topic,
            },
        }
    }
}

impl Record {
    pub fn queue(&self) -> MessageQueue {
        MessageQueue::new(&self.message.topic, &self.message.broker_name, self.message.queue_id)
    }

    /// The topic of a record that waits: where it goes next.
    pub fn next_topic(&self) -> Option<&str> {
        self.message.property(property::REAL_TOPIC)
    }

    /// The topic that its producer sent it to.
    pub fn first_topic(&self) -> &str {
        let message = &self.message;
        let named = |names: &[&str]| names.iter().find_map(|name| message.property(name));
        match self.place {
            Place::Topic => &message.topic,
            // Deliveries in a delay level may be on their way to a retry topic.
            Place::Level | Place::Timer => named(&[property::RETRY_TOPIC, property::REAL_TOPIC]).unwrap_or("?"),
            Place::Half | Place::GivenUp => named(&[property::REAL_TOPIC]).unwrap_or("?"),
            Place::Retry { .. } => named(&[property::RETRY_TOPIC])
                .or_else(|| message.topic.rsplit_once('+').map(|(_, topic)| topic))
                .unwrap_or(&message.topic),
            Place::DeadLetter { .. } => {
                named(&[property::DLQ_ORIGIN_TOPIC, property::RETRY_TOPIC]).unwrap_or(&message.topic)
            }
        }
    }

    /// Whether this is no message but the wish to take one back.
    pub fn is_recall(&self) -> bool {
        self.message.property(property::TIMER_DEL_UNIQKEY).is_some()
    }

    /// When a record that waits goes on.
    pub fn due_ms(&self, brokers: &[BrokerFacts]) -> Option<i64> {
        let number = |name| self.message.property(name).and_then(|text| text.parse::<i64>().ok());
        match self.place {
            Place::Timer => number(property::TIMER_OUT_MS),
            Place::Level => {
                let levels = &brokers
                    .iter()
                    .find(|broker| broker.name == self.message.broker_name)?
                    .delay_levels_ms;
                let level = number(property::DELAY_TIME_LEVEL).unwrap_or(i64::from(self.message.queue_id) + 1);
                let level = usize::try_from(level).ok()?.clamp(1, levels.len().max(1));
                let delay = i64::try_from(*levels.get(level - 1)?).ok()?;
                Some(self.message.store_timestamp + delay)
            }
            _ => None,
        }
    }
}

/// A master that was asked.
#[derive(Debug, Clone, Default)]
pub struct BrokerFacts {
    pub name: String,
    pub addr: String,
    pub perm: Option<i32>,
    pub flush_disk_type: Option<String>,
    /// The commit log ends here.
    pub written: Option<i64>,
    /// How much of its end may not be on disk, at most.
    pub unflushed_max: Option<i64>,
    /// The commit log begins here.
    pub log_min: Option<i64>,
    pub earliest_ms: Option<i64>,
    pub index_enabled: Option<bool>,
    pub delay_levels_ms: Vec<u64>,
    pub slaves: Vec<Slave>,
}

#[derive(Debug, Clone, Default)]
pub struct Slave {
    pub addr: String,
    /// `None` when it did not answer.
    pub written: Option<i64>,
}

#[derive(Debug, Clone, Default)]
pub struct TopicFacts {
    pub name: String,
    pub perm: Option<i32>,
    pub read_queue_nums: Option<i32>,
    /// Of the queue that has the message.
    pub min_offset: Option<i64>,
    pub max_offset: Option<i64>,
}

#[derive(Debug, Clone, Default)]
pub struct GroupFacts {
    pub name: String,
    pub consume_enable: Option<bool>,
    pub broadcast_enable: Option<bool>,
    /// Whether the group may read this topic.
    pub readable: Option<bool>,
    /// `None` when no member is online.
    pub connection: Option<ConsumerConnection>,
    /// In the queue that has the message.
    pub offset: Option<i64>,
    /// In the queues of retry topics that have copies.
    pub retry_offsets: BTreeMap<MessageQueue, i64>,
    /// Those that told about themselves.
    pub members: Vec<MemberFacts>,
    /// Handed out by POP with this, and not acknowledged.
    pub checkpoint: Option<PopCheckpoint>,
}

#[derive(Debug, Clone, Default)]
pub struct MemberFacts {
    pub client_id: String,
    pub started_ms: Option<i64>,
    pub is_orderly: bool,
    /// It pops, so that queues are nobody's.
    pub pops: bool,
    /// The queue that has the message, if it is this member's.
    pub queue: Option<ProcessQueueInfo>,
}

/// What a client has told about the message (topic `RMQ_SYS_TRACE_TOPIC`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceEvent {
    pub time_ms: i64,
    pub group: String,
    pub kind: TraceKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceKind {
    Sent { success: bool, cost_ms: i64 },
    ConsumeBegins { retry_times: i32 },
    ConsumeEnds { success: bool, cost_ms: i64 },
    TransactionEnds { state: String },
    Recalled { success: bool },
}

/// The events in the body of a trace record that are about this message. Text that is no event is left out.
pub fn trace_events(body: &str, message_id: &str) -> Vec<TraceEvent> {
    body.split('\u{2}')
        .filter_map(|event| trace_event(event, message_id))
        .collect()
}

fn trace_event(event: &str, message_id: &str) -> Option<TraceEvent> {
    let fields: Vec<&str> = event.split('\u{1}').collect();
    let text = |index: usize| fields.get(index).copied();
    let number = |index: usize| text(index)?.parse::<i64>().ok();
    let success = |index: usize| text(index) == Some("true");
    let (id, time, group, kind) = match fields[0] {
        "Pub" => {
            let cost_ms = number(10).unwrap_or(-1);
            // Old clients end with the flag, newer ones put an id before it.
            let success = success(13) || success(12);
            (5, 1, 3, TraceKind::Sent { success, cost_ms })
        }
        "SubBefore" => {
            let retry_times = number(6).unwrap_or(0) as i32;
            (5, 1, 3, TraceKind::ConsumeBegins { retry_times })
        }
        "SubAfter" => {
            let (success, cost_ms) = (success(4), number(3).unwrap_or(-1));
            (2, 7, 8, TraceKind::ConsumeEnds { success, cost_ms })
        }
        "EndTransaction" => {
            let state = text(11).unwrap_or("?").to_owned();
            (5, 1, 3, TraceKind::TransactionEnds { state })
        }
        "Recall" => (5, 1, 3, TraceKind::Recalled { success: success(6) }),
        _ => return None,
    };
    let is_about = text(id)?.split(',').any(|id| id == message_id);
    is_about.then(|| TraceEvent {
        time_ms: number(time).unwrap_or(0),
        group: text(group).unwrap_or_default().to_owned(),
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_by_topic() {
        let groups = ["g".to_owned(), "g_a".to_owned()];
        let check = |name: &str, expected: Place| assert_eq!(Place::of(name, &groups), expected, "{name}");
        let retry = |group: &str| Place::Retry { group: group.into() };
        check("orders", Place::Topic);
        check("%RETRY%g", retry("g"));
        check("%RETRY%g+orders", retry("g"));
        check("%RETRY%g_orders", retry("g"));
        check("%RETRY%g_a", retry("g_a"));
        check("%RETRY%g_a_orders", retry("g_a"));
        check("%RETRY%other", retry("other"));
        check("%DLQ%g", Place::DeadLetter { group: "g".into() });
        check("SCHEDULE_TOPIC_XXXX", Place::Level);
        check("rmq_sys_wheel_timer", Place::Timer);
        check("RMQ_SYS_TRANS_HALF_TOPIC", Place::Half);
    }

    #[test]
    fn traces_of_other_messages_and_nonsense_are_left_out() {
        let body = "Pub\u{1}17\u{1}r\u{1}producers\u{1}t\u{1}A\u{1}tag\u{1}k\u{1}host\u{1}5\u{1}3\u{1}0\u{1}OFF\u{1}true\u{2}\
            SubBefore\u{1}18\u{1}r\u{1}g\u{1}req\u{1}A\u{1}2\u{1}k\u{2}\
            SubAfter\u{1}req\u{1}A\u{1}4\u{1}false\u{1}k\u{1}4\u{1}19\u{1}g\u{2}\
            SubAfter\u{1}req\u{1}B\u{1}4\u{1}true\u{1}k\u{1}0\u{1}19\u{1}g\u{2}Sub\u{2}\u{2}\
            Pub\u{1}20\u{1}r\u{1}old\u{1}t\u{1}A\u{1}tag\u{1}k\u{1}host\u{1}5\u{1}5\u{1}0\u{1}false";
        let events = trace_events(body, "A");
        let sent = |success, cost_ms| TraceKind::Sent { success, cost_ms };
        let (success, cost_ms) = (false, 4);
        let expected = [
            (17, "producers", sent(true, 3)),
            (18, "g", TraceKind::ConsumeBegins { retry_times: 2 }),
            (19, "g", TraceKind::ConsumeEnds { success, cost_ms }),
            (20, "old", sent(false, 5)),
        ];
        let expected = expected.map(|(time_ms, group, kind)| TraceEvent {
            time_ms,
            group: group.into(),
            kind,
        });
        assert_eq!(events, expected);
        assert_eq!(trace_events("Pub\u{1}", "A"), []);
    }
}
