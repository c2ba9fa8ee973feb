//! Finding messages (spec: admin.md §5).

use std::fs;
use std::path::Path;

use oxmq_client::{Message, MessageExt, MessageQueue, Producer, PullStatus};
use oxmq_protocol::body::{ConsumeType, MASTER_ID, SUB_ALL};
use oxmq_protocol::message_id::OffsetMessageId;
use oxmq_protocol::requests::{ConsumeMessageDirectlyHeader, QueryConsumeQueueHeader, QueryMessageHeader};
use oxmq_protocol::{json, response_code};
use serde_json::{Value, json};

use crate::call::{Call, Done, Failure, milliseconds};
use crate::declare::{TOPIC, commands, flag, opt, options};
use crate::java::{self, decode_text};
use crate::output::Answer;
use crate::table::{Table, columns, row};
use crate::tracks::track;

options! {
    pub(crate) MESSAGE_ID = opt("i", "msgId", "ID", "Message id").required();
    PARENT = opt("c", "cluster", "TOPIC", "The topic that a light queue came from");
    FORMAT = opt("f", "bodyFormat", "CHARSET", "Show the body as text of this character set");
    pub(crate) SINCE = opt("b", "beginTimestamp", "TIME", "Stored since, in milliseconds since 1970");
    pub(crate) UNTIL = opt("e", "endTimestamp", "TIME", "Stored until, in milliseconds since 1970");
    CONSUMER = opt("g", "consumerGroup", "GROUP", "With -d: let a consumer of this group consume it now");
    CLIENT = opt("d", "clientId", "ID", "With -g: this consumer");
}

/// Where bodies are written, as mqadmin does.
const BODIES: &str = "/tmp/rocketmq/msgbodys";

commands! {
    query_by_id: "queryMsgById", "Show a message by either of its ids, let it be consumed, or send it again",
        "-t orders -i 7F0000010000000000000000000000007F00000100002A9F",
        &[TOPIC, opt("i", "msgId", "ID,…", "Message ids").required(), CONSUMER, CLIENT,
          opt("s", "sendMessage", "BOOL", "Send it again"),
          opt("u", "unitName", "UNIT", "Unit of the producer that sends it"), FORMAT, PARENT];
    query_by_key: "queryMsgByKey", "Find messages by key", "-t orders -k ORD-1",
        &[TOPIC, opt("k", "msgKey", "KEY", "Key").required(), SINCE, UNTIL,
          opt("m", "maxNum", "NUMBER", "Messages of each broker at most").or("64"), PARENT,
          opt("p", "keyType", "K|T", "K for keys, T for tags"),
          opt("l", "lastKey", "KEY", "Go on behind this index key")];
    query_by_unique_key: "queryMsgByUniqueKey", "Show a message by the id its producer gave",
        "-t orders -i 7F0000010000000000000000000000007F00000100002A9F",
        &[MESSAGE_ID, CONSUMER, CLIENT, TOPIC, flag("a", "showAll", "All messages of this id, 32 at most"), PARENT,
          opt("s", "startTime", "TIME", "Stored since, in milliseconds since 1970"),
          opt("e", "endTime", "TIME", "Stored until, in milliseconds since 1970")];
    query_by_offset: "queryMsgByOffset", "Show the message at an offset of a queue",
        "-t orders -b broker-a -i 0 -o 1500",
        &[TOPIC, opt("b", "brokerName", "BROKER", "Name of the broker").required(),
          opt("i", "queueId", "ID", "Queue").required(), opt("o", "offset", "OFFSET", "Queue offset").required(),
          FORMAT, opt("r", "routeTopic", "TOPIC", "Topic whose route leads to the broker")];
    query_queue: "queryCq", "Show entries of a consume queue", "-t orders -q 0 -i 1500 -c 10",
        &[TOPIC, opt("q", "queue", "ID", "Queue").required(),
          opt("i", "index", "OFFSET", "First queue offset").required(),
          opt("c", "count", "NUMBER", "Entries").or("10"),
          opt("b", "broker", "HOST:PORT", "Broker (default: the first of the topic)"),
          opt("g", "consumer", "GROUP", "What this group's filter makes of them")];
}

