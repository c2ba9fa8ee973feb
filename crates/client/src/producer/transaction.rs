//! Messages that become visible when a local transaction commits (spec: behaviour.md §7).

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use oxmq_protocol::message::{Message, MessageExt, decode_messages};
use oxmq_protocol::message_id::OffsetMessageId;
use oxmq_protocol::requests::{CheckTransactionStateHeader, EndTransactionHeader, request};
use oxmq_protocol::{FieldSet, RemotingCommand, property, sys_flag};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::prepare::give_id;
use super::{Producer, ProducerBuilder, SendError, SendResult, SendStatus, Shared};
use crate::clock::now_millis;
use crate::consumer::listener::{ListenerFuture, catch};
use crate::error::ClientError;
use crate::instance::{Answer, InstanceConfig};
use crate::trace::{Event, Record, region_of};

/// What became of a local transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocalTransactionState {
    /// Consumers get the message.
    CommitMessage,
    /// Nobody gets the message.
    RollbackMessage,
    /// Not known yet: the broker will ask.
    Unknow,
}

/// The local side of transactions. A listener that panics says `Unknow`.
pub trait TransactionListener: Send + Sync + 'static {
    /// What [`TransactionProducer::send_message_in_transaction`] hands through to the local transaction.
    type Argument: Send + 'static;

    /// The message is stored, and nobody sees it yet: the time for the local transaction.
    fn execute_local_transaction(
        &self,
        message: &Message,
        argument: Self::Argument,
    ) -> impl Future<Output = LocalTransactionState> + Send;

    /// A broker asks what became of the transaction, perhaps one of another producer of the group. `Unknow` makes it ask
    /// again later.
    fn check_local_transaction(&self, message: &MessageExt) -> impl Future<Output = LocalTransactionState> + Send;
}

/// A message that was sent in a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionSendResult {
    pub send_result: SendResult,
    /// What the broker was told, once and without an answer. If that got lost, the broker will ask.
    pub local_transaction_state: LocalTransactionState,
}

/// Sends messages in transactions, and answers for those that its group has sent. Clones are the same producer.
pub struct TransactionProducer<L> {
    producer: Producer,
    listener: Arc<L>,
}

impl<L> Clone for TransactionProducer<L> {
    fn clone(&self) -> TransactionProducer<L> {
        TransactionProducer {
            producer: self.producer.clone(),
            listener: Arc::clone(&self.listener),
        }
    }
}

/// What a transaction producer is made from.
#[derive(Debug, Clone)]
pub struct TransactionProducerBuilder<L> {
    producer: ProducerBuilder,
    listener: L,
    check_concurrency: usize,
    check_request_hold_max: usize,
}

impl<L: TransactionListener> TransactionProducerBuilder<L> {
    /// Everything that transactions have in common with other sends.
    #[must_use]
    pub fn producer(mut self, set: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> Self {
        self.producer = set(self.producer);
        self
    }

    setters! {
        /// `host:port`, several with `;` between them.
        name_server(addrs: impl Into<String>): producer.config.name_server = addrs.into();
        /// How to reach the servers, in full.
        instance_config(config: InstanceConfig): producer.config = config;
        /// Questions of brokers that are answered at the same time. 16 by default.
        check_concurrency(count: usize): check_concurrency = count.max(1);
        /// Questions that may wait besides. The broker asks again for what is beyond. 2000 by default.
        check_request_hold_max(count: usize): check_request_hold_max = count;
    }

    /// Checks the settings and starts. Brokers know of the producer, and can ask it, once it has the route of a topic
    /// of theirs: from the first send on, or from [`Producer::publish_queues`].
    pub async fn start(self) -> Result<TransactionProducer<L>, ClientError> {
        let listener = Arc::new(self.listener);
        let producer = self.producer.start().await?;
        let checks = Checks {
            listener: Arc::clone(&listener),
            running: Semaphore::new(self.check_concurrency),
            held: Semaphore::new(self.check_concurrency + self.check_request_hold_max),
        };
        producer.0.answer_checks(Box::new(checks.into_answers()));
        Ok(TransactionProducer { producer, listener })
    }
}

impl<L: TransactionListener> TransactionProducer<L> {
    /// Settings of a producer of this group.
    pub fn builder(group: impl Into<String>, listener: L) -> TransactionProducerBuilder<L> {
        TransactionProducerBuilder {
            producer: Producer::builder(group),
            listener,
            check_concurrency: 16,
            check_request_hold_max: 2000,
        }
    }

