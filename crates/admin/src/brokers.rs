//! Brokers (spec: admin.md §3).

use std::collections::BTreeMap;

use oxmq_client::ClusterInfo;
use oxmq_protocol::body::{BrokerData, ColdDataFlowInfo, MASTER_ID};
use oxmq_protocol::json;
use oxmq_protocol::properties_file::Property;
use serde::Serialize;

use crate::call::{Call, Done, Failure, seconds};
use crate::declare::{BROKER, CLUSTER, INTERVAL, commands, flag, opt};
use crate::output::Answer;
use crate::runtime::Runtime;
use crate::table::{Cell, Table, columns, decimal, front, row};

const ANY_BROKER: &[crate::declare::Opt] = &[
    opt("b", "brokerAddr", "HOST:PORT", "One broker (default: all)"),
    opt("c", "cluster", "CLUSTER", "Brokers of this cluster"),
];

commands! {
    cluster_list: "clusterList", "Show clusters, their brokers and how busy they are", "",
        &[flag("m", "moreStats", "Messages of yesterday and today"), INTERVAL,
          opt("c", "clusterName", "CLUSTER", "This cluster only")];
    broker_status: "brokerStatus", "Show a broker's figures about itself", "-b 127.0.0.1:10911",
        &[BROKER, CLUSTER];
    broker_consume_stats: "brokerConsumeStats", "Show how far all groups of a broker are",
        "-b 127.0.0.1:10911 -l 1",
        &[opt("b", "brokerAddr", "HOST:PORT", "Broker").required(),
          opt("t", "timeoutMillis", "MILLISECONDS", "How long to wait for the broker").or("50000"),
          opt("l", "level", "NUMBER", "Only queues with so many messages to consume").or("0"),
          opt("o", "order", "BOOL", "Only groups that consume orderly").or("false")];
    get_broker_config: "getBrokerConfig", "Show the settings of brokers", "-b 127.0.0.1:10911",
        &[BROKER, opt("c", "clusterName", "CLUSTER", "Every master and slave of this cluster")];
    update_broker_config: "updateBrokerConfig", "Change a setting of brokers",
        "-b 127.0.0.1:10911 -k fileReservedTime -v 24",
        &[opt("k", "key", "KEY", "Setting").required(), opt("v", "value", "VALUE", "Its value").required(), BROKER,
          CLUSTER, opt("a", "updateAllBroker", "ANYTHING", "Slaves of the cluster, too")];
    clean_expired_queues: "cleanExpiredCQ", "Delete what consume queues say of messages that are gone",
        "-b 127.0.0.1:10911",
        ANY_BROKER;
    clean_unused_topics: "cleanUnusedTopic", "Delete the consume queues of topics that are gone",
        "-c DefaultCluster",
        ANY_BROKER;
    delete_expired_commit_log: "deleteExpiredCommitLog", "Delete expired files of the commit log now",
        "-b 127.0.0.1:10911",
        ANY_BROKER;
    get_cold_data_flow: "getColdDataFlowCtrInfo", "Show what groups read of cold messages and may read",
        "-b 127.0.0.1:10911", &[BROKER, CLUSTER];
    update_cold_data_flow: "updateColdDataFlowCtrGroupConfig", "Set how much a group may read of cold messages in 5 s",
        "-b 127.0.0.1:10911 -g orders-archive -v 1048576",
        &[BROKER, CLUSTER, opt("g", "consumerGroup", "GROUP", "Consumer group").required(),
          opt("v", "threshold", "BYTES", "Bytes in 5 s").required()];
    remove_cold_data_flow: "removeColdDataFlowCtrGroupConfig", "Let a group read cold messages like others",
        "-b 127.0.0.1:10911 -g orders-archive",
        &[BROKER, CLUSTER, opt("g", "consumerGroup", "GROUP", "Consumer group").required()];
    set_read_ahead_mode: "setCommitLogReadAheadMode", "Say whether brokers read ahead in the commit log",
        "-b 127.0.0.1:10911 -m 0",
        &[BROKER, CLUSTER, opt("m", "commitLogReadAheadMode", "0|1", "0 reads ahead, 1 does not").required()];
    check_rocksdb_queues: "checkRocksdbCqWriteProgress", "Compare consume queues in files with those in RocksDB",
        "-c DefaultCluster",
        &[opt("c", "cluster", "CLUSTER", "Cluster").required(), opt("t", "topic", "TOPIC", "This topic only"),
          opt("cf", "checkFrom", "TIME", "Messages stored since, in milliseconds since 1970")];
    switch_timer_engine: "switchTimerEngine", "Choose where timer messages wait",
        "-b 127.0.0.1:10911 -e F",
        &[BROKER, CLUSTER, opt("e", "engineType", "R|F", "R a RocksDB, F files").required()];
}

