//! Checks of consumer groups: who consumes what, and how far they are.

use std::collections::{BTreeMap, BTreeSet};

use oxmq_protocol::topic::{is_retry, is_system_group};

use super::facts::{Facts, Group, Member, lag_of};
use super::finding::{Findings, some};
use crate::text::{span, time};

/// Fewer messages are normal work.
const LAG_MIN: i64 = 1000;
/// Popped messages that wait to be looked at.
const REVIVE_LAG_MIN: i64 = 10_000;
const REVIVE_GROUP: &str = oxmq_protocol::pop::REVIVE_GROUP;
/// A group that has used up so much of the time for which messages are kept loses some soon.
const RETENTION_USED_MAX: f64 = 0.8;
const HOUR_MS: f64 = 3_600_000.0;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    for group in &facts.groups {
        if group.name == REVIVE_GROUP {
            check_revive(group, findings);
        }
        if is_system_group(&group.name) {
            continue;
        }
        check_members(group, findings);
        check_lag(group, findings);
        check_retention(facts, group, findings);
        check_config(facts, group, findings);
        check_idle(group, findings);
    }
}

fn check_revive(group: &Group, findings: &mut Findings) {
    let lag = group.lag();
    if lag >= REVIVE_LAG_MIN {
        findings.warning(
            "pop-behind",
            format!("{lag} records of popped messages wait to be looked at"),
            "messages that were not acknowledged come again late",
            "oxmq admin consumerProgress -g CID_RMQ_SYS_REVIVE_GROUP; look at the load of the broker",
        );
    }
}

fn check_members(group: &Group, findings: &mut Findings) {
    let name = &group.name;
    let distinct = |value: &dyn Fn(&Member) -> String| -> BTreeMap<String, Vec<&str>> {
        let mut by_value: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for member in &group.members {
            by_value.entry(value(member)).or_default().push(&member.client_id);
        }
        by_value
    };
    let told = |by_value: &BTreeMap<String, Vec<&str>>| {
        let each = by_value
            .iter()
            .map(|(value, members)| format!("{value} ({})", some(members.iter().copied())));
        each.collect::<Vec<_>>().join("; ")
    };
    let subscriptions = distinct(&|member| {
        let own = member.subscriptions.iter().filter(|(topic, _)| !is_retry(topic));
        own.map(|(topic, expression)| format!("{topic}: {expression}"))
            .collect::<Vec<_>>()
            .join(", ")
    });
    if subscriptions.len() > 1 {
        findings.error(
            "subscriptions-differ",
            format!("members of {name} subscribe differently: {}", told(&subscriptions)),
            "brokers keep one subscription a group, the last that a heartbeat brought: messages are skipped that a member wanted",
            "deploy the same subscriptions to all members, or use a group for each",
        );
    }
    let modes = distinct(&|member| {
        let order = if member.is_orderly { "orderly" } else { "concurrently" };
        format!("{} {order}", member.consume_type)
    });
    if modes.len() > 1 {
        findings.error(
            "consume-modes-differ",
            format!("members of {name} consume differently: {}", told(&modes)),
            "order is lost, or queues are locked by those who do not need it",
            "deploy the same kind of listener to all members, or use a group for each",
        );
    }
}

fn check_lag(group: &Group, findings: &mut Findings) {
    let (name, lag, online) = (&group.name, group.lag(), group.members_online());
    if lag < LAG_MIN {
        return;
    }
    let growing = group.lag_before.is_some_and(|before| lag > before);
    let growth = if growing { ", and growing" } else { "" };
    let topics: BTreeSet<&str> = group
        .queues
        .iter()
        .filter(|(_, offsets)| lag_of(offsets) > 0)
        .map(|(queue, _)| queue.topic.as_str())
        .collect();
    let seen = format!("{name} is {lag} messages behind{growth}, in {}", some(topics));
    let progress = format!("oxmq admin consumerProgress -g {name}");
    if online == 0 {
        let fix = format!(
            "start a member, or if the group is given up: oxmq admin deleteSubGroup -c CLUSTER -g {name} -r true"
        );
        let why = "nobody is online to consume them";
        match growing {
            true => findings.error("lag-without-consumer", seen, why, fix),
            false => findings.warning("lag-without-consumer", seen, why, fix),
        }
    } else if growing {
        findings.warning(
            "lag-grows",
            format!("{seen}, with {online} members"),
            "more is sent than consumed: messages get older, and are deleted in the end",
            format!("{progress}; add members (up to the number of queues) or make consumption faster"),
        );
    } else {
        findings.advice(
            "lag",
            format!("{seen}, with {online} members"),
            "the group catches up, or stands still",
            progress,
        );
    }
}

