//! Consumer groups and how far they are (spec: admin.md §4).

use oxmq_client::{ConsumeStats, MessageRequestMode, SubscriptionGroupConfig};
use oxmq_protocol::body::{ConsumeType, ConsumerConnection};
use oxmq_protocol::{json, response_code, topic, version};

use crate::call::{Call, Done, Failure, seconds};
use crate::declare::{BROKER, CLUSTER, GROUP, TOPIC_OF_NAME, commands, opt};
use crate::java;
use crate::output::Answer;
use crate::progress::followed;
use crate::table::{Table, columns, decimal, front, row};

commands! {
    update_group: "updateSubGroup", "Create or change a consumer group", "-c DefaultCluster -g order-service -r 16",
        &[BROKER, CLUSTER, GROUP, opt("s", "consumeEnable", "BOOL", "The group may consume (default: true)"),
          opt("m", "consumeFromMinEnable", "BOOL", "It may begin at the first message (default: false)"),
          opt("d", "consumeBroadcastEnable", "BOOL", "It may broadcast (default: false)"),
          opt("o", "consumeMessageOrderly", "BOOL", "It consumes orderly"),
          opt("q", "retryQueueNums", "NUMBER", "Queues of its retry topic (default: 1)"),
          opt("r", "retryMaxTimes", "NUMBER", "Attempts before a message is a dead letter (default: 16)"),
          opt("p", "groupRetryPolicy", "JSON", "Delays between attempts"),
          opt("i", "brokerId", "ID", "Broker to consume from (default: 0, the master)"),
          opt("w", "whichBrokerWhenConsumeSlowly", "ID", "Broker to consume from when behind (default: 1)"),
          opt("a", "notifyConsumerIdsChanged", "BOOL", "Tell members when others come and go (default: true)"),
          opt("", "attributes", "+K=V,-K", "Attributes to set or to take away")];
    update_group_list: "updateSubGroupList", "Create or change the consumer groups of a file",
        "-c DefaultCluster -f groups.json",
        &[BROKER, CLUSTER, opt("f", "filename", "FILE", "JSON array of groups").required()];
    delete_group: "deleteSubGroup", "Delete a consumer group", "-c DefaultCluster -g order-service -r true",
        &[BROKER, CLUSTER, GROUP, opt("r", "removeOffset", "BOOL", "Its offsets, too").or("false")];
    get_config: "getConsumerConfig", "Show a consumer group as every broker has it", "-g order-service",
        &[GROUP];
    set_consume_mode: "setConsumeMode", "Let a group pull the messages of a topic or pop them",
        "-c DefaultCluster -t orders -g order-service -m POP -q 8",
        &[BROKER, CLUSTER, TOPIC_OF_NAME.required(), GROUP, opt("m", "mode", "PULL|POP", "How").required(),
          opt("q", "popShareQueueNum", "NUMBER", "Queues of others that a member pops from (0: all)").or("0")];
    consumer_progress: "consumerProgress", "Show how far a consumer group is, or all of them", "-g order-service",
        &[opt("g", "groupName", "GROUP", "Consumer group (default: all)"), TOPIC_OF_NAME,
          opt("s", "showClientIP", "BOOL", "With the consumer that has each queue"),
          opt("c", "cluster", "CLUSTER", "Cluster, or the parent topic of a light queue")];
}

async fn update_group(call: &Call, answer: &mut Answer) -> Done {
    let mut config = SubscriptionGroupConfig::new(call.required("groupName"));
    config.consume_enable = call.truth("consumeEnable").unwrap_or(config.consume_enable);
    config.consume_from_min_enable = call.truth("consumeFromMinEnable").unwrap_or(false);
    config.consume_broadcast_enable = call.truth("consumeBroadcastEnable").unwrap_or(false);
    config.consume_message_orderly = call.truth("consumeMessageOrderly").unwrap_or(false);
    config.retry_queue_nums = call.number("retryQueueNums")?.unwrap_or(config.retry_queue_nums);
    config.retry_max_times = call.number("retryMaxTimes")?.unwrap_or(config.retry_max_times);
    config.broker_id = call.number("brokerId")?.unwrap_or(config.broker_id);
    let slowly = call.number("whichBrokerWhenConsumeSlowly")?;
    config.which_broker_when_consume_slowly = slowly.unwrap_or(config.which_broker_when_consume_slowly);
    let notify = call.truth("notifyConsumerIdsChanged");
    config.notify_consumer_ids_changed_enable = notify.unwrap_or(config.notify_consumer_ids_changed_enable);
    if let Some(policy) = call.text("groupRetryPolicy") {
        let policy = json::from_slice(policy.as_bytes());
        config.group_retry_policy = policy.map_err(|error| Failure::new(format!("--groupRetryPolicy: {error}")))?;
    }
    let changes = java::attribute_changes(call.text("attributes").unwrap_or_default());
    config.attributes = changes
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for addr in call.targets().await? {
        call.admin().await?.create_group_on(&addr, &config).await?;
        answer.done(&addr, format!("create subscription group to {addr} success."));
    }
    answer.say(java::group_config(&config));
    answer.fact("subscriptionGroupConfig", config);
    Ok(())
}

