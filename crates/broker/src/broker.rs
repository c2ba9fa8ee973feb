//! A broker as a whole: what its parts share, how it starts and how it stops.
//!
//! Start: store (which recovers), tables, listeners, background thread. Stop: name servers are told, no more connections,
//! what is in flight is answered and waiting pulls with it, the store is flushed and closed, tables are saved.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use bytes::BytesMut;
use oxmq_filter::BloomFilter;
use oxmq_protocol::body::SubscriptionGroupConfig;
use oxmq_protocol::delay_level::{self, DelayLevelError};
use oxmq_protocol::message_id::UniqueIds;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{properties, property};
use oxmq_remoting::{ConnectionHandle, ServeError, ServerConfig, ServerHandle, TlsConfig, serve};
use oxmq_store::timer::source_of_mark;
use oxmq_store::{
    AppendBatch, Clock, ConsumeQueue, GetError, GetLimits, GetMessages, GetStatus, MessageStore, OpenError,
    StoreConfig, Wait,
};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;

use crate::access::{Access, AccessError};
use crate::background::Background;
use crate::clients::{Consumers, Producers};
use crate::cold_reads::ColdFlow;
use crate::compaction::{self, Compaction};
use crate::config::{BrokerConfig, BrokerRole, ConfigManagerVersion, FlushDiskType, MetricsExporterType, StoreType};
use crate::config_file::ConfigFile;
use crate::consumer_filters::ConsumerFilters;
use crate::consumer_offsets::ConsumerOffsets;
use crate::duplicates::DuplicateWindow;
use crate::environment::Environment;
use crate::groups::{AutoCreate, Groups};
use crate::mailbox::{Mailboxes, Service, WORKERS_MAX};
use crate::metrics::{Endpoint, Health, Metrics, Pusher, Stage};
use crate::peers::Peers;
use crate::pop::{Pops, revive_thread};
use crate::queue_locks::QueueLocks;
use crate::quotas::Quotas;
use crate::read_threads::ReadQueue;
use crate::registration::Registration;
use crate::reply_pushes::ReplyPushes;
use crate::request_modes::RequestModes;
use crate::request_subscriptions::RequestSubscriptions;
use crate::retention;
use crate::routes::Routes;
use crate::saver::{self, Saver};
use crate::schedule::{self, LevelSources, Schedule};
use crate::slow_requests::SlowRequests;
use crate::static_topics::StaticTopics;
use crate::stats::Stats;
use crate::timer::{self, Timers};
use crate::topics::Topics;
use crate::transactions::{self, ReplayWatch, Transactions};
use crate::unmarked_deliveries;
use crate::worker::{Worker, WorkerSeed};

/// How long replies that are under way may take when the broker stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// What all threads of a broker share. Lives in an `Arc`.
pub struct Broker {
    config: ArcSwap<BrokerConfig>,
    config_changes: Mutex<()>,
    pub store: Arc<MessageStore>,
    pub topics: Arc<Topics>,
    pub static_topics: StaticTopics,
    pub groups: Groups,
    pub consumer_offsets: ConsumerOffsets,
    pub consumer_filters: ConsumerFilters,
    /// What consumers without heartbeat subscribe to.
    pub(crate) request_subscriptions: RequestSubscriptions,
    pub producers: Producers<ConnectionHandle>,
    pub consumers: Consumers<ConnectionHandle>,
    pub queue_locks: QueueLocks,
    pub schedule: Schedule,
    pub compaction: Compaction,
    pub timers: Timers,
    pub transactions: Transactions,
    pub pops: Pops,
    pub request_modes: RequestModes,
    pub(crate) access: Access,
    pub stats: Stats,
    /// Nothing unless somebody may ask for them.
    pub(crate) metrics: Option<Metrics>,
    /// `brokerIP1:listenPort`, as every message carries it.
    pub store_host: SocketAddr,
    /// When this broker was started, in milliseconds since the epoch.
    pub started_at: i64,
    /// What an acknowledgement promises, as it was at the start.
    pub flush_disk_type: FlushDiskType,
    /// Properties that every message of a client gets, as text.
    pub(crate) stamp: Vec<u8>,
    pub(crate) delay_level_max: u8,
    pub(crate) timer_precision_ms: i64,
    pub(crate) registration: Registration,
    pub(crate) saver: Saver,
    pub(crate) routes: Routes,
    pub(crate) peers: Peers,
    pub(crate) reply_pushes: ReplyPushes,
    pub(crate) quotas: Quotas,
    pub(crate) cold_flow: ColdFlow,
    pub(crate) slow_requests: SlowRequests,
    /// Nothing unless `duplicateSendWindow` says how long.
    pub(crate) duplicates: Option<DuplicateWindow>,
    /// Messages of the broker's own are appended one by one; the batch is kept for its memory.
    pub(crate) internal_batch: Mutex<AppendBatch>,
    mailboxes: Arc<Mailboxes>,
    unique_ids: UniqueIds,
    clock: Clock,
}

