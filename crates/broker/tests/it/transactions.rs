//! Transactions over the socket: ends, checks, restarts and crashes.

use std::fs::{self, OpenOptions};
use std::future::Future;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;
use oxmq_broker::BrokerConfig;
use oxmq_broker::config::FlushDiskType;
use oxmq_protocol::properties::{self, Properties};
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::requests::{
    CheckTransactionStateHeader, EndTransactionHeader, ResumeCheckHalfMessageHeader, SendMessageHeaderV2,
    SendMessageReply, request,
};
use oxmq_protocol::topic::{TRANS_CHECK_MAX_TIME_TOPIC, TRANS_HALF_TOPIC, TRANS_OP_HALF_TOPIC};
use oxmq_protocol::{FieldSet, RemotingCommand, sys_flag};
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};

use crate::harness::{properties as text, *};

const COMMIT: i32 = sys_flag::TRANSACTION_COMMIT;
const ROLLBACK: i32 = sys_flag::TRANSACTION_ROLLBACK;

/// A broker whose producers are asked all the time, and at once.
fn with_checks(config: &mut BrokerConfig) {
    config.transaction_check_interval_ms = 100;
    config.transaction_time_out_ms = 1;
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_millis() as i64
}

/// Sends a half message to queue 1 of a topic; its key is its body.
async fn prepare(client: &Client, body: &'static str, more: &[(&str, &str)]) -> SendMessageReply {
    let mut all = vec![
        ("UNIQ_KEY", body),
        ("TRAN_MSG", "true"),
        ("PGROUP", "pg"),
        ("TAGS", "a"),
    ];
    all.extend(more);
    let header = SendMessageHeaderV2 {
        properties: Some(text(&all)),
        sys_flag: sys_flag::TRANSACTION_PREPARED,
        born_timestamp: now_ms(),
        ..message("orders", 1)
    };
    sent(&client.send(&header, body).await)
}

/// The physical offset at the end of an offset message id.
fn physical_offset(id: &str) -> i64 {
    i64::from_str_radix(&id[id.len() - 16..], 16).unwrap()
}

fn end_of(half: &SendMessageReply, commit_or_rollback: i32) -> EndTransactionHeader {
    EndTransactionHeader {
        producer_group: "pg".into(),
        tran_state_table_offset: half.queue_offset,
        commit_log_offset: physical_offset(&half.msg_id),
        commit_or_rollback,
        msg_id: half.transaction_id.clone().unwrap(),
        transaction_id: half.transaction_id.clone(),
        ..EndTransactionHeader::default()
    }
}

async fn end(client: &Client, header: &EndTransactionHeader) -> i32 {
    client
        .call::<request::EndTransaction>(header, Bytes::new())
        .await
        .header
        .code
}

async fn bodies(client: &Client, topic: &str, queue_id: i32) -> Vec<String> {
    let reply = client.pull(&pull(topic, queue_id, 0)).await;
    let body = |record: &RecordRef<'_>| String::from_utf8(record.body().to_vec()).unwrap();
    match reply.header.code {
        0 => records(&reply).iter().map(body).collect(),
        _ => Vec::new(),
    }
}

async fn eventually<F: Future<Output = bool>>(what: impl Fn() -> F) {
    let met = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, met).await.expect("it never came true");
}

async fn next_check(asked: &mut mpsc::UnboundedReceiver<RemotingCommand>) -> (CheckTransactionStateHeader, Bytes) {
    let request = timeout(DEADLINE, asked.recv()).await.unwrap().unwrap();
    assert_eq!(request.header.code, 39);
    let header = CheckTransactionStateHeader::read(&request.header.ext_fields).unwrap();
    (header, request.body)
}

fn answer(check: &CheckTransactionStateHeader, commit_or_rollback: i32) -> EndTransactionHeader {
    EndTransactionHeader {
        producer_group: "pg".into(),
        tran_state_table_offset: check.tran_state_table_offset,
        commit_log_offset: check.commit_log_offset,
        commit_or_rollback,
        from_transaction_check: true,
        msg_id: check.msg_id.clone().unwrap(),
        transaction_id: check.transaction_id.clone(),
        ..EndTransactionHeader::default()
    }
}

