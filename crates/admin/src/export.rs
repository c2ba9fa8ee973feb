//! Writing what a cluster has to files (spec: admin.md §8).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use oxmq_client::{Admin, SubscriptionGroupConfig, TopicConfig};
use oxmq_protocol::{json, topic, version};
use serde::Serialize;
use serde_json::{Value, json};

use crate::call::{Call, Done, Failure, now};
use crate::declare::{BROKER, CLUSTER, Opt, commands, flag, opt};
use crate::java;
use crate::output::Answer;
use crate::progress::followed;
use crate::runtime::Runtime;
use crate::stats::sum_of_day;

const FOLDER: Opt = opt("f", "filePath", "FOLDER", "Where to write").or("/tmp/rocketmq/export");
const OF_CLUSTER: Opt = opt("c", "clusterName", "CLUSTER", "Cluster").required();
/// What `configs.json` keeps of a broker's settings.
const EXPORTED_SETTINGS: [&str; 16] = [
    "brokerClusterName",
    "brokerId",
    "brokerName",
    "brokerRole",
    "fileReservedTime",
    "filterServerNums",
    "flushDiskType",
    "maxMessageSize",
    "messageDelayLevel",
    "msgTraceTopicName",
    "slaveReadEnable",
    "traceOn",
    "traceTopicEnable",
    "useTLS",
    "autoCreateTopicEnable",
    "autoCreateSubscriptionGroup",
];

commands! {
    export_metadata: "exportMetadata", "Write topics and consumer groups to a file", "-c DefaultCluster",
        &[BROKER, CLUSTER, FOLDER, flag("t", "topic", "Topics only"),
          flag("g", "subscriptionGroup", "Consumer groups only"),
          flag("s", "specialTopic", "Retry and dead letter topics, too")];
    export_configs: "exportConfigs", "Write the settings of a cluster's brokers to a file", "-c DefaultCluster",
        &[OF_CLUSTER, FOLDER];
    export_metrics: "exportMetrics", "Write the figures of a cluster's brokers to a file", "-c DefaultCluster",
        &[OF_CLUSTER, FOLDER];
    export_pop_records: "exportPopRecord", "Let brokers move what they know of popped messages out of RocksDB",
        "-b 127.0.0.1:10911",
        &[BROKER, CLUSTER, opt("d", "dryRun", "BOOL", "true changes nothing; mqadmin 5.5.0 takes false for that")],
        answered_by: Some("brokers of the original");
    rocksdb_to_json: "rocksDBConfigToJson", "Let brokers write the tables of their RocksDB as JSON",
        "-b 127.0.0.1:10911 -t topics",
        &[opt("t", "configType", "TYPE", "topics, subscriptionGroups, consumerOffsets, with ; between"),
          opt("p", "configPath", "FOLDER", "A local RocksDB, which this executable does not read"),
          opt("e", "exportFile", "FILE", "With -p: where to write"),
          opt("j", "jsonEnable", "BOOL", "With -p: as JSON"),
          opt("c", "cluster", "CLUSTER", "Brokers of this cluster"),
          opt("b", "brokerAddr", "HOST:PORT", "This broker only")],
        one_of: &["cluster", "brokerAddr", "configPath"];
}

fn write(path: &Path, value: &impl Serialize, answer: &mut Answer) -> Done {
    let text = java::pretty(&json::to_vec(value));
    let parent = path.parent().unwrap_or(path);
    let written = fs::create_dir_all(parent).and_then(|()| fs::write(path, text));
    written.map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    answer.say(format!("export {} success", path.display()));
    answer.fact("file", path);
    Ok(())
}

/// Topics that users made.
async fn user_topics(admin: &Admin, addr: &str, with_special: bool) -> Result<BTreeMap<String, TopicConfig>, Failure> {
    let mut topics = admin.all_topic_configs_on(addr).await?.topic_config_table;
    let of_broker = admin.system_topics_on(addr).await?;
    topics.retain(|name, _| {
        let is_special = topic::is_retry(name) || topic::is_dlq(name);
        !of_broker.contains(name) && !topic::is_system_topic(name) && (with_special || !is_special)
    });
    Ok(topics)
}