/// Why a broker does not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("brokerRole=SLAVE is not supported yet")]
    Slave,
    #[error("{0} keeps the store in a form that is not read here")]
    Form(&'static str),
    #[error(
        "metricsExporterType=OTLP_GRPC: this program was built without the feature otlp, and cannot send to collectors"
    )]
    NoOtlp,
    #[error("messageDelayLevel: {0}")]
    DelayLevels(#[from] DelayLevelError),
    #[error("brokerIP1: {host} has no address")]
    Host { host: String },
    #[error("bindAddress: {host} has no address")]
    BindAddress { host: String },
    #[error("no free port: {0}")]
    Port(#[source] io::Error),
    #[error("metricsPromExporterHost: {host} has no address")]
    MetricsHost { host: String },
    #[error("metrics: cannot listen on {addr}: {source}")]
    Metrics { addr: SocketAddr, source: io::Error },
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("duplicateSendWindow: the newest messages cannot be read: {0}")]
    DuplicateWindow(#[source] io::Error),
    #[error("{path}: {source}")]
    Table { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// A running broker. [`BrokerHandle::shutdown`] stops it in order; dropping it does the same.
pub struct BrokerHandle {
    broker: Arc<Broker>,
    server: Option<ServerHandle>,
    background: Option<Background>,
    threads: Vec<JoinHandle<()>>,
    health: Arc<Health>,
    endpoint: Option<Endpoint>,
    pusher: Option<Pusher>,
}

impl Broker {
    /// Starts a broker on its own threads; it serves when this returns. Port 0 means any that is free.
    pub fn start(config: BrokerConfig) -> Result<BrokerHandle, StartError> {
        Broker::start_in(config, Environment::default())
    }

    /// The same on another disk, by another clock.
    pub fn start_in(mut config: BrokerConfig, environment: Environment) -> Result<BrokerHandle, StartError> {
        refuse(&config, cfg!(feature = "otlp"))?;
        if config.listen_port == 0 {
            config.listen_port = free_port(&config.bind_address).map_err(StartError::Port)?;
        }
        let server_config = server_config(&config)?;
        let health = Arc::<Health>::default();
        let endpoint = endpoint(&config, &health)?;
        let mailboxes = Arc::new(Mailboxes::new(server_config.workers));
        let broker = Arc::new(Broker::open(config, environment, Arc::clone(&mailboxes), &health)?);
        health.opened(&broker);
        broker.registration.follow(&broker.topics);
        mailboxes.attach(&broker);

        let (read_queue, mut threads) = ReadQueue::start(&broker, &mailboxes).map_err(StartError::Thread)?;
        threads.push(saver::spawn(&broker).map_err(StartError::Thread)?);
        threads.push(schedule::spawn(&broker).map_err(StartError::Thread)?);
        threads.extend(timer::spawn(&broker).map_err(StartError::Thread)?);
        threads.push(transactions::spawn(&broker).map_err(StartError::Thread)?);
        threads.push(revive_thread::spawn(&broker).map_err(StartError::Thread)?);
        if broker.config().enable_compaction {
            threads.push(compaction::spawn(&broker).map_err(StartError::Thread)?);
        }
        let seed = WorkerSeed {
            broker: Arc::clone(&broker),
            mailboxes,
            read_queue,
            main_port: broker.config().listen_port,
        };
        let server = serve(
            server_config,
            Arc::new(move |context| Worker::start(seed.clone(), context)),
        );
        let mut handle = BrokerHandle {
            broker: Arc::clone(&broker),
            server: None,
            background: None,
            threads,
            health,
            endpoint,
            pusher: None,
        };
        handle.server = Some(server?);
        handle.background = Some(Background::start(&broker).map_err(StartError::Thread)?);
        handle.pusher = Pusher::start(&broker.config(), Arc::clone(&handle.health)).map_err(StartError::Thread)?;
        handle.health.enter(Stage::Serving);
        Ok(handle)
    }

    fn open(
        config: BrokerConfig,
        Environment { disk, clock }: Environment,
        mailboxes: Arc<Mailboxes>,
        health: &Health,
    ) -> Result<Broker, StartError> {
        let started_at = clock();
        let delays_ms = delay_level::parse(&config.message_delay_level)?;
        let store_host = (config.broker_ip1.as_str(), config.listen_port);
        let store_host = first_address(store_host).ok_or_else(|| StartError::Host {
            host: config.broker_ip1.clone(),
        })?;
        let folder = Path::new(&config.store_path_root_dir).join("config");
        let file = |name: &str| ConfigFile::new(&disk, folder.join(name));
        let table = |name: &str| {
            let path = folder.join(name);
            move |source| StartError::Table { path, source }
        };
        let topics = Topics::open(file("topics.json"), &config).map_err(table("topics.json"))?;
        let topics = Arc::new(topics);
        let mappings = file("topicQueueMapping.json");
        let static_topics = StaticTopics::open(mappings).map_err(table("topicQueueMapping.json"))?;
        let mut store_config = store_config(&config)?;
        let kinds = Arc::clone(&topics);
        store_config.queue_kind_of = Arc::new(move |topic| kinds.queue_kind(topic));
        let replayed = ReplayWatch::default();
        store_config.clock = Arc::clone(&clock);
        store_config.replay_observer = Some(replayed.observer());
        store_config.recovery_progress = Arc::clone(&health.recovery);
        let store = MessageStore::open(store_config, Arc::clone(&disk), Arc::clone(&mailboxes) as _)?;
        let bloom = BloomFilter::new(
            config.max_error_rate_of_bloom_filter,
            config.expect_consumer_num_use_filter,
        );
        let consumer_filters = ConsumerFilters::open(file("consumerFilter.json"), bloom, started_at)
            .map_err(table("consumerFilter.json"))?;
        let has_light_queues = store.config().multi_dispatch;
        let groups =
            Groups::open(file("subscriptionGroup.json"), has_light_queues).map_err(table("subscriptionGroup.json"))?;
        let consumer_offsets =
            ConsumerOffsets::open(&file, has_light_queues, config.consumer_offset_update_version_step)
                .map_err(table("consumerOffset.json"))?;
        let version_step = config.delay_offset_update_version_step;
        let schedule = Schedule::open(file("delayOffset.json"), &delays_ms, version_step, &store)
            .map_err(table("delayOffset.json"))?;
        let timers =
            Timers::open(&disk, &config, &store, file("timermetrics"), started_at).map_err(table("timercheck"))?;
        recover_deliveries(&store, &schedule, &timers, started_at).map_err(table("timercheck"))?;
        let metrics = file("transactionMetrics");
        let transactions =
            Transactions::open(metrics, &store, &consumer_offsets, &replayed).map_err(table("transactionMetrics"))?;
        let orders = file("consumerOrderInfo.json");
        let pops = Pops::open(orders, &config.broker_cluster_name).map_err(table("consumerOrderInfo.json"))?;
        let request_modes =
            RequestModes::open(file("messageRequestMode.json")).map_err(table("messageRequestMode.json"))?;
        let access = Access::open(&config, file("auth.json"), started_at)?;
        let duplicates = match config.duplicate_send_window_ms {
            0 => None,
            window_ms => {
                let window = DuplicateWindow::new(window_ms as i64, config.duplicate_send_window_count_max);
                window
                    .recover_from(&store, started_at)
                    .map_err(StartError::DuplicateWindow)?;
                Some(window)
            }
        };
        let cold_flow = ColdFlow::new(&config, &store);
        store.set_read_ahead(config.data_read_ahead_enable);
        Ok(Broker {
            store,
            topics,
            static_topics,
            groups,
            consumer_offsets,
            consumer_filters,
            request_subscriptions: RequestSubscriptions::default(),
            producers: Producers::default(),
            consumers: Consumers::default(),
            queue_locks: QueueLocks::new(),
            schedule,
            compaction: Compaction::default(),
            timer_precision_ms: timers.precision_ms(),
            timers,
            transactions,
            pops,
            request_modes,
            access,
            stats: Stats::new(&config.broker_cluster_name),
            metrics: Metrics::of(&config, mailboxes.workers()),
            store_host,
            started_at,
            clock,
            flush_disk_type: config.flush_disk_type,
            stamp: stamp(&config),
            delay_level_max: u8::try_from(delays_ms.len()).unwrap_or(u8::MAX),
            registration: Registration::default(),
            saver: Saver::default(),
            routes: Routes::default(),
            peers: Peers::default(),
            reply_pushes: ReplyPushes::default(),
            quotas: Quotas::new(&config),
            cold_flow,
            slow_requests: SlowRequests::new(&config),
            duplicates,
            internal_batch: Mutex::default(),
            mailboxes,
            unique_ids: unique_ids(store_host.ip(), started_at),
            config: ArcSwap::from_pointee(config),
            config_changes: Mutex::default(),
        })
    }

    /// The settings as they are now.
    pub fn config(&self) -> Guard<Arc<BrokerConfig>> {
        self.config.load()
    }

    /// Changes the settings, one change after the other. Those that are not live take effect at the next start.
    pub(crate) fn change_config<T, E>(&self, change: impl FnOnce(&mut BrokerConfig) -> Result<T, E>) -> Result<T, E> {
        let _one = self.config_changes.lock();
        let mut config = BrokerConfig::clone(&self.config());
        let changed = change(&mut config)?;
        self.set_config(config);
        Ok(changed)
    }

    fn set_config(&self, config: BrokerConfig) {
        self.store.set_retention(retention::settings(&config));
        self.quotas.set_config(&config);
        self.cold_flow.set_config(&config, &self.store);
        self.store.set_read_ahead(config.data_read_ahead_enable);
        self.slow_requests.set_config(&config);
        self.config.store(Arc::new(config));
    }

    /// Milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    /// Delivers what is due although nothing was to be due yet when the clock was last looked at.
    pub fn look_at_clock(&self) {
        self.mailboxes.wake(Service::Schedule);
        self.mailboxes.wake(Service::Timer);
    }

    /// The group, created if it may come into being by being used.
    pub fn group(&self, group: &str) -> Option<Arc<SubscriptionGroupConfig>> {
        if let Some(known) = self.groups.get(group) {
            return Some(known);
        }
        let config = self.config();
        let auto = AutoCreate {
            any: config.auto_create_subscription_group,
            system: config.enable_create_sys_group,
        };
        self.groups.get_or_create(group, auto, self.now_ms())
    }

    /// Follows the position before which everything is on disk.
    pub fn watch_flushed(&self) -> watch::Receiver<i64> {
        self.mailboxes.watch_flushed(|| self.store.flushed())
    }

    /// Whether everything before this position gets on disk within `syncFlushTimeout`. No success of a flush that failed.
    pub(crate) async fn is_flushed(&self, end_offset: i64) -> bool {
        let timeout = Duration::from_millis(self.config().sync_flush_timeout_ms);
        let (mut flushed, mut failed) = (self.watch_flushed(), self.mailboxes.watch_failed());
        tokio::select! {
            biased;
            reached = flushed.wait_for(|flushed| *flushed >= end_offset) => reached.is_ok(),
            _ = failed.wait_for(|failed| *failed) => false,
            () = tokio::time::sleep(timeout) => false,
        }
    }

    /// Writes what administrators change, and what sends and heartbeats create, where it changed.
    pub(crate) fn save_administered(&self) -> io::Result<()> {
        let saved = [
            self.topics.persist(),
            self.static_topics.persist(),
            self.groups.persist(),
            self.request_modes.persist(),
            self.access.persist(),
        ];
        saved.into_iter().collect()
    }

    /// Writes all tables that changed. Every one is tried; the first error comes back.
    pub fn save_tables(&self) -> io::Result<()> {
        let saved = [
            self.save_administered(),
            self.save_offsets(),
            self.consumer_filters.persist(),
            self.schedule.persist(&self.store),
            self.pops.persist(|| self.flush_log()),
        ];
        saved.into_iter().collect()
    }

    /// Writes the consumer offsets if they changed.
    pub(crate) fn save_offsets(&self) -> io::Result<()> {
        self.consumer_offsets.persist(|| self.flush_log())
    }

    /// A table must not tell of messages that a power cut could take back.
    fn flush_log(&self) -> io::Result<()> {
        match self.store.flush() {
            true => Ok(()),
            false => Err(io::Error::other("the commit log cannot be flushed")),
        }
    }

    /// A pull of the group was answered with this.
    #[inline]
    pub(crate) fn note_cold(&self, group: &str, got: &GetMessages) {
        if got.cold_bytes > 0 {
            self.cold_flow.read(self.now_ms(), group, got.cold_bytes);
        }
    }

    /// Everybody who waits for this queue looks at it.
    pub(crate) fn wake_waiting(&self, queue: &Arc<ConsumeQueue>) {
        self.mailboxes.wake_waiting(queue);
    }

    /// Whether message 0 of the queue exists and could be read without the disk.
    pub(crate) fn first_is_in_memory(&self, queue: &ConsumeQueue) -> bool {
        let mut record = BytesMut::new();
        let limits = GetLimits::count(1);
        let got = self
            .store
            .get_messages(queue, 0, &limits, &mut |_: i64| true, Wait::Never, &mut record);
        match got {
            Ok(got) => got.status == GetStatus::Found,
            Err(GetError::WouldBlock) => false,
            Err(error) => {
                let (topic, queue_id) = (queue.topic(), queue.queue_id());
                tracing::warn!(%topic, queue_id, %error, "the first message cannot be read");
                false
            }
        }
    }

    pub(crate) fn mailboxes(&self) -> &Mailboxes {
        &self.mailboxes
    }

    /// A new UNIQ_KEY: its digits and how many they are.
    pub(crate) fn next_unique_id(&self) -> ([u8; 56], usize) {
        self.unique_ids.next_digits(self.now_ms())
    }
}

impl BrokerHandle {
    /// The address of the main port.
    pub fn local_addr(&self) -> SocketAddr {
        let server = self
            .server
            .as_ref()
            .expect("the server runs until shutdown takes the handle");
        server.local_addrs()[0]
    }

    /// Where metrics are to be had, if anywhere.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.endpoint.as_ref().map(Endpoint::addr)
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.server.as_ref().map_or(0, ServerHandle::connections)
    }

    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Ends when the store takes no more messages and `exitOnStoreFailure` asks for the end of the process; otherwise never.
    pub async fn store_failure(&self) {
        if self.broker.config().exit_on_store_failure {
            let mut failed = self.broker.mailboxes.watch_failed();
            if failed.wait_for(|failed| *failed).await.is_ok() {
                return;
            }
        }
        std::future::pending().await
    }

    /// Stops in order. Blocks until everything is on disk.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.health.enter(Stage::Stopping);
        if let Some(background) = self.background.take() {
            background.stop();
        }
        if let Some(server) = self.server.take() {
            server.shutdown(SHUTDOWN_GRACE);
        }
        self.pusher = None;
        self.broker.saver.stop();
        self.broker.schedule.stop(&self.broker);
        self.broker.timers.stop(&self.broker);
        self.broker.transactions.stop();
        self.broker.pops.stop.stop();
        self.broker.compaction.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the broker had panicked");
            }
        }
        if let Err(error) = self.broker.timers.close(&self.broker, self.broker.now_ms()) {
            tracing::error!(%error, "the progress of timer messages cannot be saved");
        }
        self.broker.store.shutdown();
        if let Err(error) = self
            .broker
            .save_tables()
            .and(self.broker.transactions.metrics.persist())
        {
            tracing::error!(%error, "a table cannot be saved");
        }
        self.endpoint = None;
    }
}

