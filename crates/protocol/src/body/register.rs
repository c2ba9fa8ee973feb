//! Body of 103, in the three forms that brokers of different ages send (spec: protocol.md §3.1.1).

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};
use thiserror::Error;

use super::{TopicConfig, TopicConfigSerializeWrapper, TopicFilterType, TopicQueueMappingInfo, bodies};
use crate::compression::{CompressionType, DecompressError};
use crate::json::{self, JsonError};
use crate::version::{V3_0_11, V5_0_0};

/// A compressed body that grows beyond this is refused: a hundred bytes for each of a million topics.
const REGISTER_BYTES_MAX: usize = 128 * 1024 * 1024;

bodies! {
    pub struct RegisterBrokerBody {
        filter_server_list: Vec<String>,
        topic_config_serialize_wrapper: TopicConfigSerializeWrapper,
    }
}

/// A registration that cannot be read.
#[derive(Debug, Error)]
pub enum RegisterBodyError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error("the compressed registration ends inside {0}")]
    Truncated(&'static str),
    #[error("\"{0}\" describes no topic")]
    Topic(String),
}

impl RegisterBrokerBody {
    /// Reads the body of a broker of this version. Whether it is compressed is seen from its first byte: brokers that
    /// compress do not reliably say so in the header.
    pub fn decode(body: &[u8], sender_version: i32) -> Result<RegisterBrokerBody, RegisterBodyError> {
        let compressed = body.first() == Some(&0x78);
        match body {
            [] => Ok(RegisterBrokerBody::default()),
            _ if compressed => decode_compressed(body, sender_version),
            _ if sender_version < V3_0_11 => Ok(RegisterBrokerBody {
                filter_server_list: Vec::new(),
                topic_config_serialize_wrapper: json::from_slice(body)?,
            }),
            _ => Ok(json::from_slice(body)?),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }

    /// The compressed form. It has no room for a topic's order flag and system flag.
    pub fn encode_compressed(&self) -> Vec<u8> {
        let wrapper = &self.topic_config_serialize_wrapper;
        let mut plain = Vec::new();
        put_part(&mut plain, &json::to_vec(&wrapper.data_version));
        plain.put_i32(wrapper.topic_config_table.len() as i32);
        for topic in wrapper.topic_config_table.values() {
            put_part(&mut plain, topic_text(topic).as_bytes());
        }
        put_part(&mut plain, &json::to_vec(&self.filter_server_list));
        plain.put_i32(wrapper.topic_queue_mapping_info_map.len() as i32);
        for mapping in wrapper.topic_queue_mapping_info_map.values() {
            put_part(&mut plain, &json::to_vec(mapping));
        }
        CompressionType::Zlib.compress(&plain, 9)
    }
}

fn decode_compressed(body: &[u8], sender_version: i32) -> Result<RegisterBrokerBody, RegisterBodyError> {
    let plain = CompressionType::Zlib.decompress(body, REGISTER_BYTES_MAX)?;
    let mut rest = plain.as_slice();
    let mut wrapper = TopicConfigSerializeWrapper {
        data_version: json::from_slice(take_part(&mut rest, "the data version")?)?,
        ..TopicConfigSerializeWrapper::default()
    };
    for _ in 0..take_count(&mut rest, "the topic count")? {
        let text = String::from_utf8_lossy(take_part(&mut rest, "a topic")?);
        let topic =
            parse_topic_text(&text).ok_or_else(|| RegisterBodyError::Topic(text.chars().take(256).collect()))?;
        wrapper.topic_config_table.insert(topic.topic_name.clone(), topic);
    }
    let filter_server_list = json::from_slice(take_part(&mut rest, "the filter servers")?)?;
    if sender_version >= V5_0_0 {
        for _ in 0..take_count(&mut rest, "the mapping count")? {
            let mapping: TopicQueueMappingInfo = json::from_slice(take_part(&mut rest, "a mapping")?)?;
            wrapper
                .topic_queue_mapping_info_map
                .insert(mapping.topic.clone(), mapping);
        }
    }
    Ok(RegisterBrokerBody {
        filter_server_list,
        topic_config_serialize_wrapper: wrapper,
    })
}

/// `name readQueueNums writeQueueNums perm topicFilterType attributesJson`
fn topic_text(topic: &TopicConfig) -> String {
    let attributes = String::from_utf8_lossy(&json::to_vec(&topic.attributes)).into_owned();
    format!(
        "{} {} {} {} {} {attributes}",
        topic.topic_name,
        topic.read_queue_nums,
        topic.write_queue_nums,
        topic.perm,
        topic.topic_filter_type.name(),
    )
}

fn parse_topic_text(text: &str) -> Option<TopicConfig> {
    let mut tokens = text.splitn(6, ' ');
    let topic = TopicConfig {
        topic_name: tokens.next()?.to_owned(),
        read_queue_nums: tokens.next()?.parse().ok()?,
        write_queue_nums: tokens.next()?.parse().ok()?,
        perm: tokens.next()?.parse().ok()?,
        topic_filter_type: TopicFilterType::from_name(tokens.next()?)?,
        ..TopicConfig::default()
    };
    let attributes: BTreeMap<String, String> = match tokens.next() {
        Some(text) if !text.trim().is_empty() => json::from_slice(text.as_bytes()).ok()?,
        _ => BTreeMap::new(),
    };
    Some(TopicConfig { attributes, ..topic })
}

fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    out.put_i32(part.len() as i32);
    out.put_slice(part);
}