    /// The producer underneath, for messages without a transaction.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// What it was made with.
    pub fn listener(&self) -> &L {
        &self.listener
    }

    /// Stores the message where nobody sees it, runs the local transaction and tells the broker what became of it. Delays
    /// of the message do not count. A message that the broker could not store as safely as it should is rolled back
    /// without running the local transaction.
    pub async fn send_message_in_transaction(
        &self,
        mut message: Message,
        argument: L::Argument,
    ) -> Result<TransactionSendResult, SendError> {
        let shared = &self.producer.0;
        message.properties.remove(property::DELAY_TIME_LEVEL);
        message.properties.set(property::TRANSACTION_PREPARED, "true");
        let group = &shared.message.producer_group;
        message.properties.set(property::PRODUCER_GROUP, group.as_str());
        give_id(&mut message, now_millis());
        let trace = Traced::of(&message);
        let send_result = self.producer.send(message.clone()).await?;
        let (state, remark) = match send_result.status {
            SendStatus::SendOk => self.execute(message, argument).await,
            _ => (LocalTransactionState::RollbackMessage, None),
        };
        if let Err(error) = shared.end(&send_result, state, remark, trace).await {
            debug!(group, msg_id = send_result.msg_id, %error, "the broker will ask for the end of a transaction");
        }
        Ok(TransactionSendResult {
            send_result,
            local_transaction_state: state,
        })
    }

    /// Tells the brokers that this producer is gone and closes what was opened for it. They ask others of its group
    /// about its transactions.
    pub async fn shutdown(&self) {
        self.producer.shutdown().await;
    }

    async fn execute(&self, message: Message, argument: L::Argument) -> (LocalTransactionState, Option<String>) {
        let listener = Arc::clone(&self.listener);
        let run = || {
            let run = async move { listener.execute_local_transaction(&message, argument).await };
            Box::pin(run) as ListenerFuture<LocalTransactionState>
        };
        match catch(AssertUnwindSafe(run)).await {
            Some(state) => (state, None),
            None => (LocalTransactionState::Unknow, Some(PANICKED.to_owned())),
        }
    }
}

const PANICKED: &str = "the local transaction panicked";

impl LocalTransactionState {
    fn commit_or_rollback(self) -> i32 {
        match self {
            LocalTransactionState::CommitMessage => sys_flag::TRANSACTION_COMMIT,
            LocalTransactionState::RollbackMessage => sys_flag::TRANSACTION_ROLLBACK,
            LocalTransactionState::Unknow => sys_flag::TRANSACTION_NONE,
        }
    }
}

/// As Java names it in traces.
fn state_name(commit_or_rollback: i32) -> &'static str {
    match commit_or_rollback {
        sys_flag::TRANSACTION_COMMIT => "COMMIT_MESSAGE",
        sys_flag::TRANSACTION_ROLLBACK => "ROLLBACK_MESSAGE",
        _ => "UNKNOW",
    }
}

/// Answers CHECK_TRANSACTION_STATE (39), whatever the listener's type.
pub(super) type AnswerChecks = Box<dyn Fn(&Arc<Shared>, RemotingCommand) -> Answer + Send + Sync>;

struct Checks<L> {
    listener: Arc<L>,
    running: Semaphore,
    /// Those that run or wait.
    held: Semaphore,
}

impl<L: TransactionListener> Checks<L> {
    fn into_answers(self) -> impl Fn(&Arc<Shared>, RemotingCommand) -> Answer + Send + Sync {
        let checks = Arc::new(self);
        move |shared, request| {
            let (checks, shared) = (Arc::clone(&checks), Arc::clone(shared));
            Box::pin(async move {
                let Ok(_held) = checks.held.try_acquire() else {
                    debug!(
                        group = shared.message.producer_group,
                        "too many checks wait: one is dropped"
                    );
                    return None;
                };
                let _running = checks.running.acquire().await.ok()?;
                if let Err(error) = checks.answer(&shared, request).await {
                    warn!(group = shared.message.producer_group, %error, "a broker's check is not answered");
                }
                None
            })
        }
    }

