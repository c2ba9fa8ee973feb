//! Reading queues and files of messages (spec: admin.md §5).

use std::collections::BTreeMap;

use bytes::Bytes;
use oxmq_client::{Boundary, MessageExt, MessageQueue, PullStatus};
use oxmq_protocol::message::decode_messages;
use oxmq_protocol::{hash, perm};

use crate::call::{Call, Done, Failure};
use crate::declare::{TOPIC, commands, opt, options};
use crate::java::{self, decode_text};
use crate::messages::facts;
use crate::output::Answer;
use crate::running_info::queue as shown;
use crate::table::columns;

options! {
    CHARSET = opt("c", "charsetName", "CHARSET", "Character set of bodies").or("UTF-8");
    EXPRESSION = opt("s", "subExpression", "EXPRESSION", "Tags, such as: paid || shipped").or("*");
    SINCE = opt("b", "beginTimestamp", "TIME", "Stored since: milliseconds since 1970 or yyyy-MM-dd#HH:mm:ss:SSS");
    UNTIL = opt("e", "endTimestamp", "TIME", "Stored before");
}

const BATCH: u32 = 32;

commands! {
    print_topic: "printMsg", "Show the messages of a topic", "-t orders -s paid -b 2025-09-01#10:00:00:000",
        &[TOPIC, CHARSET, EXPRESSION, SINCE, UNTIL, opt("d", "printBody", "BOOL", "With bodies").or("true"),
          opt("l", "lmqParentTopic", "TOPIC", "The topic that a light queue came from")];
    print_queue: "printMsgByQueue", "Show or count the messages of a queue", "-t orders -a broker-a -i 0 -p true",
        &[TOPIC, opt("a", "brokerName", "BROKER", "Name of the broker").required(),
          opt("i", "queueId", "ID", "Queue").required(), CHARSET, EXPRESSION, SINCE, UNTIL,
          opt("p", "print-msg", "BOOL", "Show messages").or("false"),
          opt("d", "printBody", "BOOL", "With bodies").or("false"),
          opt("f", "calculate", "BOOL", "Count them by tag").or("false")];
    consume: "consumeMessage", "Show some messages of a topic or queue", "-t orders -b broker-a -i 0 -o 1500 -c 10",
        &[TOPIC, opt("b", "brokerName", "BROKER", "Name of the broker"),
          opt("i", "queueId", "ID", "With -b: this queue only"),
          opt("o", "offset", "OFFSET", "With -i: from this queue offset on"),
          opt("g", "consumerGroup", "GROUP", "Taken for compatibility: no group's progress changes"),
          opt("s", "beginTimestamp", "TIME", "Stored since"), opt("e", "endTimestamp", "TIME", "Stored before"),
          opt("c", "MessageNumber", "NUMBER", "Messages at most").or("128")];
    dump: "dumpCompactionLog", "Show the messages in a file of a compacted topic",
        "-f store/compaction/compactionLog/orders/0/00000000000000000000",
        &[opt("f", "file", "FILE", "File").required()];
}

/// Which offsets of a queue are meant: all, or those of the times.
async fn range(call: &Call, queue: &MessageQueue) -> Result<(i64, i64), Failure> {
    let admin = call.admin().await?;
    let begin = match call.time("beginTimestamp")? {
        Some(time) => admin.search_offset(queue, time, Boundary::Lower).await?,
        None => admin.min_offset(queue).await?,
    };
    let end = match call.time("endTimestamp")? {
        Some(time) => admin.search_offset(queue, time, Boundary::Lower).await?,
        None => admin.max_offset(queue).await?,
    };
    Ok((begin, end))
}

