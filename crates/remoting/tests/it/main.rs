//! Client and server against each other and against raw sockets, over loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod calls;
mod client;
mod hostile;
mod slow_readers;
mod stopping;
mod support;
mod tls;
mod turns;
