//! Light topics: the queues of a topic of message.type LITE that groups bound to it subscribe to one by one. Brokers of
//! OxMQ have none and say so.

use oxmq_client::ClientError;
use oxmq_protocol::body::{LiteGroupInfo, LiteLagInfo, OffsetWrapper};
use oxmq_protocol::requests::{LiteClientHeader, LiteGroupHeader, LiteTopicHeader};

use crate::call::{Call, Done, Failure, milliseconds, now};
use crate::declare::{BROKER, Opt, commands, flag, opt};
use crate::java::{list, or_null};
use crate::output::Answer;
use crate::table::{Table, front, row};

const PARENT: Opt = opt("p", "parentTopic", "TOPIC", "The topic of message.type LITE").required();
const GROUP: Opt = opt("g", "group", "GROUP", "Consumer group that is bound to it").required();

commands! {
    broker_info: "getBrokerLiteInfo", "Show how many light queues and subscriptions brokers have", "-b 127.0.0.1:10911",
        &[BROKER, opt("c", "cluster", "CLUSTER", "Every master of this cluster"),
          flag("d", "showDetail", "With topics and groups")],
        one_of: &["brokerAddr", "cluster"];
    parent_info: "getParentTopicInfo", "Show how many light topics a topic has", "-p sessions", &[PARENT];
    topic_info: "getLiteTopicInfo", "Show the offsets and subscribers of a light topic", "-p sessions -l session-17",
        &[PARENT, opt("l", "liteTopic", "TOPIC", "Light topic").required(),
          flag("s", "showClientId", "With the clients")];
    client_info: "getLiteClientInfo", "Show which light topics a client subscribes to",
        "-p sessions -g session-service -c 10.0.0.9@4711#123456789",
        &[PARENT, GROUP, opt("c", "clientId", "ID", "Client").required(), flag("s", "showDetail", "With the topics")];
    group_info: "getLiteGroupInfo", "Show how far a group is in its light topics", "-p sessions -g session-service",
        &[PARENT, GROUP, opt("l", "liteTopic", "TOPIC", "This light topic"),
          opt("k", "topK", "NUMBER", "So many topics of each broker that are furthest behind").or("20")];
    dispatch: "triggerLiteDispatch", "Let brokers look again at what waits for the clients of a group",
        "-p sessions -g session-service",
        &[PARENT, GROUP, opt("c", "clientId", "ID", "This client only"),
          opt("b", "brokerName", "BROKER", "This broker only")];
}

/// What one broker answered; of one that did not, a line is shown, and the command fails in the end.
struct Asked<'a> {
    answer: &'a mut Answer,
    failed: Option<Failure>,
}