#[tokio::test]
async fn a_committed_message_is_consumed_and_a_rolled_back_one_is_not() {
    let broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 2, false).await;
    let half = prepare(&client, "kept", &[("x", "y")]).await;
    let other = prepare(&client, "dropped", &[]).await;
    assert_eq!((half.queue_offset, other.queue_offset), (0, 1));
    assert!(bodies(&client, "orders", 1).await.is_empty());
    assert_eq!(broker.broker().transactions.metrics.count("orders"), 2);

    assert_eq!(end(&client, &end_of(&half, COMMIT)).await, 0);
    assert_eq!(end(&client, &end_of(&other, ROLLBACK)).await, 0);
    let reply = client.pull(&pull("orders", 1, 0)).await;
    let found = records(&reply);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].body(), b"kept");
    assert_eq!(found[0].sys_flag() & sys_flag::TRANSACTION_MASK, COMMIT);
    assert_eq!(found[0].prepared_transaction_offset(), physical_offset(&half.msg_id));
    let read = Properties::decode(found[0].properties());
    for (name, value) in [
        ("UNIQ_KEY", "kept"),
        ("__transactionId__", "kept"),
        ("TRAN_MSG", "true"),
        ("PGROUP", "pg"),
        ("x", "y"),
    ] {
        assert_eq!(read.get(name), Some(value), "{name}");
    }
    assert!(!read.contains("REAL_TOPIC") && !read.contains("REAL_QID"));
    let reply = client.pull(&pull(TRANS_OP_HALF_TOPIC, 0, 0)).await;
    let ops: Vec<_> = records(&reply).iter().map(|op| op.body().to_vec()).collect();
    // Brokers of 4.x read one number and nothing else.
    assert_eq!(ops, [b"0", b"1"]);
    assert_eq!(
        properties::find(records(&reply)[0].properties(), "TAGS"),
        Some(&b"d"[..])
    );
    assert_eq!(broker.broker().transactions.metrics.count("orders"), 0);
}

#[tokio::test]
async fn a_transaction_ends_once() {
    let mut broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 2, false).await;
    let half = prepare(&client, "kept", &[]).await;
    let other = prepare(&client, "dropped", &[]).await;
    for (half, same, opposite) in [(&half, COMMIT, ROLLBACK), (&other, ROLLBACK, COMMIT)] {
        assert_eq!(end(&client, &end_of(half, same)).await, 0);
        assert_eq!(end(&client, &end_of(half, same)).await, 0, "the same again");
        assert_eq!(end(&client, &end_of(half, opposite)).await, 604);
    }
    broker.stop();
    broker.start_again();
    let client = broker.client();
    for half in [&half, &other] {
        // The op record does not say how it ended. Until all copies are known after a start, the answer is busy.
        eventually(|| async { end(&client, &end_of(half, COMMIT)).await == 604 }).await;
    }
    assert_eq!(bodies(&client, "orders", 1).await, ["kept"]);
}

#[tokio::test]
async fn ends_that_name_no_half_message_are_refused() {
    let broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 2, false).await;
    let plain = sent(&client.send(&message("orders", 0), "plain").await);
    let half = prepare(&client, "half", &[]).await;
    let right = end_of(&half, COMMIT);
    let refusal = async |header: &EndTransactionHeader| {
        let reply = client.call::<request::EndTransaction>(header, Bytes::new()).await;
        (reply.header.code, reply.header.remark.unwrap_or_default())
    };
    let not_found = (1, "Find prepared transaction message failed".to_owned());
    for commit_log_offset in [
        right.commit_log_offset + 1,
        -1,
        i64::MAX,
        physical_offset(&plain.msg_id),
    ] {
        let header = EndTransactionHeader {
            commit_log_offset,
            ..right.clone()
        };
        assert_eq!(refusal(&header).await, not_found, "{commit_log_offset}");
    }
    let header = EndTransactionHeader {
        producer_group: "other".into(),
        ..right.clone()
    };
    assert_eq!(refusal(&header).await, (1, "The producer group wrong".into()));
    let header = EndTransactionHeader {
        tran_state_table_offset: 7,
        ..right.clone()
    };
    assert_eq!(
        refusal(&header).await,
        (1, "The transaction state table offset wrong".into())
    );
    let header = EndTransactionHeader {
        transaction_id: Some("other".into()),
        ..right.clone()
    };
    assert_eq!(refusal(&header).await.0, 1);
    let header = EndTransactionHeader {
        commit_or_rollback: 5,
        ..right.clone()
    };
    assert_eq!(refusal(&header).await, (1, "commitOrRollback field wrong".into()));
    assert!(bodies(&client, "orders", 1).await.is_empty());
    assert_eq!(end(&client, &right).await, 0);
    assert_eq!(bodies(&client, "orders", 1).await, ["half"]);
}

