//! Every way to send and to consume, once.

use oxmq_client::{Admin, ConsumeOrderlyStatus, MessageModel, PullConsumer, PullStatus};

use super::*;

#[test]
fn whatever_way_it_was_sent_it_arrives_once() {
    let system = System::start();
    block_on(async {
        let producer = producer(&system).await;
        let received = Received::default();
        for number in 0..50 {
            producer.send(numbered("Ways", number)).await.unwrap();
        }
        let batch = (50..60).map(|number| numbered("Ways", number)).collect();
        producer.send_batch(batch).await.unwrap();
        for number in 60..70 {
            producer.send_oneway(numbered("Ways", number)).await.unwrap();
        }
        for number in 70..80 {
            producer.send_ordered(numbered("Ways", number), "key").await.unwrap();
        }
        let sends: Vec<_> = (80..100)
            .map(|number| producer.send_async(numbered("Ways", number)).unwrap())
            .collect();
        for send in sends {
            send.await.unwrap().unwrap();
        }
        let consumer = consumer(&system, "ways")
            .subscribe("Ways", "*")
            .concurrent(received.listener())
            .start()
            .await
            .unwrap();
        wait_until("all messages", || received.len() >= 100).await;
        for number in 100..200 {
            producer.send(numbered("Ways", number)).await.unwrap();
        }
        wait_until("those sent meanwhile", || received.len() >= 200).await;
        assert_eq!(received.sorted(), (0..200).collect::<Vec<_>>());
        consumer.shutdown().await;
        producer.shutdown().await;
    });
    system.assert_serves("Ways");
}

#[test]
fn a_large_message_travels_compressed_and_arrives_whole() {
    let system = System::start();
    block_on(async {
        let producer = producer(&system).await;
        let received = Received::default();
        let body: Vec<u8> = b"all work and no play ".repeat(100_000);
        producer.send(Message::new("Large", body.clone())).await.unwrap();
        let _consumer = consumer(&system, "large")
            .subscribe("Large", "*")
            .concurrent(received.listener())
            .start()
            .await
            .unwrap();
        wait_until("the message", || received.len() == 1).await;
        let message = Arc::clone(&received.0.lock()[0]);
        assert!(message.body == body);
        assert!(message.store_size < 100_000);
    });
}

#[test]
fn tags_select_messages() {
    let system = System::start();
    block_on(async {
        let producer = producer(&system).await;
        for number in 0..60 {
            let tag = ["red", "green", "blue"][number % 3];
            producer.send(numbered("Tags", number).with_tags(tag)).await.unwrap();
        }
        let received = Received::default();
        let _consumer = consumer(&system, "tags")
            .subscribe("Tags", "red || blue")
            .concurrent(received.listener())
            .start()
            .await
            .unwrap();
        wait_until("two thirds", || received.len() >= 40).await;
        let expected: Vec<usize> = (0..60).filter(|number| number % 3 != 1).collect();
        assert_eq!(received.sorted(), expected);
    });
}

#[test]
fn each_member_of_a_broadcasting_group_gets_everything() {
    let system = System::start();
    block_on(async {
        let producer = producer(&system).await;
        producer.send(numbered("Broadcast", 0)).await.unwrap();
        let received = [Received::default(), Received::default()];
        let mut consumers = Vec::new();
        for (index, received) in received.iter().enumerate() {
            let started = consumer(&system, "broadcast")
                .local_offset_store_dir(system.dir.path().join(format!("offsets-{index}")))
                .message_model(MessageModel::Broadcasting)
                .subscribe("Broadcast", "*")
                .concurrent(received.listener())
                .start();
            consumers.push(started.await.unwrap());
        }
        for number in 1..50 {
            producer.send(numbered("Broadcast", number)).await.unwrap();
        }
        for received in &received {
            wait_until("all of them", || received.len() >= 50).await;
            assert_eq!(received.sorted(), (0..50).collect::<Vec<_>>());
        }
    });
}

