//! Topics (spec: admin.md §2).

use std::collections::BTreeMap;

use oxmq_protocol::allocate::{AllocateAveragely, AllocateStrategy};
use oxmq_protocol::body::{QueueData, TopicConfig, TopicRouteData};
use oxmq_protocol::{hash, json, response_code, topic};
use serde_json::{Map, Value, json};

use crate::call::{Call, Done, Failure, milliseconds};
use crate::declare::{BROKER, CLUSTER, TOPIC, commands, flag, opt};
use crate::java::{self, map};
use crate::output::Answer;
use crate::progress::followed;
use crate::reading::queues_of;
use crate::table::{Table, front, row};

/// Where name servers keep which brokers have how many queues of an ordered topic.
const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";
const SYS_FLAG_UNIT: i32 = 1;
const SYS_FLAG_UNIT_SUB: i32 = 2;

commands! {
    update_topic: "updateTopic", "Create or change a topic", "-c DefaultCluster -t orders -r 8 -w 8",
        &[TOPIC, BROKER, CLUSTER, opt("r", "readQueueNums", "NUMBER", "Queues that are read").or("8"),
          opt("w", "writeQueueNums", "NUMBER", "Queues that are written").or("8"),
          opt("p", "perm", "2|4|6", "2 write, 4 read, 6 both").or("6"),
          opt("o", "order", "BOOL", "Keep the queues of the topic in the name servers").or("false"),
          opt("u", "unit", "BOOL", "Topic of a unit").or("false"),
          opt("s", "hasUnitSub", "BOOL", "Topic with subscribers of units").or("false"),
          opt("a", "attributes", "+K=V,-K", "Attributes to set or to take away, such as +message.type=FIFO")];
    update_topic_list: "updateTopicList", "Create or change the topics of a file",
        "-c DefaultCluster -f topics.json",
        &[opt("f", "filename", "FILE", "JSON array of topics").required(), BROKER, CLUSTER];
    delete_topic: "deleteTopic", "Delete a topic from brokers and name servers", "-c DefaultCluster -t orders",
        &[TOPIC, opt("c", "clusterName", "CLUSTER", "Cluster of the topic").required()];
    update_topic_perm: "updateTopicPerm", "Change who may use a topic: 2 write, 4 read, 6 both",
        "-t orders -p 4 -c DefaultCluster",
        &[TOPIC, opt("p", "perm", "2|4|6", "Permission").required(), BROKER, CLUSTER];
    update_order_conf: "updateOrderConf", "Get, put or delete the queues of an ordered topic",
        "-t orders -m put -v broker-a:4;broker-b:4",
        &[TOPIC, opt("m", "method", "get|put|delete", "What to do").required(),
          opt("v", "orderConf", "BROKER:QUEUES;…", "Queues of each broker")];
    topic_route: "topicRoute", "Show where a topic is", "-t orders -l",
        &[TOPIC, flag("l", "list", "As a table")];
    topic_status: "topicStatus", "Show the offsets of a topic's queues", "-t orders",
        &[TOPIC, opt("c", "cluster", "CLUSTER", "Masters of this cluster only")];
    topic_cluster_list: "topicClusterList", "Show the clusters that have a topic", "-t orders",
        &[TOPIC];
    topic_list: "topicList", "Show all topics", "-c",
        &[flag("c", "clusterModel", "With clusters and consumer groups")];
    allocate_mq: "allocateMQ", "Show which consumer would have which queues", "-t orders -i 10.0.0.1,10.0.0.2",
        &[TOPIC, opt("i", "ipList", "IP,…", "Consumers").required()];
}

