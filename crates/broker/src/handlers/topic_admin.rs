//! Administration of topics: UPDATE_AND_CREATE_TOPIC (17) and its list form (18), GET_ALL_TOPIC_CONFIG (21),
//! DELETE_TOPIC_IN_BROKER (215), GET_SYSTEM_TOPIC_LIST_FROM_BROKER (305), GET_TOPIC_CONFIG (351)
//! (spec: behaviour.md §2.5, §2.6).

use std::time::Instant;

use oxmq_protocol::body::{
    DataVersion, TopicConfig, TopicConfigAndQueueMapping, TopicConfigList, TopicConfigSerializeWrapper,
    TopicFilterType, TopicList, TopicQueueMappingDetail,
};
use oxmq_protocol::pop::{retry_topic_v1, retry_topic_v2};
use oxmq_protocol::requests::{CreateTopicHeader, GetAllTopicConfigReply, TopicHeader};
use oxmq_protocol::{RemotingCommand, response_code as code, topic};

use super::{Handled, body, fields, is_blank, saved, success, success_json, success_unset};
use crate::attributes;
use crate::broker::Broker;
use crate::response::{Refusal, topic_name};
use crate::topics::QUEUE_NUMS_MAX;

pub(super) fn update(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: CreateTopicHeader = fields(command)?;
    let changes = attributes::parse_changes(header.attributes.as_deref().unwrap_or_default());
    let config = TopicConfig {
        attributes: changes.map_err(|error| Refusal::new(code::SYSTEM_ERROR, error.to_string()))?,
        order: header.order,
        ..config_of(header)?
    };
    put(broker, vec![config])
}

/// The topic that a header describes, without order and attributes.
pub(super) fn config_of(header: CreateTopicHeader) -> Result<TopicConfig, Refusal> {
    let topic_filter_type = TopicFilterType::from_name(&header.topic_filter_type).ok_or_else(|| {
        let remark = format!("topicFilterType = [{}] value invalid", header.topic_filter_type);
        Refusal::new(code::SYSTEM_ERROR, remark)
    })?;
    Ok(TopicConfig {
        attributes: Default::default(),
        order: false,
        perm: header.perm,
        read_queue_nums: header.read_queue_nums,
        topic_filter_type,
        topic_name: header.topic,
        topic_sys_flag: header.topic_sys_flag.unwrap_or(0),
        write_queue_nums: header.write_queue_nums,
    })
}

pub(super) fn update_list(broker: &Broker, command: &RemotingCommand) -> Handled {
    let request: TopicConfigList = body(command)?;
    put(broker, request.topic_config_list)
}

fn put(broker: &Broker, configs: Vec<TopicConfig>) -> Handled {
    let began = Instant::now();
    let is_system = configs.iter().any(|config| topic::is_system_topic(&config.topic_name));
    let handled = put_checked(broker, configs);
    if let Some(metrics) = &broker.metrics {
        metrics.topic_created(handled.is_ok(), is_system, began.elapsed());
    }
    handled
}

fn put_checked(broker: &Broker, configs: Vec<TopicConfig>) -> Handled {
    for config in &configs {
        check(broker, config)?;
    }
    let is_new = |config: &TopicConfig| broker.topics.get(&config.topic_name).as_deref() != Some(config);
    let changed: Vec<TopicConfig> = configs.into_iter().filter(is_new).collect();
    if !changed.is_empty() {
        let updated = broker.topics.update(changed, broker.now_ms());
        updated.map_err(|error| Refusal::new(code::SYSTEM_ERROR, error.to_string()))?;
    }
    Ok(success_unset())
}

pub(super) fn check(broker: &Broker, config: &TopicConfig) -> Result<(), Refusal> {
    let refuse = |remark: String| Err(Refusal::new(code::INVALID_PARAMETER, remark));
    let name = config.topic_name.as_str();
    if let Err(error) = topic::validate_topic(name) {
        return refuse(topic_name(name, &error));
    }
    refuse_system_topic(broker, name)?;
    if attributes::asks_for_mixed(&config.attributes) && !broker.config().enable_mixed_message_type {
        return refuse("MIXED message type is not supported.".into());
    }
    let queues = 0..=QUEUE_NUMS_MAX;
    if !queues.contains(&config.read_queue_nums) || !queues.contains(&config.write_queue_nums) {
        return refuse(format!("The topic[{name}] may have 0 to {QUEUE_NUMS_MAX} queues."));
    }
    // Any permission is taken: only its known bits count, and clients of 5.x refuse others themselves.
    Ok(())
}

