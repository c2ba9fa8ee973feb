//! Rates of topics and groups, and watching them (spec: admin.md §4, §8).

use std::collections::BTreeMap;

use oxmq_client::{Admin, ConsumeStats, MessageQueue};
use oxmq_protocol::body::{BrokerStatsData, OffsetWrapper, SUB_ALL};
use oxmq_protocol::topic;

use crate::call::{Call, Done, Failure, now};
use crate::clients::{stuck_queues, subscribes_alike};
use crate::declare::{commands, flag, opt};
use crate::output::Answer;
use crate::progress::followed;
use crate::table::{Cell, Table, decimal, front, row};

/// Seconds between rounds.
const MONITOR_INTERVAL: u64 = 60;

commands! {
    stats_all: "statsAll", "Show the rates of topics and of the groups that consume them", "-a",
        &[flag("a", "activeTopic", "Only where there is something"), opt("t", "topic", "TOPIC", "This topic only")];
    monitor: "startMonitoring", "Show every minute what groups have not consumed and which consumers are stuck", "",
        &[], every: Some(MONITOR_INTERVAL);
}

async fn stats_all(call: &Call, answer: &mut Answer) -> Done {
    const NAMES: &str = "#Topic, #Consumer Group, #Accumulation, #InTPS, #OutTPS, #InMsg24Hour, #OutMsg24Hour";
    let mut table = Table::new(NAMES, "%-64s  %-64s %12s %11s %11s %14s %14s");
    let admin = call.admin().await?;
    let is_meant = |topic: &&String| {
        let is_own = !topic::is_retry(topic) && !topic::is_dlq(topic);
        is_own && call.text("topic").is_none_or(|wanted| wanted == *topic)
    };
    let active_only = call.flag("activeTopic");
    let topics = admin.topics().await?;
    for topic in followed("topics", topics.iter().filter(is_meant).collect::<Vec<_>>()) {
        // A topic that goes away meanwhile is left out.
        let (Ok(masters), Ok(groups)) = (admin.masters_of_topic(topic).await, admin.groups_of_topic(topic).await)
        else {
            continue;
        };
        let (in_tps, in_day) = rates(admin, &masters, "TOPIC_PUT_NUMS", topic).await;
        if groups.is_empty() && (!active_only || in_day > 0) {
            table.push(row![
                front(topic, 64),
                "",
                0,
                decimal(in_tps, 2),
                Cell::shown("", serde_json::Value::Null),
                in_day,
                Cell::shown("NO_CONSUMER", serde_json::Value::Null),
            ]);
        }
        for group in groups {
            let (out_tps, out_day) = rates(admin, &masters, "GROUP_GET_NUMS", &format!("{topic}@{group}")).await;
            let stats = admin.consume_stats_of(&group, topic).await.unwrap_or_default();
            if !active_only || in_day > 0 || out_day > 0 {
                table.push(row![
                    front(topic, 64),
                    front(&group, 64),
                    stats.total_diff().max(0),
                    decimal(in_tps, 2),
                    decimal(out_tps, 2),
                    in_day,
                    out_day,
                ]);
            }
        }
    }
    answer.table("topics", &table);
    Ok(())
}

/// Per second and in a day, over all brokers. Nothing counted is 0.
async fn rates(admin: &Admin, masters: &[String], name: &str, key: &str) -> (f64, i64) {
    let (mut tps, mut in_day) = (0.0, 0);
    for addr in masters {
        if let Ok(stats) = admin.broker_stats(addr, name, key).await {
            tps += stats.stats_minute.tps;
            in_day += sum_of_day(&stats);
        }
    }
    (tps, in_day)
}

/// The longest time for which there are figures stands for a day.
pub(crate) fn sum_of_day(stats: &BrokerStatsData) -> i64 {
    let sums = [stats.stats_day.sum, stats.stats_hour.sum, stats.stats_minute.sum];
    sums.into_iter().find(|sum| *sum != 0).unwrap_or(0)
}

async fn monitor(call: &Call, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    let line = "=".repeat(41);
    answer.say(format!("[MONITOR] {line}beginRound"));
    for topic in admin.topics().await? {
        let Some(group) = topic::group_of_retry(&topic) else {
            continue;
        };
        // Only groups that are online are looked at.
        let Ok(connected) = admin.consumer_connections(group).await else {
            continue;
        };
        let stats = admin.consume_stats(group).await.unwrap_or_default();
        say_undone(admin, group, &stats, answer).await?;
        let mut infos = BTreeMap::new();
        for connection in &connected.connection_set {
            if let Ok(info) = admin.consumer_running_info(group, &connection.client_id, false).await {
                infos.insert(connection.client_id.clone(), info);
            }
        }
        let notify = format!("[MONITOR]  [NOTIFY] reportConsumerRunningInfo: ConsumerGroup: {group}");
        if !subscribes_alike(&infos) {
            answer.say(format!("{notify}, Subscription different"));
            answer.add("subscriptionDifferent", group);
        }
        for (id, info) in &infos {
            for stuck in stuck_queues(info) {
                answer.say(format!("{notify}, ClientId: {id}, {id} {stuck}"));
                answer.add("stuck", format!("{id} {stuck}"));
            }
        }
    }
    answer.say(format!("[MONITOR] {line}endRound"));
    Ok(())
}

/// What a group has not consumed of each topic, and how much later the last message is than the last consumed one.
async fn say_undone(admin: &Admin, group: &str, stats: &ConsumeStats, answer: &mut Answer) -> Done {
    let mut by_topic = BTreeMap::<&str, Vec<(&MessageQueue, &OffsetWrapper)>>::new();
    for (queue, offsets) in stats.offset_table.iter() {
        by_topic.entry(&queue.topic).or_default().push((queue, offsets));
    }
    for (topic, queues) in by_topic {
        let (mut total, mut most, mut delay) = (0, 0, 0);
        for (queue, offsets) in queues {
            let diff = offsets.broker_offset - offsets.consumer_offset;
            total += diff.max(0);
            most = most.max(diff);
            if offsets.last_timestamp > 0 && offsets.broker_offset > 0 {
                let last = admin
                    .pull(queue, SUB_ALL, offsets.broker_offset - 1, 1)
                    .await
                    .map_err(Failure::from)?;
                let stored = last
                    .messages
                    .first()
                    .map_or(offsets.last_timestamp, |message| message.store_timestamp);
                delay = delay.max(stored - offsets.last_timestamp);
            }
        }
        answer.say(format!(
            "[MONITOR] reportUndoneMsgs: UndoneMsgs [consumerGroup={group}, topic={topic}, undoneMsgsTotal={total}, \
             undoneMsgsSingleMQ={most}, undoneMsgsDelayTimeMills={delay}]"
        ));
        answer.add(
            "undone",
            serde_json::json!({"group": group, "topic": topic, "total": total, "mostInOneQueue": most, "delayMs": delay, "at": now()}),
        );
    }
    Ok(())
}