/// The brokers of each cluster, of one cluster if one is named.
fn by_cluster<'a>(info: &'a ClusterInfo, wanted: Option<&'a str>) -> impl Iterator<Item = (&'a str, &'a BrokerData)> {
    let clusters = info.cluster_addr_table.keys().map(String::as_str);
    let clusters = clusters.filter(move |name| wanted.is_none_or(|wanted| wanted == *name));
    clusters.flat_map(|cluster| info.brokers(cluster).map(move |broker| (cluster, broker)))
}

async fn cluster_list(call: &Call, answer: &mut Answer) -> Done {
    const NAMES: &str = "#Cluster Name, #Broker Name, #BID, #Addr, #Version, #InTPS(LOAD), #OutTPS(LOAD), \
        #Timer(Progress), #PCWait(ms), #Hour, #SPACE, #ACTIVATED";
    let admin = call.admin().await?;
    let info = admin.cluster_info().await?;
    let wanted = call.text("clusterName");
    if wanted.is_some_and(|name| !info.cluster_addr_table.contains_key(name)) {
        return Err(Failure::new(format!(
            "no cluster is called {}",
            wanted.unwrap_or_default()
        )));
    }
    if call.flag("moreStats") {
        return more_stats(call, &info, answer).await;
    }
    let mut table = Table::new(
        NAMES,
        "%-22s  %-22s  %-4s  %-22s %-16s  %16s  %30s  %-22s  %-11s  %-12s  %-8s  %-10s",
    )
    .with_rows_as("%-22s  %-22s  %-4s  %-22s %-16s  %16s  %30s  %-22s  %11s  %-12s  %-8s  %10s");
    for (cluster, broker) in by_cluster(&info, wanted) {
        for (id, addr) in &broker.broker_addrs {
            // Who does not answer is shown all the same.
            let runtime = Runtime(admin.broker_runtime_info(addr).await.unwrap_or_default().table);
            table.push(row![
                front(cluster, 22),
                front(&broker.broker_name, 22),
                *id,
                addr,
                runtime.text("brokerVersionDesc"),
                Cell::shown(runtime.in_load(), runtime.first("putTps")),
                Cell::shown(runtime.out_load(), runtime.first("getTransferredTps")),
                runtime.timer_progress(),
                runtime.text("pageCacheLockTimeMills"),
                decimal(runtime.hours_kept(), 2),
                decimal(runtime.number("commitLogDiskRatio"), 4),
                runtime.text("brokerActive") == "true",
            ]);
        }
    }
    answer.table("brokers", &table);
    Ok(())
}

