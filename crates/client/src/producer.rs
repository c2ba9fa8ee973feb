//! Sending messages.
//!
//! A [`Producer`] goes round the writable queues of a topic. A send that fails on one broker is tried on another as
//! long as its time lasts, by the rules of RocketMQ's own clients; a send to a queue of the caller's choice is tried
//! there once.

mod accumulator;
mod auto_batch;
mod builder;
mod error;
mod in_flight;
pub(crate) mod prepare;
mod queue_choice;
mod recall;
mod request;
mod retry;
mod send_result;
mod transaction;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hashbrown::HashSet;
use oxmq_protocol::RemotingCommand;
use oxmq_protocol::body::{MessageQueue, ProducerData};
use oxmq_protocol::message::Message;
use oxmq_protocol::{response_code, topic};
use oxmq_remoting::CallError;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::clock::now_millis;
use crate::error::ClientError;
use crate::instance::{Answer, Instance, Member, MemberData, TopicRoute};
use crate::latency_fault::LatencyFault;

use auto_batch::AutoBatch;
pub use builder::ProducerBuilder;
use builder::SendSettings;
pub use error::{MessageError, SendError};
use in_flight::{InFlight, Place};
use prepare::{MessageSettings, Prepared};
use queue_choice::QueueChoice;
pub use recall::RecallError;
pub use request::{NoRequest, RequestError, create_reply_message};
use retry::{Outcome, RetryRule};
pub use send_result::{SendResult, SendStatus};
use transaction::AnswerChecks;
pub use transaction::{
    LocalTransactionState, TransactionListener, TransactionProducer, TransactionProducerBuilder, TransactionSendResult,
};

/// Sends messages. Clones are the same producer.
#[derive(Clone)]
pub struct Producer(Arc<Shared>);

struct Shared {
    instance: Instance,
    /// Whether the instance was made for this producer and ends with it.
    owns_instance: bool,
    message: MessageSettings,
    send: SendSettings,
    queue_choice: QueueChoice,
    latency_fault: Mutex<LatencyFault>,
    in_flight: InFlight,
    auto_batch: Option<AutoBatch>,
    /// Topics whose brokers know this client, so that replies find it.
    introduced: Mutex<HashSet<String>>,
    /// Of a producer that has a listener for transactions.
    checks: OnceLock<AnswerChecks>,
}

/// A send that has begun.
enum Begun {
    Alone(Box<Prepared>, Option<MessageQueue>),
    /// With others, which somebody else sends.
    InBatch(oneshot::Receiver<Result<SendResult, SendError>>),
}

impl Producer {
    /// The connections that it uses.
    pub fn instance(&self) -> &Instance {
        &self.0.instance
    }

    /// Sends a message and waits until the broker has stored it.
    pub async fn send(&self, message: Message) -> Result<SendResult, SendError> {
        let begun = self.0.begin(message, None)?;
        self.0.complete(begun, self.0.retry_rule()).await
    }

    /// Sends messages of one topic as one request. They are stored together, in one queue, one behind the other.
    pub async fn send_batch(&self, messages: Vec<Message>) -> Result<SendResult, SendError> {
        let prepared = Prepared::batch(messages, &self.0.message, now_millis())?;
        self.0.send(&prepared, self.0.retry_rule()).await
    }

    /// Starts a send and returns at once. The send goes on whether or not its handle is awaited. Fails when as many are
    /// under way as may be.
    pub fn send_async(&self, message: Message) -> Result<JoinHandle<Result<SendResult, SendError>>, SendError> {
        let place = self.0.in_flight.try_enter(message.body.len())?;
        self.spawn_send(message, place)
    }

    /// Starts a send as [`Producer::send_async`] does, as soon as fewer are under way than may be: whoever calls it in a loop
    /// goes as fast as the brokers do. Fails when that takes longer than a send may.
    pub async fn start_send(&self, message: Message) -> Result<JoinHandle<Result<SendResult, SendError>>, SendError> {
        let place = self.0.in_flight.enter(message.body.len(), self.0.send.timeout).await?;
        self.spawn_send(message, place)
    }

    fn spawn_send(
        &self,
        message: Message,
        place: Place,
    ) -> Result<JoinHandle<Result<SendResult, SendError>>, SendError> {
        let begun = self.0.begin(message, None)?;
        let shared = Arc::clone(&self.0);
        Ok(tokio::spawn(async move {
            let _place = place;
            shared.complete(begun, shared.async_retry_rule()).await
        }))
    }

    /// Starts a send and returns at once; `callback` is called once with what became of it, on the runtime.
    pub fn send_with_callback(
        &self,
        message: Message,
        callback: impl FnOnce(Result<SendResult, SendError>) + Send + 'static,
    ) {
        match self.send_async(message) {
            Ok(sending) => drop(tokio::spawn(async move {
                match sending.await {
                    Ok(result) => callback(result),
                    Err(stopped) => callback(Err(SendError::Failed {
                        attempts: 0,
                        source: ClientError::Config(stopped.to_string()),
                    })),
                }
            })),
            Err(error) => callback(Err(error)),
        }
    }

