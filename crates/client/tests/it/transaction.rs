//! The transaction producer against a broker that asks soon.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use oxmq_client::{LocalTransactionState, Message, MessageExt, SendError, TransactionListener, TransactionProducer};
use parking_lot::Mutex;

use crate::servers::{Servers, bodies, eventually};

/// Does what it is told now, and says what the body tells when it is asked.
#[derive(Default, Clone)]
struct Script {
    checks: Arc<Mutex<HashMap<String, usize>>>,
    executed: Arc<Mutex<Vec<String>>>,
}

impl TransactionListener for Script {
    /// `None` panics.
    type Argument = Option<LocalTransactionState>;

    async fn execute_local_transaction(&self, message: &Message, now: Self::Argument) -> LocalTransactionState {
        assert!(message.unique_id().is_some(), "the id of the transaction is known");
        self.executed
            .lock()
            .push(String::from_utf8_lossy(&message.body).into_owned());
        now.expect("the local transaction fails")
    }

    async fn check_local_transaction(&self, message: &MessageExt) -> LocalTransactionState {
        let body = String::from_utf8_lossy(&message.body).into_owned();
        let times = {
            let mut checks = self.checks.lock();
            let times = checks.entry(body.clone()).or_default();
            *times += 1;
            *times
        };
        tokio::task::yield_now().await;
        match body.as_str() {
            // On a machine under load a message may be asked about before its end has arrived.
            "commit" | "late commit" => LocalTransactionState::CommitMessage,
            "rollback" | "late rollback" => LocalTransactionState::RollbackMessage,
            "panic" if times == 1 => panic!("the check fails"),
            _ if times < 3 => LocalTransactionState::Unknow,
            _ => LocalTransactionState::CommitMessage,
        }
    }
}

fn servers() -> Servers {
    Servers::start_with(|config| {
        config.transaction_time_out_ms = 1;
        config.transaction_check_interval_ms = 100;
    })
}

async fn producer(servers: &Servers, script: &Script) -> TransactionProducer<Script> {
    let producer = TransactionProducer::builder("transactions", script.clone());
    producer.name_server(servers.name_server()).start().await.unwrap()
}

#[tokio::test]
async fn local_transactions_decide_what_consumers_get() {
    use LocalTransactionState::{CommitMessage, RollbackMessage, Unknow};
    let servers = servers();
    servers.producer(&["orders"]).await;
    let script = Script::default();
    let (consumer, inbox) = servers.collect("g").await;
    let producer = producer(&servers, &script).await;
    for (body, now, state) in [
        ("commit", Some(CommitMessage), CommitMessage),
        ("rollback", Some(RollbackMessage), RollbackMessage),
        ("late commit", Some(Unknow), Unknow),
        ("late rollback", Some(Unknow), Unknow),
        ("later", Some(Unknow), Unknow),
        ("panic", None, Unknow),
    ] {
        let sent = producer
            .send_message_in_transaction(Message::new("orders", body).with_tags("number"), now)
            .await;
        let sent = sent.unwrap();
        assert_eq!(sent.local_transaction_state, state, "{body}");
        assert_eq!(sent.send_result.transaction_id.as_ref(), Some(&sent.send_result.msg_id));
    }
    inbox.wait_for_count(4).await;
    let mut found = bodies(&inbox.so_far());
    found.sort();
    assert_eq!(found, ["commit", "late commit", "later", "panic"]);
    eventually(async || script.checks.lock().contains_key("late rollback").then_some(())).await;
    let checks = script.checks.lock().clone();
    // A broker under load may ask once more before it has read the answer.
    assert!(checks["later"] >= 3 && checks["panic"] >= 3, "{checks:?}");
    assert_eq!(script.executed.lock().len(), 6);
    consumer.shutdown().await;
    producer.shutdown().await;
}

#[tokio::test]
async fn another_producer_of_the_group_answers_for_one_that_is_gone() {
    let servers = servers();
    servers.producer(&["orders"]).await;
    let (first, second) = (Script::default(), Script::default());
    let gone = producer(&servers, &first).await;
    let unknow = Some(LocalTransactionState::Unknow);
    let message = Message::new("orders", "late commit").with_tags("number");
    gone.send_message_in_transaction(message, unknow).await.unwrap();
    gone.shutdown().await;
    let (consumer, inbox) = servers.collect("g").await;
    let other = producer(&servers, &second).await;
    other.producer().publish_queues("orders").await.unwrap();
    inbox.wait_for_count(1).await;
    assert_eq!(bodies(&inbox.so_far()), ["late commit"]);
    consumer.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn a_message_that_is_not_stored_has_no_local_transaction() {
    let servers = Servers::start_with(|config| config.reject_transaction_message = true);
    servers.producer(&["orders"]).await;
    let script = Script::default();
    let producer = producer(&servers, &script).await;
    let commit = Some(LocalTransactionState::CommitMessage);
    let sent = producer
        .send_message_in_transaction(Message::new("orders", "x"), commit)
        .await;
    assert_eq!(sent.as_ref().err().and_then(SendError::response_code), Some(16));
    assert!(script.executed.lock().is_empty());
    tokio::time::timeout(Duration::from_secs(10), producer.shutdown())
        .await
        .unwrap();
}
