use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DataVersion, TopicQueueMappingDetail, TopicQueueMappingInfo, bodies};
use crate::json::text_enum;
use crate::perm;

text_enum! {
    /// Whether messages of a topic have one tag or several.
    pub enum TopicFilterType {
        #[default]
        SingleTag = "SINGLE_TAG",
        MultiTag = "MULTI_TAG",
    }
}

/// A topic as a broker knows it: bodies of 18 and 351, an entry of `topics.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfig {
    pub attributes: BTreeMap<String, String>,
    pub order: bool,
    pub perm: i32,
    pub read_queue_nums: i32,
    pub topic_filter_type: TopicFilterType,
    pub topic_name: String,
    pub topic_sys_flag: i32,
    pub write_queue_nums: i32,
}

impl TopicConfig {
    /// A readable and writeable topic with as many queues for readers as for writers.
    pub fn new(topic_name: impl Into<String>, queue_nums: i32, perm: i32) -> TopicConfig {
        TopicConfig {
            topic_name: topic_name.into(),
            read_queue_nums: queue_nums,
            write_queue_nums: queue_nums,
            perm,
            ..TopicConfig::default()
        }
    }
}

/// The library's defaults.
impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig {
            attributes: BTreeMap::new(),
            order: false,
            perm: perm::READ | perm::WRITE,
            read_queue_nums: 16,
            topic_filter_type: TopicFilterType::SingleTag,
            topic_name: String::new(),
            topic_sys_flag: 0,
            write_queue_nums: 16,
        }
    }
}

bodies! {
    /// Reply of 21 and the greater part of 103. `topics.json` holds the first and the third member.
    pub struct TopicConfigSerializeWrapper {
        data_version: DataVersion,
        mapping_data_version: DataVersion,
        topic_config_table: BTreeMap<String, TopicConfig>,
        topic_queue_mapping_detail_map: BTreeMap<String, TopicQueueMappingDetail>,
        topic_queue_mapping_info_map: BTreeMap<String, TopicQueueMappingInfo>,
    }

    /// Body of 18.
    pub struct TopicConfigList {
        topic_config_list: Vec<TopicConfig>,
    }
}
