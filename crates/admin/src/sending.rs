//! Sending messages, to see whether and how fast it goes (spec: admin.md §3, §5).

use std::time::Instant;

use oxmq_client::{Message, MessageQueue, Producer};

use crate::call::{Call, Done, Failure, now, seconds};
use crate::declare::{TOPIC, commands, opt};
use crate::java;
use crate::output::Answer;
use crate::table::{Table, decimal, row};

commands! {
    send_message: "sendMessage", "Send a message", "-t orders -p hello -k ORD-1 -c paid",
        &[TOPIC, opt("p", "body", "TEXT", "Body").required(), opt("k", "key", "KEYS", "Keys with spaces between"),
          opt("c", "tags", "TAG", "Tag"), opt("b", "broker", "BROKER", "With -i: name of the broker"),
          opt("i", "qid", "ID", "With -b: queue"), opt("m", "msgTraceEnable", "BOOL", "Trace it").or("false")];
    check_send_rt: "checkMsgSendRT", "Send messages to the queues of a topic in turn, and measure how long that takes",
        "-t orders -a 10",
        &[TOPIC, opt("a", "amount", "NUMBER", "Messages").or("100"),
          opt("s", "size", "BYTES", "Size of their bodies").or("128")];
    send_status: "sendMsgStatus", "Send messages to a broker, and show what it answers", "-b broker-a -c 5",
        &[opt("b", "brokerName", "BROKER", "Name of the broker").required(),
          opt("s", "messageSize", "BYTES", "Size of their bodies").or("128"),
          opt("c", "count", "NUMBER", "Messages").or("50")];
    cluster_rt: "clusterRT", "Send messages to every broker, again and again, and measure how long that takes",
        "-a 10 -i 60",
        &[opt("a", "amount", "NUMBER", "Messages to each broker").or("100"),
          opt("s", "size", "BYTES", "Size of their bodies").or("128"),
          opt("c", "cluster", "CLUSTER", "This cluster only"),
          opt("p", "print-log", "BOOL", "As lines of a log").or("false"),
          opt("m", "machine-room", "NAME", "Machine room, for the log").or("noname"),
          opt("i", "interval", "SECONDS", "Seconds between rounds").or("10")];
}

async fn producer(call: &Call, group: &str, with_trace: bool) -> Result<Producer, Failure> {
    let builder = Producer::builder(group).instance_config(call.instance_config()?);
    Ok(builder.enable_msg_trace(with_trace).start().await?)
}

fn failed(error: impl ToString) -> Failure {
    Failure::new(error.to_string())
}

async fn send_message(call: &Call, answer: &mut Answer) -> Done {
    let topic = call.required("topic");
    let mut message = Message::new(topic, call.required("body").to_owned());
    if let Some(tags) = call.text("tags") {
        message = message.with_tags(tags);
    }
    if let Some(keys) = call.text("key") {
        message = message.with_keys(keys);
    }
    let queue = match (call.text("broker"), call.number("qid")?) {
        (None, Some(_)) => return Err(Failure::new("Broker name must be set if the queue is chosen!")),
        (Some(broker), Some(id)) => Some(MessageQueue::new(topic, broker, id)),
        _ => None,
    };
    let producer = producer(call, &now().to_string(), call.truth("msgTraceEnable") == Some(true)).await?;
    let sent = match &queue {
        Some(queue) => producer.send_to(message, queue).await,
        None => producer.send(message).await,
    };
    producer.shutdown().await;
    let sent = sent.map_err(failed)?;
    let names = "#Broker Name, #QID, #Send Result, #MsgId";
    let mut table = Table::new(names, "%-32s  %-4s  %-20s    %s");
    table.push(row![
        &sent.queue.broker_name,
        sent.queue.queue_id,
        java::send_status(sent.status),
        &sent.msg_id,
    ]);
    answer.table("sent", &table);
    Ok(())
}