    async fn answer(&self, shared: &Shared, request: RemotingCommand) -> Result<(), ClientError> {
        let header = CheckTransactionStateHeader::read(&request.header.ext_fields)?;
        let Some(message) = decode_messages(&request.body, true)?.into_iter().next() else {
            return Err(ClientError::Config("the broker asks without a message".to_owned()));
        };
        let message = shared.message.namespace.strip_message(message);
        let addr = match header.broker_name.as_deref() {
            Some(broker_name) => shared.instance.master_addr(broker_name)?,
            None => message.store_host.to_string(),
        };
        let listener = Arc::clone(&self.listener);
        let key = message.unique_id().map(str::to_owned);
        let trace = Traced::of(&message);
        let check = || {
            let check = async move { listener.check_local_transaction(&message).await };
            Box::pin(check) as ListenerFuture<LocalTransactionState>
        };
        let state = catch(AssertUnwindSafe(check)).await;
        let end = EndTransactionHeader {
            topic: header.topic,
            producer_group: shared.message.producer_group.clone(),
            tran_state_table_offset: header.tran_state_table_offset,
            commit_log_offset: header.commit_log_offset,
            commit_or_rollback: state.unwrap_or(LocalTransactionState::Unknow).commit_or_rollback(),
            from_transaction_check: true,
            msg_id: key.or(header.msg_id).unwrap_or_default(),
            transaction_id: header.transaction_id,
        };
        let remark = state.is_none().then(|| PANICKED.to_owned());
        shared.tell_end(&addr, &end, remark, trace).await
    }
}

/// What a trace of the end tells of the message.
struct Traced {
    tags: Option<String>,
    keys: Option<String>,
    region: Option<String>,
}

impl Traced {
    fn of(message: &Message) -> Traced {
        let property = |name| message.property(name).map(str::to_owned);
        Traced {
            tags: property(property::TAGS),
            keys: property(property::KEYS),
            region: property(property::MSG_REGION),
        }
    }
}

impl Shared {
    async fn end(
        &self,
        sent: &SendResult,
        state: LocalTransactionState,
        remark: Option<String>,
        trace: Traced,
    ) -> Result<(), ClientError> {
        let addr = self.instance.master_addr(&sent.queue.broker_name)?;
        let id = sent.offset_msg_id.parse::<OffsetMessageId>();
        let id = id.map_err(|error| ClientError::Config(error.to_string()))?;
        let header = EndTransactionHeader {
            topic: Some(self.message.namespace.wrap(&sent.queue.topic)),
            producer_group: self.message.producer_group.clone(),
            tran_state_table_offset: sent.queue_offset,
            commit_log_offset: id.physical_offset,
            commit_or_rollback: state.commit_or_rollback(),
            from_transaction_check: false,
            msg_id: sent.msg_id.clone(),
            transaction_id: sent.transaction_id.clone(),
        };
        self.tell_end(&addr, &header, remark, trace).await
    }

    async fn tell_end(
        &self,
        addr: &str,
        header: &EndTransactionHeader,
        remark: Option<String>,
        trace: Traced,
    ) -> Result<(), ClientError> {
        let mut request = RemotingCommand::request::<request::EndTransaction>(header, Bytes::new());
        request.header.remark = remark;
        request.header.mark_oneway();
        self.instance.remoting().oneway(addr, request).await?;
        if let Some(tracer) = self.instance.tracer() {
            tracer.trace(Record {
                timestamp: now_millis(),
                region: region_of(trace.region.as_deref()),
                group: header.producer_group.clone(),
                topic: header.topic.clone().unwrap_or_default(),
                msg_id: header.msg_id.clone(),
                event: Event::EndTransaction {
                    tags: trace.tags,
                    keys: trace.keys,
                    store_host: addr.to_owned(),
                    transaction_id: header.transaction_id.clone().unwrap_or_default(),
                    state: state_name(header.commit_or_rollback),
                    from_check: header.from_transaction_check,
                },
            });
        }
        Ok(())
    }
}
