//! Push consumers: what they get, how often, and where they go on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxmq_client::{
    ConsumeOrderlyStatus, ConsumeStatus, Instance, InstanceConfig, Message, MessageExt, MessageModel, MessageQueue,
    Messages, Producer, PullConsumer,
};

use crate::servers::{Inbox, Servers, bodies, eventually, numbers, send_numbers};

#[tokio::test]
async fn every_message_comes_once_and_only_with_its_tag() {
    let servers = Servers::start();
    let producer = servers.producer(&["orders"]).await;
    let (consumer, inbox) = servers.collect("g").await;
    let queues = producer.publish_queues("orders").await.unwrap();
    for (index, queue) in queues.iter().enumerate() {
        send_numbers(&producer, queue, index * 50..index * 50 + 50).await;
    }
    let count = queues.len() * 50;
    let got = inbox.wait_for_count(count).await;
    assert_eq!(numbers(&got), (0..count).collect::<Vec<_>>());
    assert_eq!(got.len(), count);
    assert!(got.iter().all(|message| message.tags() == Some("number")));
    consumer.shutdown().await;
}

#[tokio::test]
async fn a_restarted_consumer_goes_on_where_it_was_also_on_a_restarted_broker() {
    let (mut servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    for first in [0, 10, 20] {
        for number in first..first + 10 {
            let message = Message::new("orders", number.to_string()).with_tags("number");
            // The producer may have to find out first that its connection is gone.
            eventually(async || producer.send_to(message.clone(), queue).await.ok()).await;
        }
        let (consumer, inbox) = servers.collect("g").await;
        let got = inbox.wait_for_count(10).await;
        assert_eq!(numbers(&got), (first..first + 10).collect::<Vec<_>>());
        assert_eq!(got.len(), 10);
        consumer.shutdown().await;
        servers.stop_broker();
        servers.start_broker();
    }
}

#[tokio::test]
async fn a_consumer_survives_restarts_of_the_broker() {
    let (mut servers, producer, queues) = Servers::with_orders().await;
    let (consumer, inbox) = servers.collect("g").await;
    for number in 0..30 {
        if number % 10 == 5 {
            servers.stop_broker();
            servers.start_broker();
        }
        let message = Message::new("orders", number.to_string()).with_tags("number");
        eventually(async || producer.send_to(message.clone(), &queues[0]).await.ok()).await;
    }
    let got = inbox.wait_for(|messages| numbers(messages).len() == 30).await;
    assert_eq!(numbers(&got), (0..30).collect::<Vec<_>>());
    consumer.shutdown().await;
}

/// Also the largest, which travels compressed.
#[tokio::test]
async fn whatever_way_it_was_sent_it_arrives_once() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let message = |number: usize| Message::new("orders", number.to_string()).with_tags("number");
    producer.send_batch((0..10).map(message).collect()).await.unwrap();
    for number in 10..20 {
        producer.send_oneway(message(number)).await.unwrap();
        producer.send_ordered(message(number + 10), "key").await.unwrap();
    }
    let sends: Vec<_> = (30..40)
        .map(|number| producer.send_async(message(number)).unwrap())
        .collect();
    for send in sends {
        send.await.unwrap().unwrap();
    }
    let (consumer, inbox) = servers.collect("g").await;
    let got = inbox.wait_for_count(40).await;
    assert_eq!(numbers(&got), (0..40).collect::<Vec<_>>());
    let large = "all work and no play ".repeat(100_000);
    let sent = Message::new("orders", large.clone()).with_tags("number");
    producer.send_to(sent, &queues[0]).await.unwrap();
    let got = inbox.wait_for_count(41).await;
    assert!(got[40].body == large && got[40].store_size < 100_000);
    assert_eq!(got.len(), 41);
    consumer.shutdown().await;
}

