//! Checks of topics: permissions, queues, where they are.

use std::collections::{BTreeMap, BTreeSet};

use oxmq_protocol::body::TopicConfig;
use oxmq_protocol::perm;

use super::facts::{Broker, Facts};
use super::finding::{Findings, some};

const MESSAGE_TYPE: &str = "message.type";

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    for broker in facts.masters() {
        let topics = facts.topics();
        for config in broker
            .topics
            .values()
            .filter(|config| topics.contains(config.topic_name.as_str()))
        {
            check_topic(broker, config, findings);
        }
        check_wiped(facts, broker, findings);
    }
    check_missing(facts, findings);
    check_types(facts, findings);
}

fn check_topic(broker: &Broker, config: &TopicConfig, findings: &mut Findings) {
    let (topic, name) = (&config.topic_name, &broker.name);
    let both = perm::is_readable(config.perm) && perm::is_writeable(config.perm);
    if !both {
        let cannot = match (perm::is_readable(config.perm), perm::is_writeable(config.perm)) {
            (true, false) => "cannot be sent to",
            (false, true) => "cannot be consumed",
            _ => "can neither be sent to nor consumed",
        };
        findings.warning(
            "topic-permission",
            format!(
                "{topic} {cannot} on {name}: its permission is {}",
                perm::text(config.perm)
            ),
            "meant for topics that are moved or given up; clients get code 16, or just nothing",
            format!("oxmq admin updateTopicPerm -t {topic} -b {} -p 6", broker.addr),
        );
    }
    let (read, write) = (config.read_queue_nums, config.write_queue_nums);
    let fix = || {
        let queues = read.max(write);
        format!(
            "oxmq admin updateTopic -t {topic} -b {} -r {queues} -w {queues}",
            broker.addr
        )
    };
    if write > read {
        findings.error(
            "queues-not-read",
            format!("{topic} on {name} has {write} write queues and {read} read queues"),
            "messages in the queues above are stored and never consumed",
            fix(),
        );
    } else if read > write {
        findings.advice(
            "queues-not-written",
            format!("{topic} on {name} has {read} read queues and {write} write queues"),
            "right while a topic shrinks: once the rest is consumed, lower the read queues",
            fix(),
        );
    }
}

/// What `wipeWritePerm` does is known to name servers only.
fn check_wiped(facts: &Facts, broker: &Broker, findings: &mut Findings) {
    for server in &facts.name_servers {
        let is_wiped = |(topic, route): &(&String, &oxmq_protocol::body::TopicRouteData)| {
            let here = route
                .queue_datas
                .iter()
                .find(|queues| queues.broker_name == broker.name);
            let wanted = broker
                .topics
                .get(*topic)
                .is_some_and(|config| perm::is_writeable(config.perm));
            wanted && here.is_some_and(|queues| !perm::is_writeable(queues.perm))
        };
        let wiped: Vec<&str> = server
            .routes
            .iter()
            .filter(is_wiped)
            .map(|(topic, _)| topic.as_str())
            .collect();
        if !wiped.is_empty() {
            findings.warning(
                "write-permission-wiped",
                format!("{} tells clients not to send to {} topics of {}: {}", server.addr, wiped.len(), broker.name, some(wiped.iter().copied())),
                "wipeWritePerm was called, as before a broker is stopped; it takes no messages until that is taken back or a topic changes",
                format!("oxmq admin addWritePerm -b {}", broker.name),
            );
        }
    }
}

fn check_missing(facts: &Facts, findings: &mut Findings) {
    let clusters: BTreeSet<&str> = facts.masters().map(|broker| broker.cluster.as_str()).collect();
    for cluster in clusters {
        let masters: Vec<&Broker> = facts.masters().filter(|broker| broker.cluster == cluster).collect();
        for topic in facts.topics() {
            let (there, missing): (Vec<&Broker>, Vec<&Broker>) =
                masters.iter().partition(|broker| broker.topics.contains_key(topic));
            if there.is_empty() || missing.is_empty() {
                continue;
            }
            findings.warning(
                "topic-on-some-masters",
                format!(
                    "{topic} is on {} of {} masters of {cluster}, not on {}",
                    there.len(),
                    masters.len(),
                    some(missing.iter().map(|broker| broker.name.as_str()))
                ),
                "the load is not spread, and sends fail when the brokers are down that have it",
                format!("oxmq admin updateTopic -c {cluster} -t {topic} (with its queue numbers)"),
            );
        }
    }
}

fn check_types(facts: &Facts, findings: &mut Findings) {
    for topic in facts.topics() {
        let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for broker in facts.masters() {
            if let Some(config) = broker.topics.get(topic) {
                let kind = config
                    .attributes
                    .get(MESSAGE_TYPE)
                    .map_or("unspecified", String::as_str);
                kinds.entry(kind).or_default().push(&broker.name);
            }
        }
        if kinds.len() > 1 {
            let told: Vec<String> = kinds
                .iter()
                .map(|(kind, brokers)| format!("{kind} on {}", some(brokers.iter().copied())))
                .collect();
            findings.warning(
                "topic-types-differ",
                format!("{topic} is {}", told.join(", ")),
                "brokers refuse messages that are not of the topic's type: sends fail now and then",
                format!("oxmq admin updateTopic -c CLUSTER -t {topic} -a +message.type=TYPE"),
            );
        }
    }
}