async fn query_by_id(call: &Call, answer: &mut Answer) -> Done {
    let ids = call
        .required("msgId")
        .split(',')
        .map(str::trim)
        .filter(|id| !id.is_empty());
    for id in ids {
        if let (Some(group), Some(client_id)) = (call.text("consumerGroup"), call.text("clientId")) {
            consume_now(call, group, client_id, id, answer).await?;
        } else if call.truth("sendMessage") == Some(true) {
            send_again(call, id, answer).await?;
        } else if call.text("sendMessage").is_none() {
            let message = find(call, id).await?;
            show(call, &message, Some(message.offset_msg_id()), &message.msg_id(), answer).await?;
        }
    }
    Ok(())
}

/// The message with an id of either kind.
async fn find(call: &Call, id: &str) -> Result<MessageExt, Failure> {
    let admin = call.admin().await?;
    let topic = call.required("topic");
    // Ids of both kinds look alike.
    if id.parse::<OffsetMessageId>().is_ok()
        && let Ok(message) = admin.view_message_by_offset_id(id).await
    {
        return Ok(message);
    }
    let found = query_unique(call, topic, id, 0, i64::MAX).await?;
    let oldest = found.into_iter().next();
    oldest.ok_or_else(|| {
        Failure::with_code(
            response_code::NO_MESSAGE,
            "query message by id finished, but no message.",
        )
    })
}

/// The oldest first.
async fn query_unique(call: &Call, topic: &str, id: &str, since: i64, until: i64) -> Result<Vec<MessageExt>, Failure> {
    let header = QueryMessageHeader {
        topic: topic.to_owned(),
        key: id.to_owned(),
        max_num: 32,
        begin_timestamp: since,
        end_timestamp: until,
        unique_key_query: true,
        ..QueryMessageHeader::default()
    };
    let mut found = call
        .admin()
        .await?
        .query(call.routed(topic, "cluster"), &header)
        .await?;
    found.retain(|message| message.unique_id() == Some(id));
    found.sort_by_key(|message| message.store_timestamp);
    Ok(found)
}

/// Shows a message and which groups have it. `body_name` becomes part of a path.
async fn show(
    call: &Call,
    message: &MessageExt,
    offset_id: Option<String>,
    body_name: &str,
    answer: &mut Answer,
) -> Done {
    // Producers make these ids: only one that is a plain name may name a file.
    let is_plain = !body_name.is_empty()
        && body_name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let body_name = if is_plain {
        body_name.to_owned()
    } else {
        message.offset_msg_id()
    };
    let path = Path::new(BODIES).join(body_name);
    let written = fs::create_dir_all(BODIES).and_then(|()| fs::write(&path, &message.body));
    written.map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;

    let text = |value: Option<&str>| java::or_null(value);
    let keys = message.keys().collect::<Vec<_>>().join(" ");
    let mut lines = vec![
        ("Topic:", message.topic.clone()),
        ("Tags:", format!("[{}]", text(message.tags()))),
        (
            "Keys:",
            format!("[{}]", text(Some(&*keys).filter(|keys| !keys.is_empty()))),
        ),
        ("Queue ID:", message.queue_id.to_string()),
        ("Queue Offset:", message.queue_offset.to_string()),
        ("CommitLog Offset:", message.physical_offset.to_string()),
        ("Reconsume Times:", message.reconsume_times.to_string()),
        ("Born Timestamp:", milliseconds(message.born_timestamp)),
        ("Store Timestamp:", milliseconds(message.store_timestamp)),
        ("Born Host:", message.born_host.to_string()),
        ("Store Host:", message.store_host.to_string()),
        ("System Flag:", message.sys_flag.to_string()),
        ("Properties:", java::properties(&message.properties)),
        ("Message Body Path:", path.display().to_string()),
    ];
    if let Some(id) = offset_id {
        lines.insert(0, ("OffsetID:", id));
    }
    if let Some(charset) = call.text_if_declared("bodyFormat") {
        lines.push(("Message Body:", decode_text(&message.body, charset)?));
    }
    lines
        .iter()
        .for_each(|(title, value)| answer.say(columns("%-20s %s", [*title, value])));
    answer.say("");
    answer.say("");
    let tracks = track(call.admin().await?, message).await?;
    if tracks.is_empty() {
        answer.say("WARN: No Consumer");
    }
    tracks.iter().for_each(|track| answer.say(track.to_string()));
    let mut facts = facts(message);
    facts["bodyPath"] = json!(path);
    facts["tracks"] = json!(tracks);
    answer.add("messages", facts);
    Ok(())
}