impl Drop for BrokerHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Searches the end of the commit log for messages that were delivered after they had waited, so that none is again.
fn recover_deliveries(store: &MessageStore, schedule: &Schedule, timers: &Timers, now: i64) -> io::Result<()> {
    let (of_levels, of_timers) = (schedule.delivered_from(), timers.delivered_from());
    let mut levels = LevelSources::default();
    let mut sources = HashSet::new();
    let mut latest = now;
    if let Some(from) = of_levels.into_iter().chain(of_timers).min() {
        let mut found = |record: &RecordRef<'_>| {
            latest = latest.max(record.store_timestamp());
            let Some(source) = source_of_mark(record.prepared_transaction_offset()) else {
                return;
            };
            match schedule::level_of(record) {
                Some(level) if of_levels.is_some() => levels.note(level, source),
                None if of_timers.is_some() => {
                    sources.insert(source);
                }
                _ => {}
            }
        };
        store.scan_records(from, &mut found).map_err(io::Error::other)?;
    }
    if of_levels.is_none() || store.recovery_report().foreign {
        unmarked_deliveries::find(store, &schedule.next_offsets(), now, &mut levels)?;
    }
    if of_timers.is_none() || store.recovery_report().foreign {
        timers.find_unmarked(store, now, &mut sources)?;
    }
    schedule.recover(store, &levels)?;
    timers.begin(store, sources, latest)
}