#[tokio::test]
async fn two_consumers_share_the_queues_and_one_takes_over() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let (first, first_inbox) = servers.collect("g").await;
    let (second, second_inbox) = servers.collect("g").await;
    // While the group settles, messages may come twice or to the other member.
    let mut count = 0;
    eventually(async || {
        let before = [first_inbox.so_far().len(), second_inbox.so_far().len()];
        count = send_to_each(&producer, &queues, count, 1).await;
        let all = || [first_inbox.so_far(), second_inbox.so_far()].concat();
        eventually(async || (numbers(&all()).len() == count).then_some(())).await;
        let first_ids = queue_ids(&first_inbox.so_far()[before[0]..]);
        let second_ids = queue_ids(&second_inbox.so_far()[before[1]..]);
        let share = queues.len() / 2;
        let shared = first_ids.len() == share && second_ids.len() == share && first_ids.is_disjoint(&second_ids);
        shared.then_some(())
    })
    .await;
    second.shutdown().await;
    let before = first_inbox.so_far().len();
    count = send_to_each(&producer, &queues, count, 1).await;
    first_inbox
        .wait_for(|messages| queue_ids(&messages[before..]).len() == queues.len())
        .await;
    let mut all = first_inbox.so_far();
    all.extend(second_inbox.so_far());
    assert_eq!(numbers(&all), (0..count).collect::<Vec<_>>());
    first.shutdown().await;
}

fn queue_ids(messages: &[Arc<MessageExt>]) -> BTreeSet<i32> {
    messages.iter().map(|message| message.queue_id).collect()
}

/// Sends some messages to each queue, in turn, numbered from `count` on.
async fn send_to_each(producer: &Producer, queues: &[MessageQueue], mut count: usize, rounds: usize) -> usize {
    for queue in std::iter::repeat_n(queues, rounds).flatten() {
        send_numbers(producer, queue, count..count + 1).await;
        count += 1;
    }
    count
}

#[tokio::test]
async fn every_broadcasting_consumer_gets_everything_and_keeps_its_own_offsets() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    let start = async |name: &str, inbox: &Inbox| {
        servers
            .consumer("g")
            .instance_config(InstanceConfig {
                instance_name: Some(name.to_owned()),
                ..servers.config()
            })
            .message_model(MessageModel::Broadcasting)
            .local_offset_store_dir(servers.dir.path().join("offsets"))
            .subscribe("orders", "number")
            .concurrent(inbox.listener(ConsumeStatus::Success))
            .start()
            .await
            .unwrap()
    };
    let inboxes = [Inbox::default(), Inbox::default()];
    let first = start("first", &inboxes[0]).await;
    let second = start("second", &inboxes[1]).await;
    send_numbers(&producer, queue, 0..5).await;
    for inbox in &inboxes {
        assert_eq!(numbers(&inbox.wait_for_count(5).await), [0, 1, 2, 3, 4]);
    }
    first.shutdown().await;
    send_numbers(&producer, queue, 5..7).await;
    let inbox = Inbox::default();
    let first = start("first", &inbox).await;
    assert_eq!(numbers(&inbox.wait_for_count(2).await), [5, 6]);
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn orderly_messages_come_in_order_also_after_a_failure() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let inbox = Inbox::default();
    let (to, failed) = (inbox.clone(), Arc::new(AtomicBool::new(false)));
    let consumer = servers
        .consumer("g")
        .subscribe("orders", "number")
        .suspend_current_queue_time(Duration::from_millis(50))
        .orderly(move |messages: Messages| {
            let fails = bodies(&messages) == ["5"] && !failed.swap(true, Ordering::Relaxed);
            to.add(messages);
            async move {
                match fails {
                    true => ConsumeOrderlyStatus::SuspendCurrentQueueAMoment,
                    false => ConsumeOrderlyStatus::Success,
                }
            }
        })
        .start()
        .await
        .unwrap();
    send_numbers(&producer, &queues[0], 0..20).await;
    send_numbers(&producer, &queues[1], 100..120).await;
    let got = inbox.wait_for_count(41).await;
    let of_queue = |queue_id: i32| -> Vec<String> {
        let messages: Messages = got.iter().filter(|m| m.queue_id == queue_id).cloned().collect();
        bodies(&messages)
    };
    let mut expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    expected.insert(5, "5".into());
    assert_eq!(of_queue(queues[0].queue_id), expected);
    assert_eq!(of_queue(queues[1].queue_id).len(), 20);
    let again = got.iter().filter(|message| bodies(&[Arc::clone(message)]) == ["5"]);
    assert_eq!(again.map(|message| message.reconsume_times).collect::<Vec<_>>(), [0, 1]);
    consumer.shutdown().await;
}

