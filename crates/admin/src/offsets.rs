//! Where consumer groups go on (spec: admin.md §4).

use std::collections::BTreeMap;

use oxmq_client::MessageQueue;
use oxmq_protocol::body::MASTER_ID;
use oxmq_protocol::requests::ResetOffsetHeader;
use oxmq_protocol::response_code;

use crate::call::{Call, Done, Failure};
use crate::declare::{TOPIC, commands, opt, options};
use crate::output::Answer;
use crate::table::{Table, front, row};

options! {
    GROUP = opt("g", "group", "GROUP", "Consumer group").required();
    TIME = opt("s", "timestamp", "TIME",
        "Milliseconds since 1970, now, or yyyy-MM-dd#HH:mm:ss:SSS; -1 for the end").required();
    FORCE = opt("f", "force", "BOOL", "Forward, too").or("true");
    PARENT = opt("c", "cluster", "TOPIC", "The topic that a light queue came from");
}

commands! {
    reset_by_time: "resetOffsetByTime", "Let a group go on at a time, also while it consumes",
        "-g order-service -t orders -s now",
        &[GROUP, TOPIC, TIME, FORCE, PARENT,
          opt("b", "broker", "HOST:PORT", "With -q: one queue of this broker only"),
          opt("q", "queue", "ID", "With -b: this queue only"),
          opt("o", "offset", "OFFSET", "With -b and -q: this offset instead of the time's")];
    skip_accumulated: "skipAccumulatedMessage", "Let a group go on at the end", "-g order-service -t orders",
        &[GROUP, TOPIC, FORCE, PARENT];
    clone_offsets: "cloneGroupOffset", "Let a group go on where another is",
        "-s order-service -d order-audit -t orders",
        &[opt("s", "srcGroup", "GROUP", "Group that is copied").required(),
          opt("d", "destGroup", "GROUP", "Group that goes on").required(), TOPIC,
          opt("o", "offline", "BOOL", "Taken for compatibility")];
}

async fn reset_by_time(call: &Call, answer: &mut Answer) -> Done {
    let (group, topic, given) = (
        call.required("group"),
        call.required("topic"),
        call.required("timestamp"),
    );
    let time = call.time("timestamp")?.unwrap_or_default();
    let queue: Option<i32> = call.number("queue")?;
    if let (Some(addr), Some(queue)) = (call.text("broker"), queue) {
        answer.say(format!(
            "start reset consumer offset by specified, group[{group}], topic[{topic}], queueId[{queue}], broker[{addr}], \
             timestamp(string)[{given}], timestamp(long)[{time}]"
        ));
        return reset_queue(call, addr, queue, time, answer).await;
    }
    let force = call.truth("force") == Some(true);
    match reset_topic(call, time).await {
        Err(failure) if failure.code == Some(response_code::CONSUMER_NOT_ONLINE) => {
            reset_by_time_offline(call, answer).await
        }
        reset => {
            let offsets = reset?;
            answer.say(format!(
                "start reset consumer offset by specified, group[{group}], topic[{topic}], force[{force}], \
                 timestamp(string)[{given}], timestamp(long)[{time}]"
            ));
            answer.table("queues", &offset_table(&offsets));
            Ok(())
        }
    }
}

async fn reset_by_time_offline(call: &Call, answer: &mut Answer) -> Done {
    let time = call.time("timestamp")?.unwrap_or_default();
    answer.say(format!(
        "reset consumer offset by specified consumerGroup[{}], topic[{}], force[{}], timestamp(string)[{}], \
         timestamp(long)[{time}]",
        call.required("group"),
        call.required("topic"),
        call.truth("force") == Some(true),
        call.required("timestamp")
    ));
    reset_offline(call, time, "#resetOffset", answer).await
}

async fn reset_queue(call: &Call, addr: &str, queue_id: i32, time: i64, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    let topic = call.required("topic");
    let offset = match call.number::<i64>("offset")? {
        Some(offset) => offset,
        None => admin.search_offset_on(addr, topic, queue_id, time).await?,
    };
    answer.say(format!("reset consumer offset to {offset}"));
    answer.fact("offset", offset);
    if offset > 0 {
        let header = ResetOffsetHeader {
            group: call.required("group").to_owned(),
            topic: topic.to_owned(),
            queue_id: Some(queue_id),
            offset: Some(offset),
            timestamp: time,
            is_force: true,
        };
        admin.reset_offset_on(addr, &header).await?;
    }
    Ok(())
}

