//! Message traces: what happened to which message and when, sent as messages of their own for `mqadmin` and the dashboard.
//!
//! Tracing never holds up what it traces: records wait in a bounded queue, and are dropped when it is full.

mod batch;
mod record;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::compression::CompressionType;
use oxmq_protocol::message::{Message, MessageExt};
use oxmq_protocol::property;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::clock::now_millis;
use crate::error::ClientError;
use crate::instance::{Instance, WeakInstance};
use crate::namespace::Namespace;
use crate::producer::prepare::{MessageSettings, Prepared, next_unique_id};
use batch::TraceMessage;
pub(crate) use record::{Consumed, Event, MessageKind, Record};

/// Records that may wait to be sent.
const QUEUE_MAX: usize = 2048;
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client that shuts down may take for its last traces.
const LAST_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Region of brokers that name none.
pub(crate) const DEFAULT_REGION: &str = "DefaultRegion";

/// That and where a client traces its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceConfig {
    /// `RMQ_SYS_TRACE_TOPIC` unless told otherwise; brokers make that one with `traceTopicEnable`.
    pub topic: String,
    /// Records that go out together, at most 20. 10 by default; after 5 s fewer.
    pub batch_num: usize,
}

impl Default for TraceConfig {
    fn default() -> TraceConfig {
        TraceConfig {
            topic: oxmq_protocol::topic::TRACE_TOPIC.to_owned(),
            batch_num: 10,
        }
    }
}

/// Takes what members of an instance have to tell.
pub(crate) struct Tracer {
    topic: String,
    /// Records tell the names that applications know.
    namespace: Namespace,
    records: mpsc::Sender<Vec<Record>>,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
    dropped: AtomicU64,
}

/// Messages that a listener is about to get, until it has returned.
pub(crate) struct Consuming {
    request_id: String,
    records: Vec<Record>,
    started: Instant,
}

impl Tracer {
    /// Starts the task that sends. It ends with the instance.
    pub(crate) fn start(config: &TraceConfig, namespace: Namespace, instance: WeakInstance) -> Tracer {
        let (records, arrivals) = mpsc::channel(QUEUE_MAX);
        let (flushes, wishes) = mpsc::channel(1);
        let sender = Sender {
            topic: config.topic.clone(),
            group: format!("_INNER_TRACE_PRODUCER-{}", std::process::id()),
            instance,
            next_queue: AtomicUsize::new(0),
        };
        let batch_num = config.batch_num.clamp(1, batch::BATCH_NUM_MAX);
        tokio::spawn(sender.run(arrivals, wishes, batch_num));
        Tracer {
            topic: config.topic.clone(),
            namespace,
            records,
            flushes,
            dropped: AtomicU64::new(0),
        }
    }

    pub(crate) fn trace(&self, record: Record) {
        self.append(vec![record]);
    }

    fn append(&self, mut records: Vec<Record>) {
        records.retain(|record| record.topic != self.topic);
        for record in &mut records {
            record.topic = self.namespace.strip(&record.topic);
            record.group = self.namespace.strip(&record.group);
        }
        if !records.is_empty() && self.records.try_send(records).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::debug!(dropped, "a trace is dropped");
        }
    }

    /// Sends everything that waits. Gives up after a while.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            if self.flushes.send(done).await.is_ok() {
                // An error means that the task has ended, with nothing left to send.
                let _ = flushed.await;
            }
        };
        if tokio::time::timeout(LAST_FLUSH_TIMEOUT, flush).await.is_err() {
            tracing::warn!("the last traces are not sent");
        }
    }

    /// A listener is about to get these messages.
    pub(crate) fn before_consuming<'a>(
        &self,
        group: &str,
        messages: impl Iterator<Item = &'a MessageExt>,
    ) -> Option<Consuming> {
        let (timestamp, request_id) = (now_millis(), next_unique_id(now_millis()));
        let traced = messages.filter(|message| message.property(property::TRACE_SWITCH) != Some("false"));
        let records: Vec<_> = traced
            .map(|message| Record {
                timestamp,
                region: region_of(message.property(property::MSG_REGION)),
                group: group.to_owned(),
                topic: message.topic.clone(),
                msg_id: message.msg_id(),
                event: Event::SubBefore {
                    request_id: request_id.clone(),
                    retry_times: message.reconsume_times,
                    keys: message.property(property::KEYS).map(str::to_owned),
                },
            })
            .collect();
        if records.is_empty() {
            return None;
        }
        self.append(records.clone());
        Some(Consuming {
            request_id,
            records,
            started: Instant::now(),
        })
    }

    /// It has returned.
    pub(crate) fn after_consuming(&self, consuming: Consuming, outcome: Consumed) {
        let Consuming {
            request_id,
            mut records,
            started,
        } = consuming;
        let cost_ms = started.elapsed().as_millis() as u64 / records.len() as u64;
        for record in &mut records {
            if let Event::SubBefore { keys, .. } = &mut record.event {
                record.timestamp = now_millis();
                record.event = Event::SubAfter {
                    request_id: request_id.clone(),
                    cost_ms,
                    success: outcome == Consumed::Success,
                    keys: keys.take(),
                    outcome,
                };
            }
        }
        self.append(records);
    }
}

