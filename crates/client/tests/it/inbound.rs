//! What operators ask of running consumers, through the broker.

use std::sync::Arc;

use bytes::Bytes;
use oxmq_client::{Admin, Instance, MessageExt};
use oxmq_protocol::body::{ConsumeMessageDirectlyResult, ConsumeResult, ConsumerRunningInfo, GetConsumerStatusBody};
use oxmq_protocol::requests::{
    ConsumeMessageDirectlyHeader, ConsumerStatusHeader, GetConsumerRunningInfoHeader, ResetOffsetHeader, request,
};
use oxmq_protocol::{Request, json};

use crate::servers::{DEADLINE, Servers, bodies, eventually, send_numbers};

/// Calls the broker as a tool does, until it agrees: it knows little of a consumer that has just started.
async fn ask<R: Request>(servers: &Servers, header: &R::Header) -> Bytes {
    let instance = Instance::start(servers.config());
    let instance = instance.await.unwrap();
    instance.route("orders").await.unwrap();
    let broker = instance.master_addr("broker-a").unwrap();
    let call = async || {
        let called = instance.remoting().call::<R>(&broker, header, Bytes::new(), DEADLINE);
        called.await.ok()
    };
    eventually(call).await.body
}

#[tokio::test]
async fn a_consumer_tells_how_it_is_doing() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    let (consumer, inbox) = servers.collect("g").await;
    let sent = send_numbers(&producer, queue, 0..3).await;
    inbox.wait_for_count(3).await;
    let header = GetConsumerRunningInfoHeader {
        consumer_group: "g".into(),
        client_id: consumer.client_id().into(),
        jstack_enable: false,
    };
    let body = ask::<request::GetConsumerRunningInfo>(&servers, &header).await;
    let info: ConsumerRunningInfo = json::from_slice(&body).unwrap();
    assert_eq!(info.properties["PROP_CONSUME_TYPE"], "CONSUME_PASSIVELY");
    assert!(
        info.mq_table
            .get(queue)
            .is_some_and(|queue| queue.last_pull_timestamp > 0)
    );
    assert_eq!(info.subscription_set.len(), 2, "the topic and the retry topic");
    assert_eq!(info.properties["PROP_CONSUMEORDERLY"], "false");
    assert!(
        info.status_table["orders"].consume_ok_tps > 0.0,
        "{:?}",
        info.status_table
    );

    let header = ConsumerStatusHeader {
        topic: "orders".into(),
        group: "g".into(),
        client_addr: None,
    };
    let body = ask::<request::InvokeBrokerToGetConsumerStatus>(&servers, &header).await;
    let status: GetConsumerStatusBody = json::from_slice(&body).unwrap();
    let offsets = &status.consumer_table[consumer.client_id()];
    assert_eq!(offsets.get(queue), Some(&(sent[2].queue_offset + 1)));
    consumer.shutdown().await;
}

#[tokio::test]
async fn a_message_can_be_given_to_a_consumer_directly() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    let (consumer, inbox) = servers.collect("g").await;
    let sent = send_numbers(&producer, queue, 0..1).await;
    inbox.wait_for_count(1).await;
    let header = ConsumeMessageDirectlyHeader {
        consumer_group: "g".into(),
        client_id: Some(consumer.client_id().into()),
        msg_id: Some(sent[0].offset_msg_id.clone()),
        ..ConsumeMessageDirectlyHeader::default()
    };
    let body = ask::<request::ConsumeMessageDirectly>(&servers, &header).await;
    let result: ConsumeMessageDirectlyResult = json::from_slice(&body).unwrap();
    assert_eq!(result.consume_result, ConsumeResult::Success);
    assert_eq!(bodies(&inbox.wait_for_count(2).await), ["0", "0"]);
    consumer.shutdown().await;
}

#[tokio::test]
async fn a_reset_lets_a_running_consumer_start_again() {
    // On the broker's side the next pull is answered with the new offset; otherwise clients are told.
    for server_side in [true, false] {
        let servers = Servers::start_with(move |config| config.use_server_side_reset_offset = server_side);
        let producer = servers.producer(&["orders"]).await;
        let queue = &producer.publish_queues("orders").await.unwrap()[0];
        let (consumer, inbox) = servers.collect("g").await;
        send_numbers(&producer, queue, 0..3).await;
        inbox.wait_for_count(3).await;
        let header = ResetOffsetHeader {
            group: "g".into(),
            topic: "orders".into(),
            queue_id: None,
            offset: None,
            timestamp: 0,
            is_force: true,
        };
        ask::<request::InvokeBrokerToResetOffset>(&servers, &header).await;
        // Ends the pull that waits; its answer may still be from before the reset.
        send_numbers(&producer, queue, 3..4).await;
        let again = |messages: &[Arc<MessageExt>]| -> Vec<String> {
            let again = bodies(&messages[3..]);
            again.into_iter().skip_while(|body| body == "3").collect()
        };
        let got = inbox.wait_for(|messages| again(messages).len() == 4).await;
        assert_eq!(again(&got), ["0", "1", "2", "3"], "server side {server_side}");
        consumer.shutdown().await;
        let admin = Admin::connect(servers.name_server()).await.unwrap();
        let stats = admin.consume_stats("g").await.unwrap();
        let offsets = stats.offset_table.get(queue).unwrap();
        assert_eq!(offsets.consumer_offset, offsets.broker_offset);
        admin.shutdown().await;
    }
}