async fn update_group_list(call: &Call, answer: &mut Answer) -> Done {
    let configs: Vec<SubscriptionGroupConfig> = call.json_file("filename")?;
    let what = match call.text("brokerAddr") {
        Some(_) => "group",
        None => "subscription group",
    };
    for addr in call.targets().await? {
        call.admin().await?.create_groups_on(&addr, configs.clone()).await?;
        let sentence = format!("submit batch of {what} config to {addr} success, please check the result later.");
        answer.done(&addr, sentence);
    }
    Ok(())
}

async fn delete_group(call: &Call, answer: &mut Answer) -> Done {
    let group = call.required("groupName");
    let clean_offset = call.truth("removeOffset") == Some(true);
    let admin = call.admin().await?;
    let cluster = call.text("clusterName").filter(|_| call.text("brokerAddr").is_none());
    for addr in call.targets().await? {
        admin.delete_group_on(&addr, group, clean_offset).await?;
        let of_cluster = cluster
            .map(|cluster| format!(" in cluster [{cluster}]"))
            .unwrap_or_default();
        let sentence = format!("delete subscription group [{group}] from broker [{addr}]{of_cluster} success.");
        answer.done(&addr, sentence);
    }
    if let Some(cluster) = cluster {
        admin.delete_topic(cluster, &topic::retry_topic(group)).await?;
        admin.delete_topic(cluster, &topic::dlq_topic(group)).await?;
    }
    Ok(())
}

async fn get_config(call: &Call, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    let info = admin.cluster_info().await?;
    for (cluster, names) in &info.cluster_addr_table {
        for name in names {
            let broker = info.broker_addr_table.get(name);
            let Some(addr) = broker.and_then(|broker| broker.broker_addrs.values().next()) else {
                continue;
            };
            let config = admin.group_config_on(addr, call.required("groupName")).await?;
            let line = "=".repeat(29);
            answer.heading(format!("{line}{cluster}:{name}{line}"));
            for (field, value) in java::group_fields(&config) {
                let value = if value == "null" { "" } else { &value };
                answer.say(columns("%-40s=  %s", [field, value]));
            }
            answer.fact(name, config);
        }
    }
    Ok(())
}

async fn set_consume_mode(call: &Call, answer: &mut Answer) -> Done {
    let (topic, group, mode) = (
        call.required("topicName"),
        call.required("groupName"),
        call.required("mode"),
    );
    let share: i32 = call.required_number("popShareQueueNum")?;
    let known = MessageRequestMode::from_name(mode);
    let known = known.ok_or_else(|| Failure::new(format!("the mode is PULL or POP, not {mode}")))?;
    for addr in call.targets().await? {
        let admin = call.admin().await?;
        admin
            .set_message_request_mode_on(&addr, topic, group, known, share)
            .await?;
        answer.done(&addr, format!("set consume mode to {addr} success."));
    }
    answer.say(format!(
        "topic[{topic}] group[{group}] consume mode[{mode}] popShareQueueNum[{share}]"
    ));
    Ok(())
}

async fn consumer_progress(call: &Call, answer: &mut Answer) -> Done {
    match call.text("groupName") {
        Some(group) => progress_of(call, group, answer).await,
        None => progress_of_all(call, answer).await,
    }
}

