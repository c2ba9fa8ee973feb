//! The thread for everything that happens by the clock: saving tables, forgetting dead clients, counting, and keeping
//! name servers informed ([`crate::registration`]).

use std::io;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::broker::Broker;
use crate::cold_reads;
use crate::handlers::heartbeat;
use crate::registration;
use crate::stats;

/// How often clients without heartbeats are looked for.
const LIVENESS_PERIOD: Duration = Duration::from_secs(10);
/// How often members are told of changes where that does not happen at once.
const NOTICE_PERIOD: Duration = Duration::from_secs(15);
const STATS_PERIOD: Duration = Duration::from_secs(1);
/// How often files of accounts are looked at.
const ACCOUNTS_PERIOD: Duration = Duration::from_secs(1);

pub(crate) struct Background {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Background {
    /// Returns when the name servers that can be reached know of the broker.
    pub(crate) fn start(broker: &Arc<Broker>) -> io::Result<Background> {
        let (stop, stopped) = oneshot::channel();
        let (registered, wait_registered) = mpsc::sync_channel(1);
        let broker = Arc::clone(broker);
        let thread = thread::Builder::new().name("broker-background".into());
        let thread = thread.spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(run(broker, registered, stopped)),
                Err(error) => tracing::error!(%error, "the background thread cannot run"),
            }
        })?;
        // An error means that the thread cannot run, which it has logged.
        let _ = wait_registered.recv();
        Ok(Background { stop, thread })
    }

    /// Tells the name servers and ends the thread.
    pub(crate) fn stop(self) {
        // The thread may have ended by a panic, which the join tells.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the background thread had panicked");
        }
    }
}

async fn run(broker: Arc<Broker>, registered: mpsc::SyncSender<()>, stopped: oneshot::Receiver<()>) {
    let config = Arc::clone(&broker.config());
    let saving = Duration::from_millis(config.flush_consumer_offset_interval_ms);
    every(&broker, saving, |broker| {
        if let Err(error) = broker.save_tables() {
            tracing::error!(%error, "a table cannot be saved");
        }
    });
    let saving_metrics = Duration::from_millis(config.transaction_metric_flush_interval_ms);
    every(&broker, saving_metrics, |broker| {
        if let Err(error) = broker.transactions.metrics.persist() {
            tracing::error!(%error, "the counts of half messages cannot be saved");
        }
    });
    spawn_local(save_created(Arc::clone(&broker)));
    every(&broker, LIVENESS_PERIOD, forget_dead_clients);
    every(&broker, NOTICE_PERIOD, |broker| {
        heartbeat::notify_members(&broker.consumers.take_deferred())
    });
    every(&broker, STATS_PERIOD, |broker| {
        let now = broker.now_ms();
        let utc_offset_ms = i64::from(jiff::Zoned::now().offset().seconds()) * 1000;
        broker.stats.tick(now, stats::local_day(now, utc_offset_ms));
    });
    every(&broker, cold_reads::WINDOW, |broker| {
        broker.cold_flow.tick(broker.now_ms())
    });
    if broker.access.plain.is_some() {
        every(&broker, ACCOUNTS_PERIOD, |broker| {
            if let Some(plain) = &broker.access.plain {
                plain.look();
            }
        });
    }
    let name_servers = registration::start(&broker);
    broker.registration.announced().await;
    // An error means that nobody waits.
    let _ = registered.send(());
    // An error means that the handle is gone, which stops the broker as well.
    let _ = stopped.await;
    name_servers.unregister(&broker).await;
}

/// What comes into being by being used is saved at once: after a kill its messages could not be pulled without it.
async fn save_created(broker: Arc<Broker>) {
    loop {
        tokio::select! {
            () = broker.topics.wait_unsaved() => {}
            () = broker.groups.wait_unsaved() => {}
        }
        // A failure is logged where it happens, and tried again with the other tables.
        let _ = broker.saver.saved().await;
    }
}

fn forget_dead_clients(broker: &Broker) {
    let now = broker.now_ms();
    let consumer_timeout_ms = broker.config().channel_expired_timeout_ms as i64;
    let mut dead = broker.producers.expire(now);
    dead.extend(broker.consumers.expire(now, consumer_timeout_ms));
    for connection in dead {
        if connection.close().is_err() {
            tracing::debug!(peer = %connection.peer_addr(), "a dead client was gone already");
        }
    }
    let keep_ms = broker.config().subscription_expired_timeout_ms as i64;
    broker.request_subscriptions.expire(now, keep_ms);
    broker.queue_locks.expire(now);
    let is_online = |group: &str| broker.consumers.group_info(group).is_some();
    broker.consumer_filters.expire(is_online, now);
    let keep_ms = broker.config().filter_data_clean_time_span_ms;
    broker.consumer_filters.clean(now, keep_ms);
}

/// Runs `action` every period, late rather than twice.
fn every(broker: &Arc<Broker>, period: Duration, action: impl Fn(&Broker) + 'static) {
    let broker = Arc::clone(broker);
    let action = Rc::new(action);
    spawn_local(async move {
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            action(&broker);
        }
    });
}
