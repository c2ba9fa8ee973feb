//! Producers and consumers that are connected (spec: admin.md §4).

use std::collections::BTreeMap;
use std::fs;

use oxmq_protocol::body::{ConsumeType, ConsumerConnection, ConsumerRunningInfo};
use oxmq_protocol::version;

use crate::call::{Call, Done, Failure, now};
use crate::declare::{commands, flag, opt, options};
use crate::output::Answer;
use crate::running_info;
use crate::table::{Cell, Table, row};

options! {
    CONSUMER_GROUP = opt("g", "consumerGroup", "GROUP", "Consumer group").required();
    BROKER = opt("b", "brokerAddr", "HOST:PORT", "Broker that is asked (default: one of the group's)");
}

/// Consumers that run less long may not have the same subscription yet.
const SETTLED_AFTER_MS: i64 = 120_000;
/// Without progress for so long, a queue with messages is said to be stuck.
const STUCK_AFTER_MS: i64 = 60_000;

commands! {
    consumer_connection: "consumerConnection", "Show the consumers of a group and what they subscribe to",
        "-g order-service",
        &[CONSUMER_GROUP, BROKER];
    consumer_status: "consumerStatus", "Show what consumers say of themselves, and whether they fit together",
        "-g order-service",
        &[CONSUMER_GROUP, opt("i", "clientId", "ID", "This consumer only, in full"), BROKER,
          flag("s", "jstack", "With the stacks of its threads")];
    producer_connection: "producerConnection", "Show the producers of a group", "-g order-producer -t orders",
        &[opt("g", "producerGroup", "GROUP", "Producer group").required(), crate::declare::TOPIC];
    producers: "producer", "Show all producers of a broker", "-b 127.0.0.1:10911",
        &[opt("b", "broker", "HOST:PORT", "Broker").required()];
}

async fn consumer_connection(call: &Call, answer: &mut Answer) -> Done {
    let group = call.required("consumerGroup");
    let admin = call.admin().await?;
    let connected = match call.text("brokerAddr") {
        Some(addr) => admin.consumer_connections_on(addr, group).await?,
        None => admin.consumer_connections(group).await?,
    };
    let mut table = Table::new("#ClientId, #ClientAddr, #Language, #Version", "%-36s %-22s %-10s %s");
    for connection in &connected.connection_set {
        table.push(row![
            &connection.client_id,
            &connection.client_addr,
            &connection.language,
            version::name(connection.version),
        ]);
    }
    answer.table("clients", &table);
    answer.say("");
    answer.say("Below is subscription:");
    let mut table = Table::new("#Topic, #SubExpression", "%-20s %s");
    for subscription in connected.subscription_table.values() {
        table.push(row![&subscription.topic, &subscription.sub_string]);
    }
    answer.table("subscriptions", &table);
    answer.say("");
    for (title, name, value) in [
        ("ConsumeType", "consumeType", connected.consume_type.name()),
        ("MessageModel", "messageModel", connected.message_model.name()),
        (
            "ConsumeFromWhere",
            "consumeFromWhere",
            connected.consume_from_where.name(),
        ),
    ] {
        answer.say(format!("{title}: {value}"));
        answer.fact(name, value);
    }
    Ok(())
}

async fn consumer_status(call: &Call, answer: &mut Answer) -> Done {
    let group = call.required("consumerGroup");
    let admin = call.admin().await?;
    let stacks = call.flag("jstack");
    if let Some(client_id) = call.text("clientId") {
        let info = admin.consumer_running_info(group, client_id, stacks).await?;
        running_info::text(&info).lines().for_each(|line| answer.say(line));
        answer.fact(client_id, running_info::facts(&info));
        return Ok(());
    }
    let connected = match call.text("brokerAddr") {
        Some(addr) => admin.consumer_connections_on(addr, group).await?,
        None => admin.consumer_connections(group).await?,
    };
    let (table, infos) = ask_all(call, group, &connected, answer).await?;
    answer.table("clients", &table);
    judge(&infos, answer);
    Ok(())
}

