//! Requests sent as messages, and the replies of those who consume them.

use std::time::Duration;

use oxmq_client::{ConsumeStatus, Message, Producer, PushConsumer, RequestError, SendError, create_reply_message};

use crate::servers::Servers;

const SOON: Duration = Duration::from_secs(20);

/// Answers with the request's body in capitals, unless told to be silent.
async fn start_answering(servers: &Servers) -> (PushConsumer, Producer) {
    let answerer = Producer::builder("answerers")
        .name_server(servers.name_server())
        .start()
        .await
        .unwrap();
    let sender = answerer.clone();
    let consumer = servers
        .consumer("answerers")
        .subscribe("questions", "*")
        .concurrent(move |messages| {
            let sender = sender.clone();
            async move {
                for request in messages.iter().filter(|message| message.body != "silence") {
                    if let Ok(reply) = create_reply_message(request, request.body.to_ascii_uppercase()) {
                        // Nobody may be waiting any more.
                        let _ = sender.send(reply).await;
                    }
                }
                ConsumeStatus::Success
            }
        })
        .start()
        .await
        .unwrap();
    (consumer, answerer)
}

#[tokio::test]
async fn whoever_asks_gets_the_reply_to_the_own_question() {
    let servers = Servers::start();
    let asker = servers.producer(&["questions"]).await;
    let (consumer, answerer) = start_answering(&servers).await;
    let questions = ["one", "two", "three"].map(|text| asker.request(Message::new("questions", text), SOON));
    let [one, two, three] = questions;
    let (one, two, three) = tokio::join!(one, two, three);
    let answers = [one, two, three].map(|reply| reply.unwrap().body.clone());
    assert_eq!(answers, ["ONE", "TWO", "THREE"]);

    let long = "x".repeat(100_000);
    let queue = &asker.publish_queues("questions").await.unwrap()[0];
    let reply = asker
        .request_to(Message::new("questions", long.clone()), queue, SOON)
        .await
        .unwrap();
    assert_eq!(reply.body, long.to_uppercase(), "compressed on its way both times");
    assert!(reply.property("ARRIVE_TIME").is_some() && reply.property("PUSH_REPLY_TIME").is_some());
    consumer.shutdown().await;
    answerer.shutdown().await;
    asker.shutdown().await;
}

#[tokio::test]
async fn a_request_without_reply_ends_in_time() {
    let servers = Servers::start();
    let asker = servers.producer(&["questions"]).await;
    let (consumer, answerer) = start_answering(&servers).await;
    let hasty = Duration::from_millis(300);
    let outcome = asker.request(Message::new("questions", "silence"), hasty).await;
    assert!(
        matches!(outcome, Err(RequestError::Timeout { sent: true, .. })),
        "{outcome:?}"
    );
    let outcome = asker.request(Message::new("questions", ""), hasty).await;
    assert!(
        matches!(outcome, Err(RequestError::Send(SendError::Message(_)))),
        "{outcome:?}"
    );

    // A reply that comes too late is told to be so.
    let late = Message::new("DefaultCluster_REPLY_TOPIC", "late")
        .with_property("MSG_TYPE", "reply")
        .with_property("CORRELATION_ID", "gone")
        .with_property("REPLY_TO_CLIENT", "nobody@here");
    let refused = answerer.send(late).await.unwrap_err();
    assert_eq!(refused.response_code(), Some(1), "{refused}");
    consumer.shutdown().await;
    answerer.shutdown().await;
    asker.shutdown().await;
}