async fn more_stats(call: &Call, info: &ClusterInfo, answer: &mut Answer) -> Done {
    const NAMES: &str = "#Cluster Name, #Broker Name, #InTotalYest, #OutTotalYest, #InTotalToday, #OutTotalToday";
    let mut table = Table::new(NAMES, "%-16s  %-32s %14s %14s %14s %14s");
    for (cluster, broker) in by_cluster(info, call.text("clusterName")) {
        for addr in broker.broker_addrs.values() {
            let runtime = Runtime(
                call.admin()
                    .await?
                    .broker_runtime_info(addr)
                    .await
                    .unwrap_or_default()
                    .table,
            );
            let day = |kind: &str, until: &str, since: &str| {
                runtime.count(&format!("{kind}Total{until}")) - runtime.count(&format!("{kind}Total{since}"))
            };
            table.push(row![
                front(cluster, 16),
                front(&broker.broker_name, 32),
                day("msgPut", "TodayMorning", "YesterdayMorning"),
                day("msgGet", "TodayMorning", "YesterdayMorning"),
                day("msgPut", "TodayNow", "TodayMorning"),
                day("msgGet", "TodayNow", "TodayMorning"),
            ]);
        }
    }
    answer.table("brokers", &table);
    Ok(())
}

async fn broker_status(call: &Call, answer: &mut Answer) -> Done {
    for addr in call.targets().await? {
        let runtime = call.admin().await?.broker_runtime_info(&addr).await?.table;
        for (key, value) in &runtime {
            answer.say(match call.text("brokerAddr") {
                Some(_) => columns("%-32s: %s", [&**key, value]),
                None => columns("%-24s %-32s: %s", [&*addr, key, value]),
            });
        }
        answer.fact(&addr, runtime);
    }
    Ok(())
}

async fn broker_consume_stats(call: &Call, answer: &mut Answer) -> Done {
    const NAMES: &str = "#Topic, #Group, #Broker Name, #QID, #Broker Offset, #Consumer Offset, #Diff, #LastTime";
    let timeout = std::time::Duration::from_millis(call.required_number("timeoutMillis")?);
    let admin = call.admin().await?.clone().with_timeout(timeout);
    let level: i64 = call.required_number("level")?;
    let is_order = call.truth("order") == Some(true);
    let stats = admin
        .broker_consume_stats(call.required("brokerAddr"), is_order)
        .await?;
    let mut table = Table::new(NAMES, "%-64s  %-64s  %-32s  %-4s  %-20s  %-20s  %-20s  %s");
    let groups = stats.consume_stats_list.iter().flatten();
    for (group, stats) in groups.flat_map(|(group, list)| list.iter().map(move |stats| (group, stats))) {
        for (queue, offsets) in stats.offset_table.iter() {
            let diff = offsets.broker_offset - offsets.consumer_offset;
            if diff < level {
                continue;
            }
            let time = offsets.last_timestamp;
            table.push(row![
                front(&queue.topic, 64),
                front(group, 64),
                front(&queue.broker_name, 32),
                queue.queue_id,
                offsets.broker_offset,
                offsets.consumer_offset,
                diff,
                if time > 0 { seconds(time) } else { "-".to_owned() },
            ]);
        }
    }
    answer.table("queues", &table);
    answer.say("");
    answer.say(format!("Diff Total: {}", stats.total_diff));
    answer.fact("totalDiff", stats.total_diff);
    Ok(())
}

/// The brokers of a command, slaves included, each with its title.
async fn titled(call: &Call) -> Result<Vec<(String, String)>, Failure> {
    let mut shown = Vec::new();
    match (call.text("brokerAddr"), call.text("clusterName")) {
        (Some(addr), _) => shown.push((format!("============{addr}============"), addr.to_owned())),
        (None, cluster) => {
            let cluster = cluster.unwrap_or_default();
            for broker in call.admin().await?.cluster_info().await?.brokers(cluster) {
                let master = broker.master().unwrap_or("NO_MASTER");
                for (id, addr) in &broker.broker_addrs {
                    let title = match *id {
                        MASTER_ID => format!("============Master: {addr}============"),
                        _ => format!("============My Master: {master}=====Slave: {addr}============"),
                    };
                    shown.push((title, addr.clone()));
                }
            }
        }
    }
    if shown.is_empty() {
        return Err(Failure::new("the cluster has no brokers"));
    }
    Ok(shown)
}

async fn get_broker_config(call: &Call, answer: &mut Answer) -> Done {
    for (title, addr) in titled(call).await? {
        let config = call.admin().await?.broker_config(&addr).await?;
        answer.heading(title);
        say_settings(&addr, config, answer);
    }
    Ok(())
}