async fn update_topic(call: &Call, answer: &mut Answer) -> Done {
    let sys_flag = |long, flag| if call.truth(long) == Some(true) { flag } else { 0 };
    let config = TopicConfig {
        topic_name: call.required("topic").to_owned(),
        read_queue_nums: call.required_number("readQueueNums")?,
        write_queue_nums: call.required_number("writeQueueNums")?,
        perm: call.required_number("perm")?,
        order: call.truth("order") == Some(true),
        topic_sys_flag: sys_flag("unit", SYS_FLAG_UNIT) | sys_flag("hasUnitSub", SYS_FLAG_UNIT_SUB),
        ..TopicConfig::default()
    };
    let attributes = call.text("attributes").unwrap_or_default();
    let admin = call.admin().await?;
    let addrs = call.targets().await?;
    for addr in &addrs {
        admin.change_topic_on(addr, &config, attributes).await?;
        answer.add("done", addr);
    }
    let say_created = |answer: &mut Answer| {
        addrs
            .iter()
            .for_each(|addr| answer.say(format!("create topic to {addr} success.")));
    };
    let of_broker = call.text("brokerAddr").is_some();
    if !of_broker {
        say_created(answer);
    }
    if config.order {
        let order_conf = put_order_conf(call, &config).await?;
        let scope = if of_broker { "broker" } else { "cluster" };
        answer.say(format!("set {scope} orderConf. isOrder=true, orderConf=[{order_conf}]"));
        answer.fact("orderConf", order_conf);
    }
    if of_broker {
        say_created(answer);
    }
    answer.say(java::topic_config(&config, attributes));
    answer.fact("topicConfig", &config);
    Ok(())
}

/// Tells name servers the queues of an ordered topic: of every broker of the cluster, or of one broker beside those that
/// they know. Returns what was added.
async fn put_order_conf(call: &Call, config: &TopicConfig) -> Result<String, Failure> {
    let admin = call.admin().await?;
    let info = admin.cluster_info().await?;
    let entry = |name: &str| format!("{name}:{}", config.write_queue_nums);
    let (order_conf, whole) = match (call.text("brokerAddr"), call.text("clusterName")) {
        (None, Some(cluster)) => {
            let entries: Vec<String> = info.brokers(cluster).map(|broker| entry(&broker.broker_name)).collect();
            (entries.join(";"), entries.join(";"))
        }
        (addr, _) => {
            let addr = addr.unwrap_or_default();
            let mut brokers = info.broker_addr_table.values();
            let broker = brokers.find(|broker| broker.broker_addrs.values().any(|other| other == addr));
            let name = &broker
                .ok_or_else(|| Failure::new(format!("no name server knows the broker {addr}")))?
                .broker_name;
            let known = match admin.kv_config(ORDER_TOPIC_CONFIG, &config.topic_name).await {
                Err(error) if error.response_code() == Some(response_code::QUERY_NOT_FOUND) => String::new(),
                known => known?,
            };
            let own = entry(name);
            let entries = known
                .split(';')
                .chain([&*own])
                .filter_map(|entry| entry.split_once(':'));
            let entries: BTreeMap<String, String> = entries.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            let whole: Vec<String> = entries
                .iter()
                .map(|(name, queues)| format!("{name}:{queues}"))
                .collect();
            (own, whole.join(";"))
        }
    };
    admin
        .put_kv_config(ORDER_TOPIC_CONFIG, &config.topic_name, &whole)
        .await?;
    Ok(order_conf)
}

async fn update_topic_list(call: &Call, answer: &mut Answer) -> Done {
    let configs: Vec<TopicConfig> = call.json_file("filename")?;
    for addr in call.targets().await? {
        call.admin().await?.create_topics_on(&addr, configs.clone()).await?;
        let sentence = format!("submit batch of topic config to {addr} success, please check the result later.");
        answer.done(&addr, sentence);
    }
    Ok(())
}

async fn delete_topic(call: &Call, answer: &mut Answer) -> Done {
    let (topic, cluster) = (call.required("topic"), call.required("clusterName"));
    let admin = call.admin().await?;
    for addr in admin.masters(cluster).await? {
        admin.delete_topic_on(&addr, topic).await?;
        answer.add("done", addr);
    }
    answer.say(format!("delete topic [{topic}] from cluster [{cluster}] success."));
    admin.forget_topic(cluster, topic).await?;
    answer.say(format!("delete topic [{topic}] from NameServer success."));
    answer.fact("topic", topic);
    Ok(())
}

