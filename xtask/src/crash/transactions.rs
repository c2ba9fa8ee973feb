//! Transactions under the kills: each must have the one outcome that its producer wants, whatever was under way.
//!
//! The number of a transaction says how it ends, and whether its producer knows that at once or only when it is asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use oxmq_client::{
    InstanceConfig, LocalTransactionState, Message, MessageExt, TransactionListener, TransactionProducer,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::read_topic;

pub(super) const TOPIC: &str = "CrashTransactions";
const PRODUCERS: usize = 16;
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What the broker needs to ask often enough for a test.
pub(super) const BROKER_PROPERTIES: [(&str, &str); 4] = [
    ("transactionCheckInterval", "200"),
    ("transactionTimeOut", "300"),
    ("transactionCheckMax", "1000000"),
    ("transactionOpBatchInterval", "50"),
];

pub(super) struct Transactions {
    namesrv_addr: String,
    producer: TransactionProducer<Outcomes>,
    next_number: Arc<AtomicU64>,
    stored: mpsc::UnboundedReceiver<u64>,
    tell_stored: mpsc::UnboundedSender<u64>,
    running: JoinSet<()>,
}

struct Outcomes;

fn is_committed(number: u64) -> bool {
    !number.is_multiple_of(3)
}

fn outcome(number: u64) -> LocalTransactionState {
    match is_committed(number) {
        true => LocalTransactionState::CommitMessage,
        false => LocalTransactionState::RollbackMessage,
    }
}

impl TransactionListener for Outcomes {
    type Argument = u64;

    async fn execute_local_transaction(&self, _: &Message, number: u64) -> LocalTransactionState {
        match number % 5 {
            0 => LocalTransactionState::Unknow,
            _ => outcome(number),
        }
    }

    async fn check_local_transaction(&self, message: &MessageExt) -> LocalTransactionState {
        number_of(message).map_or(LocalTransactionState::Unknow, outcome)
    }
}

fn number_of(message: &MessageExt) -> Option<u64> {
    std::str::from_utf8(&message.body).ok()?.parse().ok()
}

impl Transactions {
    pub(super) async fn start(namesrv_addr: String) -> anyhow::Result<Transactions> {
        let config = InstanceConfig {
            name_server: namesrv_addr.clone(),
            // A broker that was started anew has to learn whom to ask.
            heartbeat_broker_interval: Duration::from_millis(200),
            ..InstanceConfig::default()
        };
        let producer = TransactionProducer::builder("crash-transactions", Outcomes)
            .instance_config(config)
            // A half message that is sent again would be another transaction.
            .producer(|producer| producer.retry_times_when_send_failed(0));
        let (tell_stored, stored) = mpsc::unbounded_channel();
        Ok(Transactions {
            namesrv_addr,
            producer: producer.start().await?,
            next_number: Arc::default(),
            stored,
            tell_stored,
            running: JoinSet::new(),
        })
    }

    /// Runs transactions until the broker dies.
    pub(super) fn load(&mut self) {
        for _ in 0..PRODUCERS {
            let (producer, next_number) = (self.producer.clone(), Arc::clone(&self.next_number));
            let tell_stored = self.tell_stored.clone();
            self.running.spawn(async move {
                loop {
                    let number = next_number.fetch_add(1, Ordering::Relaxed);
                    let message = Message::new(TOPIC, number.to_string());
                    if producer.send_message_in_transaction(message, number).await.is_err() {
                        return;
                    }
                    // An error means that the run is over.
                    let _ = tell_stored.send(number);
                }
            });
        }
    }

    /// Waits for the producers to notice that the broker is dead.
    pub(super) async fn ended(&mut self) {
        while self.running.join_next().await.is_some() {}
    }

    /// Waits until the outcome of all transactions is there, and wants no other. How many were stored, and how many
    /// committed.
    pub(super) async fn check(&mut self) -> anyhow::Result<(usize, usize)> {
        let mut stored = Vec::new();
        while let Ok(number) = self.stored.try_recv() {
            stored.push(number);
        }
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut is_settled = false;
        loop {
            let found = self.read().await?;
            for (number, times) in &found {
                ensure!(*times == 1, "transaction {number} was committed {times} times");
                ensure!(
                    is_committed(*number),
                    "transaction {number} was rolled back, and is there"
                );
            }
            let missing = stored
                .iter()
                .find(|number| is_committed(**number) && !found.contains_key(number));
            match missing {
                None if is_settled => return Ok((stored.len(), found.len())),
                // Whatever is asked about twice comes in the rounds of checks that follow.
                None => {
                    is_settled = true;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Some(number) => ensure!(
                    Instant::now() < deadline,
                    "transaction {number} was to be committed, and is not there"
                ),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn read(&self) -> anyhow::Result<HashMap<u64, usize>> {
        let mut found = HashMap::new();
        for message in read_topic(&self.namesrv_addr, TOPIC).await? {
            let number = number_of(&message).context("a message that no producer sent")?;
            *found.entry(number).or_default() += 1;
        }
        Ok(found)
    }

    pub(super) async fn shutdown(&self) {
        self.producer.shutdown().await;
    }
}
