//! Starting, stopping, ports.

use std::time::{Duration, Instant};

use oxmq_broker::{Broker, BrokerConfig, BrokerRole, StartError};
use oxmq_protocol::RemotingCommand;
use oxmq_protocol::requests::{PullMessageHeader, request};

use crate::harness::*;

#[tokio::test]
async fn the_fast_port_serves_all_but_pulls() {
    let broker = Node::start();
    let mut client = broker.client();
    client.create_topic("orders", 1, false).await;
    client.addr = format!("127.0.0.1:{}", broker.addr().port() - 2);
    sent(&client.send(&message("orders", 0), "x").await);
    refused(
        &client.pull(&pull("orders", 0, 0)).await,
        3,
        " request type 11 not supported",
    );
}

#[tokio::test]
async fn unknown_codes_are_answered_and_one_way_requests_are_not() {
    let broker = Node::start();
    let client = broker.client();
    let mut command = RemotingCommand::request::<request::GetMaxOffset>(&Default::default(), bytes::Bytes::new());
    command.header.code = 7777;
    refused(&client.invoke(command).await, 3, " request type 7777 not supported");

    let command = RemotingCommand::request::<request::SendMessageV2>(&message("orders", 0), "x".into());
    client.remoting.oneway(&client.addr, command).await.unwrap();
    let deadline = Instant::now() + DEADLINE;
    let stored = || {
        broker
            .broker()
            .store
            .queue("orders", 0)
            .is_some_and(|queue| queue.max_offset() == 1)
    };
    while !stored() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn stopping_answers_what_waits() {
    let mut broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 1, false).await;
    let waiting = PullMessageHeader {
        sys_flag: 6,
        suspend_timeout_millis: 60_000,
        ..pull("orders", 0, 0)
    };
    let reply = tokio::spawn({
        let client = client.clone();
        async move { client.pull(&waiting).await }
    });
    let queue_is_there = || broker.broker().store.queue("orders", 0).is_some();
    while !queue_is_there() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let started = Instant::now();
    tokio::task::spawn_blocking(move || broker.stop()).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(reply.await.unwrap().header.code, 19);
}

#[test]
fn a_second_broker_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = || BrokerConfig {
        broker_ip1: "127.0.0.1".into(),
        bind_address: "127.0.0.1".into(),
        listen_port: 0,
        store_path_root_dir: folder.path().to_string_lossy().into_owned(),
        mapped_file_size_commit_log: 1024 * 1024,
        ..BrokerConfig::default()
    };
    let first = Broker::start(config()).unwrap();
    assert!(matches!(Broker::start(config()), Err(StartError::Store(_))));
    first.shutdown();
    assert!(!folder.path().join("abort").exists());
    Broker::start(config()).unwrap().shutdown();
}

#[test]
fn a_slave_is_refused() {
    let config = BrokerConfig {
        broker_role: BrokerRole::Slave,
        ..BrokerConfig::default()
    };
    assert!(matches!(Broker::start(config), Err(StartError::Slave)));
}
