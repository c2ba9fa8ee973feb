//! Consumers: decisions in plain code ([`process_queue`], [`start_offset`], [`retry`], …) and the tasks
//! that act on them.

mod assignment;
pub(crate) mod broker_calls;
mod engine;
pub(crate) mod listener;
pub(crate) mod lite_pull;
mod offset_file;
mod offset_store;
mod pop_request;
mod process_queue;
pub(crate) mod pull;
pub(crate) mod pull_request;
pub(crate) mod push;
mod queue_lock;
mod retry;
pub(crate) mod schedule;
pub(crate) mod selector;
mod settings;
pub(crate) mod simple;
mod start_offset;
mod statistics;
pub(crate) mod stream;
#[cfg(test)]
mod testing;
