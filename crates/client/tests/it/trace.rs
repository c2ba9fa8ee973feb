//! Traces of what clients send, consume and take back.

use oxmq_client::{
    ConsumeStatus, InstanceConfig, Message, Producer, PullConsumer, PullStatus, PushConsumer, SendResult, TraceConfig,
};

use crate::servers::{Servers, eventually};

fn traced(servers: &Servers) -> InstanceConfig {
    InstanceConfig {
        trace: Some(TraceConfig::default()),
        ..servers.config()
    }
}

/// The fields of every record in the trace topic, in the order of its one queue.
async fn records(servers: &Servers) -> Vec<Vec<String>> {
    let reader = PullConsumer::builder("trace-reader")
        .name_server(servers.name_server())
        .start()
        .await
        .unwrap();
    let mut records = Vec::new();
    for queue in reader
        .fetch_subscribe_message_queues("RMQ_SYS_TRACE_TOPIC")
        .await
        .unwrap()
    {
        let mut offset = 0;
        loop {
            let result = reader.pull(&queue, "*", offset, 32).await.unwrap();
            for message in &result.messages {
                let text = String::from_utf8(message.body.to_vec()).unwrap();
                let fields = |record: &str| record.split('\u{1}').map(str::to_owned).collect::<Vec<_>>();
                records.extend(text.split_terminator('\u{2}').map(fields));
                for record in text.split_terminator('\u{2}') {
                    let id_at = if record.starts_with("SubAfter") { 2 } else { 5 };
                    let id = record.split('\u{1}').nth(id_at).unwrap();
                    assert!(message.keys().any(|key| key == id), "{id} is no key");
                }
            }
            offset = result.next_begin_offset;
            if result.status == PullStatus::NoNewMsg {
                break;
            }
        }
    }
    reader.shutdown().await;
    records
}

#[tokio::test]
async fn what_happened_to_a_message_can_be_read() {
    let servers = Servers::start_with(|config| {
        config.trace_topic_enable = true;
        config.recall_message_enable = true;
    });
    servers.producer(&["orders"]).await.shutdown().await;
    let producer = Producer::builder("shop")
        .instance_config(traced(&servers))
        .start()
        .await
        .unwrap();
    let message = Message::new("orders", "hello").with_tags("new").with_keys("17");
    let sent: SendResult = producer.send(message).await.unwrap();
    let timer = Message::new("orders", "later").with_property("TIMER_DELAY_SEC", "60");
    let later = producer.send(timer).await.unwrap();
    let handle = later.recall_handle.as_deref().unwrap();
    assert_eq!(producer.recall_message("orders", handle).await.unwrap(), later.msg_id);
    let refused = producer.recall_message("bills", handle).await.unwrap_err();
    assert!(refused.response_code().is_some(), "{refused}");
    assert!(producer.recall_message("orders", "no handle").await.is_err());
    producer.shutdown().await;

    let (called, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("billing")
        .instance_config(traced(&servers))
        .consume_from_where(oxmq_client::ConsumeFromWhere::FirstOffset)
        .subscribe("orders", "new")
        .concurrent(move |messages| {
            called.send(messages[0].msg_id()).unwrap();
            async { ConsumeStatus::Success }
        })
        .start()
        .await
        .unwrap();
    assert_eq!(calls.recv().await.unwrap(), sent.msg_id);
    consumer.shutdown().await;

    let all = eventually(async || {
        let all = records(&servers).await;
        (all.len() >= 6).then_some(all)
    })
    .await;
    let kinds: Vec<_> = all.iter().map(|fields| fields[0].as_str()).collect();
    assert_eq!(kinds, ["Pub", "Pub", "Recall", "Recall", "SubBefore", "SubAfter"]);
    let published = &all[0];
    assert_eq!(
        published[2..8].join(" "),
        format!("DefaultRegion shop orders {} new 17", sent.msg_id)
    );
    assert_eq!((published[9].as_str(), published[11].as_str()), ("5", "0"));
    assert_eq!(
        (published[12].as_str(), published[13].as_str()),
        (&*sent.offset_msg_id, "true")
    );
    assert_eq!(all[1][11], "3", "a delayed message");
    let consumed = &all[4];
    assert_eq!(
        (consumed[3].as_str(), consumed[5].as_str(), consumed[7].as_str()),
        ("billing", &*sent.msg_id, "17")
    );
    assert_eq!(
        (&all[5][1], all[5][4].as_str(), all[5][6].as_str()),
        (&consumed[4], "true", "0")
    );
}
