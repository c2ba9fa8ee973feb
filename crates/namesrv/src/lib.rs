//! The name server: brokers register with it, clients ask it where the queues of a topic are.
//!
//! `route_table` decides everything and does no I/O; `handlers` has one function per request; `server` owns
//! locks, threads and the listener. Name servers do not know each other: every broker registers with every one.

mod config;
mod handlers;
mod kv_config;
mod route_table;
mod save;
mod server;

pub use config::NamesrvConfig;
pub use kv_config::KvConfigError;
pub use server::{NamesrvHandle, StartError, start};