fn take_count(rest: &mut &[u8], what: &'static str) -> Result<usize, RegisterBodyError> {
    let count = rest.try_get_i32().map_err(|_| RegisterBodyError::Truncated(what))?;
    usize::try_from(count).map_err(|_| RegisterBodyError::Truncated(what))
}

fn take_part<'a>(rest: &mut &'a [u8], what: &'static str) -> Result<&'a [u8], RegisterBodyError> {
    let length = take_count(rest, what)?;
    rest.split_off(..length).ok_or(RegisterBodyError::Truncated(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::DataVersion;

    fn sample() -> RegisterBrokerBody {
        let mut body = RegisterBrokerBody::default();
        let wrapper = &mut body.topic_config_serialize_wrapper;
        wrapper.data_version = DataVersion {
            counter: 3,
            state_version: 0,
            timestamp: 1_700_000_000_000,
        };
        for name in ["orders", "%RETRY%g"] {
            let mut topic = TopicConfig::new(name, 8, 6);
            topic.attributes.insert("message.type".into(), "NORMAL".into());
            wrapper.topic_config_table.insert(name.into(), topic);
        }
        body
    }

    #[test]
    fn registrations_survive_plain_and_compressed() {
        assert_eq!(RegisterBrokerBody::decode(&sample().encode(), 513).unwrap(), sample());
        assert_eq!(
            RegisterBrokerBody::decode(&sample().encode_compressed(), 513).unwrap(),
            sample()
        );
    }

    #[test]
    fn old_brokers_send_the_table_alone_and_empty_bodies_mean_no_topics() {
        let table = sample().topic_config_serialize_wrapper;
        let old = RegisterBrokerBody::decode(&json::to_vec(&table), 36).unwrap();
        assert_eq!(old.topic_config_serialize_wrapper, table);
        assert_eq!(
            RegisterBrokerBody::decode(b"", 513).unwrap(),
            RegisterBrokerBody::default()
        );
    }

    #[test]
    fn a_cut_compressed_body_is_an_error() {
        let plain = CompressionType::Zlib
            .decompress(&sample().encode_compressed(), 1 << 20)
            .unwrap();
        for cut in 0..plain.len() {
            let body = CompressionType::Zlib.compress(&plain[..cut], 1);
            assert!(RegisterBrokerBody::decode(&body, 513).is_err(), "cut at {cut}");
        }
    }
}
