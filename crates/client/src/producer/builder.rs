//! What a producer is made from.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use oxmq_protocol::compression::{self, CompressionType};
use oxmq_protocol::topic;
use parking_lot::Mutex;

use super::accumulator::BatchLimits;
use super::auto_batch::AutoBatch;
use super::in_flight::InFlight;
use super::prepare::MessageSettings;
use super::queue_choice::QueueChoice;
use super::{Producer, Shared};
use crate::error::ClientError;
use crate::instance::{Instance, InstanceConfig};
use crate::namespace::Namespace;
use crate::trace::TraceConfig;
use crate::{ClientTls, Credentials};

/// Bounds that Java checks as well.
const BATCH_MAX_DELAY_MAX: Duration = Duration::from_secs(30);
const BATCH_MAX_BYTES_MAX: usize = 2 << 20;
const BACKPRESSURE_SENDS_MIN: usize = 10;
const BACKPRESSURE_BYTES_MIN: usize = 1 << 20;

/// What a producer is made from. Only the group must be given; the name server may come from `NAMESRV_ADDR`.
#[derive(Debug, Clone)]
pub struct ProducerBuilder {
    instance: Option<Instance>,
    pub(super) config: InstanceConfig,
    message: MessageSettings,
    send: SendSettings,
}

impl ProducerBuilder {
    setters! {
        /// `host:port`, several with `;` between them.
        name_server(addrs: impl Into<String>): config.name_server = addrs.into();
        /// Topics and the group are of this namespace ([`InstanceConfig::namespace`]).
        namespace(namespace: impl Into<String>): config.namespace = Some(namespace.into());
        /// Connections use TLS.
        tls(tls: ClientTls): config.remoting.tls = Some(tls);
        /// Signs requests with this access key and secret key.
        credentials(credentials: Credentials): config.remoting.credentials = Some(credentials);
        /// How to reach the servers, in full. Overwrites what was set of it before.
        instance_config(config: InstanceConfig): config = config;
        /// Shares the connections of an instance. It stays up when the producer shuts down.
        instance(instance: Instance): instance = Some(instance);
        /// For a send with all its attempts. 3 s by default.
        send_msg_timeout(timeout: Duration): send.timeout = timeout;
        /// Attempts after the first, on other brokers where there are any. 2 by default.
        retry_times_when_send_failed(times: u32): send.retry_times = times;
        /// The same for sends in the background, which are repeated only when the broker does not answer. 2 by default.
        retry_times_when_send_async_failed(times: u32): send.retry_times_async = times;
        /// Also sends to another broker when the first has stored the message but could not flush or replicate it in time.
        retry_another_broker_when_not_store_ok(enable: bool): send.retry_another_broker_when_not_store_ok = enable;
        /// Leaves brokers alone for a while that were slow or failed. Off by default.
        send_latency_fault_enable(enable: bool): send.latency_fault_enable = enable;
        /// Bodies of at least so many bytes are compressed. 4096 by default.
        compress_msg_body_over_howmuch(bytes: usize): message.compress_body_over = bytes;
        /// ZLIB at level 5 by default. LZ4 and ZSTD need consumers of version 5.
        compression(kind: CompressionType, level: u32): message.compression = kind, message.compression_level = level;
        /// Longest body, before compression. 4 MiB by default, as the broker's own limit.
        max_message_size(bytes: usize): message.message_bytes_max = bytes;
        /// Sends that may be under way in the background, without back-pressure. 10,000 by default.
        async_in_flight_max(count: usize): send.async_in_flight_max = count;
        /// Bounds sends in the background by [`Self::back_pressure_for_async_send_num`] and
        /// [`Self::back_pressure_for_async_send_size`], in place of [`Self::async_in_flight_max`]. Off by default.
        enable_backpressure_for_async_mode(enable: bool): send.backpressure = enable;
        /// Sends that may be under way in the background, with back-pressure. 1024 by default, 10 at least.
        back_pressure_for_async_send_num(count: usize): send.backpressure_sends = count.max(BACKPRESSURE_SENDS_MIN);
        /// Bytes of bodies that may be under way in the background, with back-pressure. 100 MiB by default, 1 MiB at
        /// least.
        back_pressure_for_async_send_size(bytes: usize): send.backpressure_bytes = bytes.max(BACKPRESSURE_BYTES_MIN);
        /// Lets messages of one topic, queue and tag wait a moment for each other and sends them as one batch. Each send
        /// still has its own result. Messages with a delay, of transactions and replies go by themselves. Off by default.
        auto_batch(enable: bool): send.auto_batch = enable;
        /// How long a message waits for others at most, up to 30 s. 10 ms by default.
        batch_max_delay(delay: Duration): send.batch_limits.hold_time = delay;
        /// A batch goes as soon as it has so many bytes, up to 2 MiB. 32 KiB by default. Larger messages go by themselves.
        batch_max_bytes(bytes: usize): send.batch_limits.hold_bytes = bytes;
        /// Bytes that may wait in batches or be under way in them. Messages beyond go by themselves. 32 MiB by default.
        total_batch_max_bytes(bytes: usize): send.batch_limits.total_bytes = bytes;
        /// Calls to brokers go to their port that is kept free of pulls ([`InstanceConfig::vip_channel_enabled`]).
        vip_channel_enabled(enable: bool): config.vip_channel_enabled = enable;
        /// Traces what is sent to `RMQ_SYS_TRACE_TOPIC`. Off by default. The trace of a shared instance is that instance's.
        enable_msg_trace(enable: bool): config.trace = enable.then(TraceConfig::default);
    }

