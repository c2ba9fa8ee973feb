//! Producers: where messages go, and when they are tried again.

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use oxmq_client::{Message, MessageQueue, Producer, ProducerBuilder, SendError, SendStatus};
use oxmq_protocol::requests::SendMessageHeaderV2;
use oxmq_protocol::response_code::{
    FLUSH_DISK_TIMEOUT, MESSAGE_ILLEGAL, SERVICE_NOT_AVAILABLE, SYSTEM_BUSY, TOPIC_NOT_EXIST,
};
use oxmq_protocol::{FieldSet, RemotingCommand, RequestCode, batch};

use crate::scripted::{Answer, ScriptedBroker, ScriptedServers};

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test)
}

fn builder(servers: &ScriptedServers) -> ProducerBuilder {
    Producer::builder("g").name_server(servers.name_server.as_str())
}

fn sends(servers: &ScriptedServers) -> Vec<usize> {
    let count = |broker: &Arc<ScriptedBroker>| broker.seen(RequestCode::SendMessageV2).len();
    servers.brokers.iter().map(count).collect()
}

fn header(request: &RemotingCommand) -> SendMessageHeaderV2 {
    SendMessageHeaderV2::read(&request.header.ext_fields).unwrap()
}

#[test]
fn a_send_that_one_broker_refuses_is_stored_by_another() {
    let servers = ScriptedServers::start(2, 4);
    run(async {
        let producer = builder(&servers).start().await.unwrap();
        for answer in [
            Answer::Code(SYSTEM_BUSY),
            Answer::Code(SERVICE_NOT_AVAILABLE),
            Answer::Code(TOPIC_NOT_EXIST),
            Answer::Close,
        ] {
            // Whichever comes first refuses once; the other has nothing planned.
            servers.brokers.iter().for_each(|broker| broker.plan([answer]));
            let result = producer.send(Message::new("t", "body")).await.unwrap();
            assert_eq!((result.status, result.queue_offset), (SendStatus::SendOk, 7));
            servers
                .brokers
                .iter()
                .for_each(|broker| broker.script.lock().unwrap().clear());
        }
    });
    // Both brokers refused at times: three attempts a send at most, two at least.
    let attempts: usize = sends(&servers).iter().sum();
    assert!((8..=12).contains(&attempts), "{attempts} attempts");
}

#[test]
fn a_local_runtime_will_do() {
    let servers = ScriptedServers::start(1, 1);
    tokio::runtime::LocalRuntime::new().unwrap().block_on(async {
        let producer = builder(&servers).start().await.unwrap();
        let background = producer.send_async(Message::new("t", "body")).unwrap();
        producer.send(Message::new("t", "body")).await.unwrap();
        background.await.unwrap().unwrap();
        producer.shutdown().await;
    });
    assert_eq!(sends(&servers), [2]);
}

#[test]
fn attempts_end_after_the_second_retry() {
    let servers = ScriptedServers::start(1, 1);
    servers.brokers[0].plan([Answer::Code(SYSTEM_BUSY); 9]);
    run(async {
        let producer = builder(&servers).start().await.unwrap();
        let error = producer.send(Message::new("t", "body")).await.unwrap_err();
        assert_eq!(error.response_code(), Some(SYSTEM_BUSY));
        assert!(matches!(error, SendError::Failed { attempts: 3, .. }), "{error}");
        let queue = MessageQueue::new("t", "b0", 0);
        let once = producer.send_to(Message::new("t", "body"), &queue);
        assert!(matches!(once.await.unwrap_err(), SendError::Failed { attempts: 1, .. }));
        let background = producer.send_async(Message::new("t", "body")).unwrap();
        assert!(matches!(
            background.await.unwrap(),
            Err(SendError::Failed { attempts: 1, .. })
        ));
    });
    assert_eq!(sends(&servers), [5]);
}

#[test]
fn a_message_that_is_illegal_is_not_tried_elsewhere() {
    let servers = ScriptedServers::start(2, 4);
    servers
        .brokers
        .iter()
        .for_each(|broker| broker.plan([Answer::Code(MESSAGE_ILLEGAL)]));
    run(async {
        let producer = builder(&servers).start().await.unwrap();
        let error = producer.send(Message::new("t", "body")).await.unwrap_err();
        assert_eq!(error.response_code(), Some(MESSAGE_ILLEGAL));
    });
    assert_eq!(sends(&servers).iter().sum::<usize>(), 1);
}

#[test]
fn a_slow_flush_is_a_success_with_another_status() {
    let servers = ScriptedServers::start(1, 1);
    servers.brokers[0].plan([Answer::Code(FLUSH_DISK_TIMEOUT); 2]);
    run(async {
        let producer = builder(&servers).start().await.unwrap();
        let result = producer.send(Message::new("t", "body")).await.unwrap();
        assert_eq!(result.status, SendStatus::FlushDiskTimeout);
        producer.shutdown().await;
        let producer = builder(&servers)
            .retry_another_broker_when_not_store_ok(true)
            .start()
            .await
            .unwrap();
        let result = producer.send(Message::new("t", "body")).await.unwrap();
        assert_eq!(result.status, SendStatus::SendOk);
    });
    assert_eq!(sends(&servers), [3]);
}