#[tokio::test]
async fn a_broker_may_take_no_transactions() {
    let broker = Node::start_with(|config| config.reject_transaction_message = true);
    let client = broker.client();
    client.create_topic("orders", 2, false).await;
    let header = SendMessageHeaderV2 {
        properties: Some(text(&[("TRAN_MSG", "true")])),
        ..message("orders", 1)
    };
    let remark = "the broker[127.0.0.1] sending transaction message is forbidden";
    refused(&client.send(&header, "x").await, 16, remark);
}

#[tokio::test]
async fn a_message_with_a_time_of_its_own_can_only_be_ended_after_it_by_a_check() {
    let broker = Node::start_with(|config| config.transaction_time_out_ms = 1);
    let client = broker.client();
    client.create_topic("orders", 2, false).await;
    let half = prepare(&client, "half", &[("CHECK_IMMUNITY_TIME_IN_SECONDS", "0")]).await;
    let prepared_at = now_ms();
    oxmq_tests::eventually(|| now_ms() > prepared_at + 1);
    assert_eq!(end(&client, &end_of(&half, COMMIT)).await, 604);
    let from_check = EndTransactionHeader {
        from_transaction_check: true,
        ..end_of(&half, COMMIT)
    };
    assert_eq!(end(&client, &from_check).await, 0);
    assert_eq!(bodies(&client, "orders", 1).await, ["half"]);
}

#[tokio::test]
async fn a_producer_is_asked_until_it_knows() {
    let broker = Node::start_with(|config| {
        with_checks(config);
        config.flush_disk_type = FlushDiskType::SyncFlush;
    });
    let (client, mut asked) = broker.producer("p1", "pg", None).await;
    client.create_topic("orders", 2, false).await;
    let half = prepare(&client, "half", &[]).await;
    let (check, body) = next_check(&mut asked).await;
    assert_eq!(check.topic.as_deref(), Some(TRANS_HALF_TOPIC));
    assert_eq!(
        (check.msg_id.as_deref(), check.transaction_id.as_deref()),
        (Some("half"), Some("half"))
    );
    assert_eq!(check.tran_state_table_offset, 1);
    let record = RecordRef::parse(&body).unwrap();
    assert_eq!(
        (record.topic(), record.queue_id(), record.body()),
        (&b"orders"[..], 1, &b"half"[..])
    );
    assert_eq!(record.physical_offset(), check.commit_log_offset);
    let unknown = answer(&check, sys_flag::TRANSACTION_NONE);
    let mut request = RemotingCommand::request::<request::EndTransaction>(&unknown, Bytes::new());
    request.header.mark_oneway();
    client.remoting.oneway(&client.addr, request).await.unwrap();
    let (check, _) = next_check(&mut asked).await;
    assert_eq!(check.tran_state_table_offset, 2);
    assert_eq!(end(&client, &answer(&check, COMMIT)).await, 0);
    // What the producer knew of the half message at first still names the same transaction.
    assert_eq!(end(&client, &end_of(&half, COMMIT)).await, 604);
    assert_eq!(bodies(&client, "orders", 1).await, ["half"]);
    let consumed = || async {
        let offsets = &broker.broker().consumer_offsets;
        let of = |topic| offsets.committed("CID_RMQ_SYS_TRANS", topic, 0);
        (of(TRANS_HALF_TOPIC), of(TRANS_OP_HALF_TOPIC)) == (Some(3), Some(3))
    };
    eventually(consumed).await;
}

#[tokio::test]
async fn a_late_end_of_the_first_half_message_ends_its_copy() {
    let broker = Node::start_with(with_checks);
    let (client, mut asked) = broker.producer("p1", "pg", None).await;
    client.create_topic("orders", 2, false).await;
    let half = prepare(&client, "half", &[]).await;
    next_check(&mut asked).await;
    let mut code = end(&client, &end_of(&half, ROLLBACK)).await;
    while code == 2 {
        code = end(&client, &end_of(&half, ROLLBACK)).await;
    }
    assert_eq!(code, 0);
    while let Ok(check) = asked.try_recv() {
        let check = CheckTransactionStateHeader::read(&check.header.ext_fields).unwrap();
        let code = end(&client, &answer(&check, COMMIT)).await;
        assert_eq!(code, 604);
    }
    assert!(bodies(&client, "orders", 1).await.is_empty());
}