/// A message as JSON. Bodies that are not UTF-8 are in the file only.
pub(crate) fn facts(message: &MessageExt) -> Value {
    json!({
        "msgId": message.msg_id(),
        "offsetMsgId": message.offset_msg_id(),
        "topic": message.topic,
        "brokerName": message.broker_name,
        "queueId": message.queue_id,
        "queueOffset": message.queue_offset,
        "commitLogOffset": message.physical_offset,
        "reconsumeTimes": message.reconsume_times,
        "bornTimestamp": message.born_timestamp,
        "storeTimestamp": message.store_timestamp,
        "bornHost": message.born_host,
        "storeHost": message.store_host,
        "sysFlag": message.sys_flag,
        "properties": message.properties.iter().collect::<std::collections::BTreeMap<_, _>>(),
        "body": std::str::from_utf8(&message.body).ok(),
    })
}

async fn consume_now(call: &Call, group: &str, client_id: &str, id: &str, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    let info = admin.consumer_running_info(group, client_id, false).await?;
    if info.properties.get("PROP_CONSUME_TYPE").map(String::as_str) != Some(ConsumeType::Passively.name()) {
        return Err(Failure::new(format!(
            "this {client_id} client is not push consumer ,not support direct push"
        )));
    }
    let message = find(call, id).await?;
    let header = ConsumeMessageDirectlyHeader {
        consumer_group: group.to_owned(),
        client_id: Some(client_id.to_owned()),
        msg_id: Some(message.offset_msg_id()),
        topic: Some(message.topic.clone()),
        ..ConsumeMessageDirectlyHeader::default()
    };
    let addr = message.store_host.to_string();
    let result = admin.consume_message_directly(&addr, &header).await?;
    answer.say(format!(
        "ConsumeMessageDirectlyResult [order={}, autoCommit={}, consumeResult={}, remark={}, spentTimeMills={}]",
        result.order,
        result.auto_commit,
        result.consume_result.name(),
        java::or_null(result.remark.as_deref()),
        result.spent_time_mills
    ));
    answer.add("results", result);
    Ok(())
}

async fn send_again(call: &Call, id: &str, answer: &mut Answer) -> Done {
    let found = find(call, id).await?;
    let message = Message {
        properties: found.properties.clone(),
        flag: found.flag,
        ..Message::new(found.topic.clone(), found.body.clone())
    };
    let mut config = call.instance_config()?;
    config.unit_name = call.text("unitName").map(str::to_owned);
    let producer = Producer::builder("ReSendMsgById")
        .instance_config(config)
        .start()
        .await?;
    let sent = producer.send(message).await;
    producer.shutdown().await;
    let sent = sent.map_err(|error| Failure::new(error.to_string()))?;
    answer.say(format!(
        "prepare resend msg. originalMsgId={id}{}",
        java::send_result(&sent)
    ));
    answer.add(
        "sent",
        json!({"msgId": sent.msg_id, "offsetMsgId": sent.offset_msg_id, "queueOffset": sent.queue_offset}),
    );
    Ok(())
}

async fn query_by_key(call: &Call, answer: &mut Answer) -> Done {
    let topic = call.required("topic");
    let key = call.required("msgKey");
    let of_tags = call.text("keyType") == Some("T");
    let header = QueryMessageHeader {
        topic: topic.to_owned(),
        key: key.to_owned(),
        max_num: call.required_number("maxNum")?,
        begin_timestamp: call.number("beginTimestamp")?.unwrap_or(0),
        end_timestamp: call.number("endTimestamp")?.unwrap_or(i64::MAX),
        unique_key_query: false,
        index_type: call.text("keyType").map(str::to_owned),
        last_key: call.text("lastKey").map(str::to_owned),
    };
    let mut found = call
        .admin()
        .await?
        .query(call.routed(topic, "cluster"), &header)
        .await?;
    found.retain(|message| match of_tags {
        true => message.tags() == Some(key),
        false => message.keys().any(|of_message| of_message == key),
    });
    if found.is_empty() {
        return Err(Failure::with_code(
            response_code::NO_MESSAGE,
            "query message by key finished, but no message.",
        ));
    }
    let mut table = Table::new("#Message ID, #QID, #Offset, #IndexKey", "%-50s %4s %40s %-200s");
    for message in &found {
        let index_key = format!(
            "{}@{topic}@{}@{key}@{}@{}",
            message.store_timestamp,
            if of_tags { "T" } else { "K" },
            message.msg_id(),
            message.physical_offset
        );
        table.push(row![
            message.msg_id(),
            message.queue_id,
            message.queue_offset,
            index_key
        ]);
    }
    answer.table("messages", &table);
    Ok(())
}