    /// Checks the settings and starts. Routes are asked for by the first send to each topic.
    pub async fn start(self) -> Result<Producer, ClientError> {
        let namespace = match &self.instance {
            Some(instance) => instance.namespace().clone(),
            None => self.config.namespace(),
        };
        let message = MessageSettings {
            producer_group: namespace.wrap(&self.message.producer_group),
            namespace,
            ..self.message
        };
        topic::validate_group(&message.producer_group)?;
        let auto_batch = self.send.auto_batch()?;
        let owns_instance = self.instance.is_none();
        let instance = match self.instance {
            Some(instance) => instance,
            None => Instance::start(self.config).await?,
        };
        let shared = Arc::new(Shared {
            instance,
            owns_instance,
            in_flight: self.send.in_flight(),
            auto_batch,
            message,
            send: self.send,
            queue_choice: QueueChoice::new(),
            latency_fault: Mutex::default(),
            introduced: Mutex::default(),
            checks: OnceLock::new(),
        });
        shared.instance.join(&shared)?;
        Ok(Producer(shared))
    }
}

impl Producer {
    /// Settings of a producer of this group.
    pub fn builder(group: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder {
            instance: None,
            config: InstanceConfig::default(),
            message: MessageSettings {
                producer_group: group.into(),
                namespace: Namespace::default(),
                message_bytes_max: 4 * 1024 * 1024,
                compress_body_over: 4096,
                compression: CompressionType::Zlib,
                compression_level: compression::DEFAULT_LEVEL,
            },
            send: SendSettings {
                timeout: Duration::from_secs(3),
                retry_times: 2,
                retry_times_async: 2,
                retry_another_broker_when_not_store_ok: false,
                latency_fault_enable: false,
                async_in_flight_max: 10_000,
                backpressure: false,
                backpressure_sends: 1024,
                backpressure_bytes: 100 << 20,
                auto_batch: false,
                batch_limits: BatchLimits {
                    hold_bytes: 32 << 10,
                    hold_time: Duration::from_millis(10),
                    total_bytes: 32 << 20,
                },
            },
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct SendSettings {
    pub(super) timeout: Duration,
    pub(super) retry_times: u32,
    pub(super) retry_times_async: u32,
    pub(super) retry_another_broker_when_not_store_ok: bool,
    pub(super) latency_fault_enable: bool,
    pub(super) async_in_flight_max: usize,
    backpressure: bool,
    backpressure_sends: usize,
    backpressure_bytes: usize,
    auto_batch: bool,
    batch_limits: BatchLimits,
}

impl SendSettings {
    fn in_flight(&self) -> InFlight {
        match self.backpressure {
            true => InFlight::new(self.backpressure_sends, Some(self.backpressure_bytes)),
            false => InFlight::new(self.async_in_flight_max, None),
        }
    }

    fn auto_batch(&self) -> Result<Option<AutoBatch>, ClientError> {
        let limits = self.batch_limits;
        let refused = |setting: &str| Err(ClientError::Config(format!("{setting} is out of its range")));
        if limits.hold_time.is_zero() || limits.hold_time > BATCH_MAX_DELAY_MAX {
            return refused("batch_max_delay");
        }
        if limits.hold_bytes == 0 || limits.hold_bytes > BATCH_MAX_BYTES_MAX {
            return refused("batch_max_bytes");
        }
        if limits.total_bytes == 0 {
            return refused("total_batch_max_bytes");
        }
        Ok(self.auto_batch.then(|| AutoBatch::new(limits)))
    }
}
