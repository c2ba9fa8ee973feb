use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bodies;
use crate::base64::{self, STANDARD};

bodies! {
    /// Body of 200151.
    #[derive(Eq)]
    pub struct BatchAckMessageRequestBody {
        acks: Vec<BatchAck>,
        broker_name: String,
    }
}

/// Messages of one checkpoint that were consumed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchAck {
    /// Which ones.
    #[serde(rename = "b", alias = "bitSet")]
    pub bit_set: BitSet,
    #[serde(rename = "c", alias = "consumerGroup")]
    pub consumer_group: String,
    #[serde(rename = "it", alias = "invisibleTime")]
    pub invisible_time: i64,
    #[serde(rename = "pt", alias = "popTime")]
    pub pop_time: i64,
    #[serde(rename = "q", alias = "queueId")]
    pub queue_id: i32,
    /// The retry flag of the handle.
    #[serde(rename = "r", alias = "retry")]
    pub retry: String,
    #[serde(rename = "rq", alias = "reviveQueueId")]
    pub revive_queue_id: i32,
    #[serde(rename = "so", alias = "startOffset")]
    pub start_offset: i64,
    #[serde(rename = "t", alias = "topic")]
    pub topic: String,
}

/// Distances from a start offset, in the byte form of Java's bit set: base64 text, lowest bit first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BitSet(Vec<u8>);

impl BitSet {
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        let bytes = self.0.iter().enumerate();
        bytes.flat_map(|(at, byte)| {
            (0..8)
                .filter(move |bit| byte & (1 << bit) != 0)
                .map(move |bit| 8 * at + bit)
        })
    }
}

impl FromIterator<usize> for BitSet {
    fn from_iter<I: IntoIterator<Item = usize>>(distances: I) -> BitSet {
        let mut bytes = Vec::new();
        for distance in distances {
            let at = distance / 8;
            if bytes.len() <= at {
                bytes.resize(at + 1, 0);
            }
            bytes[at] |= 1 << (distance % 8);
        }
        BitSet(bytes)
    }
}

impl Serialize for BitSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::encode(&self.0, STANDARD))
    }
}

impl<'de> Deserialize<'de> for BitSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BitSet, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = base64::decode(text.as_bytes(), STANDARD);
        bytes
            .map(BitSet)
            .ok_or_else(|| D::Error::custom("a bit set in base64 was expected"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn the_bits_are_those_of_java() {
        let text = br#"{"acks":[{"b":"BQ==","c":"g","it":60000,"pt":1700000000000,"q":0,"r":"0","rq":3,"so":100,"t":"orders"}],"brokerName":"b0"}"#;
        let read: BatchAckMessageRequestBody = json::from_slice(text).unwrap();
        assert_eq!(read.acks[0].bit_set.iter().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(json::to_vec(&read), text);
        let bits: BitSet = [2, 0, 17].into_iter().collect();
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 2, 17]);
        assert!(json::from_slice::<BatchAck>(br#"{"b":"!"}"#).is_err());
        let long: BatchAck = json::from_slice(br#"{"bitSet":"AQ==","consumerGroup":"g","reviveQueueId":7}"#).unwrap();
        assert_eq!((long.bit_set.iter().count(), long.revive_queue_id), (1, 7));
    }
}
