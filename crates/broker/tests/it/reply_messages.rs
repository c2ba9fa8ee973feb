//! Replies to requests that were sent as messages.

use bytes::Bytes;
use oxmq_protocol::properties::Properties;
use oxmq_protocol::requests::{PushReplyHeader, SendMessageHeader, SendMessageHeaderV2, SendMessageReply, request};
use oxmq_protocol::{FieldSet, RequestCode, response_code};

use crate::harness::*;

const REPLY_TOPIC: &str = "DefaultCluster_REPLY_TOPIC";

fn reply_to(id: &str) -> SendMessageHeaderV2 {
    SendMessageHeaderV2 {
        sys_flag: 0,
        properties: Some(properties(&[
            ("MSG_TYPE", "reply"),
            ("CORRELATION_ID", "C1"),
            ("REPLY_TO_CLIENT", id),
            ("TTL", "3000"),
        ])),
        ..message(REPLY_TOPIC, 0)
    }
}

#[tokio::test]
async fn a_reply_is_passed_on_and_stored() {
    let broker = Node::start();
    let (_asker, mut pushed) = broker.producer("asker", "askers", Some(0)).await;
    let replier = broker.client();
    for offset in 0..2 {
        let answered = match offset {
            0 => {
                replier
                    .call::<request::SendReplyMessageV2>(&reply_to("asker"), "an answer")
                    .await
            }
            _ => {
                let header = SendMessageHeader::from(reply_to("asker"));
                replier.call::<request::SendReplyMessage>(&header, "an answer").await
            }
        };
        let stored = sent(&answered);
        assert_eq!(
            (stored.queue_id, stored.queue_offset, stored.msg_id.len()),
            (0, offset, 32)
        );
        assert_eq!(
            (stored.region_id.as_deref(), stored.trace_on),
            (Some("DefaultRegion"), Some(true))
        );

        let push = pushed.recv().await.unwrap();
        assert_eq!(
            RequestCode::from_code(push.header.code),
            Some(RequestCode::PushReplyMessageToClient)
        );
        assert_eq!(&push.body[..], b"an answer");
        let header = PushReplyHeader::read(&push.header.ext_fields).unwrap();
        assert_eq!(
            (header.topic.as_str(), header.producer_group.as_str()),
            (REPLY_TOPIC, "pg")
        );
        assert_eq!(header.store_host, broker.addr().to_string());
        let passed_on = Properties::decode(header.properties.unwrap().as_bytes());
        assert_eq!(passed_on.get("CORRELATION_ID"), Some("C1"));
        let time: i64 = passed_on.get("PUSH_REPLY_TIME").unwrap().parse().unwrap();
        assert_eq!(time, header.store_timestamp);
    }
    let found = replier.pull(&pull(REPLY_TOPIC, 0, 0)).await;
    let records = records(&found);
    assert_eq!(records.len(), 2);
    let kept = Properties::decode(records[0].properties());
    assert_eq!(
        (kept.get("CORRELATION_ID"), kept.get("PUSH_REPLY_TIME")),
        (Some("C1"), None)
    );
}

#[tokio::test]
async fn without_the_store_the_answer_has_the_id_zero() {
    let broker = Node::start_with(|config| config.store_reply_message_enable = false);
    let (_asker, mut pushed) = broker.producer("asker", "askers", Some(0)).await;
    let answered = broker
        .client()
        .call::<request::SendReplyMessageV2>(&reply_to("asker"), "x")
        .await;
    let fields = sent(&answered);
    assert_eq!(
        (fields.msg_id.as_str(), fields.queue_id, fields.queue_offset),
        ("0", 0, 0)
    );
    assert!(pushed.recv().await.is_some());
}

#[tokio::test]
async fn whoever_replies_hears_that_nobody_waits() {
    let broker = Node::start();
    let replier = broker.client();
    let answered = replier
        .call::<request::SendReplyMessageV2>(&reply_to("nobody"), "x")
        .await;
    refused(&answered, 1, "push reply message fail, channel of <nobody> not found.");
    let fields = SendMessageReply::read(&answered.header.ext_fields).unwrap();
    assert_eq!(fields.queue_offset, 0, "it is stored all the same");

    let unmarked = message(REPLY_TOPIC, 0);
    let answered = replier.call::<request::SendReplyMessageV2>(&unmarked, "x").await;
    refused(&answered, 1, "reply message properties[REPLY_TO_CLIENT] is null");

    let (asker, _pushed) = broker
        .producer("asker", "askers", Some(response_code::SYSTEM_ERROR))
        .await;
    let answered = replier
        .call::<request::SendReplyMessageV2>(&reply_to("asker"), "x")
        .await;
    refused(&answered, 1, "push reply message to askerfail.");

    asker.remoting.shutdown().await;
    while broker.broker().producers.find("asker").is_some() {
        tokio::task::yield_now().await;
    }
    let answered = replier
        .call::<request::SendReplyMessageV2>(&reply_to("asker"), "x")
        .await;
    refused(&answered, 1, "push reply message fail, channel of <asker> not found.");
}

#[tokio::test]
async fn replies_are_checked_like_sends() {
    let broker = Node::start_with(|config| config.auto_create_topic_enable = false);
    let replier = broker.client();
    let other = |topic: &str| SendMessageHeaderV2 {
        topic: topic.into(),
        ..reply_to("asker")
    };
    let answered = replier
        .call::<request::SendReplyMessageV2>(&other("SCHEDULE_TOPIC_XXXX"), "x")
        .await;
    refused(
        &answered,
        16,
        "Sending message to topic[SCHEDULE_TOPIC_XXXX] is forbidden.",
    );
    let answered = replier.call::<request::SendReplyMessageV2>(&other("a/b"), "x").await;
    assert_eq!(answered.header.code, 29);
    let answered = replier
        .call::<request::SendReplyMessageV2>(&other("unknown"), "x")
        .await;
    assert_eq!(answered.header.code, 17);
}

/// A requester that does not confirm holds nobody else up: not its repliers' connections, not other requesters.
#[tokio::test]
async fn a_silent_requester_holds_up_only_its_own_replies() {
    let broker = Node::start_with(|config| config.reply_thread_pool_queue_capacity = 2);
    let (silent, mut asked) = broker.producer("silent", "askers", None).await;
    let (_asker, _pushed) = broker.producer("asker", "askers", Some(0)).await;
    let replier = broker.client();
    let waiting = {
        let replier = replier.clone();
        tokio::spawn(async move {
            let header = reply_to("silent");
            replier
                .call::<request::SendReplyMessageV2>(&header, Bytes::from_static(b"x"))
                .await
        })
    };
    asked.recv().await.unwrap();
    for _ in 0..10 {
        sent(
            &replier
                .call::<request::SendReplyMessageV2>(&reply_to("asker"), "x")
                .await,
        );
    }
    let second = {
        let replier = replier.clone();
        tokio::spawn(async move {
            replier
                .call::<request::SendReplyMessageV2>(&reply_to("silent"), "x")
                .await
        })
    };
    asked.recv().await.unwrap();
    let refused_one = replier
        .call::<request::SendReplyMessageV2>(&reply_to("asker"), "x")
        .await;
    refused(&refused_one, 2, "[OVERLOAD]system busy, start flow control for a while");
    silent.remoting.shutdown().await;
    for waited in [waiting, second] {
        refused(&waited.await.unwrap(), 1, "push reply message to silentfail.");
    }
}