/// What each consumer says of itself, which goes to a file of its own.
async fn ask_all(
    call: &Call,
    group: &str,
    connected: &ConsumerConnection,
    answer: &mut Answer,
) -> Result<(Table, BTreeMap<String, ConsumerRunningInfo>), Failure> {
    let folder = now().to_string();
    let mut infos = BTreeMap::new();
    let names = "#Index, #ClientId, #Version, #ConsumerRunningInfoFile";
    let mut table = Table::new(names, "%-10s %-40s %-20s %s");
    for connection in &connected.connection_set {
        let id = &connection.client_id;
        let info = call
            .admin()
            .await?
            .consumer_running_info(group, id, call.flag("jstack"))
            .await?;
        // Clients choose their ids, which are not to lead out of the folder.
        let file = id.replace(|c: char| !c.is_ascii_alphanumeric() && !"@#._-:".contains(c), "_");
        let path = format!("{folder}/{file}");
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, running_info::text(&info)));
        written.map_err(|error| Failure::new(format!("cannot write {path}: {error}")))?;
        let index = infos.len() + 1;
        table.push(row![index, id, version::name(connection.version), path]);
        answer.fact(id, running_info::facts(&info));
        infos.insert(id.clone(), info);
    }
    Ok((table, infos))
}

/// Whether the consumers of a group subscribe to the same; those that have just started need not yet.
pub(crate) fn subscribes_alike(infos: &BTreeMap<String, ConsumerRunningInfo>) -> bool {
    let Some(first) = infos.values().next() else {
        return true;
    };
    let started = property(first, "PROP_CONSUMER_START_TIMESTAMP").parse().unwrap_or(0);
    let has_settled = is_push(first) && now() - started > SETTLED_AFTER_MS;
    !has_settled
        || infos
            .values()
            .all(|info| info.subscription_set == first.subscription_set)
}

fn is_push(info: &ConsumerRunningInfo) -> bool {
    property(info, "PROP_CONSUME_TYPE") == ConsumeType::Passively.name()
}

/// Whether the consumers of a group fit together.
fn judge(infos: &BTreeMap<String, ConsumerRunningInfo>, answer: &mut Answer) {
    if infos.is_empty() {
        return;
    }
    let is_same = subscribes_alike(infos);
    answer.say("");
    answer.say("");
    answer.fact("sameSubscription", is_same);
    if !is_same {
        answer.say("WARN: Different subscription in the same group of consumer!!!");
        return;
    }
    answer.say("Same subscription in the same group of consumer");
    answer.say("");
    answer.say("Rebalance OK");
    for (id, info) in infos {
        for stuck in stuck_queues(info) {
            answer.say(format!("{id} {stuck}"));
            answer.add("stuck", format!("{id} {stuck}"));
        }
    }
}

/// Queues of a push consumer that do not get on.
pub(crate) fn stuck_queues(info: &ConsumerRunningInfo) -> impl Iterator<Item = String> {
    let is_orderly = property(info, "PROP_CONSUMEORDERLY") == "true";
    info.mq_table
        .iter()
        .filter(|_| is_push(info))
        .filter_map(move |(queue, process)| {
            let queue = running_info::queue(queue);
            let idle = now() - process.last_consume_timestamp;
            match is_orderly {
                true if !process.locked => {
                    let since = now() - process.last_lock_timestamp;
                    Some(format!("{queue} can't lock for a while, {since}ms"))
                }
                true if process.droped && process.try_unlock_times > 0 => {
                    let times = process.try_unlock_times;
                    Some(format!("{queue} unlock {times} times, still failed"))
                }
                false if idle > STUCK_AFTER_MS && process.cached_msg_count > 0 => {
                    Some(format!("{queue} can't consume for a while, maybe blocked, {idle}ms"))
                }
                _ => None,
            }
        })
}

fn property<'a>(info: &'a ConsumerRunningInfo, name: &str) -> &'a str {
    info.properties.get(name).map(String::as_str).unwrap_or_default()
}

async fn producer_connection(call: &Call, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    let connected = admin.producer_connections(call.required("topic"), call.required("producerGroup"));
    let names = "#Index, #ClientId, #ClientAddr, #Language, #Version";
    let mut table = Table::new(names, "%s  %-32s %-22s %-8s %s");
    for (index, connection) in connected.await?.connection_set.iter().enumerate() {
        table.push(row![
            Cell::shown(format!("{:04}", index + 1), index + 1),
            &connection.client_id,
            &connection.client_addr,
            &connection.language,
            version::name(connection.version),
        ]);
    }
    answer.rows("producers", &table);
    Ok(())
}

async fn producers(call: &Call, answer: &mut Answer) -> Done {
    let all = call.admin().await?.all_producers_on(call.required("broker")).await?;
    for (group, producers) in &all.data {
        if producers.is_empty() {
            answer.say(format!("producer group ({group}) instances are empty"));
        }
        for producer in producers {
            answer.say(format!(
                "producer group ({group}) instance : clientId={},remoteIP={}, language={}, version={}, \
                 lastUpdateTimestamp={}",
                producer.client_id,
                producer.remote_ip,
                producer.language,
                producer.version,
                producer.last_update_timestamp
            ));
        }
    }
    answer.fact("groups", all.data);
    Ok(())
}