#[tokio::test]
async fn orderly_consumers_keep_the_order_of_each_queue_while_the_group_changes() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let inbox = Inbox::default();
    let orderly = || {
        let builder = servers.consumer("g").subscribe("orders", "number");
        builder.orderly(inbox.listener(ConsumeOrderlyStatus::Success)).start()
    };
    let first = orderly().await.unwrap();
    let count = send_to_each(&producer, &queues, 0, 25).await;
    let second = orderly().await.unwrap();
    let count = send_to_each(&producer, &queues, count, 50).await;
    inbox.wait_for_count(count / 2).await;
    first.shutdown().await;
    let count = send_to_each(&producer, &queues, count, 25).await;
    let got = inbox.wait_for(|messages| numbers(messages).len() == count).await;
    for queue in &queues {
        let of_queue: Messages = got
            .iter()
            .filter(|message| message.queue_id == queue.queue_id)
            .cloned()
            .collect();
        // A queue that changes hands may repeat what was not committed, from where it was.
        let mut highest = -1;
        for message in &of_queue {
            assert!(
                message.queue_offset <= highest + 1 || highest < 0,
                "{:?}",
                bodies(&of_queue)
            );
            highest = highest.max(message.queue_offset);
        }
    }
    second.shutdown().await;
}

#[tokio::test]
async fn what_fails_comes_again_and_ends_in_the_dead_letters() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    let inbox = Inbox::default();
    let to = inbox.clone();
    let consumer = servers
        .consumer("g")
        .subscribe("orders", "number")
        .max_reconsume_times(2)
        .concurrent(move |messages: Messages| {
            let panics = messages[0].reconsume_times == 1;
            to.add(messages);
            async move {
                assert!(!panics, "a listener that panics is one that fails");
                ConsumeStatus::ReconsumeLater
            }
        })
        .start()
        .await
        .unwrap();
    send_numbers(&producer, queue, 0..1).await;
    let got = inbox.wait_for_count(3).await;
    let seen: Vec<_> = got
        .iter()
        .map(|message| (message.topic.as_str(), message.reconsume_times))
        .collect();
    assert_eq!(seen, [("orders", 0), ("orders", 1), ("orders", 2)]);
    assert!(got.iter().all(|message| message.unique_id() == got[0].unique_id()));

    let reader = PullConsumer::builder("reader").name_server(servers.name_server());
    let reader = reader.start().await.unwrap();
    let dead = eventually(async || {
        let queue = reader.fetch_subscribe_message_queues("%DLQ%g").await.ok()?.pop()?;
        reader.pull(&queue, "*", 0, 32).await.ok()?.messages.pop()
    })
    .await;
    assert_eq!(dead.body, "0");
    assert_eq!(dead.unique_id(), got[0].unique_id());
    reader.shutdown().await;
    consumer.shutdown().await;
}

#[test]
fn a_local_runtime_will_do() {
    let servers = Servers::start();
    tokio::runtime::LocalRuntime::new().unwrap().block_on(async {
        let producer = servers.producer(&["orders"]).await;
        let queue = &producer.publish_queues("orders").await.unwrap()[0];
        let (consumer, inbox) = servers.collect("g").await;
        send_numbers(&producer, queue, 0..3).await;
        assert_eq!(inbox.wait_for_count(3).await.len(), 3);
        consumer.shutdown().await;
    });
}