pub(crate) fn region_of(region: Option<&str>) -> String {
    region
        .filter(|region| !region.is_empty())
        .unwrap_or(DEFAULT_REGION)
        .to_owned()
}

struct Sender {
    topic: String,
    group: String,
    instance: WeakInstance,
    next_queue: AtomicUsize,
}

impl Sender {
    async fn run(
        self,
        mut arrivals: mpsc::Receiver<Vec<Record>>,
        mut wishes: mpsc::Receiver<oneshot::Sender<()>>,
        batch_num: usize,
    ) {
        let mut waiting: Vec<Record> = Vec::new();
        let mut flush_at = Instant::now() + FLUSH_INTERVAL;
        loop {
            let mut flushed = None;
            tokio::select! {
                biased;
                Some(records) = arrivals.recv() => waiting.extend(records),
                Some(done) = wishes.recv() => flushed = Some(done),
                () = tokio::time::sleep_until(flush_at) => {}
                else => return,
            }
            if waiting.len() >= batch_num || flushed.is_some() || Instant::now() >= flush_at {
                flush_at = Instant::now() + FLUSH_INTERVAL;
                self.send_all(&std::mem::take(&mut waiting)).await;
            }
            if let Some(done) = flushed {
                // Whoever asked may have given up.
                let _ = done.send(());
            }
        }
    }

    async fn send_all(&self, records: &[Record]) {
        let Some(instance) = self.instance.upgrade() else {
            return;
        };
        for message in batch::messages(records) {
            if let Err(error) = self.send(&instance, message).await {
                tracing::warn!(topic = self.topic, %error, "traces are lost");
            }
        }
    }

    async fn send(&self, instance: &Instance, message: TraceMessage) -> Result<(), ClientError> {
        let keys: Vec<_> = message.keys.into_iter().collect();
        let message = Message::new(self.topic.as_str(), Bytes::from(message.body)).with_keys(keys.join(" "));
        let settings = MessageSettings {
            producer_group: self.group.clone(),
            namespace: Namespace::default(),
            message_bytes_max: usize::MAX,
            compress_body_over: 4096,
            compression: CompressionType::Zlib,
            compression_level: oxmq_protocol::compression::DEFAULT_LEVEL,
        };
        let prepared = Prepared::message(message, &settings, now_millis());
        let prepared = prepared.map_err(|error| ClientError::Config(error.to_string()))?;
        let route = instance.publish_route(&self.topic).await?;
        let turn = self.next_queue.fetch_add(1, Ordering::Relaxed);
        let Some(queue) = route.publish.get(turn % route.publish.len().max(1)) else {
            return Err(ClientError::NoRoute {
                topic: self.topic.clone(),
            });
        };
        let addr = instance.master_addr(&queue.broker_name)?;
        let answer = instance
            .remoting()
            .invoke(&addr, prepared.request(queue), SEND_TIMEOUT)
            .await?;
        match answer.header.code {
            0 => Ok(()),
            code => Err(ClientError::Config(format!(
                "code {code}: {}",
                answer.header.remark.unwrap_or_default()
            ))),
        }
    }
}
