//! One broker node: requests, topics, groups, offsets, long polling, and their shell around the store.
//!
//! [`Broker`] is the shared state. Each worker thread runs one [`worker`] service: it reads frames, stages sends into
//! one batch per turn, serves pulls and hands everything else to the request handlers.

mod access;
pub mod attributes;
mod background;
mod broker;
pub mod clients;
mod cold_reads;
mod compaction;
pub mod config;
mod config_file;
pub mod consumer_filters;
pub mod consumer_offsets;
mod duplicates;
mod environment;
mod expression_cache;
mod filter;
mod flush_queue;
pub mod groups;
pub mod handlers;
mod light_queues;
mod long_polling;
mod mailbox;
mod metrics;
mod peers;
mod pop;
mod pull;
mod put;
pub mod queue_locks;
mod quotas;
mod read_threads;
mod registration;
mod reply;
mod reply_pushes;
mod request_modes;
mod request_subscriptions;
mod response;
pub mod retention;
mod routes;
mod saver;
pub mod schedule;
mod send;
mod send_back;
mod slow_requests;
pub mod static_topics;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod timer;
mod topic_cache;
pub mod topics;
pub mod transactions;
mod unmarked_deliveries;
mod waiting;
mod worker;

pub use access::AccessError;
#[doc(hidden)]
pub use access::harness as access_harness;
pub use access::plain::PlainAclError;
pub use broker::{Broker, BrokerHandle, StartError, store_config};
pub use config::{BrokerConfig, BrokerRole, FlushDiskType, MetricsExporterType};
pub use config_file::ConfigFile;
pub use environment::Environment;
pub use put::{InternalMessage, PutError, Stored};
pub use response::Refusal;
pub use waiting::TimerRefusal;