async fn user_groups(admin: &Admin, addr: &str) -> Result<BTreeMap<String, SubscriptionGroupConfig>, Failure> {
    let mut groups = admin.all_group_configs_on(addr).await?.subscription_group_table;
    groups.retain(|name, _| !topic::is_system_group(name));
    Ok(groups)
}

async fn export_metadata(call: &Call, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    let (mut topics, mut groups) = (BTreeMap::<String, TopicConfig>::new(), BTreeMap::new());
    for addr in call.targets().await? {
        for (name, mut config) in user_topics(admin, &addr, call.flag("specialTopic")).await? {
            if let Some(other) = topics.get(&name) {
                config.write_queue_nums += other.write_queue_nums;
                config.read_queue_nums += other.read_queue_nums;
            }
            topics.insert(name, config);
        }
        for (name, mut config) in user_groups(admin, &addr).await? {
            let other: Option<&SubscriptionGroupConfig> = groups.get(&name);
            config.retry_queue_nums += other.map_or(0, |other| other.retry_queue_nums);
            groups.insert(name, config);
        }
    }
    let (file, mut content) = match (call.flag("topic"), call.flag("subscriptionGroup")) {
        (true, _) => ("topic.json", json!({"topicConfigTable": topics})),
        (false, true) => ("subscriptionGroup.json", json!({"subscriptionGroupTable": groups})),
        (false, false) => (
            "metadata.json",
            json!({"topicConfigTable": topics, "subscriptionGroupTable": groups}),
        ),
    };
    content["exportTime"] = json!(now());
    write(&Path::new(call.required("filePath")).join(file), &content, answer)
}

async fn export_configs(call: &Call, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    let info = admin.cluster_info().await?;
    let (mut configs, mut masters, mut slaves) = (BTreeMap::new(), 0, 0);
    for broker in info.brokers(call.required("clusterName")) {
        let Some(addr) = broker.master() else { continue };
        let config = admin.broker_config(addr).await?;
        let kept = config
            .into_iter()
            .filter(|setting| EXPORTED_SETTINGS.contains(&&*setting.key));
        let kept: BTreeMap<_, _> = kept.map(|setting| (setting.key, setting.value)).collect();
        masters += 1;
        slaves += broker.broker_addrs.len() - 1;
        configs.insert(&broker.broker_name, kept);
    }
    let content = json!({
        "brokerConfigs": configs,
        "clusterScale": {
            "namesrvSize": admin.instance().name_server_addrs().len(),
            "masterBrokerSize": masters,
            "slaveBrokerSize": slaves,
        },
    });
    write(
        &Path::new(call.required("filePath")).join("configs.json"),
        &content,
        answer,
    )
}