/// Settings that ask for what is not here, or under which a RocketMQ broker keeps what could not be taken over.
fn refuse(config: &BrokerConfig, has_otlp: bool) -> Result<(), StartError> {
    let form = match config {
        config if config.broker_role == BrokerRole::Slave => return Err(StartError::Slave),
        config if config.metrics_exporter_type == MetricsExporterType::OtlpGrpc && !has_otlp => {
            return Err(StartError::NoOtlp);
        }
        config if config.store_type == StoreType::RocksDb => "storeType=defaultRocksDB",
        config if config.config_manager_version == ConfigManagerVersion::V2 => "configManagerVersion=v2",
        config if config.enable_dledger_commit_log => "enableDLegerCommitLog=true",
        _ => return Ok(()),
    };
    Err(StartError::Form(form))
}

/// The listener for metrics and health, if there shall be one.
fn endpoint(config: &BrokerConfig, health: &Arc<Health>) -> Result<Option<Endpoint>, StartError> {
    let has_metrics = config.metrics_exporter_type == MetricsExporterType::Prom;
    let port = match (has_metrics, config.health_port) {
        (true, _) => config.metrics_prom_exporter_port,
        (false, 0) => return Ok(None),
        (false, port) => port,
    };
    let host = metrics_host(config);
    let addr = first_address((host, port));
    let addr = addr.ok_or_else(|| StartError::MetricsHost { host: host.to_owned() })?;
    let endpoint = Endpoint::start(addr, has_metrics, Arc::clone(health));
    endpoint
        .map(Some)
        .map_err(|source| StartError::Metrics { addr, source })
}

