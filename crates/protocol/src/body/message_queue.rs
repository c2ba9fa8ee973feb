use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::json::OBJECT_KEY_MARK;

/// One queue of a topic on one broker. Ordered as Java sorts them: topic, broker name, queue id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageQueue {
    pub topic: String,
    pub broker_name: String,
    pub queue_id: i32,
}

impl MessageQueue {
    pub fn new(topic: impl Into<String>, broker_name: impl Into<String>, queue_id: i32) -> MessageQueue {
        MessageQueue {
            topic: topic.into(),
            broker_name: broker_name.into(),
            queue_id,
        }
    }
}

impl fmt::Display for MessageQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.topic, self.broker_name, self.queue_id)
    }
}

/// A map with queues as names, which in Java's dialect are objects in the place of text.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueMap<V>(pub BTreeMap<MessageQueue, V>);

impl<V> Default for QueueMap<V> {
    fn default() -> QueueMap<V> {
        QueueMap(BTreeMap::new())
    }
}

impl<V> QueueMap<V> {
    pub fn insert(&mut self, queue: MessageQueue, value: V) -> Option<V> {
        self.0.insert(queue, value)
    }

    pub fn get(&self, queue: &MessageQueue) -> Option<&V> {
        self.0.get(queue)
    }

    pub fn iter(&self) -> btree_map::Iter<'_, MessageQueue, V> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V> FromIterator<(MessageQueue, V)> for QueueMap<V> {
    fn from_iter<I: IntoIterator<Item = (MessageQueue, V)>>(entries: I) -> QueueMap<V> {
        QueueMap(entries.into_iter().collect())
    }
}

impl<V> IntoIterator for QueueMap<V> {
    type Item = (MessageQueue, V);
    type IntoIter = btree_map::IntoIter<MessageQueue, V>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The members of a queue in the order Java writes them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QueueName<'a> {
    broker_name: &'a str,
    queue_id: i32,
    topic: &'a str,
}

impl<V: Serialize> Serialize for QueueMap<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(queue, value)| {
            let name = QueueName {
                broker_name: &queue.broker_name,
                queue_id: queue.queue_id,
                topic: &queue.topic,
            };
            let name = serde_json::to_string(&name).expect("a queue has a json form");
            (format!("{OBJECT_KEY_MARK}{name}"), value)
        }))
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for QueueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<QueueMap<V>, D::Error> {
        struct Queues<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Queues<V> {
            type Value = QueueMap<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map with queues as names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<QueueMap<V>, A::Error> {
                let mut queues = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    let queue = serde_json::from_str(&name).map_err(A::Error::custom)?;
                    queues.insert(queue, value);
                }
                Ok(QueueMap(queues))
            }
        }
        deserializer.deserialize_map(Queues(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn queue_maps_survive_java_and_standard_json() {
        let map: QueueMap<i64> = [
            (MessageQueue::new("t", "b1", 0), 1),
            (MessageQueue::new("a\\\"", "b0", 1), 2),
        ]
        .into_iter()
        .collect();
        assert_eq!(json::from_slice::<QueueMap<i64>>(&json::to_vec(&map)).unwrap(), map);
        assert_eq!(
            json::from_slice::<QueueMap<i64>>(&json::to_vec_standard(&map)).unwrap(),
            map
        );
        assert!(json::from_slice::<QueueMap<i64>>(b"{\"plain\":1}").is_err());
    }

    #[test]
    fn members_of_the_name_come_in_any_order() {
        let map: QueueMap<i64> = json::from_slice(br#"{{"topic":"t","queueId":2,"brokerName":"b"}:5}"#).unwrap();
        assert_eq!(map.get(&MessageQueue::new("t", "b", 2)), Some(&5));
    }
}