async fn progress_of(call: &Call, group: &str, answer: &mut Answer) -> Done {
    let stats = match call.text("topicName") {
        None => call.admin().await?.consume_stats(group).await?,
        Some(topic) => call.admin().await?.consume_stats_of(group, topic).await?,
    };
    if stats.offset_table.is_empty() {
        return Err(Failure::with_code(
            response_code::CONSUMER_NOT_ONLINE,
            "Not found the consumer group consume stats, because return offset table is empty, maybe the consumer not \
             online",
        ));
    }
    let (mut table, owners) = match call.truth("showClientIP") {
        Some(true) => (progress_table(true), Some(owners(call, group).await?)),
        _ => (progress_table(false), None),
    };
    let (mut diff_total, mut inflight_total) = (0, 0);
    for (queue, offsets) in stats.offset_table.iter() {
        let diff = offsets.broker_offset - offsets.consumer_offset;
        let inflight = offsets.pull_offset - offsets.consumer_offset;
        diff_total += diff;
        inflight_total += inflight;
        let last_time = match offsets.last_timestamp {
            0 => "N/A".to_owned(),
            time => seconds(time),
        };
        let mut row = row![
            front(&queue.topic, 64),
            front(&queue.broker_name, 32),
            queue.queue_id,
            offsets.broker_offset,
            offsets.consumer_offset,
        ];
        if let Some(owners) = &owners {
            row.push(owners.get(queue).map_or("N/A", String::as_str).into());
        }
        row.extend(row![diff, inflight, last_time]);
        table.push(row);
    }
    answer.table("queues", &table);
    answer.say("");
    answer.say(format!("Consume TPS: {:.2}", stats.consume_tps));
    answer.say(format!("Consume Diff Total: {diff_total}"));
    answer.say(format!("Consume Inflight Total: {inflight_total}"));
    answer.fact("consumeTps", stats.consume_tps);
    answer.fact("diffTotal", diff_total);
    answer.fact("inflightTotal", inflight_total);
    Ok(())
}

fn progress_table(with_owners: bool) -> Table {
    const NAMES: &str = "#Topic, #Broker Name, #QID, #Broker Offset, #Consumer Offset, #Diff, #Inflight, #LastTime";
    const NAMES_WITH_OWNERS: &str =
        "#Topic, #Broker Name, #QID, #Broker Offset, #Consumer Offset, #Client IP, #Diff, #Inflight, #LastTime";
    match with_owners {
        false => Table::new(NAMES, "%-64s  %-32s  %-4s  %-20s  %-20s  %-20s %-20s%s")
            .with_rows_as("%-64s  %-32s  %-4s  %-20s  %-20s  %-20s %-20s %s"),
        true => Table::new(
            NAMES_WITH_OWNERS,
            "%-64s  %-32s  %-4s  %-20s  %-20s  %-20s %-20s %-20s%s",
        )
        .with_rows_as("%-64s  %-32s  %-4s  %-20s  %-20s  %-20s %-20s %-20s %s"),
    }
}

/// The address of the consumer that has each queue, as the consumers say; none where they cannot be asked.
async fn owners(
    call: &Call,
    group: &str,
) -> Result<std::collections::BTreeMap<oxmq_client::MessageQueue, String>, Failure> {
    let admin = call.admin().await?;
    let mut owners = std::collections::BTreeMap::new();
    let connected = admin.consumer_connections(group).await.unwrap_or_default();
    for connection in &connected.connection_set {
        let ip = connection.client_id.split('@').next().unwrap_or_default();
        let info = admin.consumer_running_info(group, &connection.client_id, false).await;
        let queues = info.unwrap_or_default().mq_table;
        owners.extend(queues.into_iter().map(|(queue, _)| (queue, ip.to_owned())));
    }
    Ok(owners)
}

async fn progress_of_all(call: &Call, answer: &mut Answer) -> Done {
    const NAMES: &str = "#Group, #Count, #Version, #Type, #Model, #TPS, #Diff Total";
    let admin = call.admin().await?;
    let mut table = Table::new(NAMES, "%-64s  %-6s  %-24s %-5s  %-14s  %-7s  %s");
    let topics = admin.topics().await?;
    let groups: Vec<_> = topics.iter().filter_map(|topic| topic::group_of_retry(topic)).collect();
    for group in followed("groups", groups) {
        // Groups that are offline or have consumed nothing are shown as such.
        let stats = admin.consume_stats(group).await.unwrap_or_default();
        let connected = admin.consumer_connections(group).await.unwrap_or_default();
        table.push(progress_row(group, &stats, &connected));
    }
    answer.table("groups", &table);
    Ok(())
}

fn progress_row(group: &str, stats: &ConsumeStats, connected: &ConsumerConnection) -> Vec<crate::table::Cell> {
    let versions = connected.connection_set.iter().map(|connection| connection.version);
    let (version, kind) = match versions.min() {
        None => ("OFFLINE".to_owned(), ""),
        Some(oldest) if connected.consume_type == ConsumeType::Actively => (version::name(oldest), "PULL"),
        Some(oldest) => (version::name(oldest), "PUSH"),
    };
    let model = match connected.consume_type {
        ConsumeType::Passively if !connected.connection_set.is_empty() => connected.message_model.name(),
        _ => "",
    };
    row![
        front(group, 64),
        connected.connection_set.len(),
        version,
        kind,
        model,
        decimal(stats.consume_tps.trunc(), 0),
        stats.total_diff(),
    ]
}
