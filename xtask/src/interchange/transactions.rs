//! Transactions: each has the one outcome that its producer wants, also where the broker that stored the half message is
//! not the one that is told, or that asks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use oxmq_client::{
    InstanceConfig, LocalTransactionState, Message, MessageExt, TransactionListener, TransactionProducer,
};
use oxmq_protocol::{property, sys_flag};

use super::snapshot::Snapshot;
use super::waiting::Phase;
use super::wire::{Sent, Wire};
use crate::random::Random;

const GROUP: &str = "interchange-transactions";

/// What the broker needs to ask often enough for a test.
pub(super) const BROKER_PROPERTIES: [(&str, &str); 4] = [
    ("transactionCheckInterval", "1000"),
    ("transactionTimeOut", "3000"),
    ("transactionCheckMax", "1000000"),
    ("transactionOpBatchInterval", "100"),
];

#[derive(Default)]
pub(super) struct Transactions {
    names: Vec<String>,
    /// To be told what to do by the producer, after the next hand-over.
    open: Vec<Open>,
}

struct Open {
    name: String,
    unique_id: String,
    half: Sent,
}

/// Answers brokers that ask.
pub(super) type Answerer = TransactionProducer<Outcomes>;

pub(super) struct Outcomes;

/// The number of a transaction says how it ends: two of three are committed.
fn is_committed(name: &str) -> bool {
    let number = name.split('/').nth(1).and_then(|number| number.parse::<u64>().ok());
    !number.unwrap_or(0).is_multiple_of(3)
}

fn name_of(body: &[u8]) -> String {
    String::from_utf8_lossy(body).split_inclusive('/').take(2).collect()
}

impl TransactionListener for Outcomes {
    type Argument = ();

    async fn execute_local_transaction(&self, _: &Message, (): ()) -> LocalTransactionState {
        LocalTransactionState::Unknow
    }

    async fn check_local_transaction(&self, message: &MessageExt) -> LocalTransactionState {
        match is_committed(&name_of(&message.body)) {
            true => LocalTransactionState::CommitMessage,
            false => LocalTransactionState::RollbackMessage,
        }
    }
}

impl Transactions {
    pub(super) const TOPIC: &str = "Transacted";

    pub(super) async fn answerer(namesrv_addr: String) -> anyhow::Result<Answerer> {
        let config = InstanceConfig {
            name_server: namesrv_addr,
            // The next broker has to learn whom to ask.
            heartbeat_broker_interval: Duration::from_millis(500),
            ..InstanceConfig::default()
        };
        let answerer = TransactionProducer::builder(GROUP, Outcomes)
            .instance_config(config)
            // A half message that is sent again would be another transaction.
            .producer(|producer| producer.retry_times_when_send_failed(0));
        Ok(answerer.start().await?)
    }

    /// One by the client itself, which so learns of the broker. It does not know the outcome before it is asked.
    pub(super) async fn ask_me(&mut self, answerer: &Answerer, message: Message) -> anyhow::Result<()> {
        self.names.push(name_of(&message.body));
        answerer.send_message_in_transaction(message, ()).await?;
        Ok(())
    }

    /// Ended at once, after the next hand-over, or not before the broker asks.
    pub(super) async fn begin(&mut self, wire: &Wire, random: &mut Random, message: Message) -> anyhow::Result<()> {
        let name = name_of(&message.body);
        let unique_id = message.unique_id().context("every message has an id")?.to_owned();
        let message = message
            .with_property(property::TRANSACTION_PREPARED, "true")
            .with_property(property::PRODUCER_GROUP, GROUP);
        let when = random.below(3);
        let message = match when {
            // Nobody asks about it before the test is over.
            1 => message.with_property(property::CHECK_IMMUNITY_TIME_IN_SECONDS, "600"),
            _ => message,
        };
        let half = wire.send(&message, 0, sys_flag::TRANSACTION_PREPARED).await?;
        self.names.push(name.clone());
        match when {
            0 => {
                wire.end_transaction(GROUP, &half, &unique_id, is_committed(&name))
                    .await?
            }
            1 => self.open.push(Open { name, unique_id, half }),
            _ => {}
        }
        Ok(())
    }

    /// Tells the broker what it was not told before.
    pub(super) async fn end_open(&mut self, wire: &Wire) -> anyhow::Result<()> {
        for Open { name, unique_id, half } in self.open.drain(..) {
            let ended = wire
                .end_transaction(GROUP, &half, &unique_id, is_committed(&name))
                .await;
            ended.with_context(|| format!("{name}, begun before the hand-over"))?;
        }
        Ok(())
    }

    pub(super) fn missing(&self, snapshot: &Snapshot) -> Vec<String> {
        let found = outcomes(snapshot);
        let wanted = self.names.iter().filter(|name| is_committed(name));
        wanted.filter(|name| !found.contains_key(*name)).cloned().collect()
    }

    /// No outcome that the producer does not want, and none twice. A broker of the original that is killed may have ended a
    /// transaction without having noted it; how often that showed.
    pub(super) fn check(&self, snapshot: &Snapshot, phases: &[Phase]) -> anyhow::Result<usize> {
        let mut repeated = 0;
        for (name, times) in outcomes(snapshot) {
            ensure!(
                is_committed(&name) && self.names.contains(&name),
                "{name} is there, and was rolled back"
            );
            for pair in times.windows(2) {
                let by = |time: i64| phases.iter().rposition(|phase| phase.from_ms <= time).unwrap_or(0);
                let (first, second) = (by(pair[0]), by(pair[1]));
                ensure!(
                    phases[first].forgets && phases[first].is_java && first < second,
                    "{name} was committed at {times:?}; phases {phases:?}"
                );
                repeated += 1;
            }
        }
        Ok(repeated)
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

/// Store times of what was committed.
fn outcomes(snapshot: &Snapshot) -> BTreeMap<String, Vec<i64>> {
    let mut found: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for record in snapshot.of_topic(Transactions::TOPIC) {
        let times = found.entry(name_of(record.body())).or_default();
        times.push(record.store_timestamp());
        times.sort_unstable();
    }
    found
}
