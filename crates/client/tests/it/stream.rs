//! Messages as a stream: what is acknowledged is done, what is not comes again.

use std::pin::pin;
use std::time::Duration;

use oxmq_client::{MessageStream, ReceivedMessage};
use tokio::time::timeout;

use crate::servers::{DEADLINE, Servers, send_numbers};

async fn stream(servers: &Servers) -> MessageStream {
    let builder = servers.consumer("g").subscribe("orders", "number");
    builder.stream().await.unwrap()
}

async fn next(stream: &mut MessageStream) -> ReceivedMessage {
    let next = timeout(DEADLINE, stream.next()).await;
    next.expect("in time").expect("a stream goes on")
}

fn body(message: &ReceivedMessage) -> String {
    String::from_utf8_lossy(&message.body).into_owned()
}

#[tokio::test]
async fn acknowledged_messages_are_done_and_others_come_again() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    send_numbers(&producer, queue, 0..3).await;
    let mut messages = stream(&servers).await;
    let first = next(&mut messages).await;
    let second = next(&mut messages).await;
    let third = next(&mut messages).await;
    assert_eq!([body(&first), body(&second), body(&third)], ["0", "1", "2"]);
    third.ack().await.unwrap();
    second.reconsume_later().await.unwrap();
    drop(first);
    let mut again = Vec::new();
    for _ in 0..2 {
        let message = next(&mut messages).await;
        assert_eq!((message.reconsume_times, message.topic.as_str()), (1, "orders"));
        again.push(body(&message));
        message.ack().await.unwrap();
    }
    again.sort();
    assert_eq!(again, ["0", "1"]);
    messages.shutdown().await;
}

#[tokio::test]
async fn a_shutdown_waits_for_messages_that_are_being_handled() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    send_numbers(&producer, queue, 0..5).await;
    let mut messages = stream(&servers).await;
    let handled = next(&mut messages).await;
    let mut shutdown = pin!(messages.shutdown());
    assert!(timeout(Duration::ZERO, shutdown.as_mut()).await.is_err(), "it waits");
    handled.ack().await.unwrap();
    shutdown.await;
    // The others were never given to anybody: they come for the first time, each once.
    let mut messages = stream(&servers).await;
    for number in 1..5 {
        let message = next(&mut messages).await;
        assert_eq!((body(&message), message.reconsume_times), (number.to_string(), 0));
        message.ack().await.unwrap();
    }
    messages.shutdown().await;
}

#[tokio::test]
async fn an_acknowledgement_for_a_queue_that_was_lost_says_so() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    send_numbers(&producer, queue, 0..1).await;
    let mut messages = stream(&servers).await;
    let message = next(&mut messages).await;
    drop(messages);
    assert!(message.ack().await.is_err());
}