fn check_retention(facts: &Facts, group: &Group, findings: &mut Findings) {
    for broker in facts.masters() {
        let behind = group
            .queues
            .iter()
            .filter(|(queue, offsets)| queue.broker_name == broker.name && lag_of(offsets) > 0);
        // Of a queue in which the group has consumed nothing, or nothing that still exists, no time is known.
        let Some((queue, oldest)) = behind
            .map(|(queue, offsets)| (queue, offsets.last_timestamp))
            .filter(|(_, last)| *last > 0)
            .min_by_key(|(_, last)| *last)
        else {
            continue;
        };
        let first = broker.number("earliestMessageTimeStamp").unwrap_or(-1.0) as i64;
        if first > 0 && oldest < first {
            findings.error(
                "unread-messages-deleted",
                format!(
                    "{} has consumed {queue} until {}, the oldest message of {} is of {}",
                    group.name,
                    time(oldest),
                    broker.name,
                    time(first)
                ),
                "what was in between is deleted without having been consumed",
                format!(
                    "oxmq admin updateBrokerConfig -b {} -k fileReservedTime -v HOURS; add members to {}",
                    broker.addr, group.name
                ),
            );
            continue;
        }
        let Some(hours) = broker.setting_number("fileReservedTime") else {
            continue;
        };
        let age = facts.now_ms - oldest;
        if age as f64 > hours * HOUR_MS * RETENTION_USED_MAX {
            findings.error(
                "lag-near-retention",
                format!(
                    "{} is {} behind in {queue}, and messages are kept for {hours} h",
                    group.name,
                    span(age)
                ),
                "they will be deleted before the group comes to them",
                format!(
                    "oxmq admin updateBrokerConfig -b {} -k fileReservedTime -v HOURS; add members to {}",
                    broker.addr, group.name
                ),
            );
        }
    }
}

fn check_config(facts: &Facts, group: &Group, findings: &mut Findings) {
    let name = &group.name;
    let configs: Vec<_> = facts
        .masters()
        .filter_map(|broker| Some((broker, broker.groups.get(name)?)))
        .collect();
    let disabled: Vec<&str> = configs
        .iter()
        .filter(|(_, config)| !config.consume_enable)
        .map(|(broker, _)| broker.name.as_str())
        .collect();
    if !disabled.is_empty() && (group.members_online() > 0 || group.lag() > 0) {
        findings.warning(
            "group-disabled",
            format!("{name} may not consume on {} (consumeEnable=false)", some(disabled)),
            "its members are refused with code 16 and wait",
            format!("oxmq admin updateSubGroup -c CLUSTER -g {name} -s true"),
        );
    }
    let alike: BTreeSet<_> = configs
        .iter()
        .map(|(_, config)| {
            (
                config.consume_enable,
                config.retry_max_times,
                config.retry_queue_nums,
                config.consume_message_orderly,
            )
        })
        .collect();
    if alike.len() > 1 {
        findings.warning(
            "group-settings-differ",
            format!("{name} has different settings on its {} brokers", configs.len()),
            "how often a message is retried depends on the broker that has it",
            format!("oxmq admin getConsumerConfig -g {name}, then updateSubGroup -c CLUSTER -g {name}"),
        );
    }
}

/// Queues go to one member each.
fn check_idle(group: &Group, findings: &mut Findings) {
    let Some(connection) = &group.connection else { return };
    let is_push = connection.consume_type == oxmq_protocol::body::ConsumeType::Passively;
    let is_shared = connection.message_model == oxmq_protocol::body::MessageModel::Clustering;
    let queues = group.queues.keys().filter(|queue| !is_retry(&queue.topic)).count();
    let members = group.members_online();
    if is_push && is_shared && queues > 0 && members > queues {
        findings.advice(
            "idle-members",
            format!("{} has {members} members for {queues} queues", group.name),
            "a queue belongs to one member: the others have nothing to do",
            "add queues (oxmq admin updateTopic -r N -w N), or let the group pop (oxmq admin setConsumeMode -m POP)",
        );
    }
}