async fn export_metrics(call: &Call, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    let info = admin.cluster_info().await?;
    let mut report = BTreeMap::new();
    let mut totals = BTreeMap::<&str, f64>::new();
    let mut day_totals = BTreeMap::<&str, i64>::new();
    for broker in info.brokers(call.required("clusterName")) {
        let Some(addr) = broker.master() else { continue };
        let runtime = Runtime(admin.broker_runtime_info(addr).await?.table);
        let config = admin.broker_config(addr).await?;
        let threads = config
            .iter()
            .find(|setting| setting.key == "clientCallbackExecutorThreads");
        let groups = user_groups(admin, addr).await?;
        let half = admin
            .broker_stats(addr, "TOPIC_PUT_NUMS", topic::TRANS_HALF_TOPIC)
            .await;
        let delayed = admin.broker_stats(addr, "TOPIC_PUT_NUMS", topic::SCHEDULE_TOPIC).await;
        // Nothing counted is 0.
        let (half, delayed) = (half.unwrap_or_default(), delayed.unwrap_or_default());
        let tps = [
            ("normalInTps", "totalNormalInTps", runtime.first("putTps")),
            ("normalOutTps", "totalNormalOutTps", runtime.first("getTransferredTps")),
            ("transInTps", "totalTransInTps", half.stats_minute.tps),
            ("scheduleInTps", "totalScheduleInTps", delayed.stats_minute.tps),
        ];
        let yesterday = |kind: &str| {
            runtime.count(&format!("{kind}TotalTodayMorning")) - runtime.count(&format!("{kind}TotalYesterdayMorning"))
        };
        let in_day = [
            ("normalOneDayInNum", yesterday("msgPut")),
            ("normalOneDayOutNum", yesterday("msgGet")),
            ("transOneDayInNum", sum_of_day(&half)),
            ("scheduleOneDayInNum", sum_of_day(&delayed)),
        ];
        tps.iter()
            .for_each(|(_, total, tps)| *totals.entry(total).or_default() += tps);
        in_day
            .iter()
            .for_each(|(name, count)| *day_totals.entry(name).or_default() += count);
        let quota = json!({
            "diskRatio": {
                "commitLogDiskRatio": runtime.text("commitLogDiskRatio"),
                "consumeQueueDiskRatio": runtime.text("consumeQueueDiskRatio"),
            },
            "tps": tps.iter().map(|(name, _, tps)| (*name, *tps)).collect::<BTreeMap<_, _>>(),
            "oneDayNum": in_day.iter().copied().collect::<BTreeMap<_, _>>(),
            "messageAverageSize": runtime.text("putMessageAverageSize"),
            "topicSize": user_topics(admin, addr, false).await?.len(),
            "groupSize": groups.len(),
        });
        let content = json!({
            "runtimeEnv": {
                "cpuNum": threads.map(|setting| &setting.value),
                "totalMemKBytes": runtime.0.get("totalMemKBytes"),
            },
            "runtimeQuota": quota,
            "runtimeVersion": versions(admin, groups.keys()).await,
        });
        report.insert(&broker.broker_name, content);
    }
    let content = json!({"evaluateReport": report, "totalData": {"totalTps": totals, "totalOneDayNum": day_totals}});
    write(
        &Path::new(call.required("filePath")).join("metrics.json"),
        &content,
        answer,
    )
}

/// The languages and versions of consumers that are online.
async fn versions(admin: &Admin, groups: impl ExactSizeIterator<Item = &String>) -> Value {
    let mut clients = BTreeSet::new();
    for group in followed("groups", groups) {
        let connected = admin.consumer_connections(group).await.unwrap_or_default();
        let of_group = connected.connection_set.iter();
        clients.extend(of_group.map(|client| format!("{}%{}", client.language, version::name(client.version))));
    }
    json!({"rocketmqVersion": version::CURRENT_VERSION_NAME, "clientInfo": clients})
}

async fn export_pop_records(call: &Call, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    let info = admin.cluster_info().await?;
    // 5.5.0 takes `false` for a wish to change nothing, later versions take `true`, which is what the word says.
    let dry_run = call.truth("dryRun") == Some(true);
    for addr in call.targets().await? {
        let mut brokers = info.broker_addr_table.values();
        let broker = brokers.find(|broker| broker.broker_addrs.values().any(|other| *other == addr));
        let name = broker.map(|broker| broker.broker_name.as_str()).unwrap_or_default();
        if !dry_run {
            admin.export_pop_records(&addr).await?;
        }
        let sentence = format!("Export broker records, brokerName={name}, brokerAddr={addr}, dryRun={dry_run}");
        answer.done(&addr, sentence);
    }
    Ok(())
}

async fn rocksdb_to_json(call: &Call, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    let addrs = match (call.text("cluster"), call.text("brokerAddr")) {
        (Some(cluster), _) => admin.masters(cluster).await?,
        (None, Some(addr)) => vec![addr.to_owned()],
        (None, None) => {
            return Err(Failure::new(
                "a local RocksDB is not read: ask the broker with -b or -c",
            ));
        }
    };
    let kinds = call
        .text("configType")
        .unwrap_or("topics;subscriptionGroups;consumerOffsets");
    answer.say("Use [rpc mode] call broker to export to json file ");
    for addr in addrs {
        admin.export_rocksdb_config(&addr, kinds).await?;
        answer.add("done", addr);
    }
    answer.say("broker export done.");
    Ok(())
}