/// At every broker of the topic.
async fn reset_topic(call: &Call, time: i64) -> Result<BTreeMap<MessageQueue, i64>, Failure> {
    let admin = call.admin().await?;
    let header = ResetOffsetHeader {
        group: call.required("group").to_owned(),
        topic: call.required("topic").to_owned(),
        queue_id: None,
        offset: None,
        timestamp: time,
        is_force: call.truth("force") == Some(true),
    };
    let mut offsets = BTreeMap::new();
    for addr in admin.masters_of_topic(call.routed(&header.topic, "cluster")).await? {
        offsets.extend(admin.reset_offset_on(&addr, &header).await?);
    }
    Ok(offsets)
}

fn offset_table(offsets: &BTreeMap<MessageQueue, i64>) -> Table {
    let mut table = Table::new("#brokerName, #queueId, #offset", "%-40s  %-40s  %-40s");
    for (queue, offset) in offsets {
        table.push(row![front(&queue.broker_name, 32), queue.queue_id, *offset]);
    }
    table
}

/// Queue by queue, where brokers leave it to the group and none of it is online.
async fn reset_offline(call: &Call, time: i64, last_name: &'static str, answer: &mut Answer) -> Done {
    let names = format!("#brokerName, #queueId, #brokerOffset, #consumerOffset, #timestampOffset, {last_name}");
    let (group, topic) = (call.required("group"), call.required("topic"));
    let force = call.truth("force") == Some(true);
    let admin = call.admin().await?;
    let stats = admin.consume_stats_of(group, topic).await?;
    let mut table = Table::new(&names, "%-20s  %-20s  %-20s  %-20s  %-20s  %-20s");
    for (queue, offsets) in stats.offset_table.iter().filter(|(queue, _)| queue.topic == topic) {
        let of_time = match time {
            -1 => admin.max_offset(queue).await?,
            _ => admin.search_offset(queue, time, oxmq_client::Boundary::Lower).await?,
        };
        let is_reset = force || of_time <= offsets.consumer_offset;
        if is_reset {
            admin.update_consume_offset(group, queue, of_time).await?;
        }
        table.push(row![
            front(&queue.broker_name, 32),
            queue.queue_id,
            offsets.broker_offset,
            offsets.consumer_offset,
            of_time,
            if is_reset { of_time } else { offsets.consumer_offset },
        ]);
    }
    answer.table("queues", &table);
    Ok(())
}

async fn skip_accumulated(call: &Call, answer: &mut Answer) -> Done {
    match reset_topic(call, -1).await {
        Err(failure) if failure.code == Some(response_code::CONSUMER_NOT_ONLINE) => {
            reset_offline(call, -1, "#rollbackOffset", answer).await
        }
        offsets => {
            answer.table("queues", &offset_table(&offsets?));
            Ok(())
        }
    }
}

async fn clone_offsets(call: &Call, answer: &mut Answer) -> Done {
    let (from, to, topic) = (
        call.required("srcGroup"),
        call.required("destGroup"),
        call.required("topic"),
    );
    let admin = call.admin().await?;
    let stats = admin.consume_stats(from).await?;
    if stats.offset_table.is_empty() {
        return Err(Failure::with_code(
            response_code::CONSUMER_NOT_ONLINE,
            "Not found the consumer group consume stats, because return offset table is empty, maybe the consumer not \
             online",
        ));
    }
    admin.topic_route(topic).await?;
    for (queue, offsets) in stats
        .offset_table
        .iter()
        .filter(|(_, offsets)| offsets.consumer_offset >= 0)
    {
        // A group's own retry topic is on brokers that may have nothing of the topic.
        if admin.instance().broker_addr(&queue.broker_name, MASTER_ID).is_ok() {
            admin.update_consume_offset(to, queue, offsets.consumer_offset).await?;
            answer.add("done", queue);
        }
    }
    answer.say(format!(
        "clone group offset success. srcGroup[{from}], destGroup=[{to}], topic[{topic}]"
    ));
    Ok(())
}