impl<'a> Asked<'a> {
    fn new(answer: &'a mut Answer) -> Asked<'a> {
        Asked { answer, failed: None }
    }

    fn take<T>(&mut self, broker: &str, told: Result<T, ClientError>) -> Option<T> {
        told.map_err(|error| {
            self.answer.say(format!("[{broker}] error."));
            self.failed.get_or_insert_with(|| error.into());
        })
        .ok()
    }

    fn done(self) -> Done {
        self.failed.map_or(Ok(()), Err)
    }
}

/// Name and address of a topic's brokers.
async fn brokers_of_parent(call: &Call) -> Result<Vec<(String, String)>, Failure> {
    let route = call.admin().await?.topic_route(call.required("parentTopic")).await?;
    let brokers = route.broker_datas.into_iter().filter_map(|broker| {
        let addr = broker
            .master()
            .or(broker.broker_addrs.values().next().map(String::as_str))?;
        Some((broker.broker_name.clone(), addr.to_owned()))
    });
    Ok(brokers.collect())
}

fn say_rows(table: &Table, answer: &mut Answer) {
    table.lines().for_each(|line| answer.say(line));
}

async fn broker_info(call: &Call, answer: &mut Answer) -> Done {
    const NAMES: &str = "#Broker, #Store Type, #Max LMQ, #Current LMQ, #SubscriptionCount, #OrderInfoCount, #CQTableSize, \
        #OffsetTableSize, #eventMapSize";
    const LAYOUT: &str = "%-30s %-17s %-10s %-14s %-20s %-17s %-15s %-18s %-15s";
    let admin = call.admin().await?;
    let addrs = match (call.text("brokerAddr"), call.text("cluster")) {
        (None, Some(cluster)) => admin.masters(cluster).await?,
        (addr, _) => vec![addr.unwrap_or_default().to_owned()],
    };
    answer.heading(Table::new(NAMES, LAYOUT).heading());
    let mut asked = Asked::new(answer);
    for addr in addrs {
        let told = admin.broker_lite_info_on(&addr).await;
        let Some(info) = asked.take(&addr, told) else { continue };
        let mut table = Table::new(NAMES, LAYOUT);
        table.push(row![
            &addr,
            &info.store_type,
            info.max_lmq_num,
            info.current_lmq_num,
            info.lite_subscription_count,
            info.order_info_count,
            info.cq_table_size,
            info.offset_table_size,
            info.event_map_size,
        ]);
        say_rows(&table, asked.answer);
        if call.flag("showDetail") {
            let [topics, groups] = [serde_json::json!(info.topic_meta), serde_json::json!(info.group_meta)];
            asked.answer.say(format!("Topic Meta: {topics}"));
            asked.answer.say(format!("Group Meta: {groups}"));
            asked.answer.say("");
        }
        asked.answer.fact(&addr, info);
    }
    asked.done()
}

async fn parent_info(call: &Call, answer: &mut Answer) -> Done {
    const NAMES: &str = "#Broker Name, #TTL, #Lite Count, #LMQ NUM, #GROUPS";
    const LAYOUT: &str = "%-50s %-8s %-14s %-14s %-100s ";
    let parent = call.required("parentTopic");
    let brokers = brokers_of_parent(call).await?;
    answer.say(format!("Parent Topic Info: [{parent}]"));
    answer.heading(Table::new(NAMES, LAYOUT).heading());
    let mut asked = Asked::new(answer);
    for (name, addr) in brokers {
        let told = call.admin().await?.parent_topic_info_on(&addr, parent).await;
        let Some(info) = asked.take(&name, told) else { continue };
        let mut table = Table::new(NAMES, LAYOUT);
        table.push(row![
            front(&name, 40),
            info.ttl,
            info.lite_topic_count,
            info.lmq_num,
            or_null(info.groups.as_ref().map(list)),
        ]);
        say_rows(&table, asked.answer);
        asked.answer.fact(&name, info);
    }
    asked.done()
}

async fn topic_info(call: &Call, answer: &mut Answer) -> Done {
    const NAMES: &str = "#Broker Name, #MinOffset, #MaxOffset, #LastUpdate, #Sharding, #SubClientCount";
    const LAYOUT: &str = "%-50s %-14s %-14s %-30s %-12s %-18s ";
    let header = LiteTopicHeader {
        parent_topic: call.required("parentTopic").to_owned(),
        lite_topic: call.required("liteTopic").to_owned(),
    };
    let brokers = brokers_of_parent(call).await?;
    let (parent, lite) = (&header.parent_topic, &header.lite_topic);
    answer.say(format!("Lite Topic Info: [{parent}] [{lite}] [%LMQ%${parent}${lite}]"));
    answer.heading(Table::new(NAMES, LAYOUT).heading());
    let mut asked = Asked::new(answer);
    for (name, addr) in brokers {
        let told = call.admin().await?.lite_topic_info_on(&addr, &header).await;
        let Some(info) = asked.take(&name, told) else { continue };
        let subscribers = info.subscriber.as_deref().unwrap_or_default();
        let mut table = Table::new(NAMES, LAYOUT);
        table.push(row![
            front(&name, 40),
            info.topic_offset.min_offset,
            info.topic_offset.max_offset,
            time_or(info.topic_offset.last_update_timestamp, "-"),
            info.sharding_to_broker,
            subscribers.len(),
        ]);
        say_rows(&table, asked.answer);
        if call.flag("showClientId") {
            let clients = subscribers
                .iter()
                .map(|client| format!("{}@{}", client.client_id, client.group));
            asked.answer.say(list(clients));
        }
        asked.answer.fact(&name, info);
    }
    asked.done()
}

async fn client_info(call: &Call, answer: &mut Answer) -> Done {
    const NAMES: &str = "#Broker, #LiteTopicCount, #LastAccessTime, #LastConsumeTime";
    const LAYOUT: &str = "%-30s %-20s %-30s %-30s ";
    let header = LiteClientHeader {
        parent_topic: call.required("parentTopic").to_owned(),
        group: call.required("group").to_owned(),
        client_id: call.required("clientId").to_owned(),
        max_count: None,
    };
    let brokers = brokers_of_parent(call).await?;
    let LiteClientHeader {
        parent_topic,
        group,
        client_id,
        ..
    } = &header;
    answer.say(format!("Lite Client Info: [{parent_topic}] [{group}] [{client_id}]"));
    answer.heading(Table::new(NAMES, LAYOUT).heading());
    let mut asked = Asked::new(answer);
    for (name, addr) in brokers {
        let told = call.admin().await?.lite_client_info_on(&addr, &header).await;
        let Some(info) = asked.take(&name, told) else { continue };
        let count = Some(info.lite_topic_count).filter(|count| *count > 0);
        let mut table = Table::new(NAMES, LAYOUT);
        table.push(row![
            &name,
            count.map_or_else(|| "N/A".to_owned(), |count| count.to_string()),
            time_or(info.last_access_time, "N/A"),
            time_or(info.last_consume_time, "N/A"),
        ]);
        say_rows(&table, asked.answer);
        if let Some(topics) = info.lite_topic_set.as_ref().filter(|_| call.flag("showDetail")) {
            asked.answer.say(format!("Lite Topics: {}\n", list(topics)));
        }
        asked.answer.fact(&name, info);
    }
    asked.done()
}

async fn group_info(call: &Call, answer: &mut Answer) -> Done {
    const NAMES: &str = "#Broker Name, #BrokerOffset, #ConsumeOffset, #LagCount, #LastUpdate";
    const LAYOUT: &str = "%-50s %-16s %-16s %-16s %-30s";
    let header = LiteGroupHeader {
        group: call.required("group").to_owned(),
        lite_topic: call.text("liteTopic").map(str::to_owned),
        top_k: Some(call.required_number("topK")?),
    };
    let of_one_topic = header.lite_topic.is_some();
    let brokers = brokers_of_parent(call).await?;
    answer.say(format!(
        "Lite Group Info: [{}] [{}]",
        header.group,
        call.required("parentTopic")
    ));
    if of_one_topic {
        answer.heading(Table::new(NAMES, LAYOUT).heading());
    }
    let mut asked = Asked::new(answer);
    let mut infos = Vec::new();
    for (name, addr) in brokers {
        let told = call.admin().await?.lite_group_info_on(&addr, &header).await;
        let Some(info) = asked.take(&name, told) else { continue };
        if of_one_topic {
            let mut table = Table::new(NAMES, LAYOUT);
            let [broker, consumer, lag, time] = offsets(info.lite_topic_offset_wrapper);
            table.push(row![&name, broker, consumer, lag, time]);
            say_rows(&table, asked.answer);
        }
        asked.answer.fact(&name, &info);
        infos.push(info);
    }
    let total: i64 = infos.iter().map(|info| info.total_lag_count.max(0)).sum();
    let times = infos.iter().map(|info| info.earliest_unconsumed_timestamp);
    let now = now();
    let earliest = times.filter(|time| *time > 0).chain([now]).min().unwrap_or(now);
    let ago = (now - earliest) / 1000;
    asked.answer.say(format!("Total Lag Count: {total}"));
    asked
        .answer
        .say(format!("Min Unconsumed Timestamp: {earliest} ({ago} s ago)"));
    if !of_one_topic {
        say_furthest_behind(infos, asked.answer);
    }
    asked.done()
}

fn offsets(wrapper: Option<OffsetWrapper>) -> [String; 4] {
    match wrapper {
        Some(OffsetWrapper {
            broker_offset,
            consumer_offset,
            last_timestamp,
            ..
        }) => [
            broker_offset.to_string(),
            consumer_offset.to_string(),
            (broker_offset - consumer_offset).to_string(),
            time_or(last_timestamp, "-"),
        ],
        None => std::array::from_fn(|_| "-".to_owned()),
    }
}

fn say_furthest_behind(infos: Vec<LiteGroupInfo>, answer: &mut Answer) {
    let (mut by_count, mut by_time) = (Vec::new(), Vec::new());
    for info in infos {
        by_count.extend(info.lag_count_top_k.unwrap_or_default());
        by_time.extend(info.lag_timestamp_top_k.unwrap_or_default());
    }
    by_count.sort_by_key(|lag| std::cmp::Reverse(lag.lag_count));
    by_time.sort_by_key(|lag| lag.earliest_unconsumed_timestamp);
    answer.say("\n------TopK by lag count-----");
    say_lags(&by_count, answer);
    answer.say("\n------TopK by lag time------");
    say_lags(&by_time, answer);
}

fn say_lags(lags: &[LiteLagInfo], answer: &mut Answer) {
    let mut table = Table::new(
        "NO, Lite Topic, Lag Count, UnconsumedTimestamp",
        "%-6s %-40s %-12s %-30s",
    );
    for (index, lag) in lags.iter().enumerate() {
        let time = time_or(lag.earliest_unconsumed_timestamp, "-");
        table.push(row![index + 1, &lag.lite_topic, lag.lag_count, time]);
    }
    answer.heading(table.heading());
    say_rows(&table, answer);
}

async fn dispatch(call: &Call, answer: &mut Answer) -> Done {
    let group = call.required("group");
    let brokers = brokers_of_parent(call).await?;
    answer.say(format!(
        "Group And Topic Info: [{group}] [{}]\n",
        call.required("parentTopic")
    ));
    let mut failed = None;
    let wanted = call.text("brokerName");
    for (name, addr) in brokers
        .iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| wanted == name))
    {
        let admin = call.admin().await?;
        let told = admin.trigger_lite_dispatch_on(addr, group, call.text("clientId")).await;
        let said = if told.is_ok() { "dispatched" } else { "error" };
        answer.say(format!("{name:<30} {said:<12}"));
        match told {
            Ok(()) => answer.add("done", name),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn time_or(time_ms: i64, unknown: &str) -> String {
    match time_ms {
        1.. => milliseconds(time_ms),
        _ => unknown.to_owned(),
    }
}