async fn update_topic_perm(call: &Call, answer: &mut Answer) -> Done {
    let perm: i32 = call.required_number("perm")?;
    let admin = call.admin().await?;
    let route = admin.topic_route(call.required("topic")).await?;
    let known = route
        .queue_datas
        .first()
        .ok_or_else(|| Failure::new("the topic has no queues"))?;
    if known.perm == perm {
        answer.say("new perm equals to the old one!");
        return Ok(());
    }
    let of_broker = call.text("brokerAddr");
    for addr in call.targets().await? {
        let has_addr = |queues: &&QueueData| {
            let broker = route.broker(&queues.broker_name);
            broker.is_some_and(|broker| broker.master() == Some(&*addr))
        };
        let Some(queues) = route.queue_datas.iter().find(has_addr) else {
            match of_broker {
                Some(_) => {
                    return Err(Failure::new(
                        "updateTopicPerm error broker not exit or broker is not master!.",
                    ));
                }
                None => continue,
            }
        };
        let config = TopicConfig {
            topic_name: call.required("topic").to_owned(),
            read_queue_nums: queues.read_queue_nums,
            write_queue_nums: queues.write_queue_nums,
            topic_sys_flag: queues.topic_sys_flag,
            perm,
            ..TopicConfig::default()
        };
        admin.change_topic_on(&addr, &config, "").await?;
        answer.done(
            &addr,
            format!("update topic perm from {} to {perm} in {addr} success.", queues.perm),
        );
        if of_broker.is_some() {
            answer.say(java::topic_config(&config, "") + ".");
        }
    }
    Ok(())
}

async fn update_order_conf(call: &Call, answer: &mut Answer) -> Done {
    let topic = call.required("topic");
    let admin = call.admin().await?;
    match call.required("method") {
        "get" => {
            let conf = admin.kv_config(ORDER_TOPIC_CONFIG, topic).await?;
            answer.say(format!("get orderConf success. topic=[{topic}], orderConf=[{conf}]"));
            answer.fact("orderConf", conf);
        }
        "put" => {
            let conf = call
                .text("orderConf")
                .ok_or_else(|| Failure::new("please set orderConf with option -v."))?;
            admin.put_kv_config(ORDER_TOPIC_CONFIG, topic, conf).await?;
            answer.say(format!("update orderConf success. topic=[{topic}], orderConf=[{conf}]"));
            answer.fact("orderConf", conf);
        }
        "delete" => {
            admin.delete_kv_config(ORDER_TOPIC_CONFIG, topic).await?;
            answer.say(format!("delete orderConf success. topic=[{topic}]"));
        }
        other => return Err(Failure::new(format!("the method is get, put or delete, not {other}"))),
    }
    answer.fact("topic", topic);
    Ok(())
}

async fn topic_route(call: &Call, answer: &mut Answer) -> Done {
    let route = call.admin().await?.topic_route(call.required("topic")).await?;
    if call.flag("list") {
        return list_route(&route, answer);
    }
    answer.say(java::pretty(&json::to_vec(&route)));
    answer.facts(&route);
    Ok(())
}

fn list_route(route: &TopicRouteData, answer: &mut Answer) -> Done {
    const NAMES: &str = "#ClusterName, #BrokerName, #BrokerAddrs, #ReadQueue, #WriteQueue, #Perm";
    const LAYOUT: &str = "%-45s %-32s %-50s %-10s %-11s %-5s";
    let mut table = Table::new(NAMES, LAYOUT);
    let mut queue_datas = route.queue_datas.clone();
    queue_datas.sort();
    let (mut reads, mut writes) = (0, 0);
    for queues in &queue_datas {
        let Some(broker) = route.broker(&queues.broker_name) else {
            continue;
        };
        reads += queues.read_queue_nums;
        writes += queues.write_queue_nums;
        table.push(row![
            &broker.cluster,
            &broker.broker_name,
            map(broker.broker_addrs.iter()),
            queues.read_queue_nums,
            queues.write_queue_nums,
            queues.perm,
        ]);
    }
    answer.table("queues", &table);
    answer.say("-".repeat(158));
    let totals = [
        "Total:",
        &queue_datas.len().to_string(),
        "",
        &reads.to_string(),
        &writes.to_string(),
        "",
    ];
    answer.say(crate::table::columns(LAYOUT, totals));
    Ok(())
}