#[test]
fn orderly_consumers_keep_the_order_of_each_queue_while_the_group_changes() {
    let system = System::start();
    system.create_topic("Orderly", 4);
    block_on(async {
        let producer = producer(&system).await;
        let received = Received::default();
        let orderly = || {
            let received = received.clone();
            consumer(&system, "orderly")
                .subscribe("Orderly", "*")
                .orderly(move |messages| {
                    received.0.lock().extend(messages);
                    std::future::ready(ConsumeOrderlyStatus::Success)
                })
        };
        let first = orderly().start().await.unwrap();
        let mut second = None;
        for number in 0..400 {
            let key = (number % 7).to_string();
            producer.send_ordered(numbered("Orderly", number), &key).await.unwrap();
            if number == 100 {
                second = Some(orderly().start().await.unwrap());
            }
        }
        wait_until("most", || received.len() >= 300).await;
        first.shutdown().await;
        for number in 400..500 {
            producer.send_ordered(numbered("Orderly", number), "0").await.unwrap();
        }
        wait_until("all", || {
            let mut numbers = received.sorted();
            numbers.dedup();
            numbers.len() == 500
        })
        .await;
        for (queue_id, mut numbers) in received.by_queue() {
            // A queue that changes hands may repeat what was not committed, from where it was.
            let mut highest = None;
            numbers.retain(|number| {
                let new = highest.is_none_or(|highest| *number > highest);
                highest = highest.max(Some(*number));
                new
            });
            let sent: Vec<usize> = {
                let mut all = numbers.clone();
                all.sort_unstable();
                all
            };
            assert_eq!(numbers, sent, "queue {queue_id}");
        }
        second.unwrap().shutdown().await;
    });
}

#[test]
fn a_pull_consumer_reads_and_commits_where_it_wants() {
    let system = System::start();
    system.create_topic("Pull", 1);
    block_on(async {
        let producer = producer(&system).await;
        for number in 0..100 {
            producer.send(numbered("Pull", number)).await.unwrap();
        }
        let consumer = PullConsumer::builder("puller")
            .name_server(system.namesrv.local_addr().to_string())
            .start()
            .await
            .unwrap();
        let queues = consumer.fetch_subscribe_message_queues("Pull").await.unwrap();
        let [queue] = &queues[..] else { panic!("{queues:?}") };
        let (mut next, mut numbers) = (0, Vec::new());
        while numbers.len() < 100 {
            let result = consumer.pull(queue, "*", next, 32).await.unwrap();
            assert_eq!(result.status, PullStatus::Found);
            numbers.extend(result.messages.iter().map(number_of));
            next = result.next_begin_offset;
        }
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        assert_eq!(consumer.max_offset(queue).await.unwrap(), next);
        consumer.update_consume_offset(queue, 70);
        consumer.commit(queue).await.unwrap();
        assert_eq!(consumer.fetch_consume_offset(queue).await.unwrap(), Some(70));

        let waiting = consumer.pull_block_if_not_found(queue, "*", next, 32);
        let sending = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            producer.send(numbered("Pull", 100)).await.unwrap();
        };
        let (result, ()) = tokio::join!(waiting, sending);
        assert_eq!(number_of(&result.unwrap().messages[0]), 100);
    });
}

#[test]
fn messages_are_found_by_key_and_by_both_kinds_of_id() {
    let system = System::start();
    block_on(async {
        let producer = producer(&system).await;
        let message = numbered("Find", 7).with_keys("order-7 customer-3");
        let sent = producer.send(message).await.unwrap();
        let admin = Admin::connect(system.namesrv.local_addr().to_string()).await.unwrap();
        assert_eq!(
            number_of(&admin.view_message_by_offset_id(&sent.offset_msg_id).await.unwrap()),
            7
        );
        for key in ["order-7", "customer-3"] {
            let started = Instant::now();
            loop {
                let found = admin
                    .query_message("Find", key, 10, 0, i64::MAX)
                    .await
                    .unwrap_or_default();
                if let [message] = &found[..] {
                    assert_eq!(message.msg_id(), sent.msg_id);
                    break;
                }
                assert!(started.elapsed() < DEADLINE, "{key} is not found");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
}