#[test]
fn the_time_of_a_send_covers_all_its_attempts() {
    let servers = ScriptedServers::start(1, 1);
    servers.brokers[0].plan([Answer::Silence]);
    run(async {
        let producer = builder(&servers)
            .send_msg_timeout(Duration::from_millis(100))
            .start()
            .await
            .unwrap();
        let error = producer.send(Message::new("t", "body")).await.unwrap_err();
        assert!(matches!(error, SendError::Failed { attempts: 1, .. }), "{error}");
    });
}

#[test]
fn a_topic_that_does_not_exist_has_no_route() {
    let servers = ScriptedServers::start(1, 1);
    run(async {
        let producer = builder(&servers).start().await.unwrap();
        // The template topic has a route, so the queues it would create are used.
        producer.send(Message::new("Missing1", "body")).await.unwrap();
    });
    let request = &servers.brokers[0].seen(RequestCode::SendMessageV2)[0];
    let header = header(request);
    assert_eq!(
        (header.topic.as_str(), header.default_topic.as_str()),
        ("Missing1", "TBW102")
    );
    assert_eq!(header.default_topic_queue_nums, 4);
}

#[test]
fn messages_of_one_key_go_to_one_queue() {
    let servers = ScriptedServers::start(2, 4);
    run(async {
        let producer = builder(&servers).start().await.unwrap();
        let mut queues = Vec::new();
        for _ in 0..5 {
            let result = producer.send_ordered(Message::new("t", "body"), "order-17").await;
            queues.push(result.unwrap().queue);
        }
        assert!(queues.iter().all(|queue| *queue == queues[0]));
        let select = |queues: &[MessageQueue], _: &Message| queues.len() - 1;
        let last = producer
            .send_with_selector(Message::new("t", "body"), select)
            .await
            .unwrap();
        assert_eq!(last.queue, MessageQueue::new("t", "b1", 3));
    });
}

#[test]
fn a_batch_is_one_request() {
    let servers = ScriptedServers::start(1, 1);
    run(async {
        let producer = builder(&servers).start().await.unwrap();
        let messages = vec![Message::new("t", "a"), Message::new("t", "b")];
        let result = producer.send_batch(messages).await.unwrap();
        assert_eq!(result.msg_id.split(',').count(), 2);
    });
    let requests = servers.brokers[0].seen(RequestCode::SendBatchMessage);
    let bodies: Vec<_> = batch::items(&requests[0].body)
        .map(|item| item.unwrap().body.to_vec())
        .collect();
    assert_eq!((requests.len(), bodies), (1, vec![b"a".to_vec(), b"b".to_vec()]));
}

#[test]
fn a_oneway_send_asks_for_no_answer() {
    let servers = ScriptedServers::start(1, 1);
    run(async {
        let producer = builder(&servers).start().await.unwrap();
        producer.send_oneway(Message::new("t", "body")).await.unwrap();
        // Leaving is answered, on the same connection and behind the message.
        producer.shutdown().await;
    });
    let requests = servers.brokers[0].seen(RequestCode::SendMessageV2);
    assert!(requests.len() == 1 && requests[0].header.is_oneway());
    let left = servers.brokers[0].seen(RequestCode::UnregisterClient);
    assert_eq!(left[0].header.ext_fields.get("producerGroup"), Some("g"));
}

#[test]
fn a_callback_is_called_once_with_the_result() {
    let servers = ScriptedServers::start(1, 1);
    run(async {
        let producer = builder(&servers).async_in_flight_max(1).start().await.unwrap();
        let (sender, results) = mpsc::channel();
        let refused = sender.clone();
        producer.send_with_callback(Message::new("t", "body"), move |result| sender.send(result).unwrap());
        // The first has not gone yet: nothing else has run on this thread.
        producer.send_with_callback(Message::new("t", "body"), move |result| refused.send(result).unwrap());
        assert!(matches!(
            results.try_recv(),
            Ok(Err(SendError::TooManyInFlight { max: 1 }))
        ));
        producer.publish_queues("t").await.unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let result = loop {
            match results.try_recv() {
                Ok(result) => break result,
                Err(_) => assert!(tokio::time::Instant::now() < deadline, "no callback"),
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(result.unwrap().status, SendStatus::SendOk);
        assert_eq!(results.try_recv().unwrap_err(), mpsc::TryRecvError::Disconnected);
    });
}

#[test]
fn brokers_that_failed_are_left_alone() {
    let servers = ScriptedServers::start(2, 1);
    servers.brokers[0].plan([Answer::Code(SYSTEM_BUSY); 99]);
    run(async {
        let producer = builder(&servers).send_latency_fault_enable(true).start().await.unwrap();
        for _ in 0..20 {
            producer.send(Message::new("t", "body")).await.unwrap();
        }
    });
    let sends = sends(&servers);
    assert!(sends[0] <= 1 && sends[1] == 20, "{sends:?}");
}