async fn topic_status(call: &Call, answer: &mut Answer) -> Done {
    const NAMES: &str = "#Broker Name, #QID, #Min Offset, #Max Offset, #Last Updated";
    let topic = call.required("topic");
    let admin = call.admin().await?;
    let stats = match call.text("cluster") {
        None => admin.topic_stats(topic).await?,
        Some(cluster) => {
            let mut stats = oxmq_client::TopicStatsTable::default();
            for addr in admin.masters(cluster).await? {
                let of_broker = admin.topic_stats_on(&addr, topic).await?;
                stats.topic_put_tps += of_broker.topic_put_tps;
                stats.offset_table.0.extend(of_broker.offset_table);
            }
            stats
        }
    };
    let mut table = Table::new(NAMES, "%-32s  %-4s  %-20s  %-20s    %s");
    for (queue, offsets) in stats.offset_table.iter() {
        let updated = match offsets.last_update_timestamp {
            time if time > 0 => milliseconds(time),
            _ => String::new(),
        };
        let name = front(&queue.broker_name, 32);
        table.push(row![
            name,
            queue.queue_id,
            offsets.min_offset,
            offsets.max_offset,
            updated
        ]);
    }
    answer.table("queues", &table);
    answer.say("");
    answer.say(format!("Topic Put TPS: {:?}", stats.topic_put_tps));
    answer.fact("topicPutTps", stats.topic_put_tps);
    Ok(())
}

async fn topic_cluster_list(call: &Call, answer: &mut Answer) -> Done {
    let clusters = call.admin().await?.clusters_of_topic(call.required("topic")).await?;
    clusters.iter().for_each(|cluster| answer.say(cluster));
    answer.fact("clusters", clusters);
    Ok(())
}

async fn topic_list(call: &Call, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    let topics = admin.topics().await?;
    if !call.flag("clusterModel") {
        topics.iter().for_each(|topic| answer.say(topic));
        answer.fact("topics", topics);
        return Ok(());
    }
    let names = "#Cluster Name, #Topic, #Consumer Group";
    let mut table = Table::new(names, "%-20s  %-48s  %-48s").with_rows_as("%-20s  %-64s  %-64s");
    let is_own = |topic: &&String| !topic::is_retry(topic) && !topic::is_dlq(topic);
    for topic in followed("topics", topics.iter().filter(is_own).collect::<Vec<_>>()) {
        // A topic that goes away meanwhile is shown without what is not known any more.
        let clusters = admin.clusters_of_topic(topic).await.unwrap_or_default();
        let cluster = clusters.first().map(String::as_str).unwrap_or_default();
        let mut groups: Vec<String> = admin
            .groups_of_topic(topic)
            .await
            .unwrap_or_default()
            .into_iter()
            .collect();
        if groups.is_empty() {
            groups.push(String::new());
        }
        for group in groups {
            table.push(row![front(cluster, 20), front(topic, 64), front(&group, 64)]);
        }
    }
    answer.table("topics", &table);
    Ok(())
}

async fn allocate_mq(call: &Call, answer: &mut Answer) -> Done {
    let topic = call.required("topic");
    let queues = queues_of(call, topic, topic).await?;
    let consumers: Vec<String> = call.required("ipList").split(',').map(str::to_owned).collect();
    let allocated = consumers.iter().enumerate().map(|(index, ip)| {
        let own = AllocateAveragely.allocate(&queues, &consumers, index);
        let own = own.iter().map(|queue| {
            let (name, id) = (&queue.broker_name, queue.queue_id);
            json!({"brokerName": name, "queueId": id, "topic": topic})
        });
        (ip, Value::from_iter(own))
    });
    let allocated: Vec<(&String, Value)> = allocated.collect();
    answer.fact(
        "result",
        allocated
            .iter()
            .cloned()
            .map(|(ip, own)| (ip.clone(), own))
            .collect::<Map<_, _>>(),
    );
    let shown = java::hash_order(allocated, 16, |(ip, _)| hash::java_string_hash(ip));
    let shown: Vec<String> = shown.iter().map(|(ip, own)| format!("\"{ip}\":{own}")).collect();
    answer.say(format!("{{\"result\":{{{}}}}}", shown.join(",")));
    Ok(())
}