    /// Hands a message to the connection without asking for an answer. Whether it arrived is not known.
    pub async fn send_oneway(&self, message: Message) -> Result<(), SendError> {
        let prepared = Prepared::message(message, &self.0.message, now_millis())?;
        let route = self.0.route(&prepared).await?;
        let queue = self.0.choose(&route, None, &prepared)?;
        let mut request = prepared.request(queue);
        request.header.mark_oneway();
        let sent = async {
            let addr = self
                .0
                .instance
                .fast_addr(self.0.instance.master_addr(&queue.broker_name)?);
            Ok(self.0.instance.remoting().oneway(&addr, request).await?)
        };
        sent.await.map_err(|source| SendError::Failed { attempts: 1, source })
    }

    /// Sends to one queue. No other is tried when that fails.
    pub async fn send_to(&self, message: Message, queue: &MessageQueue) -> Result<SendResult, SendError> {
        let begun = self.0.begin(message, Some(queue))?;
        self.0.complete(begun, self.0.retry_rule()).await
    }

    /// Sends to the queue that `select` points at among the writable ones, their count being more than 0. No other is
    /// tried when that fails.
    pub async fn send_with_selector(
        &self,
        message: Message,
        select: impl FnOnce(&[MessageQueue], &Message) -> usize,
    ) -> Result<SendResult, SendError> {
        topic::validate_topic(&message.topic).map_err(MessageError::from)?;
        let queues = self.publish_queues(&message.topic).await?;
        if queues.is_empty() {
            return Err(SendError::NoQueue { topic: message.topic });
        }
        let queue = &queues[select(&queues, &message) % queues.len()];
        self.send_to(message, queue).await
    }

    /// Sends messages with equal keys to one queue, where they stay in order.
    pub async fn send_ordered(&self, message: Message, sharding_key: &str) -> Result<SendResult, SendError> {
        let hash = oxmq_protocol::hash::java_string_hash(sharding_key).unsigned_abs() as usize;
        self.send_with_selector(message, |_, _| hash).await
    }

    /// The queues that messages of a topic can be sent to.
    pub async fn publish_queues(&self, topic: &str) -> Result<Vec<MessageQueue>, SendError> {
        let namespace = &self.0.message.namespace;
        let route = self.0.instance.publish_route(&namespace.wrap(topic)).await;
        let route = route.map_err(|source| SendError::Failed { attempts: 0, source })?;
        Ok(namespace.strip_queues(&route.publish))
    }

    /// Waits for sends that are under way in the background, at most for the time of a send; then tells the brokers that this
    /// producer is gone and closes what was opened for it.
    pub async fn shutdown(&self) {
        self.0.finish_batches().await;
        self.0.in_flight.wait_idle(self.0.send.timeout).await;
        self.0.instance.leave(&*self.0).await;
        if self.0.owns_instance {
            self.0.instance.shutdown().await;
        }
    }
}

impl Shared {
    fn answer_checks(&self, answer: AnswerChecks) {
        let was_set = self.checks.set(answer).is_err();
        debug_assert!(!was_set, "a producer has one listener");
    }

    fn retry_rule(&self) -> RetryRule {
        RetryRule {
            attempts_max: self.send.retry_times.saturating_add(1),
            only_when_unanswered: false,
            when_not_store_ok: self.send.retry_another_broker_when_not_store_ok,
        }
    }

    fn async_retry_rule(&self) -> RetryRule {
        RetryRule {
            attempts_max: self.send.retry_times_async.saturating_add(1),
            only_when_unanswered: true,
            when_not_store_ok: false,
        }
    }

    /// Checks a message, and lets it wait for others if they are to be sent together.
    fn begin(self: &Arc<Self>, mut message: Message, queue: Option<&MessageQueue>) -> Result<Begun, SendError> {
        let queue = queue.map(|queue| self.message.namespace.wrap_queue(queue));
        if let Some(auto_batch) = &self.auto_batch {
            match self.batch(auto_batch, message, queue.as_ref())? {
                Ok(outcome) => return Ok(Begun::InBatch(outcome)),
                Err(alone) => message = alone,
            }
        }
        let prepared = Prepared::message(message, &self.message, now_millis())?;
        Ok(Begun::Alone(Box::new(prepared), queue))
    }

    async fn complete(&self, begun: Begun, rule: RetryRule) -> Result<SendResult, SendError> {
        match begun {
            Begun::Alone(prepared, queue) => self.send_prepared(&prepared, queue.as_ref(), rule).await,
            Begun::InBatch(receiver) => auto_batch::outcome(receiver).await,
        }
    }

