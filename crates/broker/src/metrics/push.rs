//! Metrics that are sent or written every now and then: a thread of its own, which holds up nobody.
//!
//! One who does not take them is warned of once, and tried again the next time.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::health::Health;
#[cfg(feature = "otlp")]
use super::otlp::{Otlp, Times};
use super::sheet::{Family, Rows};
use super::{scrape, text};
use crate::config::{BrokerConfig, MetricsExporterType};

/// Lines of one time.
const LOG_LINES_MAX: usize = 5000;

/// Ends when it is dropped, after a last time.
pub(crate) struct Pusher {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

enum Taker {
    #[cfg(feature = "otlp")]
    Otlp(Box<Otlp>),
    /// The log, with these labels.
    Log(Vec<(String, String)>),
}

impl Pusher {
    /// Nothing where the settings ask for none, or are wrong: then the log says why, and the broker starts all the same.
    pub(crate) fn start(config: &BrokerConfig, health: Arc<Health>) -> io::Result<Option<Pusher>> {
        let labels = super::common_labels(config);
        let (taker, interval_ms) = match config.metrics_exporter_type {
            MetricsExporterType::Log => (Taker::Log(labels), config.metric_logging_exporter_interval_ms),
            #[cfg(feature = "otlp")]
            MetricsExporterType::OtlpGrpc => match Otlp::of(config, labels) {
                Ok(otlp) => (Taker::Otlp(Box::new(otlp)), config.metric_grpc_exporter_interval_ms),
                Err(error) => {
                    tracing::error!(%error, "nobody gets metrics");
                    return Ok(None);
                }
            },
            _ => return Ok(None),
        };
        let interval = Duration::from_millis(interval_ms);
        let (stop, stopped) = oneshot::channel();
        let run = move || match Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build()
        {
            Ok(runtime) => runtime.block_on(push(taker, interval, &health, stopped)),
            Err(error) => tracing::error!(%error, "the thread of the metrics cannot run"),
        };
        let thread = thread::Builder::new().name("broker-metrics".into()).spawn(run)?;
        Ok(Some(Pusher {
            stop: Some(stop),
            thread: Some(thread),
        }))
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by a panic, which the join tells.
            let _ = stop.send(());
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the metrics had panicked");
        }
    }
}

async fn push(mut taker: Taker, interval: Duration, health: &Health, mut stopped: oneshot::Receiver<()>) {
    let mut missed = 0_u64;
    loop {
        let is_last = tokio::select! {
            () = tokio::time::sleep(interval) => false,
            _ = &mut stopped => true,
        };
        // A collector that is away does not hold up the end.
        if is_last && missed > 0 {
            return;
        }
        match push_once(&mut taker, health).await {
            Ok(()) => {
                if missed > 0 {
                    tracing::warn!(missed, "metrics are exported again");
                }
                missed = 0;
            }
            Err(error) => {
                if missed == 0 {
                    tracing::warn!(error, "metrics are not exported; tried again every {interval:?}");
                }
                missed += 1;
            }
        }
        if is_last {
            return;
        }
    }
}

async fn push_once(taker: &mut Taker, health: &Health) -> Result<(), String> {
    let Some(broker) = health.broker() else {
        return Ok(());
    };
    #[cfg(feature = "otlp")]
    let times = Times {
        started_ms: broker.started_at,
        now_ms: broker.now_ms(),
    };
    let families = spawn_blocking(move || scrape::families(&broker)).await;
    let families = families.map_err(|error| format!("the metrics cannot be gathered: {error}"))?;
    match taker {
        #[cfg(feature = "otlp")]
        Taker::Otlp(otlp) => otlp.export(&families, times).await,
        Taker::Log(labels) => {
            log(&families, labels);
            Ok(())
        }
    }
}

/// A line for each series, of histograms with count and sum.
fn log(families: &[Family], common: &[(String, String)]) {
    let mut left = LOG_LINES_MAX;
    for family in families {
        let head = &family.head;
        let mut line = |values: &[String], value: String| {
            if left > 0 {
                left -= 1;
                let labels = text::labels(head, values, common);
                tracing::info!(target: "metrics", "{}{{{labels}}} {value}", head.name);
            }
        };
        match &family.rows {
            Rows::Counters(rows) => rows.iter().for_each(|(values, value)| line(values, value.to_string())),
            Rows::Gauges(rows) => rows.iter().for_each(|(values, value)| line(values, value.to_string())),
            Rows::Histograms(_, rows) => {
                for (values, value) in rows {
                    let count: u64 = value.counts.iter().sum();
                    line(values, format!("count={count} sum={}", value.sum));
                }
            }
        }
    }
    if left == 0 {
        tracing::warn!("more than {LOG_LINES_MAX} series: the log has not all metrics");
    }
}
