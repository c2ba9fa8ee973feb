//! One broker node: requests, topics, groups, offsets, long polling, and their shell around the store.
//!
//! [`Broker`] is the shared state. Each worker thread runs one [`worker`] service: it reads frames, stages sends into
//! one batch per turn, serves pulls and hands everything else to the request handlers.

pub mod config;

pub use config::{BrokerConfig, BrokerRole, FlushDiskType};