/// The queues that may be read, in the order of Java's hash sets.
pub(crate) async fn queues_of(call: &Call, topic: &str, routed: &str) -> Result<Vec<MessageQueue>, Failure> {
    let route = call.admin().await?.topic_route(routed).await?;
    let readable = route.queue_datas.iter().filter(|data| perm::is_readable(data.perm));
    let queues = readable.flat_map(|data| (0..data.read_queue_nums).map(|id| (&*data.broker_name, id)));
    let queues = queues.map(|(name, id)| MessageQueue::new(topic, name, id));
    Ok(java::hash_order(queues, 16, |queue| {
        let of_name = 31_i32.wrapping_add(hash::java_string_hash(&queue.broker_name));
        let of_id = of_name.wrapping_mul(31).wrapping_add(queue.queue_id);
        of_id
            .wrapping_mul(31)
            .wrapping_add(hash::java_string_hash(&queue.topic))
    }))
}

fn say_message(message: &MessageExt, charset: Option<&str>, answer: &mut Answer) -> Done {
    let body = match charset {
        Some(charset) => decode_text(&message.body, charset)?,
        None => "NOT PRINT BODY".to_owned(),
    };
    let id = message.msg_id();
    let shown = java::message(message, &message.offset_msg_id());
    answer.say(format!("MSGID: {id} {shown} BODY: {body}"));
    answer.add("messages", facts(message));
    Ok(())
}

fn status_name(status: PullStatus) -> &'static str {
    match status {
        PullStatus::Found => "FOUND",
        PullStatus::NoNewMsg => "NO_NEW_MSG",
        PullStatus::NoMatchedMsg => "NO_MATCHED_MSG",
        PullStatus::OffsetIllegal => "OFFSET_ILLEGAL",
    }
}

async fn print_topic(call: &Call, answer: &mut Answer) -> Done {
    let topic = call.required("topic");
    let charset = (call.truth("printBody") == Some(true)).then(|| call.required("charsetName"));
    let routed = call.text("lmqParentTopic").unwrap_or(topic);
    for queue in queues_of(call, topic, routed).await? {
        let (begin, end) = range(call, &queue).await?;
        answer.say(format!("minOffset={begin}, maxOffset={end}, {}", shown(&queue)));
        let mut offset = begin;
        while offset < end {
            let admin = call.admin().await?;
            let pulled = admin
                .pull(&queue, call.required("subExpression"), offset, BATCH)
                .await?;
            offset = pulled.next_begin_offset;
            let status = status_name(pulled.status);
            match pulled.status {
                PullStatus::Found => {
                    for message in &pulled.messages {
                        say_message(message, charset, answer)?;
                    }
                }
                PullStatus::NoMatchedMsg => {
                    answer.say(format!(
                        "{} no matched msg. status={status}, offset={offset}",
                        shown(&queue)
                    ));
                }
                PullStatus::NoNewMsg | PullStatus::OffsetIllegal => {
                    answer.say(format!(
                        "{} print msg finished. status={status}, offset={offset}",
                        shown(&queue)
                    ));
                    break;
                }
            }
        }
        answer.say("-".repeat(56));
    }
    Ok(())
}

async fn print_queue(call: &Call, answer: &mut Answer) -> Done {
    let topic = call.required("topic");
    let queue = MessageQueue::new(topic, call.required("brokerName"), call.required_number("queueId")?);
    let charset = (call.truth("printBody") == Some(true)).then(|| call.required("charsetName"));
    let (shows, counts) = (
        call.truth("print-msg") == Some(true),
        call.truth("calculate") == Some(true),
    );
    let (mut offset, end) = range(call, &queue).await?;
    let mut tags = BTreeMap::<String, i64>::new();
    while offset < end {
        let admin = call.admin().await?;
        let pulled = admin
            .pull(&queue, call.required("subExpression"), offset, BATCH)
            .await?;
        offset = pulled.next_begin_offset;
        if pulled.status != PullStatus::Found {
            break;
        }
        for message in &pulled.messages {
            if let Some(tag) = message.tags().filter(|tag| counts && !tag.trim().is_empty()) {
                *tags.entry(tag.to_owned()).or_default() += 1;
            }
            if shows {
                say_message(message, charset, answer)?;
            }
        }
    }
    let mut most_first: Vec<_> = tags.iter().collect();
    most_first.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (tag, count) in most_first {
        answer.say(columns("Tag: %-30s Count: %s", [&**tag, &count.to_string()]));
    }
    if counts {
        answer.fact("tags", tags);
    }
    Ok(())
}

