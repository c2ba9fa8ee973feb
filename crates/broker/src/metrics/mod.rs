//! The metrics of RocketMQ 5.x (spec: behaviour.md §14) and those who get them: an HTTP endpoint
//! ([`Endpoint`]), a collector or the log ([`Pusher`]).
//!
//! What happens is counted where it happens: in the broker's statistics ([`crate::stats`]), which exist anyway, in
//! [`RpcLatencies`] of each worker, and in the [`Family`]s of [`Metrics`] for what happens seldom. Everything else is looked
//! up by a scrape ([`scrape`]), on a thread of its own. Without an exporter there are no [`Metrics`] and nothing here is
//! counted.

mod endpoint;
mod health;
mod lag;
mod names;
#[cfg(feature = "otlp")]
mod otlp;
mod push;
mod rpc;
mod scrape;
mod series;
mod sheet;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::broker::Broker;
use crate::config::{BrokerConfig, MetricsExporterType};
use crate::stats::SentBatch;

pub(crate) use endpoint::Endpoint;
pub(crate) use health::{Health, Stage};
pub(crate) use push::Pusher;
pub(crate) use rpc::RpcLatencies;
pub(crate) use series::{Family, Histogram};

/// What RocketMQ calls the meter of all these.
const SCOPE: &str = "broker-meter";

/// Upper ends of the classes of histograms. What is larger than the last has a class of its own.
pub(crate) mod bounds {
    pub(crate) const RPC_MS: [u64; 9] = [1, 3, 5, 7, 10, 100, 1000, 2000, 3000];
    pub(crate) const CREATE_MS: [u64; 5] = [10, 100, 1000, 3000, 5000];
    pub(crate) const FINISH_S: [u64; 6] = [5, 60, 600, 3600, 43_200, 86_400];
    pub(crate) const DELAY_S: [u64; 6] = [60, 600, 3600, 43_200, 86_400, 259_200];
    pub(crate) const SCAN_MS: [u64; 6] = [1, 10, 100, 1000, 2000, 3000];
}

/// What is counted for the exporter alone, and how it shows all.
pub(crate) struct Metrics {
    /// Labels that every sample has.
    labels: Vec<(String, String)>,
    cardinality_max: usize,
    switches: Switches,
    rpc: Box<[Arc<RpcLatencies>]>,
    /// Messages and bytes that delay levels have read.
    scheduled: [AtomicU64; 2],
    /// By consumer group and topic.
    dead_letters: Family<u64>,
    /// By topic.
    commits: Family<u64>,
    rollbacks: Family<u64>,
    finish_latency: Family<Histogram>,
    /// By `invocation_status` and `is_system`, and without the latter.
    topic_create: Family<Histogram>,
    group_create: Family<Histogram>,
    /// By topic.
    timer_enqueue: Family<u64>,
    timer_dequeue: Family<u64>,
    delay_latency: Family<Histogram>,
    /// By consumer group, topic and type of record.
    revive_in: Family<u64>,
    /// By consumer group, topic, revive queue and type of record.
    revive_out: Family<u64>,
    /// By consumer group, topic and outcome.
    revive_retry: Family<u64>,
    buffer_scan: Family<Histogram>,
}

/// `enable…Metrics`
#[derive(Debug, Clone, Copy)]
struct Switches {
    remoting: bool,
    store: bool,
    pop: bool,
    connections: bool,
    transactions: bool,
    stats: bool,
    requests: bool,
    lag: bool,
}

/// What lies in the revive topic.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ReviveRecordType {
    Checkpoint,
    Ack,
}

impl ReviveRecordType {
    fn name(self) -> &'static str {
        match self {
            ReviveRecordType::Checkpoint => "CK",
            ReviveRecordType::Ack => "ACK",
        }
    }
}

impl Metrics {
    /// Nothing where the settings ask for none.
    pub(crate) fn of(config: &BrokerConfig, workers: usize) -> Option<Metrics> {
        if config.metrics_exporter_type == MetricsExporterType::Disable {
            return None;
        }
        let max = config.metrics_otel_cardinality_limit;
        Some(Metrics {
            labels: common_labels(config),
            cardinality_max: max,
            switches: Switches {
                remoting: config.enable_remoting_metrics,
                store: config.enable_message_store_metrics,
                pop: config.enable_pop_metrics,
                connections: config.enable_connection_metrics,
                transactions: config.enable_transaction_metrics,
                stats: config.enable_stats_metrics,
                requests: config.enable_request_metrics,
                lag: config.enable_lag_and_dlq_metrics,
            },
            rpc: (0..workers).map(|_| Arc::default()).collect(),
            scheduled: Default::default(),
            dead_letters: Family::new(max),
            commits: Family::new(max),
            rollbacks: Family::new(max),
            finish_latency: Family::new(max),
            topic_create: Family::new(max),
            group_create: Family::new(max),
            timer_enqueue: Family::new(max),
            timer_dequeue: Family::new(max),
            delay_latency: Family::new(max),
            revive_in: Family::new(max),
            revive_out: Family::new(max),
            revive_retry: Family::new(max),
            buffer_scan: Family::new(max),
        })
    }