async fn query_by_unique_key(call: &Call, answer: &mut Answer) -> Done {
    let id = call.required("msgId");
    if let (Some(group), Some(client_id)) = (call.text("consumerGroup"), call.text("clientId")) {
        return consume_now(call, group, client_id, id, answer).await;
    }
    let since = call.number("startTime")?.unwrap_or(0);
    let until = call.number("endTime")?.unwrap_or(i64::MAX);
    let found = query_unique(call, call.required("topic"), id, since, until).await?;
    if found.is_empty() {
        return Err(Failure::with_code(
            response_code::NO_MESSAGE,
            "query message by key finished, but no message.",
        ));
    }
    let shown = if call.flag("showAll") { found.len() } else { 1 };
    for (index, message) in found.iter().take(shown).enumerate() {
        let body_name = match index {
            0 => message.msg_id(),
            _ => format!("{}_{index}", message.msg_id()),
        };
        show(call, message, None, &body_name, answer).await?;
    }
    Ok(())
}

async fn query_by_offset(call: &Call, answer: &mut Answer) -> Done {
    let topic = call.required("topic");
    let admin = call.admin().await?;
    // Names the addresses of the broker.
    admin.topic_route(call.text("routeTopic").unwrap_or(topic)).await?;
    let queue = MessageQueue::new(topic, call.required("brokerName"), call.required_number("queueId")?);
    let pulled = admin.pull(&queue, SUB_ALL, call.required_number("offset")?, 1).await?;
    match (pulled.status, pulled.messages.first()) {
        (PullStatus::Found, Some(message)) => {
            show(call, message, Some(message.offset_msg_id()), &message.msg_id(), answer).await
        }
        _ => Err(Failure::new(format!(
            "the queue has no message there, but those from {} to {}",
            pulled.min_offset, pulled.max_offset
        ))),
    }
}

async fn query_queue(call: &Call, answer: &mut Answer) -> Done {
    let topic = call.required("topic");
    let admin = call.admin().await?;
    let addr = match call.text("broker") {
        Some(addr) => addr.to_owned(),
        None => {
            let route = admin.topic_route(topic).await?;
            let broker = route
                .broker_datas
                .first()
                .and_then(|broker| broker.broker_addrs.get(&MASTER_ID));
            broker.cloned().ok_or_else(|| Failure::new("No topic route data!"))?
        }
    };
    let header = QueryConsumeQueueHeader {
        topic: topic.to_owned(),
        queue_id: call.required_number("queue")?,
        index: call.required_number("index")?,
        count: call.required_number("count")?,
        consumer_group: call.text("consumer").map(str::to_owned),
    };
    let found = admin.query_consume_queue(&addr, &header).await?;
    let line = "=".repeat(38);
    if let Some(subscription) = &found.subscription_data {
        answer.say("Subscription data: ");
        answer.say(java::pretty(&json::to_vec(subscription)));
        answer.say(&line);
    }
    if let Some(filter) = &found.filter_data {
        answer.say("Filter data: ");
        answer.say(filter);
        answer.say(&line);
    }
    answer.say("Queue data: ");
    answer.say(format!(
        "max: {}, min: {}",
        found.max_queue_index, found.min_queue_index
    ));
    answer.say(&line);
    for (index, entry) in (header.index..).zip(&found.queue_data) {
        answer.say(format!("idx: {index}"));
        answer.say(format!(
            "ConsumeQueueData{{physicOffset={}, physicSize={}, tagsCode={}, extendDataJson='{}', bitMap='{}', eval={}, \
             msg='{}'}}",
            entry.physic_offset,
            entry.physic_size,
            entry.tags_code,
            java::or_null(entry.extend_data_json.as_deref()),
            java::or_null(entry.bit_map.as_deref()),
            entry.eval,
            java::or_null(entry.msg.as_deref())
        ));
        answer.say(&line);
    }
    answer.facts(found);
    Ok(())
}
