//! One broker node: requests, topics, groups, offsets, long polling, and their shell around the store.
//!
//! [`Broker`] is the shared state. Each worker thread runs one [`worker`] service: it reads frames, stages sends into
//! one batch per turn, serves pulls and hands everything else to the request handlers.

pub mod clients;
pub mod config;
mod config_file;
pub mod consumer_offsets;
pub mod groups;
pub mod queue_locks;
pub mod stats;
pub mod topic_attributes;
pub mod topics;

pub use config_file::ConfigFile;
pub use config::{BrokerConfig, BrokerRole, FlushDiskType};