fn refuse_system_topic(broker: &Broker, name: &str) -> Result<(), Refusal> {
    if broker.config().validate_system_topic_when_update_topic && broker.topics.is_system_topic(name) {
        let remark = format!("The topic[{name}] is conflict with system topic.");
        return Err(Refusal::new(code::INVALID_PARAMETER, remark));
    }
    Ok(())
}

pub(super) fn delete(broker: &Broker, command: &RemotingCommand) -> Handled {
    let topic = command.header.ext_fields.get("topic").unwrap_or_default();
    if is_blank(topic) {
        return Err(Refusal::new(code::INVALID_PARAMETER, "The specified topic is blank."));
    }
    refuse_system_topic(broker, topic)?;
    broker.remove_topic(topic);
    saved(broker.save_offsets())?;
    Ok(success())
}

pub(super) fn all(broker: &Broker, _: &RemotingCommand) -> Handled {
    let (data_version, topics) = broker.topics.snapshot();
    let reply = GetAllTopicConfigReply {
        total_topic_num: Some(topics.len() as i32),
    };
    let (mapping_version, mappings) = broker.static_topics.snapshot();
    let body = TopicConfigSerializeWrapper {
        data_version,
        mapping_data_version: match mapping_version.counter {
            0 => DataVersion::at(broker.started_at),
            _ => mapping_version,
        },
        topic_queue_mapping_detail_map: mappings,
        topic_config_table: topics
            .iter()
            .map(|topic| (topic.topic_name.clone(), TopicConfig::clone(topic)))
            .collect(),
        ..TopicConfigSerializeWrapper::default()
    };
    Ok(success_json(&body).with_fields(&reply))
}

pub(super) fn get(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: TopicHeader = fields(command)?;
    match broker.topics.get(&header.topic) {
        Some(config) => Ok(success_json(&TopicConfigAndQueueMapping {
            mapping_detail: wants_mapping(command)
                .then(|| broker.static_topics.get(&header.topic))
                .flatten()
                .map(|detail| TopicQueueMappingDetail::clone(&detail)),
            config: TopicConfig::clone(&config),
        })),
        None => Err(Refusal::new(
            code::TOPIC_NOT_EXIST,
            format!("No topic in this broker. topic: {}", header.topic),
        )),
    }
}

fn wants_mapping(command: &RemotingCommand) -> bool {
    let lo = command.header.ext_fields.get("lo");
    lo.is_some_and(|lo| lo.eq_ignore_ascii_case("true"))
}

pub(super) fn system_topics(broker: &Broker) -> Handled {
    Ok(success_json(&TopicList {
        broker_addr: None,
        topic_list: broker.topics.system_topics().into_iter().collect(),
    }))
}

impl Broker {
    /// Forgets a topic, the topics of its messages that come again, its queues and everybody's progress on it. Its records stay in the log until retention.
    pub(crate) fn remove_topic(&self, topic: &str) {
        if self.config().clear_retry_topic_when_delete_topic {
            for group in self.consumer_offsets.groups_of(topic) {
                for retry in [retry_topic_v1(topic, &group), retry_topic_v2(topic, &group)] {
                    if self.topics.contains(&retry) {
                        self.forget_topic(&retry);
                    }
                }
            }
        }
        self.forget_topic(topic);
    }

    fn forget_topic(&self, topic: &str) {
        self.static_topics.delete(topic, self.now_ms());
        self.topics.delete(topic, self.now_ms());
        self.quotas.forget_topic(topic);
        self.pops.remove_topic(topic);
        self.consumer_offsets.remove_topic(topic);
        self.transactions.metrics.remove_topic(topic);
        self.store.delete_topic(topic);
        if self.config().auto_delete_unused_stats {
            self.stats.remove_topic(topic);
        }
    }
}