/// Settings by name, as a fact under the address of their server.
pub(crate) fn say_settings(addr: &str, mut settings: Vec<Property>, answer: &mut Answer) {
    settings.sort_by(|one, other| one.key.cmp(&other.key));
    for setting in &settings {
        answer.say(columns("%-50s=  %s", [&*setting.key, &setting.value]));
    }
    answer.say("");
    let facts = settings.into_iter().map(|setting| (setting.key, setting.value));
    answer.fact(addr, facts.collect::<BTreeMap<_, _>>());
}

async fn update_broker_config(call: &Call, answer: &mut Answer) -> Done {
    let (key, value) = (call.required("key"), call.required("value"));
    if key == "brokerPermission" && !matches!(value, "2" | "4" | "6") {
        return Err(Failure::new("brokerPermission is 2, 4 or 6"));
    }
    let admin = call.admin().await?;
    let addrs = match (call.text("brokerAddr"), call.text("clusterName")) {
        (None, Some(cluster)) if call.is_given("updateAllBroker") => {
            let info = admin.cluster_info().await?;
            info.brokers(cluster)
                .flat_map(|broker| broker.broker_addrs.values().cloned())
                .collect()
        }
        _ => call.targets().await?,
    };
    for addr in addrs {
        admin.update_broker_config(&addr, &[(key, value)]).await?;
        answer.done(&addr, format!("update broker config success, {addr}"));
        if let Ok(config) = admin.broker_config(&addr).await {
            warn_of_unknown(key, &addr, &config);
        }
    }
    Ok(())
}

/// Servers of either kind say "success" to keys that they do not know.
pub(crate) fn warn_of_unknown(key: &str, addr: &str, config: &[Property]) {
    if !config.iter().any(|setting| setting.key == key) {
        eprintln!("warning: {addr} has no setting {key}, so that nothing was changed");
    }
}

/// The broker of `-b`, or every broker of the cluster of `-c`, or every broker there is.
async fn any_brokers(call: &Call) -> Result<Vec<String>, Failure> {
    if let Some(addr) = call.text("brokerAddr") {
        return Ok(vec![addr.to_owned()]);
    }
    let info = call.admin().await?.cluster_info().await?;
    let brokers = by_cluster(&info, call.text("cluster"));
    Ok(brokers
        .flat_map(|(_, broker)| broker.broker_addrs.values().cloned())
        .collect())
}

async fn clean_expired_queues(call: &Call, answer: &mut Answer) -> Done {
    for addr in any_brokers(call).await? {
        call.admin().await?.clean_expired_consume_queues(&addr).await?;
        answer.add("done", addr);
    }
    answer.say("success");
    Ok(())
}

async fn clean_unused_topics(call: &Call, answer: &mut Answer) -> Done {
    for addr in any_brokers(call).await? {
        call.admin().await?.clean_unused_topics(&addr).await?;
        answer.add("done", addr);
    }
    answer.say("success");
    Ok(())
}

async fn delete_expired_commit_log(call: &Call, answer: &mut Answer) -> Done {
    for addr in any_brokers(call).await? {
        call.admin().await?.delete_expired_commit_log(&addr).await?;
        answer.add("done", addr);
    }
    answer.say("success");
    Ok(())
}

async fn get_cold_data_flow(call: &Call, answer: &mut Answer) -> Done {
    for (title, addr) in titled(call).await? {
        let info = call.admin().await?.cold_data_flow_control(&addr).await?;
        answer.heading(format!(" {title}"));
        let shown = ShownColdData::from(&info);
        answer.say(crate::java::pretty(&json::to_vec(&shown)));
        answer.fact(&addr, info);
    }
    Ok(())
}

/// With times as the original shows them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownColdData<'a> {
    runtime_table: BTreeMap<&'a str, ShownColdReads>,
    config_table: &'a BTreeMap<String, i64>,
    cg_cold_read_threshold: i64,
    global_cold_read_threshold: i64,
    global_acc: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownColdReads {
    cold_acc: i64,
    last_cold_read_time_format: String,
    create_time_format: String,
}

