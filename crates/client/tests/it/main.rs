//! The client library against a name server and brokers in this process.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod access;
mod auto_batch;
mod examples;
mod inbound;
mod lite_pull_consumer;
mod namespaces;
mod pop_consumer;
mod producer;
mod pull_consumer;
mod push_consumer;
mod request_reply;
mod schedule_and_queries;
mod scripted;
mod servers;
mod shutdown;
mod stream;
mod tls;
mod trace;
mod transaction;
