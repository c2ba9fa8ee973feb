//! One broker node: requests, topics, groups, offsets, long polling, and their shell around the store.
//!
//! [`Broker`] is the shared state. Each worker thread runs one [`worker`] service: it reads frames, stages sends into
//! one batch per turn, serves pulls and hands everything else to the request handlers.

mod broker;
pub mod clients;
pub mod config;
mod config_file;
pub mod consumer_offsets;
pub mod groups;
mod pull;
mod put;
pub mod queue_locks;
mod response;
mod send;
pub mod stats;
pub mod topic_attributes;
mod topic_cache;
pub mod topics;

pub use broker::Broker;
pub use config::{BrokerConfig, BrokerRole, FlushDiskType};
pub use config_file::ConfigFile;
pub use put::{InternalMessage, PutError, Stored};
pub use response::Refusal;