impl<'a> From<&'a ColdDataFlowInfo> for ShownColdData<'a> {
    fn from(info: &'a ColdDataFlowInfo) -> ShownColdData<'a> {
        let runtime = info.runtime_table.iter().map(|(group, reads)| {
            let reads = ShownColdReads {
                cold_acc: reads.cold_acc,
                last_cold_read_time_format: seconds(reads.last_cold_read_time_mills),
                create_time_format: seconds(reads.create_time_mills),
            };
            (group.as_str(), reads)
        });
        ShownColdData {
            runtime_table: runtime.collect(),
            config_table: &info.config_table,
            cg_cold_read_threshold: info.cg_cold_read_threshold,
            global_cold_read_threshold: info.global_cold_read_threshold,
            global_acc: info.global_acc,
        }
    }
}

async fn update_cold_data_flow(call: &Call, answer: &mut Answer) -> Done {
    let threshold = call.required_number("threshold")?;
    for addr in call.targets().await? {
        let admin = call.admin().await?;
        admin
            .set_cold_data_threshold(&addr, call.required("consumerGroup"), threshold)
            .await?;
        answer.done(&addr, format!("updateColdDataFlowCtrGroupConfig success, {addr}"));
    }
    Ok(())
}

async fn remove_cold_data_flow(call: &Call, answer: &mut Answer) -> Done {
    for addr in call.targets().await? {
        let admin = call.admin().await?;
        admin
            .remove_cold_data_threshold(&addr, call.required("consumerGroup"))
            .await?;
        answer.done(&addr, format!("remove broker cold read threshold success, {addr}"));
    }
    Ok(())
}

async fn set_read_ahead_mode(call: &Call, answer: &mut Answer) -> Done {
    let mode: i32 = call.required_number("commitLogReadAheadMode")?;
    if !matches!(mode, 0 | 1) {
        return Err(Failure::new("set the read mode error; 0 is default, 1 random read"));
    }
    for (title, addr) in titled(call).await? {
        let said = call.admin().await?.set_read_ahead_mode(&addr, mode).await?;
        answer.heading(format!(" {title}"));
        answer.done(&addr, format!("commitLog set readAhead mode rstStr{said}"));
    }
    Ok(())
}

async fn check_rocksdb_queues(call: &Call, answer: &mut Answer) -> Done {
    let from_ms = call.number("checkFrom")?.unwrap_or(0);
    let admin = call.admin().await?;
    for (_, broker) in by_cluster(&admin.cluster_info().await?, Some(call.required("cluster"))) {
        let Some(addr) = broker.master() else { continue };
        let result = admin.check_rocksdb_queues(addr, call.text("topic"), from_ms).await?;
        let (name, found) = (&broker.broker_name, result.check_result.as_deref().unwrap_or_default());
        answer.say(match result.check_status {
            0 => format!("{name} check finish, all is right: {found}"),
            1 => format!("{name} check finish, something is wrong: {found}"),
            2 => format!("{name} check doing, please wait and get the result from log..."),
            _ => format!("{name} check error: {found}"),
        });
        answer.fact(name, result);
    }
    Ok(())
}

async fn switch_timer_engine(call: &Call, answer: &mut Answer) -> Done {
    let engine = call.required("engineType");
    let Some(name) = engine_name(engine) else {
        return Err(Failure::new("switchTimerEngine engineType must be R or F"));
    };
    for addr in call.targets().await? {
        call.admin().await?.switch_timer_engine(&addr, engine).await?;
        answer.done(&addr, format!("switchTimerEngine to {name} success, {addr}"));
    }
    Ok(())
}

fn engine_name(letter: &str) -> Option<&'static str> {
    match letter {
        "R" => Some("ROCKSDB_TIMELINE"),
        "F" => Some("FILE_TIME_WHEEL"),
        _ => None,
    }
}