#[tokio::test]
async fn all_producers_of_the_group_are_asked_in_turn_and_only_those_that_live() {
    let broker = Node::start_with(with_checks);
    let (one, mut asked_one) = broker.producer("p1", "pg", None).await;
    let (_two, mut asked_two) = broker.producer("p2", "pg", None).await;
    one.create_topic("orders", 2, false).await;
    prepare(&one, "half", &[]).await;
    next_check(&mut asked_one).await;
    next_check(&mut asked_two).await;
    one.remoting.shutdown().await;
    for _ in 0..3 {
        next_check(&mut asked_two).await;
    }
}

#[tokio::test]
async fn a_half_message_is_given_up_after_the_last_check_and_can_be_resumed() {
    let mut broker = Node::start_with(|config| {
        with_checks(config);
        config.transaction_check_max = 2;
    });
    let (client, mut asked) = broker.producer("p1", "pg", None).await;
    client.create_topic("orders", 2, false).await;
    prepare(&client, "half", &[]).await;
    eventually(|| async { bodies(&client, TRANS_CHECK_MAX_TIME_TOPIC, 0).await == ["half"] }).await;
    next_check(&mut asked).await;
    let (second, _) = next_check(&mut asked).await;
    assert!(asked.try_recv().is_err(), "asked twice");
    assert_eq!(end(&client, &answer(&second, COMMIT)).await, 604);
    assert_eq!(broker.broker().transactions.metrics.count("orders"), 0);

    let reply = client.pull(&pull(TRANS_CHECK_MAX_TIME_TOPIC, 0, 0)).await;
    let given_up = records(&reply)[0].physical_offset();
    let resume = ResumeCheckHalfMessageHeader {
        topic: None,
        msg_id: format!("7F00000100002A9F{given_up:016X}"),
    };
    let resumed = client
        .call::<request::ResumeCheckHalfMessage>(&resume, Bytes::new())
        .await;
    assert_eq!(resumed.header.code, 0);
    let (check, _) = next_check(&mut asked).await;
    assert_eq!(end(&client, &answer(&check, COMMIT)).await, 0);
    assert_eq!(bodies(&client, "orders", 1).await, ["half"]);
    broker.stop();
}

#[tokio::test]
async fn open_half_messages_survive_a_restart() {
    let mut broker = Node::start_with(with_checks);
    let (client, mut asked) = broker.producer("p1", "pg", None).await;
    client.create_topic("orders", 2, false).await;
    let half = prepare(&client, "half", &[]).await;
    next_check(&mut asked).await;
    broker.stop();
    broker.start_again();
    let (client, mut asked) = broker.producer("p1", "pg", None).await;
    let (check, _) = next_check(&mut asked).await;
    let mut code = 2;
    while code == 2 {
        code = end(&client, &end_of(&half, COMMIT)).await;
    }
    assert_eq!(code, 0);
    assert_ne!(end(&client, &answer(&check, ROLLBACK)).await, 0);
    assert_eq!(bodies(&client, "orders", 1).await, ["half"]);
}

/// Takes the last record off the log, as a crash in the middle of a batch does.
fn tear_off(root: &Path, physical_offset: i64) {
    fs::write(root.join("abort"), "").unwrap();
    let log = root.join("commitlog").join(format!("{:020}", 0));
    let mut log = OpenOptions::new().write(true).open(log).unwrap();
    log.seek(SeekFrom::Start(physical_offset as u64)).unwrap();
    log.write_all(&[0; 4096]).unwrap();
}

#[tokio::test]
async fn what_a_crash_tore_off_its_op_record_is_not_done_twice() {
    for outcome in [COMMIT, ROLLBACK] {
        let mut broker = Node::start_with(|config| {
            with_checks(config);
            config.transaction_check_interval_ms = 60_000;
        });
        let client = broker.client();
        client.create_topic("orders", 2, false).await;
        let half = prepare(&client, "half", &[]).await;
        assert_eq!(end(&client, &end_of(&half, outcome)).await, 0);
        let reply = client.pull(&pull(TRANS_OP_HALF_TOPIC, 0, 0)).await;
        let op = records(&reply)[0].physical_offset();
        let root = broker.broker().config().store_path_root_dir.clone();
        broker.stop();
        tear_off(Path::new(&root), op);
        broker.start_again();
        let client = broker.client();
        let again = end(&client, &end_of(&half, COMMIT)).await;
        // A rollback is its op record: what is not in the log has not happened.
        assert_eq!(again, 0);
        assert_eq!(bodies(&client, "orders", 1).await, ["half"]);
        eventually(|| async { bodies(&client, TRANS_OP_HALF_TOPIC, 0).await == ["0"] }).await;
    }
}