async fn consume(call: &Call, answer: &mut Answer) -> Done {
    let topic = call.required("topic");
    let count: i64 = call.required_number("MessageNumber")?;
    if count <= 0 {
        return Err(Failure::new("Please input a positive messageNumber!"));
    }
    let queue_id: Option<i32> = call.number("queueId")?;
    let from: Option<i64> = call.number("offset")?;
    let Some(queue_id) = queue_id else {
        if from.is_some() {
            return Err(Failure::new("Please set queueId before offset!"));
        }
        return consume_topic(call, topic, count, answer).await;
    };
    let name = call.text("brokerName");
    let name = name.ok_or_else(|| Failure::new("Please set the brokerName before queueId!"))?;
    let queue = MessageQueue::new(topic, name, queue_id);
    let (begin, end) = range(call, &queue).await?;
    let from = from.unwrap_or(0);
    if from > end {
        answer.say(format!("{} no matched msg, offset={from}", shown(&queue)));
        return Ok(());
    }
    let begin = begin.max(from);
    let end = match end - begin > count {
        true => {
            answer.say(format!("The oldler {count} message will be provided"));
            begin + count - 1
        }
        false => end,
    };
    consume_queue(call, &queue, begin, end, answer).await
}

async fn consume_topic(call: &Call, topic: &str, count: i64, answer: &mut Answer) -> Done {
    let mut left = count;
    for queue in queues_of(call, topic, topic).await? {
        if left <= 0 {
            break;
        }
        let (begin, mut end) = range(call, &queue).await?;
        if end - begin > left {
            let id = queue.queue_id;
            answer.say(format!("The older {left} message of the {id} queue will be provided"));
            end = begin + left - 1;
            left = 0;
        } else {
            left -= end - begin + 1;
        }
        consume_queue(call, &queue, begin, end, answer).await?;
    }
    Ok(())
}

/// Both offsets are included; at the end of the queue the second has no message.
async fn consume_queue(call: &Call, queue: &MessageQueue, begin: i64, end: i64, answer: &mut Answer) -> Done {
    let mut offset = begin;
    while offset <= end {
        let wanted = u32::try_from(end - offset + 1).unwrap_or(u32::MAX);
        let pulled = call.admin().await?.pull(queue, "*", offset, wanted).await?;
        offset = pulled.next_begin_offset;
        let status = status_name(pulled.status);
        match pulled.status {
            PullStatus::Found => {
                answer.say("Consume ok");
                for message in &pulled.messages {
                    say_message(message, Some("UTF-8"), answer)?;
                }
            }
            PullStatus::NoMatchedMsg => {
                answer.say(format!(
                    "{} no matched msg. status={status}, offset={offset}",
                    shown(queue)
                ));
            }
            PullStatus::NoNewMsg | PullStatus::OffsetIllegal => {
                answer.say(format!(
                    "{} print msg finished. status={status}, offset={offset}",
                    shown(queue)
                ));
                break;
            }
        }
    }
    Ok(())
}

async fn dump(call: &Call, answer: &mut Answer) -> Done {
    let path = call.required("file");
    let bytes = std::fs::read(path).map_err(|error| Failure::new(format!("cannot read {path}: {error}")))?;
    let mut rest = Bytes::from(bytes);
    // A file is as long as it may become; behind its last message it is empty.
    while let Some(size) = rest.first_chunk::<4>().map(|size| i32::from_be_bytes(*size)) {
        let size = usize::try_from(size).unwrap_or(0);
        if size == 0 || size > rest.len() {
            break;
        }
        let Ok(messages) = decode_messages(&rest.split_to(size), false) else {
            break;
        };
        for message in &messages {
            answer.say(java::message(message, &message.offset_msg_id()));
            answer.add("messages", facts(message));
        }
    }
    Ok(())
}