/// Where nothing is said, the metrics are reached like the broker, but never on more addresses than clients are told.
fn metrics_host(config: &BrokerConfig) -> &str {
    let bound_to_all = config.bind_address.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
    match config.metrics_prom_exporter_host.trim() {
        "" if bound_to_all => &config.broker_ip1,
        "" => &config.bind_address,
        host => host,
    }
}

fn server_config(config: &BrokerConfig) -> Result<ServerConfig, StartError> {
    let address = |port| {
        first_address((config.bind_address.as_str(), port)).ok_or_else(|| StartError::BindAddress {
            host: config.bind_address.clone(),
        })
    };
    let mut listen = vec![address(config.listen_port)?];
    if let Some(port) = config.fast_port() {
        listen.push(address(port)?);
    }
    let mut server = ServerConfig::new("broker", listen);
    if config.workers > 0 {
        server.workers = config.workers;
    }
    server.workers = server.workers.clamp(1, WORKERS_MAX);
    server.idle_timeout_ms = config.server_channel_max_idle_time_seconds * 1000;
    server.tls = Some(TlsConfig::of(config));
    Ok(server)
}

/// What the settings say of the store.
pub fn store_config(config: &BrokerConfig) -> Result<StoreConfig, DelayLevelError> {
    let mut store = StoreConfig::new(&config.store_path_root_dir);
    let folders = config
        .store_path_commit_log
        .iter()
        .flat_map(|folders| folders.split(','));
    let mut folders: Vec<_> = folders.map(|folder| PathBuf::from(folder.trim())).collect();
    folders.sort();
    if !folders.is_empty() {
        store.commit_log_dirs = folders;
    }
    store.commit_log_file_bytes = config.mapped_file_size_commit_log;
    store.consume_queue_file_bytes = config.mapped_file_size_consume_queue.next_multiple_of(20);
    store.batch_consume_queue_file_bytes = config.mapper_file_size_batch_consume_queue.next_multiple_of(46);
    store.multi_dispatch = config.enable_lmq && config.enable_multi_dispatch;
    store.flush_disk_type = match config.flush_disk_type {
        FlushDiskType::AsyncFlush => oxmq_store::FlushDiskType::Async,
        FlushDiskType::SyncFlush => oxmq_store::FlushDiskType::Sync,
    };
    store.flush_interval_ms = config.flush_interval_commit_log_ms;
    store.sync_flush_timeout_ms = config.sync_flush_timeout_ms;
    store.checkpoint_interval_ms = config.flush_interval_consume_queue_ms;
    store.index_enabled = config.message_index_enable;
    store.index_slots = config.max_hash_slot_num;
    store.index_entries = config.max_index_num;
    store.delay_levels_ms = delay_level::parse(&config.message_delay_level)?;
    store.message_bytes_max = config.max_message_size;
    store.transfer_bytes_in_memory_max = config.max_transfer_bytes_on_message_in_memory;
    store.transfer_count_in_memory_max = config.max_transfer_count_on_message_in_memory;
    store.transfer_bytes_on_disk_max = config.max_transfer_bytes_on_message_in_disk;
    store.transfer_count_on_disk_max = config.max_transfer_count_on_message_in_disk;
    store.filter_scan_bytes = config.max_filter_message_size;
    store.access_message_in_memory_max_ratio = config.access_message_in_memory_max_ratio.into();
    store.retention = retention::settings(config);
    store.scrub_bytes_per_second = config.scrub_bytes_per_second;
    store.scrub_interval_ms = config.scrub_interval_ms;
    Ok(store)
}

