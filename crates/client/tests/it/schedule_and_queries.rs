//! Tasks that pull, and the queries of the admin client.

use std::time::Duration;

use oxmq_client::{Admin, Boundary, ClientError, LitePullConsumer, Message, PullScheduleService};
use parking_lot::Mutex;

use crate::servers::{Inbox, Servers, bodies, eventually, numbers, send_numbers};

#[tokio::test]
async fn tasks_go_on_where_the_group_was_and_survive_failures() {
    let (servers, producer, queues) = Servers::with_orders().await;
    for (index, queue) in queues.iter().enumerate() {
        send_numbers(&producer, queue, index * 10..index * 10 + 10).await;
    }
    let start = async |inbox: &Inbox| {
        let (to, fails) = (inbox.clone(), std::sync::Arc::new(Mutex::new(1)));
        PullScheduleService::builder("g")
            .name_server(servers.name_server())
            .pull_threads(2)
            .register_pull_task("orders", move |context| {
                let (to, fails) = (to.clone(), std::sync::Arc::clone(&fails));
                async move {
                    if std::mem::take(&mut *fails.lock()) > 0 {
                        panic!("the first call");
                    }
                    let offset = context.fetch_consume_offset().await?.unwrap_or(0);
                    let result = context.pull("number", offset, 3).await?;
                    context.update_consume_offset(result.next_begin_offset);
                    to.add(result.messages.into_iter().map(std::sync::Arc::new).collect());
                    Ok(Duration::from_millis(20))
                }
            })
            .start()
            .await
            .unwrap()
    };
    let inbox = Inbox::default();
    let service = start(&inbox).await;
    let count = queues.len() * 10;
    let got = inbox.wait_for(|messages| numbers(messages).len() == count).await;
    assert_eq!(got.len(), count);
    service.shutdown().await;
    send_numbers(&producer, &queues[0], 900..901).await;
    let inbox = Inbox::default();
    let service = start(&inbox).await;
    assert_eq!(bodies(&inbox.wait_for_count(1).await), ["900"]);
    service.shutdown().await;
}

#[tokio::test]
async fn messages_are_found_by_ids_keys_and_times() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    let admin = Admin::connect(servers.name_server()).await.unwrap();
    let message = Message::new("orders", "wanted").with_keys("a b");
    let sent = producer.send_to(message, queue).await.unwrap();
    let by_key = eventually(async || {
        let found = admin.query_message("orders", "b", 9, 0, i64::MAX).await.unwrap();
        found.into_iter().next()
    })
    .await;
    for id in [&sent.msg_id, &sent.offset_msg_id] {
        let found = admin.view_message("orders", id).await.unwrap().unwrap();
        assert_eq!(
            (found.body.clone(), found.queue_offset),
            (by_key.body.clone(), sent.queue_offset)
        );
    }
    let unknown = admin.view_message_by_offset_id("no id").await.unwrap_err();
    assert!(matches!(unknown, ClientError::MessageId { .. }), "{unknown}");
    let stored = by_key.store_timestamp;
    let lower = admin.search_offset(queue, stored, Boundary::Lower).await.unwrap();
    let upper = admin.search_offset(queue, stored, Boundary::Upper).await.unwrap();
    assert!(lower <= sent.queue_offset && sent.queue_offset <= upper);
    let window = admin
        .query_message_by_time("orders", stored, stored, 100)
        .await
        .unwrap();
    assert!(window.iter().any(|message| message.body == "wanted"));
    assert!(
        admin
            .query_message_by_time("orders", stored + 60_000, i64::MAX, 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        admin
            .earliest_msg_store_time(queue)
            .await
            .unwrap()
            .is_some_and(|time| time <= stored)
    );
    admin.shutdown().await;
}

#[tokio::test]
async fn lite_pull_consumers_seek_and_commit_queue_by_queue() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    let sent = send_numbers(&producer, queue, 0..5).await;
    let consumer = LitePullConsumer::builder("g")
        .name_server(servers.name_server())
        .auto_commit(false);
    let consumer = consumer.start().await.unwrap();
    consumer
        .set_sub_expression_for_assign("orders", "number")
        .await
        .unwrap();
    consumer.assign([queue.clone()]).await.unwrap();
    eventually(async || (!consumer.assignment().is_empty()).then_some(())).await;
    consumer.seek_to_end(queue).await.unwrap();
    assert!(consumer.poll(Duration::from_millis(200)).await.is_empty());
    consumer.seek_to_begin(queue).await.unwrap();
    assert_eq!(bodies(&consumer.poll(Duration::from_secs(10)).await)[0], "0");
    consumer.commit_queues(std::slice::from_ref(queue)).await.unwrap();
    assert_eq!(consumer.committed(queue).await.unwrap(), Some(sent[4].queue_offset + 1));
    consumer
        .commit_offsets([(queue.clone(), sent[2].queue_offset)])
        .await
        .unwrap();
    assert_eq!(consumer.committed(queue).await.unwrap(), Some(sent[2].queue_offset));
    let beyond = consumer.seek(queue, 1_000_000).await.unwrap_err();
    assert!(matches!(beyond, ClientError::OffsetOutOfRange { .. }), "{beyond}");
    consumer.shutdown().await;

    let subscribed = LitePullConsumer::builder("h")
        .name_server(servers.name_server())
        .subscribe("orders", "*");
    let subscribed = subscribed.start().await.unwrap();
    assert!(
        subscribed.assign([queue.clone()]).await.is_err(),
        "the group shares out queues"
    );
    subscribed.shutdown().await;
}