    /// To a queue that was chosen, which is tried once, or to any.
    async fn send_prepared(
        &self,
        prepared: &Prepared,
        queue: Option<&MessageQueue>,
        rule: RetryRule,
    ) -> Result<SendResult, SendError> {
        let Some(queue) = queue else {
            return self.send(prepared, rule).await;
        };
        self.route(prepared).await?;
        let sent = self.attempt(prepared, queue, self.send.timeout).await;
        sent.map_err(|source| SendError::Failed { attempts: 1, source })
    }

    async fn route(&self, prepared: &Prepared) -> Result<Arc<TopicRoute>, SendError> {
        let route = self.instance.publish_route(prepared.topic()).await;
        route.map_err(|source| SendError::Failed { attempts: 0, source })
    }

    fn choose<'a>(
        &self,
        route: &'a TopicRoute,
        failed_broker: Option<&str>,
        prepared: &Prepared,
    ) -> Result<&'a MessageQueue, SendError> {
        let now = Instant::now();
        let faults = self.send.latency_fault_enable.then(|| self.latency_fault.lock());
        let is_available = |broker_name: &str| {
            faults
                .as_ref()
                .is_none_or(|faults| faults.is_available(broker_name, now))
        };
        let queue = self.queue_choice.pick(&route.publish, failed_broker, is_available);
        queue.ok_or_else(|| no_queue(prepared))
    }

    /// Tries until the message is stored, the rule says no, or the time is over.
    async fn send(&self, prepared: &Prepared, rule: RetryRule) -> Result<SendResult, SendError> {
        self.send_until(prepared, rule, Instant::now() + self.send.timeout)
            .await
    }

    async fn send_until(
        &self,
        prepared: &Prepared,
        rule: RetryRule,
        deadline: Instant,
    ) -> Result<SendResult, SendError> {
        let mut failed_broker: Option<String> = None;
        let mut attempts = 0;
        loop {
            let route = self.route(prepared).await?;
            let queue = self.choose(&route, failed_broker.as_deref(), prepared)?;
            attempts += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            let result = self.attempt(prepared, queue, left).await;
            let left = deadline.saturating_duration_since(Instant::now());
            if !rule.tries_again(attempts, outcome(&result), left) {
                return result.map_err(|source| SendError::Failed { attempts, source });
            }
            if let Err(error) = &result {
                tracing::debug!(topic = prepared.topic(), broker = queue.broker_name, %error, "send is tried again");
                if error.response_code() == Some(response_code::TOPIC_NOT_EXIST) {
                    // The route may have moved on; when it cannot be read now, the old one serves.
                    let _ = self.instance.refresh_route(prepared.topic()).await;
                }
            }
            failed_broker = Some(queue.broker_name.clone());
        }
    }

    async fn attempt(
        &self,
        prepared: &Prepared,
        queue: &MessageQueue,
        timeout: Duration,
    ) -> Result<SendResult, ClientError> {
        let started = Instant::now();
        let called = async {
            let addr = self.instance.fast_addr(self.instance.master_addr(&queue.broker_name)?);
            let remoting = self.instance.remoting();
            let response = remoting.invoke(&addr, prepared.request(queue), timeout).await?;
            let queue = self.message.namespace.strip_queue(queue);
            Ok(SendResult::read(response, &prepared.msg_id, &queue)?)
        };
        let result = called.await;
        if let (Some(tracer), Ok(sent)) = (self.instance.tracer(), &result)
            && sent.trace_on
        {
            let store_host = self.instance.master_addr(&queue.broker_name).unwrap_or_default();
            tracer.trace(prepared.trace(sent, &self.message.producer_group, store_host, started.elapsed()));
        }
        if self.send.latency_fault_enable {
            let (latency, now) = (started.elapsed(), Instant::now());
            let mut faults = self.latency_fault.lock();
            faults.record(&queue.broker_name, latency, result.is_err(), now);
        }
        result
    }
}

fn outcome(result: &Result<SendResult, ClientError>) -> Outcome {
    match result {
        Ok(stored) => Outcome::Stored(stored.status),
        Err(ClientError::Call(CallError::Response { code, .. })) => Outcome::Refused { code: *code },
        Err(_) => Outcome::Unanswered,
    }
}

fn no_queue(prepared: &Prepared) -> SendError {
    SendError::NoQueue {
        topic: prepared.topic().to_owned(),
    }
}

impl Member for Shared {
    fn data(&self) -> MemberData {
        MemberData::Producer(ProducerData {
            group_name: self.message.producer_group.clone(),
        })
    }

    fn on_route_change(&self, _: &str) {
        // Each send looks at the route anew.
    }

    fn on_request(self: Arc<Self>, request: RemotingCommand) -> Answer {
        match self.checks.get() {
            Some(answer) => answer(&self, request),
            None => Box::pin(std::future::ready(None)),
        }
    }
}
