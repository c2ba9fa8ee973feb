#![doc = include_str!("../README.md")]
//!
//! # Instances
//!
//! An [`Instance`] is one client in the eyes of the servers. It owns the connections, the routes and the heartbeats;
//! producers and consumers are its members and usually create one of their own.

#[macro_use]
mod setters;

mod admin;
mod clock;
mod consumer;
mod error;
mod instance;
mod latency_fault;
mod namespace;
mod producer;
mod trace;

pub use admin::Admin;
pub use consumer::listener::{ConsumeOrderlyStatus, ConsumeStatus, Messages};
pub use consumer::lite_pull::{LitePullConsumer, LitePullConsumerBuilder};
pub use consumer::pull::{PullConsumer, PullConsumerBuilder};
pub use consumer::pull_request::{PullResult, PullStatus};
pub use consumer::push::{PushConsumer, PushConsumerBuilder};
pub use consumer::schedule::{PullScheduleService, PullScheduleServiceBuilder, PullTaskContext, PullTaskError};
pub use consumer::selector::MessageSelector;
pub use consumer::simple::{SimpleConsumer, SimpleConsumerBuilder};
pub use consumer::stream::{MessageStream, ReceivedMessage};
pub use error::ClientError;
pub use instance::{Answer, Boundary, BrokerAddr, Instance, InstanceConfig, Member, MemberData, TopicRoute};
pub use oxmq_protocol::allocate::{
    AllocateAveragely, AllocateAveragelyByCircle, AllocateByConfig, AllocateByMachineRoom, AllocateConsistentHash,
    AllocateMachineRoomNearby, AllocateStrategy, MachineRoomResolver,
};
pub use oxmq_protocol::body::{
    ClusterInfo, ConsumeFromWhere, ConsumeStats, CustomizedRetryPolicy, ExponentialRetryPolicy, GroupRetryPolicy,
    KvTable, MessageModel, MessageQueue, MessageRequestMode, SubscriptionGroupConfig, TopicConfig, TopicRouteData,
    TopicStatsTable,
};
pub use oxmq_protocol::compression::CompressionType;
pub use oxmq_protocol::message::{Message, MessageExt};
pub use oxmq_remoting::{ClientTls, Credentials};
pub use producer::{
    LocalTransactionState, MessageError, NoRequest, Producer, ProducerBuilder, RecallError, RequestError, SendError,
    SendResult, SendStatus, TransactionListener, TransactionProducer, TransactionProducerBuilder,
    TransactionSendResult, create_reply_message,
};
pub use trace::TraceConfig;
