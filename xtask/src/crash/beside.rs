//! What happens beside the plain sends: transactions, POP, orderly POP and delayed messages.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::orderly::Orderly;
use super::pops::Pops;
use super::timers::Timers;
use super::transactions::Transactions;
use super::{create_topic, orderly, pops, timers, transactions};
use crate::servers::{Cluster, Server};

pub(super) struct Beside {
    transactions: Transactions,
    pops: Pops,
    orderly: Orderly,
    timers: Timers,
}

pub(super) fn broker_properties() -> impl Iterator<Item = (&'static str, &'static str)> {
    let first = transactions::BROKER_PROPERTIES.into_iter();
    first.chain(pops::BROKER_PROPERTIES).chain(timers::BROKER_PROPERTIES)
}

impl Beside {
    pub(super) async fn start(cluster: &Cluster) -> anyhow::Result<Beside> {
        for topic in [transactions::TOPIC, pops::TOPIC, orderly::TOPIC, timers::TOPIC] {
            create_topic(&cluster.broker_addr(), topic).await?;
        }
        Ok(Beside {
            transactions: Transactions::start(cluster.namesrv_addr()).await?,
            pops: Pops::start(cluster.namesrv_addr()).await?,
            orderly: Orderly::start(cluster.namesrv_addr(), cluster.broker_addr()).await?,
            timers: Timers::start(cluster.namesrv_addr()).await?,
        })
    }

    /// Runs until the broker dies.
    pub(super) fn load(&mut self) {
        self.transactions.load();
        self.pops.load();
        self.orderly.load();
        self.timers.load();
    }

    /// The broker is dead.
    pub(super) async fn ended(&mut self, store_dir: &Path) -> anyhow::Result<()> {
        self.pops.ended(store_dir).await?;
        self.orderly.ended().await?;
        self.transactions.ended().await;
        self.timers.ended().await;
        Ok(())
    }

    /// Waits until everything has come to its end, and says what that was.
    pub(super) async fn check(&mut self) -> anyhow::Result<[String; 4]> {
        let (count, committed) = self.transactions.check().await?;
        let transactions = format!("{count} transactions were begun; {committed} were committed, each once");
        let orderly = self.orderly.check().await?;
        Ok([
            transactions,
            self.timers.check().await?,
            self.pops.check().await?,
            orderly,
        ])
    }

    /// Lets the original go on with everything that is under way when OxMQ stops, and OxMQ with what follows.
    pub(super) async fn take_over(&mut self, cluster: &mut Cluster, oxmq: &Server) -> anyhow::Result<()> {
        // The original commits again when it asks again before it has noted the first answer.
        for (broker, check_interval_ms) in [(Server::Java("5.5.0"), 5000), (oxmq.clone(), 200)] {
            self.load();
            tokio::time::sleep(Duration::from_millis(500)).await;
            cluster.stop_broker()?;
            self.ended(&cluster.store_dir()).await?;
            let with = format!("{broker:?} has taken over");
            cluster.replace_broker(broker);
            cluster.set_property("transactionCheckInterval", check_interval_ms);
            cluster.start_broker()?;
            self.check().await.context(with)?;
        }
        Ok(())
    }

    pub(super) async fn shutdown(mut self) {
        self.pops.shutdown().await;
        self.orderly.shutdown().await;
        self.timers.shutdown().await;
        self.transactions.shutdown().await;
    }
}