    /// The page of the HTTP endpoint. May wait for the disk.
    fn page(broker: &Broker) -> String {
        let labels = broker.metrics.as_ref().map_or(&[][..], |metrics| &metrics.labels);
        text::page(&scrape::families(broker), labels)
    }

    /// Where a worker counts its answers.
    pub(crate) fn rpc(&self, worker: usize) -> Option<Arc<RpcLatencies>> {
        self.switches.remoting.then(|| Arc::clone(&self.rpc[worker]))
    }

    /// Delay levels have read messages and delivered them.
    pub(crate) fn schedule_read(&self, read: &SentBatch) {
        self.scheduled[0].fetch_add(read.messages, Ordering::Relaxed);
        self.scheduled[1].fetch_add(read.bytes, Ordering::Relaxed);
    }

    fn scheduled(&self) -> (i64, i64) {
        let [messages, bytes] = &self.scheduled;
        (
            messages.load(Ordering::Relaxed) as i64,
            bytes.load(Ordering::Relaxed) as i64,
        )
    }

    pub(crate) fn dead_letter(&self, group: &str, topic: &str) {
        self.dead_letters.add(&[group, topic], 1);
    }

    /// A transaction was committed so long after its half message was made.
    pub(crate) fn committed(&self, topic: &str, after_ms: i64) {
        self.commits.add(&[topic], 1);
        let seconds = (after_ms / 1000).max(0) as u64;
        self.finish_latency
            .with(&[topic], |row| row.record(&bounds::FINISH_S, seconds));
    }

    pub(crate) fn rolled_back(&self, topic: &str) {
        self.rollbacks.add(&[topic], 1);
    }

    pub(crate) fn topic_created(&self, success: bool, is_system: bool, took: Duration) {
        let labels = [status(success), sheet::bool_label(is_system)];
        self.topic_create
            .with(&labels, |row| row.record(&bounds::CREATE_MS, took.as_millis() as u64));
    }

    pub(crate) fn group_created(&self, success: bool, took: Duration) {
        self.group_create.with(&[status(success)], |row| {
            row.record(&bounds::CREATE_MS, took.as_millis() as u64);
        });
    }

    /// A message was entered into the timer wheel, to be delivered so long after it was made.
    pub(crate) fn timer_entered(&self, topic: &str, delay_ms: i64) {
        self.timer_enqueue.add(&[topic], 1);
        let seconds = (delay_ms / 1000).max(0) as u64;
        self.delay_latency
            .with(&[topic], |row| row.record(&bounds::DELAY_S, seconds));
    }

    pub(crate) fn timer_delivered(&self, topic: &str, count: u64) {
        self.timer_dequeue.add(&[topic], count);
    }

    /// A record was put into the revive topic.
    pub(crate) fn revive_in(&self, group: &str, topic: &str, record: ReviveRecordType) {
        self.revive_in.add(&[group, topic, record.name()], 1);
    }

    /// A record was read from it.
    pub(crate) fn revive_out(&self, group: &str, topic: &str, revive_queue: usize, record: ReviveRecordType) {
        let queue = revive_queue.to_string();
        self.revive_out.add(&[group, topic, &queue, record.name()], 1);
    }

    /// A message came again, or could not.
    pub(crate) fn revive_retry(&self, group: &str, topic: &str, stored: bool) {
        let status = if stored { "PUT_OK" } else { "UNKNOWN_ERROR" };
        self.revive_retry.add(&[group, topic, status], 1);
    }

    /// Checkpoints in memory were looked through.
    pub(crate) fn buffer_scanned(&self, took: Duration) {
        self.buffer_scan
            .with(&[], |row| row.record(&bounds::SCAN_MS, took.as_millis() as u64));
    }
}

fn status(success: bool) -> &'static str {
    if success { "success" } else { "failure" }
}

/// `metricsLabel`, then what names the broker, which wins.
fn common_labels(config: &BrokerConfig) -> Vec<(String, String)> {
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| {
        labels.retain(|(known, _)| known != name);
        labels.push((name.to_owned(), value.to_owned()));
    };
    for pair in config.metrics_label.split(',').filter(|pair| !pair.is_empty()) {
        match pair.split(':').collect::<Vec<_>>()[..] {
            [name, value] if !name.trim().is_empty() => set(&text::label_name(name.trim()), value.trim()),
            _ => tracing::warn!(pair, "metricsLabel: not name:value"),
        }
    }
    if config.metrics_in_delta {
        set("aggregation", "delta");
    }
    set("node_type", "broker");
    set("cluster", &config.broker_cluster_name);
    set("node_id", &config.broker_name);
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_settings_do_not_replace_those_of_the_broker() {
        let config = BrokerConfig {
            metrics_label: "zone:z1,broken,node_type:x,two words:y,a:b:c".into(),
            metrics_in_delta: true,
            broker_name: "b".into(),
            broker_cluster_name: "c".into(),
            ..BrokerConfig::default()
        };
        let labels = common_labels(&config);
        let shown: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            shown,
            [
                "zone=z1",
                "two_words=y",
                "aggregation=delta",
                "node_type=broker",
                "cluster=c",
                "node_id=b"
            ]
        );
    }
}