async fn check_send_rt(call: &Call, answer: &mut Answer) -> Done {
    let topic = call.required("topic");
    let (amount, size): (usize, usize) = (call.required_number("amount")?, call.required_number("size")?);
    let producer = producer(call, &now().to_string(), false).await?;
    let queues = producer.publish_queues(topic).await.map_err(failed)?;
    let names = "#Broker Name, #QID, #Send Result, #RT";
    let mut table = Table::new(names, "%-32s  %-4s  %-20s    %s");
    let mut elapsed = 0;
    for (index, queue) in queues.iter().cycle().take(amount).enumerate() {
        let began = Instant::now();
        let sent = producer.send_to(Message::new(topic, vec![b'a'; size]), queue).await;
        let millis = began.elapsed().as_millis() as i64;
        // The first one includes connecting.
        elapsed += if index == 0 { 0 } else { millis };
        table.push(row![&queue.broker_name, queue.queue_id, sent.is_ok(), millis]);
    }
    producer.shutdown().await;
    answer.table("sent", &table);
    let average = elapsed as f64 / (amount as f64 - 1.0).max(1.0);
    answer.say(format!("Avg RT: {average:.2}"));
    answer.fact("averageRt", average);
    Ok(())
}

async fn send_status(call: &Call, answer: &mut Answer) -> Done {
    let name = call.required("brokerName");
    let (count, size): (usize, usize) = (call.required_number("count")?, call.required_number("messageSize")?);
    let producer = producer(call, "PID_SMSC", false).await?;
    let message = |size| Message::new(name, vec![b'a'; size]);
    producer.send(message(16)).await.map_err(failed)?;
    for _ in 0..count {
        let began = Instant::now();
        let sent = producer.send(message(size)).await.map_err(failed)?;
        let millis = began.elapsed().as_millis();
        answer.say(format!("rt={millis}ms, SendResult={}", java::send_result(&sent)));
        answer.add(
            "sent",
            serde_json::json!({"rt": millis, "msgId": sent.msg_id, "queueOffset": sent.queue_offset}),
        );
    }
    producer.shutdown().await;
    Ok(())
}

async fn cluster_rt(call: &Call, answer: &mut Answer) -> Done {
    let (amount, size): (usize, usize) = (call.required_number("amount")?, call.required_number("size")?);
    let info = call.admin().await?.cluster_info().await?;
    let wanted = call.text("cluster");
    if wanted.is_some_and(|name| !info.cluster_addr_table.contains_key(name)) {
        return Err(Failure::new(format!(
            "cluster [{}] not exist",
            wanted.unwrap_or_default()
        )));
    }
    let producer = producer(call, &now().to_string(), false).await?;
    let names = "#Cluster Name, #Broker Name, #RT, #successCount, #failCount";
    let mut table =
        Table::new(names, "%-24s  %-24s  %-4s  %-8s  %-8s").with_rows_as("%-24s  %-24s  %-8s  %-16s  %-16s");
    let clusters = info.cluster_addr_table.iter();
    for (cluster, brokers) in clusters.filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name)) {
        for broker in brokers {
            let (mut elapsed, mut failures) = (0, 0);
            for index in 0..amount {
                let began = Instant::now();
                let sent = producer.send(Message::new(&**broker, vec![b'a'; size])).await;
                failures += usize::from(sent.is_err());
                elapsed += if index == 0 { 0 } else { began.elapsed().as_millis() };
            }
            let rt = elapsed as f64 / (amount as f64 - 1.0).max(1.0);
            table.push(row![cluster, broker, decimal(rt, 2), amount - failures, failures]);
            if call.truth("print-log") == Some(true) {
                let (time, room) = (seconds(now()), call.required("machine-room"));
                answer.say(format!("{time}|{room}|{cluster}|{broker}|{rt:.0}"));
            }
        }
    }
    producer.shutdown().await;
    match (call.truth("print-log"), call.is_first_round()) {
        (Some(true), _) => {}
        (_, true) => answer.table("brokers", &table),
        (_, false) => answer.rows("brokers", &table),
    }
    Ok(())
}