/// What the broker adds to the properties of every message.
fn stamp(config: &BrokerConfig) -> Vec<u8> {
    let trace_on = if config.trace_on { "true" } else { "false" };
    let mut text = BytesMut::new();
    for (name, value) in [
        (property::MSG_REGION, config.region_id.as_str()),
        (property::TRACE_SWITCH, trace_on),
        (property::CLUSTER, &config.broker_cluster_name),
    ] {
        properties::write(&mut text, name.as_bytes(), value.as_bytes());
    }
    text.to_vec()
}

fn unique_ids(ip: IpAddr, started: i64) -> UniqueIds {
    let offset = jiff::Zoned::now().offset().seconds();
    UniqueIds::new(ip, std::process::id(), started as u32, i64::from(offset) * 1000)
}

fn first_address(host: impl ToSocketAddrs) -> Option<SocketAddr> {
    host.to_socket_addrs().ok()?.next()
}

/// A free port whose fast port is free as well. It is below the ports that outgoing connections get, so that none of them
/// takes it before we do; brokers of one process get different ones.
fn free_port(host: &str) -> io::Result<u16> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    const PORTS: Range<u32> = 10_240..32_768;
    let first = std::process::id().wrapping_mul(1_000);
    let mut error = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in PORTS.step_by(4) {
        let tried = first.wrapping_add(4 * TRIED.fetch_add(1, Ordering::Relaxed));
        let port = (PORTS.start + tried % (PORTS.end - PORTS.start)) as u16;
        match TcpListener::bind((host, port)).and_then(|_| TcpListener::bind((host, port - 2))) {
            Ok(_) => return Ok(port),
            Err(in_use) => error = in_use,
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_shown_on_the_loopback_where_the_broker_is() {
        for (bind, host, expected) in [
            ("127.0.0.1", "", "127.0.0.1"),
            ("0.0.0.0", "", "10.0.0.7"),
            ("::", " ", "10.0.0.7"),
            ("10.0.0.8", "", "10.0.0.8"),
            ("127.0.0.1", "10.0.0.9", "10.0.0.9"),
        ] {
            let config = BrokerConfig {
                bind_address: bind.into(),
                broker_ip1: "10.0.0.7".into(),
                metrics_prom_exporter_host: host.into(),
                ..BrokerConfig::default()
            };
            assert_eq!(metrics_host(&config), expected, "{bind} {host:?}");
        }
    }

    #[test]
    fn a_program_without_the_exporter_refuses_to_send_to_collectors() {
        let mut config = BrokerConfig::default();
        assert!(refuse(&config, false).is_ok());
        config.metrics_exporter_type = MetricsExporterType::OtlpGrpc;
        assert!(matches!(refuse(&config, false), Err(StartError::NoOtlp)));
        assert!(refuse(&config, true).is_ok());
    }

    #[test]
    fn free_ports_are_not_given_twice_nor_to_outgoing_connections() {
        let ports: HashSet<u16> = (0..100).map(|_| free_port("127.0.0.1").unwrap()).collect();
        assert_eq!(ports.len(), 100);
        assert!(ports.iter().all(|port| *port < 32_768));
    }
}