#[tokio::test]
async fn a_consumer_that_vanishes_is_replaced() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let (first, first_inbox) = servers.collect("g").await;
    let (second, _) = servers.collect("g").await;
    // No good-bye: the broker sees the connection close.
    drop(first);
    drop(second);
    drop(first_inbox);
    let (third, third_inbox) = servers.collect("g").await;
    let count = send_to_each(&producer, &queues, 0, 1).await;
    third_inbox.wait_for(|messages| numbers(messages).len() == count).await;
    third.shutdown().await;
}

#[tokio::test]
async fn a_message_whose_listener_hangs_comes_again() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    let inbox = Inbox::default();
    let to = inbox.clone();
    let consumer = servers
        .consumer("g")
        .subscribe("orders", "number")
        .consume_timeout(Duration::from_millis(500))
        .await_termination(Duration::from_millis(100))
        .concurrent(move |messages: Messages| {
            let hangs = bodies(&messages) == ["0"] && messages[0].reconsume_times == 0;
            to.add(messages);
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                ConsumeStatus::Success
            }
        })
        .start()
        .await
        .unwrap();
    send_numbers(&producer, queue, 0..3).await;
    let got = inbox.wait_for_count(4).await;
    let again: Vec<_> = got.iter().filter(|message| message.body == "0").collect();
    assert_eq!(
        again.iter().map(|message| message.reconsume_times).collect::<Vec<_>>(),
        [0, 1]
    );
    consumer.shutdown().await;
}

#[tokio::test]
async fn only_the_failed_part_of_a_batch_comes_again() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    send_numbers(&producer, queue, 0..6).await;
    let inbox = Inbox::default();
    let to = inbox.clone();
    let consumer = servers
        .consumer("g")
        .subscribe("orders", "number")
        .consume_message_batch_max_size(6)
        .concurrent(move |messages: Messages| {
            let first_time = messages[0].reconsume_times == 0;
            to.add(messages);
            async move {
                match first_time {
                    true => ConsumeStatus::SuccessUpTo { count: 4 },
                    false => ConsumeStatus::Success,
                }
            }
        })
        .start()
        .await
        .unwrap();
    let got = inbox.wait_for_count(8).await;
    assert_eq!(bodies(&got[..6]), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(numbers(&got[6..]), [4, 5]);
    consumer.shutdown().await;
}

#[tokio::test]
async fn producers_and_consumers_can_share_an_instance() {
    let servers = Servers::start();
    servers.producer(&["orders"]).await.shutdown().await;
    let instance = Instance::start(servers.config());
    let instance = instance.await.unwrap();
    let producer = Producer::builder("p").instance(instance.clone()).start().await.unwrap();
    let queue = &producer.publish_queues("orders").await.unwrap()[0];
    let inboxes = [Inbox::default(), Inbox::default()];
    let start = async |group: &str, inbox: &Inbox| {
        let builder = servers.consumer(group).subscribe("orders", "number");
        builder
            .concurrent(inbox.listener(ConsumeStatus::Success))
            .instance(instance.clone())
            .start()
            .await
    };
    let first = start("g1", &inboxes[0]).await.unwrap();
    let second = start("g2", &inboxes[1]).await.unwrap();
    assert!(
        start("g1", &inboxes[0]).await.is_err(),
        "one member of a group per client"
    );
    send_numbers(&producer, queue, 0..3).await;
    for inbox in &inboxes {
        assert_eq!(numbers(&inbox.wait_for_count(3).await), [0, 1, 2]);
    }
    first.shutdown().await;
    send_numbers(&producer, queue, 3..4).await;
    assert_eq!(numbers(&inboxes[1].wait_for_count(4).await), [0, 1, 2, 3]);
    second.shutdown().await;
    producer.shutdown().await;
    instance.shutdown().await;
}
